"""Tissue specificity of genes, from cells that say which tissue they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.counts import log_normalise
from harness.errors import InputError
from tasks.gene_function.labels import GeneLabels

if TYPE_CHECKING:
    from harness.data import CellData

#: Where "specific" begins (Kryuchkova-Mostacci & Robinson-Rechavi 2017).
SPECIFIC = 0.8


def tau(profiles: np.ndarray) -> np.ndarray:
    """Tissue specificity index (Yanai et al. 2005), float64 (n,): 0 the same everywhere, 1 in one tissue alone.

    Parameters
    ----------
    profiles
        Mean expression (n, tissues), at least zero; a gene without any has NaN.
    """
    top = profiles.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.where(top[:, 0] > 0, (1 - profiles / top).sum(axis=1) / (profiles.shape[1] - 1), np.nan)


def specificity_labels(data: CellData, role: str) -> GeneLabels:
    """`specific` (tau above 0.8) or `broad`, for every gene that any cell expresses.

    Parameters
    ----------
    role
        Of the column that holds the tissue, for example `cell_type` or `label`.

    Raises
    ------
    InputError
        Fewer than three tissues: every gene is then specific or not by a hair.
    """
    tissues = data.labels(role)
    names = [name for name in np.unique(tissues).tolist() if name]
    if len(names) < 3:
        raise InputError(f"task.labels=tau: three tissues are needed, dataset.{role} of {data.name} has {len(names)}")
    values = log_normalise(data.counts())
    profiles = np.stack([np.asarray(values[tissues == name].mean(axis=0)).ravel() for name in names], axis=1)
    index = tau(profiles.astype(np.float64))
    kept = np.flatnonzero(~np.isnan(index))
    specific = index[kept] > SPECIFIC
    member = np.stack([~specific, specific], axis=1)
    notes = {"tissues": f"{len(names)}, by dataset.{role}"}
    return GeneLabels(data.genes.names[kept], ("broad", "specific"), member, True, f"tau of {data.name}", notes)
