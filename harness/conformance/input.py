"""Checks of what comes in: storage and dtype do not matter, bad values are refused, nothing is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.conformance.cells import cells_with, unknown_genes
from harness.conformance.trial import Trial, require, same
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.model import FittedEmbedder


def _stored(trial: Trial, matrix: Any) -> Any:
    return cells_with(matrix, GeneTable.from_var(trial.cells.var), trial.names)


def _unsorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix with the entries of each row backwards, and a stored zero in front."""
    rows = [slice(a, b) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]
    indices = [np.concatenate([[0] if 0 not in matrix.indices[r] else [], matrix.indices[r][::-1]]) for r in rows]
    data = [np.concatenate([[0] if 0 not in matrix.indices[r] else [], matrix.data[r][::-1]]) for r in rows]
    indptr = np.concatenate([[0], np.cumsum([len(part) for part in indices])])
    return sp.csr_matrix(
        (np.concatenate(data).astype(np.float32), np.concatenate(indices).astype(np.int32), indptr),
        shape=matrix.shape,
    )


def check_storage(trial: Trial) -> None:
    """Dense, CSR, CSC, unsorted CSR and h5ad files read from disk give the same."""
    import anndata

    counts = trial.cells.X
    for matrix, words in (
        (counts.toarray(), "dense"),
        (sp.csc_matrix(counts), "CSC"),
        (_unsorted(counts), "CSR with unsorted entries and stored zeros"),
    ):
        same(trial.embed(_stored(trial, matrix)), trial.reference, trial.names, f"stored {words}")
    dense = trial.folder / "dense.h5ad"
    _stored(trial, counts.toarray()).write_h5ad(dense)
    for path, words in ((trial.stored_cells, "CSR"), (dense, "dense")):
        backed = anndata.read_h5ad(path, backed="r")
        try:
            found = trial.embed(backed)
        finally:
            backed.file.close()
        same(found, trial.reference, trial.names, f"read from an h5ad ({words})")


def check_dtype(trial: Trial) -> None:
    """Counts as integers or as floats of any width give the same."""
    for dtype in (np.int32, np.int64, np.float64):
        matrix = trial.cells.X.astype(dtype)
        same(trial.embed(_stored(trial, matrix)), trial.reference, trial.names, f"as {np.dtype(dtype)}")


def check_empty_cells(trial: Trial) -> None:
    """A cell without a readable count gets a row of NaN; without it the other rows are the same."""
    found = trial.reference
    for row in np.flatnonzero(~trial.readable):
        require(np.isnan(found[row]).all(), f"the cell {trial.names[row]!r} got a row that is not NaN")
    kept = np.flatnonzero(trial.readable)
    without = trial.embed(trial.cells[kept].copy(), refit=False)
    same(without, found[kept], np.asarray(trial.names)[kept], "without the cells that hold nothing")
    if isinstance(trial.model, FittedEmbedder):
        return
    cells = CellData(trial.cells[np.flatnonzero(~trial.readable)].copy(), min_coverage=0)
    nothing = trial.embed(cells)
    require(np.isnan(nothing).all(), "a data set of empty cells did not give rows of NaN")


def _snapshot(adata: Any) -> dict[str, Any]:
    matrix = adata.X
    arrays = (
        {part: getattr(matrix, part).copy() for part in ("data", "indices", "indptr")}
        if sp.issparse(matrix)
        else {"X": np.array(matrix)}
    )
    return {
        **arrays,
        "obs": adata.obs.copy(),
        "var": adata.var.copy(),
        "keys": [list(adata.layers), list(adata.obsm), list(adata.varm), list(adata.uns), adata.raw is None],
    }


def check_input_untouched(trial: Trial) -> None:
    """The user's AnnData is the same afterwards, to the last bit."""
    for matrix, words in (
        (trial.cells.X.copy(), "CSR"),
        (trial.cells.X.toarray(), "dense"),
        (_unsorted(trial.cells.X), "unsorted CSR"),
    ):
        adata = _stored(trial, matrix)
        before = _snapshot(adata)
        trial.embed(adata)
        after = _snapshot(adata)
        for part, value in before.items():
            equal = (
                value.equals(after[part])
                if hasattr(value, "equals")
                else np.array_equal(value, after[part])
                if (isinstance(value, np.ndarray))
                else value == after[part]
            )
            require(equal, f"embed_cells changed {part} of the input ({words})")


def check_bad_values(trial: Trial) -> None:
    """NaN, infinite, negative and non-integer values are refused, dense and sparse."""
    column = int(trial.cells.X[trial.rows("one-gene")[0]].indices[0])
    for value in (np.nan, np.inf, -1.0, 0.5):
        for sparse in (True, False):
            matrix = trial.cells.X.toarray()
            matrix[trial.rows("ordinary-5")[0], column] = value
            try:
                trial.embed(_stored(trial, sp.csr_matrix(matrix) if sparse else matrix))
            except InputError:
                continue
            require(False, f"a value of {value} ({'CSR' if sparse else 'dense'}) was not refused as wrong input")


def check_foreign_genes(trial: Trial) -> None:
    """Cells without a single gene of the vocabulary are refused, not embedded."""
    if trial.adapter.spec.gene_ids == "any":
        raise NotApplicableError("it has no vocabulary")
    foreign = cells_with(sp.csr_matrix(np.ones((3, 40), np.float32)), unknown_genes(40, start=200))
    try:
        trial.embed(foreign)
    except InputError:
        return
    require(False, "40 genes that the vocabulary does not hold were embedded")


def check_duplicate_genes(trial: Trial) -> None:
    """Two columns of one gene are legal: every cell still gets its row."""
    genes = GeneTable.from_var(trial.cells.var)
    names, symbols, ensembl = genes.names.copy(), genes.symbols.copy(), genes.ensembl.copy()
    for array in (names, symbols, ensembl):
        array[1], array[5] = array[0], array[4]
    found = trial.embed(cells_with(trial.cells.X, GeneTable(names, symbols, ensembl), trial.names))
    require(found.shape == trial.reference.shape, f"with duplicated genes the shape is {found.shape}")
    lost = [trial.names[row] for row in np.flatnonzero(trial.readable & ~np.isfinite(found).all(axis=1))]
    require(set(lost) <= {"one-gene", "two-genes"}, f"with duplicated genes there is no vector for {', '.join(lost)}")
