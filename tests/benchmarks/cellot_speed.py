"""How long CellOT's training takes, ours beside the official code: the same cells, sizes and settings.

    python -m tests.benchmarks.cellot_speed --official FOLDER [--dims N ...] [--threads N ...] [--iterations N]

FOLDER is a copy of the official repository (github.com/bunnech/cellot), which is no dependency of ours. Its losses,
optimisers and loaders are called as its training does; what it imports and has since gone is put in their place here.
Three ways alternate in chunks of one run: ours; the official one; and the official one with batches that are ready,
for its loader fetches cell by cell. Wall and CPU seconds of each are printed, and how many times longer than ours.
The first chunk of each warms up and is not counted. Before that, both take the same 20 steps from the same weights on
the same batches, and the largest relative difference of their losses is printed. Not part of the suite: it takes
minutes.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import itertools
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CELLS, BATCH, INNER, HIDDEN = 10_000, 256, 10, (64, 64, 64, 64)
OURS, OFFICIAL, READY = "ours", "official", "official, batches ready"
#: Of the official training, with its default sizes.
CONFIG = {
    "model": {
        "name": "cellot",
        "hidden_units": list(HIDDEN),
        "softplus_W_kernels": False,
        "g": {"fnorm_penalty": 1},
        "kernel_init_fxn": {"name": "uniform", "b": 0.1},
    },
    "optim": {"optimizer": "Adam", "lr": 1e-4, "beta1": 0.5, "beta2": 0.9, "weight_decay": 0},
}

Batches = Iterator["torch.Tensor"]


def prepare_imports(folder: Path) -> None:
    """Let today's Python import the official modules: an alias that is gone, and a package of which a dict will do."""
    collections.MutableMapping = collections.abc.MutableMapping  # type: ignore[attr-defined]
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = dict  # type: ignore[attr-defined]
    sys.path.insert(0, str(folder))
    from absl import flags

    flags.FLAGS([__file__])


class Official:
    """Its networks and optimisers, advanced by its functions in the order of its training."""

    def __init__(self, dim: int):
        from cellot.models.cellot import load_cellot_model

        from harness.networks import seeded

        (self.f, self.g), self.optimisers = seeded(lambda: load_cellot_model(CONFIG, input_dim=dim), 0)

    def advance(self, control: Batches, treated: torch.Tensor) -> tuple[float, float]:
        """An outer step: the last loss of g, and that of f."""
        from cellot.models.cellot import compute_loss_f, compute_loss_g

        for _ in range(INNER):
            cells = next(control).requires_grad_(True)
            self.optimisers.g.zero_grad()
            of_g = compute_loss_g(self.f, self.g, cells).mean() + self.g.penalize_w()
            of_g.backward()
            self.optimisers.g.step()
        cells = next(control).requires_grad_(True)
        self.optimisers.f.zero_grad()
        of_f = compute_loss_f(self.f, self.g, cells, treated).mean()
        of_f.backward()
        self.optimisers.f.step()
        self.f.clamp_w()
        return of_g.item(), of_f.item()


def official_batches(cells: np.ndarray) -> Batches:
    """Batches of the official loader."""
    import anndata
    from cellot.data.cell import AnnDataDataset
    from cellot.data.utils import cast_dataset_to_loader, cast_loader_to_iterator

    dataset = AnnDataDataset(anndata.AnnData(cells.copy()))
    return cast_loader_to_iterator(
        cast_dataset_to_loader(dataset, batch_size=BATCH, shuffle=True, drop_last=True), cycle_all=True
    )


def our_batches(cells: np.ndarray) -> Batches:
    """Batches of our loader."""
    import torch

    from tasks.drug_response.cellot import batches

    return batches(torch.from_numpy(cells), BATCH, torch.Generator().manual_seed(0))


def our_potentials(dim: int) -> Any:
    """Ours, with the same settings."""
    import torch

    from tasks.drug_response.cellot_potentials import Potentials
    from tasks.drug_response.cellot_settings import PUBLISHED

    return Potentials(dim, PUBLISHED, torch.Generator().manual_seed(0))


def difference(dim: int, control: np.ndarray, treated: np.ndarray, steps: int = 20) -> float:
    """The largest relative difference of a loss in the first steps from the same weights on the same batches."""
    official, ours = Official(dim), our_potentials(dim)
    ours.f.load_state_dict(official.f.state_dict())
    ours.g.load_state_dict(official.g.state_dict())
    found = []
    for potentials in (official, ours):
        before, after = our_batches(control), our_batches(treated)
        found.append([potentials.advance(before, next(after)) for _ in range(steps)])
    theirs, own = np.array(found)
    return float(np.abs(own / theirs - 1).max())


def advancing(potentials: Any, control: Batches, treated: Batches) -> Callable[[int], None]:
    """What takes so many outer steps."""

    def advance(steps: int) -> None:
        for _ in range(steps):
            potentials.advance(control, next(treated))

    return advance


def compare(dim: int, threads: int, iterations: int, chunk: int) -> dict[str, Any]:
    """Seconds of each way, and how many times longer than ours the others take."""
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    control, treated = (rng.normal(shift, 1, (CELLS, dim)).astype(np.float32) for shift in (0, 0.5))
    result: dict[str, Any] = {"dim": dim, "threads": threads, "iterations": iterations}
    result["largest_difference_of_losses"] = difference(dim, control, treated)
    ways = {
        OURS: advancing(our_potentials(dim), our_batches(control), our_batches(treated)),
        OFFICIAL: advancing(Official(dim), official_batches(control), official_batches(treated)),
        READY: advancing(Official(dim), our_batches(control), our_batches(treated)),
    }
    spent: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for advance in ways.values():
        advance(10)
    for name, advance in itertools.chain.from_iterable([ways.items()] * (iterations // chunk)):
        start = np.array([time.perf_counter(), time.process_time()])
        advance(chunk)
        spent[name].append(np.array([time.perf_counter(), time.process_time()]) - start)
        print(dim, "dimensions,", threads, "threads,", name, spent[name][-1].round(2), file=sys.stderr, flush=True)
    for column, clock in enumerate(("wall", "cpu")):
        seconds = {name: np.array(each)[:, column] for name, each in spent.items()}
        measured = {
            "seconds": {name: each.sum() for name, each in seconds.items()},
            "ms_per_outer_step": {name: np.median(each) / chunk * 1e3 for name, each in seconds.items()},
            "times_ours": {name: seconds[name].sum() / seconds[OURS].sum() for name in (OFFICIAL, READY)},
            "times_ours_by_chunk": {name: np.median(seconds[name] / seconds[OURS]) for name in (OFFICIAL, READY)},
        }
        result[clock] = {
            quantity: {name: round(float(value), 2) for name, value in each.items()}
            for quantity, each in measured.items()
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, help="folder of the official repository")
    parser.add_argument("--dims", type=int, nargs="+", default=[50])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=100)
    given = parser.parse_args()
    if not (given.official / "cellot/models/cellot.py").is_file():
        parser.error(f"{given.official} holds no cellot/models/cellot.py: a copy of the official repository is needed")
    prepare_imports(given.official)
    for dim, threads in itertools.product(given.dims, given.threads):
        print(json.dumps(compare(dim, threads, given.iterations, given.chunk), indent=1), flush=True)
