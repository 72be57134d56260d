"""Raw counts: check them, and recover them from log-normalised values where that can be proved."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError

#: A recovered value may lie this far from a whole number of counts (the file is rounded to three decimals).
RECOVERY_TOLERANCE = 0.12


def canonical(block: Any, dtype: Any = np.float32) -> sp.csr_matrix:
    """A block of rows as float32 CSR with sorted columns and without stored zeros."""
    matrix = sp.csr_matrix(block) if not sp.issparse(block) else block.tocsr()
    if matrix.dtype != dtype:
        matrix = matrix.astype(dtype)
    if matrix is block or np.shares_memory(matrix.data, getattr(block, "data", matrix.data[:0])):
        matrix = matrix.copy()
    matrix = sp.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _where(matrix: sp.csr_matrix, bad: np.ndarray, first_row: int) -> str:
    position = int(np.flatnonzero(bad)[0])
    row = int(np.searchsorted(matrix.indptr, position, side="right")) - 1
    return f"row {first_row + row}, column {int(matrix.indices[position])}"


def check_finite(matrix: sp.csr_matrix, *, first_row: int = 0, source: str = "X") -> None:
    """Refuse NaN and infinite values.

    Raises
    ------
    InputError
        With row and column of the first one.
    """
    bad = ~np.isfinite(matrix.data)
    if bad.any():
        raise InputError(
            f"{source} holds {int(bad.sum())} NaN or infinite values, the first at {_where(matrix, bad, first_row)}; "
            "remove or fill them first"
        )


def check_counts(matrix: sp.csr_matrix, *, first_row: int = 0, source: str = "X") -> None:
    """Refuse anything that is not raw counts.

    Raises
    ------
    InputError
        NaN or infinite, negative, or non-integer values, with row and column of the first one.
    """
    data = matrix.data
    bad = ~np.isfinite(data)
    if bad.any():
        raise InputError(
            f"{source} holds {int(bad.sum())} NaN or infinite values, the first at "
            f"{_where(matrix, bad, first_row)}; raw counts are expected. Remove or fill them first"
        )
    bad = data < 0
    if bad.any():
        raise InputError(
            f"{source} holds negative values, the first ({data[bad][0]:g}) at {_where(matrix, bad, first_row)}; "
            "raw counts are expected, and these look scaled. Name the layer that holds the counts: "
            "dataset.layer=counts or dataset.layer=raw"
        )
    bad = data != np.rint(data)
    if bad.any():
        share = 100 * float(bad.mean())
        raise InputError(
            f"{source} holds non-integers ({data[bad][0]:g} at {_where(matrix, bad, first_row)}, {share:.0f} % "
            f"of the stored values, max {data.max():g}); raw counts are expected, and these look normalised. "
            "Name the layer that holds the counts (dataset.layer=counts or dataset.layer=raw), or let them be "
            "recovered from log-normalised values: dataset.recover_counts=true"
        )


def recover_counts(matrix: sp.csr_matrix, *, first_row: int = 0, source: str = "X") -> sp.csr_matrix:
    """Integer counts from values that are log1p(count / depth * scale) with a scale per cell.

    Each cell's smallest non-zero value is taken as one count; after undoing the log every value must then
    lie within 0.12 of a multiple of it.

    Raises
    ------
    InputError
        The values are not of that form; row and column of the first one that is not.
    """
    if matrix.nnz == 0:
        return matrix
    if not np.isfinite(matrix.data).all() or (matrix.data < 0).any() or matrix.data.max() > 30:
        raise InputError(f"{source} holds no log-normalised values: counts cannot be recovered from it")
    linear = np.expm1(matrix.data.astype(np.float64))
    starts = matrix.indptr[:-1]
    filled = np.diff(matrix.indptr) > 0
    unit = np.ones(matrix.shape[0])
    unit[filled] = np.minimum.reduceat(linear, starts[filled])
    ratio = linear / np.repeat(unit, np.diff(matrix.indptr))
    counts = np.rint(ratio)
    bad = np.abs(ratio - counts) > RECOVERY_TOLERANCE
    if bad.any():
        raise InputError(
            f"counts cannot be recovered from {source}: at {_where(matrix, bad, first_row)} the value is "
            f"{ratio[bad][0]:.2f} times the cell's smallest one, and a whole number is expected "
            f"(within {RECOVERY_TOLERANCE}). Use a file with raw counts"
        )
    return sp.csr_matrix((counts.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def log_normalise(counts: sp.csr_matrix, total: float = 1e4) -> sp.csr_matrix:
    """log1p of counts scaled to `total` per cell, float32 CSR; an empty cell stays empty."""
    sums = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
    values = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr))).astype(np.float32)
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def principal_components(counts: sp.csr_matrix, n_top_genes: int = 2000, n_components: int = 50) -> np.ndarray:
    """Principal components of log-normalised HVGs, (n, n_components): the unintegrated analysis (`model=pca`).

    It is what PCR compares an embedding with, and what Harmony corrects.
    """
    from sklearn.decomposition import PCA

    values = log_normalise(counts)
    values = values[:, highly_variable(values, n_top_genes)]
    n = min(n_components, min(values.shape) - 1)
    if n < 1:
        return values.toarray()
    return PCA(n, svd_solver="arpack", random_state=0).fit_transform(values)


def highly_variable(values: sp.csr_matrix, n_top: int) -> np.ndarray:
    """Columns of the most variable genes of log-normalised `values`, ascending; all where there are fewer.

    scanpy's `seurat` flavour (dispersion normalised in bins of mean expression; Satija et al. 2015).
    """
    if values.shape[1] <= n_top:
        return np.arange(values.shape[1])
    import anndata
    import scanpy

    cells = anndata.AnnData(values)
    scanpy.pp.highly_variable_genes(cells, n_top_genes=n_top, flavor="seurat")
    return np.flatnonzero(cells.var["highly_variable"].to_numpy())
