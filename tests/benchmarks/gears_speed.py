"""How long an epoch of GEARS takes, ours beside the official package: the same cells, pairs of genes and graphs.

    python -m tests.benchmarks.gears_speed --oracle PYTHON [--genes N ...] [--cells N] [--rounds N]

PYTHON is the interpreter of an environment with cell-gears 0.1.2 and torch_geometric, which are no dependency of ours;
its `GEARS.train` runs there as released. Epochs of both alternate in one run, one thread each, and wall and CPU seconds
of each are printed. `training`: the steps alone; `epoch`: with what each does to choose an epoch (the package predicts
every training and validation cell, ours the mean profile of each validation condition). The first epoch of both warms
up and is not counted. Not part of the suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from tasks.perturbation.gears import FittedGears
    from tasks.perturbation.problem import Problem

HIDDEN, BATCH, SINGLES, PAIRS, VALIDATION, CONTROLS = 64, 32, 28, 12, 4, 0.1
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
QUANTITIES = ("training_wall_s", "training_cpu_s", "epoch_wall_s", "epoch_cpu_s")


class Stopwatch:
    """Wall and CPU seconds of what it ran, summed."""

    def __init__(self) -> None:
        self.spent = np.zeros(2)

    def __call__(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = np.array([time.perf_counter(), time.process_time()])
        try:
            return run(*args, **kwargs)
        finally:
            self.spent += np.array([time.perf_counter(), time.process_time()]) - start


def an_epoch(run: Callable[[Stopwatch], None]) -> dict[str, float]:
    """Seconds of an epoch; `run` times with the stopwatch it gets what is no training step."""
    whole, checks = Stopwatch(), Stopwatch()
    whole(run, checks)
    return dict(zip(QUANTITIES, [*(whole.spent - checks.spent), *whole.spent], strict=True))


def gene_names(n_genes: int) -> list[str]:
    """Names whose order is that of the genes."""
    return [f"G{i:05d}" for i in range(n_genes)]


def made_problem(values: sp.csr_matrix, n_singles: int, n_pairs: int, n_validation: int, controls: float) -> Problem:
    """These cells as controls and perturbed ones of equally many each; every gene has three of the gene sets."""
    from tasks.gene_sets import GeneSets
    from tasks.perturbation.cells import PerturbedCells
    from tasks.perturbation.conditions import CONTROL
    from tasks.perturbation.problem import Problem

    rng = np.random.default_rng(1)
    names = gene_names(values.shape[1])
    targets = sorted(rng.choice(names, n_singles, replace=False).tolist())
    every = [(a, b) for i, a in enumerate(targets) for b in targets[i + 1 :]]
    pairs = [every[i] for i in rng.choice(len(every), n_pairs, replace=False)]
    conditions = (CONTROL, *sorted([*((target,) for target in targets), *pairs]))
    code = 1 + np.arange(values.shape[0]) % (len(conditions) - 1)
    code[: int(controls * len(code))] = 0
    validation = tuple(pairs[:n_validation])
    train = tuple(condition for condition in conditions[1:] if condition not in validation)
    terms = rng.integers(0, len(names) // 8, (len(names), 3))
    sets = GeneSets({name: frozenset(f"T{term}" for term in own) for name, own in zip(names, terms, strict=True)})
    cells = PerturbedCells(values, np.array(names), conditions, code)
    return Problem(cells, train, validation, validation[:1], go=sets)


def expression(n_cells: int, n_genes: int) -> sp.csr_matrix:
    """Log-normalised counts with programs of genes that go together."""
    from harness.counts import log_normalise

    rng = np.random.default_rng(0)
    activity, member = rng.normal(0, 1, (n_cells, 20)), rng.integers(0, 20, n_genes)
    rates = rng.gamma(0.4, 2.0, n_genes) * np.exp(activity[:, member])
    return log_normalise(sp.csr_matrix(rng.poisson(rates).astype(np.float32)))


def prepared(problem: Problem, embedding: Any = None) -> tuple[FittedGears, tuple[Any, ...], dict[str, Any]]:
    """GEARS as it is before its training, and what that is called with."""
    from tasks.perturbation import gears_training
    from tasks.perturbation.gears import FittedGears, GearsSettings

    with mock.patch.object(gears_training, "train") as train:
        fitted = FittedGears(problem, GearsSettings(hidden=HIDDEN, batch=BATCH), embedding)
    return fitted, train.call_args.args, train.call_args.kwargs


def ours(problem: Problem) -> Callable[[], dict[str, float]]:
    """What trains for one more epoch."""
    from tasks.perturbation.gears_training import train

    _, args, kwargs = prepared(problem)

    def epoch(checks: Stopwatch) -> None:
        train(*args, **kwargs | {"epochs": 1, "validate": lambda: checks(kwargs["validate"])})

    return lambda: an_epoch(epoch)


def write_for_package(problem: Problem, folder: Path) -> None:
    """The same problem as the package reads it, with the graphs that ours are made of."""
    import anndata
    import pandas as pd

    from tasks.perturbation.conditions import CONTROL
    from tasks.perturbation.gears_graphs import coexpression_graph, go_graph

    cells = problem.cells
    label = {CONTROL: "ctrl"} | {c: "+".join(c) if len(c) > 1 else f"{c[0]}+ctrl" for c in cells.conditions[1:]}
    labels = [label[cells.conditions[code]] for code in cells.of_cell]
    names = cells.genes.tolist()
    obs = pd.DataFrame({"condition": labels, "cell_type": "made"}, index=[f"c{i}" for i in range(len(labels))])
    var = pd.DataFrame({"gene_name": names}, index=names)
    anndata.AnnData(cells.values, obs=obs, var=var).write_h5ad(folder / "made.h5ad")
    terms = {name: set(own) for name, own in problem.go.terms.items()}
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps(terms))
    trained = ["ctrl", *(label[condition] for condition in problem.train)]
    (folder / "split.json").write_text(json.dumps({"train": trained, "val": [label[c] for c in problem.val]}))
    singles = [i for i, c in enumerate(cells.conditions) if c == CONTROL or (len(c) == 1 and c in problem.train)]
    graphs = {
        "go": go_graph(problem.go, names),
        "coexpress": coexpression_graph(cells.values[np.isin(cells.of_cell, singles)], names),
    }
    arrays = {f"{kind}_edges": np.stack([graph.source, graph.target]) for kind, graph in graphs.items()}
    np.savez(folder / "graphs.npz", **arrays, **{f"{kind}_weight": graph.weight for kind, graph in graphs.items()})


def package_worker(folder: Path) -> None:
    """Run an epoch of the official package for each line that is read; runs in its environment."""
    reply, sys.stdout = sys.stdout, sys.stderr  # the package prints
    import anndata
    import gears.gears as package
    import pandas as pd
    import torch
    from gears import GEARS, PertData

    torch.set_num_threads(1)
    pd.Series.nonzero = lambda self: self.to_numpy().nonzero()  # scipy's indexing asks a Series for it
    data = PertData(str(folder), default_pert_graph=False)
    data.new_data_process("made", adata=anndata.read_h5ad(folder / "made.h5ad"))
    data.split, data.seed, data.set2conditions = "no_test", 1, json.loads((folder / "split.json").read_text())
    data.get_dataloader(BATCH, BATCH)
    graphs = {name: torch.from_numpy(array) for name, array in np.load(folder / "graphs.npz").items()}
    model = GEARS(data, device="cpu")
    model.model_initialize(
        hidden_size=HIDDEN,
        G_go=graphs["go_edges"],
        G_go_weight=graphs["go_weight"],
        G_coexpress=graphs["coexpress_edges"],
        G_coexpress_weight=graphs["coexpress_weight"],
    )
    evaluate, compute_metrics = package.evaluate, package.compute_metrics

    def epoch(checks: Stopwatch) -> None:
        package.evaluate = lambda *args: checks(evaluate, *args)
        package.compute_metrics = lambda *args: checks(compute_metrics, *args)
        model.train(epochs=1)

    print("ready", file=reply, flush=True)
    for _ in sys.stdin:
        print(json.dumps(an_epoch(epoch)), file=reply, flush=True)


def compare(n_cells: int, n_genes: int, rounds: int, oracle: str, folder: Path) -> dict[str, Any]:
    """Least and median seconds of both, and how many times longer the package takes."""
    problem = made_problem(expression(n_cells, n_genes), SINGLES, PAIRS, VALIDATION, CONTROLS)
    write_for_package(problem, folder)
    command = [oracle, str(Path(__file__).resolve()), "--worker", str(folder)]
    own, found = ours(problem), {"ours": [], "cell-gears": []}
    with (
        (folder / "log.txt").open("w+") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=folder, text=True
        ) as worker,
    ):

        def official() -> dict[str, float]:
            print(file=worker.stdin, flush=True)
            return json.loads(answer())

        def answer() -> str:
            if line := worker.stdout.readline():
                return line
            log.seek(0)
            raise SystemExit(f"{oracle} stopped:\n{log.read()[-3000:]}")

        answer()
        for number in range(rounds + 1):
            measured = {"ours": own(), "cell-gears": official()}
            print(n_genes, "genes, round", number, json.dumps(measured), file=sys.stderr, flush=True)
            if number:
                for name, seconds in measured.items():
                    found[name].append(seconds)
        worker.stdin.close()
    trained = int(sum(problem.cells.sizes[problem.cells.index[c]] for c in ((), *problem.train)))
    result: dict[str, Any] = {
        "genes": n_genes,
        "training_cells": trained,
        "steps": trained // BATCH,
        "conditions": len(problem.train),
        "rounds": rounds,
    }
    for quantity in QUANTITIES:
        seconds = {name: [each[quantity] for each in every] for name, every in found.items()}
        summary = {name: {"min": min(every), "median": float(np.median(every))} for name, every in seconds.items()}
        ratio = {of: summary["cell-gears"][of] / summary["ours"][of] for of in ("min", "median")}
        result[quantity] = {
            name: {of: round(value, 2) for of, value in each.items()}
            for name, each in {**summary, "ratio": ratio}.items()
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", help="python of an environment with cell-gears and torch_geometric")
    parser.add_argument("--genes", type=int, nargs="+", default=[1000, 2000])
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        package_worker(given.worker)
    elif not given.oracle:
        parser.error("--oracle PYTHON is needed")
    else:
        os.environ |= ONE_THREAD
        import torch

        torch.set_num_threads(1)
        for n_genes in given.genes:
            with tempfile.TemporaryDirectory() as temporary:
                found = compare(given.cells, n_genes, given.rounds, given.oracle, Path(temporary))
                print(json.dumps(found, indent=1), flush=True)
