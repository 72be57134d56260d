"""What predicts expression after a genetic perturbation, for models that bring a predictor of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The genes perturbed together in a cell.
Targets = Sequence[str]


class PerturbationModel(Protocol):
    """A predictor over fixed genes, made by `ModelAdapter.perturbation_model`; it reads log1p of counts per 10,000."""

    #: What a reader of the predictions must know, in words: what could not be used or predicted, and what was done.
    notes: dict[str, Any]

    def fit(
        self,
        values: csr_matrix,
        control_rows: np.ndarray,
        perturbed_rows: np.ndarray,
        targets: Sequence[Targets],
        *,
        val: tuple[np.ndarray, Sequence[Targets]] | None = None,
        epochs: int = 15,
        steps: int | None = None,
        progress: bool = False,
    ) -> Any:
        """Train on perturbed cells, each set against a control cell.

        Parameters
        ----------
        values
            Float32 (n_cells, n_genes).
        control_rows, perturbed_rows
            Rows of `values`.
        targets
            The genes perturbed in each of `perturbed_rows`.
        val
            Rows and their targets to choose the best epoch by; None: the last one is kept.
        epochs
            Times every perturbed cell is seen.
        steps
            Number of steps, instead of `epochs`.
        """
        ...

    def predict(self, control: np.ndarray, targets: Sequence[Targets]) -> np.ndarray:
        """Mean profiles, float64 (n_targets, n_genes), of the control cells `control` (n, n_genes) once perturbed.

        A row of NaN where the model cannot say; `notes` names it.
        """
        ...
