"""Cells as scGPT's perturbation predictor reads them: in pairs of control and perturbed cell, and by condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.perturbation_model import Targets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Pairs:
    """Perturbed cells, each with a control cell.

    Parameters
    ----------
    values
        Float32 CSR (n_cells, n_genes).
    before, after
        Rows of the control and of the perturbed cells, int64 (n,).
    places
        Columns of the perturbed genes of each.
    """

    values: csr_matrix
    before: np.ndarray
    after: np.ndarray
    places: list[np.ndarray]

    def tensors(self, chosen: np.ndarray, genes: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Control values, flags and perturbed values, (n_chosen, n_genes)."""
        flags = np.zeros((len(chosen), self.values.shape[1]), np.int64)
        for row, i in enumerate(chosen):
            flags[row, self.places[i]] = 1
        before, after = (self.values[rows[chosen]].toarray() for rows in (self.before, self.after))
        return tuple(torch.as_tensor(array[:, genes]) for array in (before, flags, after))  # type: ignore[return-value]


def by_condition(targets: Sequence[Targets]) -> tuple[list[Targets], csr_matrix]:
    """The distinct conditions, and the matrix (n_conditions, n_cells) that takes the mean over the cells of each."""
    import scipy.sparse as sp

    names: dict[Any, int] = {}
    code = np.array([names.setdefault(tuple(genes), len(names)) for genes in targets], np.int64)
    weight = 1.0 / np.bincount(code)[code]
    return list(names), sp.csr_matrix((weight, (code, np.arange(len(code)))), shape=(len(names), len(code)))


def mean_change(
    values: csr_matrix, control: np.ndarray, perturbed: np.ndarray, targets: Sequence[Targets]
) -> np.ndarray:
    """Mean over the perturbed conditions of their mean profile less that of the control cells, float64 (n_genes,)."""
    _, members = by_condition(targets)
    values = values.astype(np.float64)
    profiles = members @ values[perturbed]
    return np.asarray(profiles.mean(axis=0) - values[control].mean(axis=0)).ravel()
