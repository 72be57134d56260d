"""Both potentials of CellOT in training: steps of g and f in turn, as Bunne et al. 2023 take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from tasks.drug_response.cellot_gradients import Adam, FStep, GStep
from tasks.drug_response.cellot_settings import CellOTSettings
from tasks.drug_response.icnn import ICNN


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

    def snapshot(self) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Outer steps so far, and the parameters of f and g."""
        return self.step, self.f.parts.flat.clone(), self.g.parts.flat.clone()

    def restore(self, snapshot: tuple[int, torch.Tensor, torch.Tensor]) -> None:
        """Go back to these parameters; the optimisers stay as they are."""
        self.step, f, g = snapshot
        self.f.parts.flat.copy_(f)
        self.g.parts.flat.copy_(g)
