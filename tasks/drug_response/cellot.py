"""CellOT of our own: the optimal transport map from control to treated cells, as the gradient of a convex potential.

Bunne et al., Nature Methods 2023, doi 10.1038/s41592-023-01969-x. Networks, losses and training are those of the
released code and held to its numbers; the step is chosen on validation cells, where the released code uses test cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from harness.errors import InputError, InternalError
from harness.progress import track
from tasks.distances import mmd_rbf
from tasks.drug_response.cellot_gradients import Adam, FStep, GStep
from tasks.drug_response.cellot_settings import CellOTSettings
from tasks.drug_response.icnn import ICNN
from tasks.drug_response.problem import Populations

#: Validation cells of each kind, at most, that a check compares.
CHECKED = 500
#: Cells transported at a time.
BLOCK = 8192


class Losses(NamedTuple):
    """Of an outer step: the last of g, with its penalty, and that of f."""

    g: float
    f: float


class Potentials:
    """The networks f and g, their optimisers, and how many outer steps were taken.

    Parameters
    ----------
    dim
        Width of a cell.
    generator
        To draw the parameters from, f before g; None: they are 0 until they are read.
    """

    def __init__(self, dim: int, settings: CellOTSettings, generator: torch.Generator | None = None):
        self.settings = settings
        self.f, self.g = (
            ICNN(dim, settings.hidden, init=settings.init, generator=generator, quadratic=settings.identity_start)
            for _ in range(2)
        )
        self.f_adam, self.g_adam = (
            Adam(
                network.parts.flat,
                settings.learning_rate,
                (settings.beta1, settings.beta2),
                settings.weight_decay,
            )
            for network in (self.f, self.g)
        )
        self.step = 0
        self._g_step = GStep(self.f, self.g, settings.batch, settings.fnorm_penalty)
        self._f_step = FStep(self.f, settings.batch, settings.batch)

    def advance(self, control: Iterator[torch.Tensor], treated: torch.Tensor) -> Losses:
        """One outer step: `inner` steps of g and one of f, each on control cells of its own, then W of f is clamped.

        Parameters
        ----------
        control
            Batches, float32 (batch, d).
        treated
            One batch, float32 (batch, d).
        """
        for _ in range(self.settings.inner):
            g_loss = self._g_step(next(control))
            self.g_adam.update(self._g_step.gradient.flat)
            if self.g.parts.quadratic is not None:
                self.g.parts.quadratic.clamp_(min=0)
        moved = self.g.transport(next(control), self._g_step.here)
        f_loss = self._f_step(moved, treated)
        self.f_adam.update(self._f_step.gradient.flat)
        self.f.clamp()
        self.step += 1
        return Losses(float(g_loss), float(f_loss))


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
    start: Potentials | None = None,
) -> FittedCellOT:
    """Learn the map; the step of the lowest MMD on the validation cells is kept.

    Parameters
    ----------
    train, val
        Cells to learn from, and to choose a step by.
    patience
        Stop after so many checks in a row without a lower MMD; None: never.
    name
        Of the drug, for messages.
    start
        Networks to go on from, up to `settings.steps`; they are changed. None: new ones, drawn from `seed`.

    Raises
    ------
    InputError
        Too few training cells for a batch, no validation cells, cells with values that are no numbers.
    InternalError
        A loss became infinite or undefined.
    """
    _refuse_odd_cells(train, val, settings, name)
    generator = torch.Generator().manual_seed(seed)
    scaling = Scaling.of(train) if settings.scale else Scaling(torch.zeros(train.control.shape[1]), 1.0)
    potentials = start or Potentials(train.control.shape[1], settings, generator)
    control, treated = (
        batches(scaling.apply(cells), settings.batch, generator) for cells in (train.control, train.treated)
    )
    before, after = _checked(val, seed)
    curve: list[Check] = []
    best, kept = math.inf, None
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
        curve.append(Check(step, mmd_rbf(fitted.transport(before), after), *losses))
        if curve[-1].mmd < best:
            best = curve[-1].mmd
            kept = (step, *(network.parts.flat.clone() for network in (potentials.f, potentials.g)))
        elif patience is not None and step - kept[0] ...
