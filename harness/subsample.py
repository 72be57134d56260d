"""Fewer cells, in the proportions of the whole: for a quick look at a large data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data import CellData
from harness.errors import InputError

#: Roles whose groups keep their share.
STRATA = ("cell_type", "label", "batch", "donor", "condition")


def subsample(data: CellData, max_cells: int) -> CellData:
    """At most `max_cells` cells of `data`, stratified by all its named columns together; always the same ones.

    Every group keeps its share to within a cell; the new data set says in its notes what it is of.

    Raises
    ------
    InputError
        `max_cells` is no whole number above zero.
    """
    if not isinstance(max_cells, int) or isinstance(max_cells, bool) or max_cells < 1:
        raise InputError(f"dataset.max_cells={max_cells}: expected a whole number above zero, or null")
    if data.n_obs <= max_cells:
        return data
    roles = [role for role in STRATA if data.has(role)]
    columns = [data.labels(role) for role in roles] or [np.zeros(data.n_obs, np.str_)]
    rows = stratified(np.arange(data.n_obs), columns, max_cells)
    part = data.subset(rows, name=data.name)
    by = " and ".join(role.replace("_", " ") for role in roles) or "nothing"
    part.notes = {**data.notes, "subsample": f"{max_cells} of {data.n_obs} cells, stratified by {by}"}
    return part


def stratified(rows: np.ndarray, strata: Sequence[np.ndarray], n: int, seed: int = 0) -> np.ndarray:
    """`n` of `rows`, ascending; every stratum keeps its share to within a cell.

    Parameters
    ----------
    rows
        Int (m,).
    strata
        Labels of all cells, by each of which shares are kept; those of `rows` are read.
    """
    if len(rows) <= n:
        return rows
    _, group = np.unique(np.stack([labels[rows] for labels in strata]), axis=1, return_inverse=True)
    # Systematic sampling along the cells sorted by group, in random order within each: shares are kept to one cell.
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(group.ravel()[order], kind="stable")]
    return np.sort(rows[order[np.floor((np.arange(n) + 0.5) * len(rows) / n).astype(np.int64)]])
