"""CellOT of our own: the optimal transport map from control to treated cells, as the gradient of a convex potential.

Bunne et al., Nature Methods 2023, doi 10.1038/s41592-023-01969-x. Networks, losses and training are those of the
released code and held to its numbers; the step is chosen on validation cells, where the released code uses test cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from harness.errors import InputError, InternalError
from harness.progress import track
from tasks.distances import mmd_rbf
from tasks.drug_response.cellot_potentials import Potentials
from tasks.drug_response.cellot_settings import CellOTSettings
from tasks.drug_response.icnn import ICNN
from tasks.drug_response.problem import Populations

#: Validation cells of each kind, at most, that a check compares.
CHECKED = 500
#: Dimensions that the widths of the kernels fit, where cells are scaled.
DIMENSIONS = 50
#: Cells transported at a time.
BLOCK = 8192


class Check(NamedTuple):
    """What was seen after an outer step: MMD of transported and treated validation cells, and the step's losses."""

    step: int
    mmd: float
    g_loss: float
    f_loss: float


@dataclass(frozen=True)
class Scaling:
    """Cells are centred by one vector and divided by one number, transported, and put back.

    A distance between scaled cells is the distance between the cells divided by that number, so pairs of cells cost
    the same up to one factor, and the optimal map is the same. What changes is where the networks start and how far a
    step of the optimiser goes, which without it depend on the unit of the cells.

    Parameters
    ----------
    centre
        float32 (d,).
    unit
        Root of the mean variance.
    """

    centre: torch.Tensor
    unit: float

    @classmethod
    def of(cls, cells: Populations) -> Scaling:
        """Mean and root mean variance of control and treated cells together."""
        both = np.concatenate([cells.control, cells.treated]).astype(np.float64)
        unit = math.sqrt(both.var(axis=0).mean())
        return cls(torch.from_numpy(both.mean(axis=0).astype(np.float32)), unit if unit > 0 else 1.0)

    def apply(self, cells: np.ndarray) -> torch.Tensor:
        """Scaled cells."""
        return (torch.from_numpy(np.ascontiguousarray(cells, np.float32)) - self.centre) / self.unit

    def undo(self, cells: torch.Tensor) -> np.ndarray:
        """Cells that were scaled, as they were."""
        return (cells * self.unit + self.centre).numpy()


@dataclass(frozen=True)
class FittedCellOT:
    """A trained map.

    Parameters
    ----------
    f, g
        The networks of the step that was kept.
    scaling
        What they are given cells through.
    curve
        One check after another.
    kept_step, steps
        The outer step whose networks these are, and the last that was taken.
    """

    f: ICNN
    g: ICNN
    scaling: Scaling
    curve: tuple[Check, ...] = ()
    kept_step: int = 0
    steps: int = 0

    def transport(self, x: np.ndarray) -> np.ndarray:
        """Where control cells go, float32 (n, d) -> float32 (n, d)."""
        found = np.empty(x.shape, np.float32)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = self.scaling.undo(self.g.transport(self.scaling.apply(x[part])))
        return found


def train(
    train: Populations,
    val: Populations,
    settings: CellOTSettings,
    seed: int,
    *,
    progress: bool = False,
    patience: int | None = None,
    name: str = "",
    where: str = "task.cellot",
    start: Potentials | None = None,
) -> FittedCellOT:
    """Learn the map; the step of the lowest MMD on the validation cells is kept.

    Parameters
    ----------
    train, val
        Cells to learn from, and to choose a step by.
    patience
        Stop after so many checks in a row without a lower MMD; None: never.
    name, where
        Of the drug, and where its settings stand, for messages.
    start
        Networks to go on from, which are changed, with batches and optimisers of their own; `settings` then says up to
        which step, and how they are checked. None: new ones, drawn from `seed`.

    Raises
    ------
    InputError
        Too few training cells for a batch, no validation cells, cells with values that are no numbers.
    InternalError
        A loss became infinite or undefined.
    """
    batch = (start.settings if start else settings).batch
    _refuse_odd_cells(train, val, batch, f"{name}: " if name else "", where)
    generator = torch.Generator().manual_seed(seed)
    scaling = Scaling.of(train) if settings.scale else Scaling(torch.zeros(train.control.shape[1]), 1.0)
    potentials = start or Potentials(train.control.shape[1], settings, generator)
    control, treated = (batches(scaling.apply(cells), batch, generator) for cells in (train.control, train.treated))
    # Compared as the networks see them: the widths of the kernels mean nothing in another unit.
    before, after = (scaling.apply(cells) for cells in _checked(val, seed))
    # Nor in many dimensions, where all cells are far apart: distances are brought to those of fifty.
    shrink = math.sqrt(DIMENSIONS / before.shape[1]) if settings.scale else 1.0
    goal = (shrink * after).numpy()
    curve: list[Check] = []
    best, kept, stale = math.inf, potentials.snapshot(), 0
    fitted = FittedCellOT(potentials.f, potentials.g, scaling)
    for step in track(
        range(potentials.step + 1, settings.steps + 1),
        total=settings.steps - potentials.step,
        label="cellot",
        note=lambda: f"MMD {curve[-1].mmd:.4f}" if curve else "",
        on=progress,
    ):
        losses = potentials.advance(control, next(treated))
        if not math.isfinite(sum(losses)):
            raise InternalError(
                f"CellOT: the losses became {losses.g} (g) and {losses.f} (f) at step {step}; lower its learning rate"
            )
        if step % settings.check_every and step < settings.steps:
            continue
        curve.append(Check(step, mmd_rbf((shrink * potentials.g.transport(before)).numpy(), goal), *losses))
        stale += 1
        if curve[-1].mmd < best:
            best, kept, stale = curve[-1].mmd, potentials.snapshot(), 0
        if patience is not None and stale >= patience:
            break
    last = potentials.step
    potentials.restore(kept)
    return replace(fitted, curve=tuple(curve), kept_step=potentials.step, steps=last)


def batches(cells: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches (size, d) without end, epoch after epoch of shuffled cells; what is left of one is dropped."""
    while True:
        order = torch.randperm(len(cells), generator=generator)
        for chosen in order[: len(cells) // size * size].split(size):
            yield cells.index_select(0, chosen)


@torch.no_grad()
def wasserstein(f: ICNN, g: ICNN, control: torch.Tensor, treated: torch.Tensor) -> float:
    """Half the squared 2-Wasserstein distance of control (n, d) and treated cells (m, d), as the potentials have it.

    Exact only at their optimum: mean(f(T(x)) - <x, T(x)>) - mean f(y) + (mean |x|² + mean |y|²) / 2.
    """
    moved = g.transport(control)
    of_control = f(moved).mean() - (control * moved).sum(1).mean() + control.square().sum(1).mean() / 2
    return float(of_control - f(treated).mean() + treated.square().sum(1).mean() / 2)


def _checked(val: Populations, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The validation cells that every check compares, at most CHECKED of each kind."""
    rng = np.random.default_rng([seed, 1])
    control, treated = (cells[np.sort(rng.permutation(len(cells))[:CHECKED])] for cells in (val.control, val.treated))
    return control, treated


def _refuse_odd_cells(train: Populations, val: Populations, batch: int, drug: str, where: str) -> None:
    """InputError where there is nothing to learn from, or to choose a step by."""
    n, m = len(train.control), len(train.treated)
    if (least := min(n, m)) < batch:
        todo = f"set {where}.batch={least} or less" if least else "some of each are needed"
        raise InputError(
            f"{drug}CellOT learns from {n} control and {m} treated cells, and a batch takes {batch} of each; {todo}"
        )
    if not len(val.control) or not len(val.treated):
        raise InputError(
            f"{drug}CellOT chooses its step by validation cells, and has {len(val.control)} control and "
            f"{len(val.treated)} treated ones; some of each are needed"
        )
    for part, cells in (("training", train), ("validation", val)):
        for kind, values in (("control", cells.control), ("treated", cells.treated)):
            if odd := int((~np.isfinite(values).all(axis=1)).sum()):
                raise InputError(
                    f"{drug}{odd} of {len(values)} {kind} cells for {part} have values that are no numbers; leave them "
                    "out"
                )
