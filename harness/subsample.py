"""Fewer cells, in the proportions of the whole: for a quick look at a large data set."""

from __future__ import annotations

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
    _, group = np.unique(np.stack(columns), axis=1, return_inverse=True)
    group = group.ravel()
    # Systematic sampling along the cells sorted by group, in random order within each: shares are kept to one cell.
    order = np.random.default_rng(0).permutation(data.n_obs)
    order = order[np.argsort(group[order], kind="stable")]
    rows = np.sort(order[np.floor((np.arange(max_cells) + 0.5) * data.n_obs / max_cells).astype(np.int64)])
    part = data.subset(rows, name=data.name)
    by = " and ".join(role.replace("_", " ") for role in roles) or "nothing"
    part.notes = {**data.notes, "subsample": f"{max_cells} of {data.n_obs} cells, stratified by {by}"}
    return part
