"""The cells that gene vectors are read off: a data set of their own, or the control cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.data import CellData
    from tasks.perturbation.prepare import Prepared

_LAST: dict[tuple[str, str, int], CellData] = {}


def open_reference(reference: str | None, cells: int) -> CellData | None:
    """At most `cells` of the cells of a registered data set or a file, always the same; None where none is named.

    Raises
    ------
    InputError
        There is no such data set or file.
    """
    if reference is None:
        return None
    from harness.config import compose_group, options
    from harness.runner import open_data
    from harness.subsample import subsample

    known = str(reference) in options("dataset")
    node = compose_group("dataset", str(reference) if known else "file")
    data = open_data(node if known else {**node, "path": str(reference)})
    key = (data.content_hash, data.name, cells)
    if key not in _LAST:  # a grid asks for the same cells in every run
        _LAST.clear()
        _LAST[key] = subsample(data, cells)
    return _LAST[key]


def control_cells(data: CellData, prepared: Prepared, cells: int) -> CellData:
    """At most `cells` of the control cells, which no split ever tests."""
    rows = prepared.rows[prepared.cells.rows(())]
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:cells])
    return data.subset(chosen, name=f"control cells of {data.name}")
