"""scBERT's tokens: the level of expression of each gene, log2 of counts per 10,000 cut to whole numbers (0 to 5).

A cell is the whole panel of genes, in its order, those without a count included, and one more token of level 0 behind
them (`preprocess.py`, `SCDataset` of the authors). What follows from the panel alone is not carried along: a batch
holds a cell's expressed genes and the appended token, and the network fills in the level 0 of the others.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from harness.tokens import TokenBatch
from models.scbert.config import TOP

SCALE = np.float32(1e4)
LN2 = np.float32(np.log(2))


def levels(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """min(log2(1 + count / total · 10⁴), 5), cut to whole numbers: int64 of the shape of `counts`.

    In float32, as scanpy has it: counts per 10,000 of 1, 3, 7 … come to be whole numbers there, while in float64 many
    lie a hair below. The logarithm itself is rounded once, so that it is the same on every machine.

    Parameters
    ----------
    counts, totals
        float32, the count and its cell's total over the panel, which is above zero.
    """
    scaled = counts / (totals / SCALE)
    logs = np.log1p(scaled.astype(np.float64)).astype(np.float32) / LN2
    return np.minimum(logs, TOP).astype(np.int64)


def first_columns(ids: np.ndarray) -> np.ndarray:
    """`ids` int64 (n_columns,) with -1 for columns of a gene that an earlier column has: the authors read the first."""
    known = np.flatnonzero(ids >= 0)
    first = known[np.unique(ids[known], return_index=True)[1]]
    once = np.full_like(ids, -1)
    once[first] = ids[first]
    return once


def on_panel(counts: sp.csr_matrix, token_ids: np.ndarray, n_genes: int) -> sp.csr_matrix:
    """The cells over the panel, float32 CSR (n, n_genes) without stored zeros, genes ascending.

    Parameters
    ----------
    counts
        Raw counts, CSR (n, n_columns).
    token_ids
        int64 (n_columns,), gene of each column, -1 outside the panel; those are dropped.
    """
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    genes = first_columns(token_ids)[counts.indices]
    known = (genes >= 0) & (counts.data > 0)
    entries = counts.data[known].astype(np.float32), (cell[known], genes[known])
    panel = sp.csr_matrix(entries, shape=(counts.shape[0], n_genes))
    panel.sort_indices()
    return panel


def tokenize(panel: sp.csr_matrix) -> TokenBatch:
    """Expressed genes ascending, then the appended token; ids are positions in the panel, values levels.

    An expressed gene may be of level 0, as the others are. A cell without a count in the panel has no real token.
    """
    n, n_genes = panel.shape
    lengths = np.diff(panel.indptr)
    row, some = np.repeat(np.arange(n), lengths), np.flatnonzero(lengths)
    column = np.arange(panel.nnz) - np.repeat(panel.indptr[:-1], lengths)
    width = int(lengths.max(initial=-1)) + 1 if len(some) else 0
    ids = np.full((n, width), n_genes, np.int64)
    values, mask = np.zeros((n, width), np.float32), np.zeros((n, width), bool)
    totals = np.asarray(panel.sum(axis=1, dtype=np.float64)).ravel().astype(np.float32)
    ids[row, column], mask[row, column] = panel.indices, True
    values[row, column] = levels(panel.data, totals[row])
    mask[some, lengths[some]] = True
    return TokenBatch(ids, values, mask)


def whole_panel(batch: TokenBatch, n_genes: int) -> TokenBatch:
    """The same cells with a token for every position of the panel (n, n_genes + 1): the authors' own array."""
    n, read = len(batch), batch.mask.any(axis=1)
    row, column = np.nonzero(batch.mask)
    values = np.zeros((n, n_genes + 1), np.float32)
    values[row, batch.gene_ids[row, column]] = batch.values[row, column]
    ids = np.tile(np.arange(n_genes + 1), (n, 1))
    return TokenBatch(ids, values, np.repeat(read[:, None], n_genes + 1, axis=1))
