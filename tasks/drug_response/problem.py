"""What a method is given: control and treated cells to learn from, and the control cells whose response it must say."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.model import TaskBaseline


@dataclass(frozen=True)
class Populations:
    """Cells before and after a treatment; which of them correspond is not known.

    Parameters
    ----------
    control, treated
        Float32 (n, d) and (m, d), in whatever space: log1p of counts per 10,000, codes of an autoencoder, cell vectors.
    """

    control: np.ndarray
    treated: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """Mean of the treated less mean of the control cells, float64 (d,)."""
        return self.treated.mean(axis=0, dtype=np.float64) - self.control.mean(axis=0, dtype=np.float64)


@dataclass(frozen=True)
class Problem:
    """One drug, seen from the training side. Treated cells of the test part are not in it.

    Parameters
    ----------
    drug
        Its name.
    genes
        Names of the genes, Unicode (g,): the most variable of the training cells.
    train, val
        log1p of counts per 10,000 of cells to learn from, and of cells to choose among what was learned.
    test
        Control cells whose treated state is to be predicted, float32 (k, g).
    seed
        For whatever is drawn.
    progress
        Whether to show a progress bar.
    """

    drug: str
    genes: np.ndarray
    train: Populations
    val: Populations
    test: np.ndarray
    seed: int = 0
    progress: bool = False


class DrugBaseline(TaskBaseline):
    """A method that reads expression and needs no embedding."""

    @abstractmethod
    def predict(self, problem: Problem) -> np.ndarray:  # type: ignore[override]
        """Predicted treated cells, float32 (k, g): one for each test cell, in order."""

    def decoded(self, cells: np.ndarray) -> np.ndarray | None:
        """Cells (n, g) there and back through the last prediction's space; None for what never leaves the genes."""
        return None

    def notes(self) -> dict[str, Any]:
        """What a reader must know of the last prediction (steps taken, which one was kept)."""
        return {}
