"""What a model gives for cells is held to its contract before anything is made of it.

The engine's own loop keeps the rows in order; a model may bring a loop or a transform of its own, and be wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.data import CellData
from harness.errors import InternalError
from harness.model import Embedder, FittedEmbedder, ModelAdapter

#: Cells that are embedded anew, and cells without a vector that are looked at: enough to find what is wrong throughout.
PROBES, LOOKED_AT = 8, 64
#: Rows looked at at a time.
BLOCK = 65_536
#: How far a vector may lie from the one before, as a share of the distance between cells and of the vectors' length.
#: Rounding is far below; in bf16 it may be as large as what tells similar cells apart.
TOLERANCE = {"fp32": (0.1, 1e-4), "bf16": (0.5, 0.05)}


def hold(model: Embedder, data: CellData, matrix: Any, *, seed: int = 0) -> None:
    """Refuse cell vectors that cannot be what they should be.

    Parameters
    ----------
    matrix
        What `model.embed_cells(data, seed=seed)` gave.

    Raises
    ------
    InternalError
        With the model's name and the first cell: not a row per cell, another width than the model says, numbers that
        are not finite, no vector for a cell of which genes are known, or another vector for a cell that is embedded
        anew, beside other cells and in another order.
    """
    _check_shape(model, data, matrix)
    whole, missing = _states(matrix)
    broken = ~(whole | missing)
    if broken.any():
        raise InternalError(
            f"{model.spec.name}: the vector of {_named(data, broken)} holds numbers that are not finite"
        )
    # A control's vectors are a function of all the labels, an integration method's of all the cells; a file's are what
    # its author says, and matched by name.
    spec = model.spec
    if not (spec.reads_labels or spec.reads_batches or spec.kind == "precomputed"):
        _check_missing(model, data, np.flatnonzero(missing))
        _check_order(model, data, matrix, np.flatnonzero(whole), seed)


def _check_shape(model: Embedder, data: CellData, matrix: Any) -> None:
    name, width = model.spec.name, getattr(model, "embedding_size", None)
    if not isinstance(matrix, np.ndarray) or matrix.dtype.kind != "f":
        what = matrix.dtype if isinstance(matrix, np.ndarray) else type(matrix).__name__
        raise InternalError(f"{name}: embed_cells gave {what}, a float32 array is expected")
    if matrix.ndim != 2 or len(matrix) != data.n_obs:
        raise InternalError(
            f"{name}: embed_cells gave an array of shape {matrix.shape} for {data.n_obs} cells of {data.name}; a row "
            "for each, in their order, is expected, and NaN where there is no vector"
        )
    if width is not None and matrix.shape[1] != width:
        raise InternalError(f"{name}: embed_cells gave vectors of {matrix.shape[1]}, and its embedding_size is {width}")


def _states(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are finite throughout, and which are NaN throughout, bool (n,); looked at in blocks."""
    whole, missing = np.empty(len(matrix), bool), np.empty(len(matrix), bool)
    for start in range(0, len(matrix), BLOCK):
        rows = slice(start, start + BLOCK)
        whole[rows], missing[rows] = np.isfinite(matrix[rows]).all(axis=1), np.isnan(matrix[rows]).all(axis=1)
    return whole, missing


def _check_missing(model: Embedder, data: CellData, missing: np.ndarray) -> None:
    """A cell with counts in two genes that the model knows has a vector; with one it may be undefined."""
    missing = missing[_spread(len(missing), LOOKED_AT)]
    ids = model.match_genes(data.genes).ids if isinstance(model, ModelAdapter) and len(missing) else None
    for row in missing:
        columns = data.rows(int(row), int(row) + 1).indices
        # Several columns may be one gene, of which a model may read the first alone.
        genes = len(columns) if ids is None else len(np.unique(ids[columns][ids[columns] >= 0]))
        if genes > 1:
            raise InternalError(
                f"{model.spec.name}: no vector (NaN) for the cell {data.obs_names[row]} of {data.name}, which has "
                f"counts in {genes} genes that it knows; or the rows are not in the order of the cells"
            )


def _check_order(model: Embedder, data: CellData, matrix: np.ndarray, rows: np.ndarray, seed: int) -> None:
    """Some cells, embedded anew among themselves and in another order, have the vectors they had."""
    rows = np.random.default_rng(0).permutation(rows[_spread(len(rows), PROBES)])
    if not len(rows):
        return
    before = matrix[rows].astype(np.float64)
    after = _again(model, _cells(data, rows), seed).astype(np.float64)
    if after.shape != before.shape:
        raise InternalError(f"{model.spec.name}: {len(rows)} cells of {data.name} gave an array of {after.shape}")
    between = np.linalg.norm(before[:, None] - before[None], axis=2)[np.triu_indices(len(rows), 1)]
    share, rounding = TOLERANCE[model.precision]
    allowed = share * float(np.median(between)) if len(between) else 0.0
    # Of each cell's own length: where most vectors are zero, rounding is not.
    allowed = allowed + rounding * np.maximum(np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1))
    moved = ~(np.linalg.norm(after - before, axis=1) <= allowed)
    if moved.any():
        raise InternalError(
            f"{model.spec.name}: {int(moved.sum())} of {len(rows)} cells of {data.name} have another vector when they "
            f"are embedded anew beside other cells ({data.obs_names[rows[moved][0]]}, …): the rows are not in the "
            "order of the cells, or a vector depends on more than its own cell (a method that reads all cells at once "
            "says so: spec.reads_batches)"
        )


def _again(model: Embedder, cells: CellData, seed: int) -> np.ndarray:
    if isinstance(model, FittedEmbedder):  # as it is fitted to the whole data set
        return np.asarray(model.transform(cells.counts()))
    if not isinstance(model, ModelAdapter):
        return np.asarray(model.embed_cells(cells, seed=seed))
    coverage = model.last_coverage
    try:
        return np.asarray(model.embed_cells(cells, seed=seed))
    finally:
        model.last_coverage = coverage


def _cells(data: CellData, rows: np.ndarray) -> CellData:
    """Some cells as a data set of their own; only their rows are read."""
    import anndata

    counts = sp.vstack([data.rows(int(row), int(row) + 1) for row in rows], format="csr")
    part = anndata.AnnData(counts, obs=data.adata.obs.iloc[rows].copy())
    part.var_names = data.genes.names
    part.var_names_make_unique()
    return CellData(
        part,
        name=data.name,
        columns=data.columns,
        control=data.control,
        genes=data.genes,
        values=data.values,
        min_coverage=0,
        warn_coverage=0,
    )


def _spread(n: int, k: int) -> np.ndarray:
    """At most `k` of the numbers below `n`, from end to end."""
    return np.unique(np.linspace(0, n - 1, min(n, k)).astype(np.int64))


def _named(data: CellData, where: np.ndarray) -> str:
    first, n = data.obs_names[int(where.argmax())], int(where.sum())
    return f"the cell {first}" + (f" and {n - 1} others" if n > 1 else "") + f" of {data.name}"
