"""What a predictor is given: the cells of the training conditions, and the conditions whose profiles it must say."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.model import TaskBaseline
from tasks.gene_sets import GeneSets
from tasks.perturbation.cells import PerturbedCells
from tasks.perturbation.conditions import CONTROL, Condition


@dataclass(frozen=True)
class Problem:
    """A split, seen from the training side. Cells of the test conditions are not in it.

    Parameters
    ----------
    cells
        Control cells and those of the training and validation conditions.
    train, val, test
        Perturbed conditions (never the control); `val` may be empty.
    go
        Which terms each gene has, of any kind (GO, pathways); None where none are given.
    seed
        For whatever is drawn.
    progress
        Whether to show a progress bar.
    """

    cells: PerturbedCells
    train: tuple[Condition, ...]
    val: tuple[Condition, ...]
    test: tuple[Condition, ...]
    go: GeneSets | None = None
    seed: int = 0
    progress: bool = False

    @property
    def genes(self) -> np.ndarray:
        """Measured genes, Unicode (g,)."""
        return self.cells.genes

    @property
    def control(self) -> np.ndarray:
        """Mean profile of the control cells, float64 (g,)."""
        return self.cells.control_mean

    @cached_property
    def known(self) -> tuple[Condition, ...]:
        """All perturbed conditions a closed-form predictor may learn from: training and validation."""
        return tuple(condition for condition in self.cells.conditions if condition != CONTROL)

    @cached_property
    def targets(self) -> list[str]:
        """Every gene perturbed in any condition, train or test, sorted."""
        return sorted({gene for condition in (*self.train, *self.val, *self.test) for gene in condition})


class PerturbationBaseline(TaskBaseline):
    """A predictor of mean profiles that needs no embedding."""

    @abstractmethod
    def predict(self, problem: Problem) -> np.ndarray:  # type: ignore[override]
        """Predicted mean profile of each test condition, float64 (n_test, g); a row of NaN where it cannot say."""

    def notes(self, problem: Problem) -> dict[str, Any]:
        """What a reader must know: counts of what it could not use, and what stood in its place."""
        return {}


class SplitHalves(TaskBaseline):
    """A control that sees the truth: half of the cells of a test condition predict the other half."""

    @abstractmethod
    def halves(
        self, cells: PerturbedCells, test: tuple[Condition, ...], seed: int
    ) -> tuple[PerturbedCells, np.ndarray]:
        """The cells with half of each test condition, and the mean profile (n_test, g) of the other half."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: see `halves`."""
        raise NotImplementedError
