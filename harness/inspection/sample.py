"""Some cells of a stored matrix, spread over the file, whatever its form; never the whole of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

#: Cells and values that are looked at, in so many pieces spread evenly over the file.
CELLS, VALUES, PIECES = 2048, 8_000_000, 16


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a matrix.

    Parameters
    ----------
    values
        float64 CSR without stored zeros, (len(rows), n_genes).
    rows
        Which rows of the file they are, ascending.
    shape
        Of the whole matrix.
    empty
        Rows without a value: of the whole file where its row pointer says so, else of the sample.
    exact
        Whether `empty` was counted over the whole file.
    """

    values: sp.csr_matrix
    rows: np.ndarray
    shape: tuple[int, int]
    empty: int
    exact: bool


def take(matrix: Any) -> Sample:
    """A sample of a matrix: numpy, scipy, HDF5, zarr, or anndata's sparse matrix on disk, by rows or by columns."""
    n_rows, n_columns = (int(n) for n in matrix.shape)
    pointer = _row_pointer(matrix)
    per_row = max(1, _stored(matrix) // max(n_rows, 1))
    rows = spread(n_rows, int(min(CELLS, max(1, VALUES // per_row))))
    values = _rows_of(matrix, rows) if len(rows) else sp.csr_matrix((0, n_columns))
    values = sp.csr_matrix(values, dtype=np.float64)
    values.sum_duplicates()
    values.eliminate_zeros()
    blank = int((np.diff(values.indptr) == 0).sum())
    if pointer is not None:
        blank = max(blank, int((np.diff(pointer) == 0).sum()))
    return Sample(values, rows, (n_rows, n_columns), blank, pointer is not None or len(rows) == n_rows)


def spread(n_rows: int, wanted: int) -> np.ndarray:
    """Rows in a few consecutive pieces, from the first to the last."""
    if n_rows <= wanted:
        return np.arange(n_rows)
    each = max(1, wanted // PIECES)
    starts = np.linspace(0, n_rows - each, min(PIECES, wanted)).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(each)[None, :])


def _stored(matrix: Any) -> int:
    if getattr(matrix, "format", None) in ("csr", "csc"):
        return int(matrix.nnz if sp.issparse(matrix) else matrix.group["data"].shape[0])
    return int(matrix.shape[0]) * int(matrix.shape[1])


def _row_pointer(matrix: Any) -> np.ndarray | None:
    if getattr(matrix, "format", None) != "csr":
        return None
    return np.asarray(matrix.indptr if sp.issparse(matrix) else matrix.group["indptr"][:])


def _rows_of(matrix: Any, rows: np.ndarray) -> Any:
    if getattr(matrix, "format", None) == "csc" and not sp.issparse(matrix):
        return _rows_of_columns(matrix, rows)
    if sp.issparse(matrix):
        return matrix.tocsr()[rows]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    pieces = [matrix[int(piece[0]) : int(piece[-1]) + 1] for piece in np.split(rows, breaks)]
    return sp.vstack([sp.csr_matrix(piece) for piece in pieces])


def _rows_of_columns(matrix: Any, rows: np.ndarray) -> sp.csr_matrix:
    """The whole file passes by, and only the wanted rows are kept."""
    from harness.turning import ENTRIES

    group = matrix.group
    starts = np.asarray(group["indptr"][:])
    place = np.full(matrix.shape[0], -1, np.int64)
    place[rows] = np.arange(len(rows))
    kept = []
    for start in range(0, int(starts[-1]), ENTRIES):
        stop = min(start + ENTRIES, int(starts[-1]))
        row = place[np.asarray(group["indices"][start:stop])]
        wanted = np.flatnonzero(row >= 0)
        column = np.searchsorted(starts, start + wanted, side="right") - 1
        kept.append((row[wanted], column, np.asarray(group["data"][start:stop])[wanted]))
    row, column, value = (np.concatenate(parts) for parts in zip(*kept, strict=True)) if kept else (rows[:0],) * 3
    return sp.csr_matrix((value, (row, column)), shape=(len(rows), matrix.shape[1]))
