"""Labels of cells, as every task on cells needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.subject import Subject


def enough_cells(labels: np.ndarray, min_cells: int, name: str) -> tuple[np.ndarray, dict[str, int]]:
    """Rows whose cell type is known and has at least `min_cells` cells, and what was left out.

    Parameters
    ----------
    labels
        Unicode (n,), "" where the type is unknown.

    Returns
    -------
    rows : int64 array
    excluded : counts by reason

    Raises
    ------
    InputError
        Fewer than two types are left.
    """
    types, sizes = np.unique(labels[labels != ""], return_counts=True)
    large = types[sizes >= min_cells]
    small = types[sizes < min_cells]
    if len(large) < 2:
        found = ", ".join(f"{t} ({n})" for t, n in zip(types[:5], sizes[:5], strict=True)) or "no label at all"
        raise InputError(
            f"{name}: {len(large)} cell type{'s have' if len(large) != 1 else ' has'} at least {min_cells} cells, "
            f"and two are needed; found {found}. Name another column: dataset.cell_type=COLUMN"
        )
    excluded = {
        "cells without a label": int((labels == "").sum()),
        "cells of small types": int(sizes[sizes < min_cells].sum()),
        "small types": len(small),
    }
    return np.flatnonzero(np.isin(labels, large)), {why: n for why, n in excluded.items() if n}


def umap_table(subject: Subject, data: CellData) -> pd.DataFrame:
    """The artifact the UMAP panels are drawn from: name, x, y, cell_type, batch; cells without a vector left out."""
    xy = subject.umap()
    known = np.flatnonzero(~np.isnan(xy).any(axis=1))
    return layout_table(data, known, xy[known])


def layout_table(data: CellData, rows: np.ndarray, xy: np.ndarray) -> pd.DataFrame:
    """Columns name, x, y, cell_type, batch of the cells `rows` (n,) at `xy` (n, 2)."""
    import pandas as pd

    table = {"name": data.obs_names[rows], "x": xy[:, 0], "y": xy[:, 1]}
    for role in ("cell_type", "batch"):
        table[role] = data.labels(role)[rows] if data.has(role) else np.full(len(rows), "")
    return pd.DataFrame(table)
