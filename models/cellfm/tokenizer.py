"""Counts -> CellFM tokens: depth cap, intersection with the vocabulary, log-normalisation, length limit.

As in the authors' embedding and annotation pipeline; the order of tokens is that of the sorted symbols.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from harness.draws import cell_keys, uniform
from harness.genes import GeneMatch
from harness.tokens import TokenBatch

#: A cell with more counts than this is scaled down to it, over all genes of the file.
DEPTH_CAP = np.float32(1e5)
#: Counts of a cell after normalisation, over the genes of the vocabulary.
TARGET = np.float32(1e4)


def cap_depth(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Counts of cells above 100,000 scaled down to it and rounded half to even, zeros dropped.

    Parameters
    ----------
    counts
        Raw counts, float32 CSR (n, n_genes), all columns of the data set. It is not changed.
    """
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel().astype(np.float32)
    scale = np.maximum(np.float32(1), totals / DEPTH_CAP)
    if not (scale > 1).any():
        return counts
    data = np.rint(counts.data / np.repeat(scale, np.diff(counts.indptr)))
    capped = sp.csr_matrix((data, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
    capped.eliminate_zeros()
    return capped


def token_columns(match: GeneMatch, token_names: np.ndarray) -> np.ndarray:
    """Columns of the data set in the order of the tokens: sorted by symbol, each gene once."""
    columns = match.columns
    ids, first = np.unique(match.ids[columns], return_index=True)
    return columns[first][np.argsort(token_names[ids], kind="stable")]


def tokenize(
    counts: sp.csr_matrix, match: GeneMatch, token_names: np.ndarray, max_genes: int, seed: int = 0
) -> TokenBatch:
    """Tokens of some cells: gene ids, log-normalised values, and which positions are real.

    Parameters
    ----------
    counts
        Raw counts, float32 CSR (n, n_genes), all columns of the data set.
    match
        The token id of each column.
    token_names
        Name of each token id.
    max_genes
        A cell with more expressed genes keeps a weighted sample of this many.
    seed
        Of the sample, which otherwise depends on the cell alone.
    """
    columns = token_columns(match, token_names)
    known = sp.csr_matrix(cap_depth(counts)[:, columns])
    known.sort_indices()
    sizes = np.diff(known.indptr)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    ids = match.ids[columns][known.indices]
    totals = np.asarray(known.sum(axis=1, dtype=np.float64)).ravel().astype(np.float32)
    # Divided in this order, and in float32, the values are bit-equal to the authors' (scanpy's) ones.
    values = np.log1p(known.data / (totals / TARGET)[rows])
    if (sizes > max_genes).any():
        keep = _sample(known, rows, ids, values, max_genes, seed)
        rows, ids, values = rows[keep], ids[keep], values[keep]
    return _pad(rows, ids, values, len(sizes))


def _sample(
    known: sp.csr_matrix, rows: np.ndarray, ids: np.ndarray, values: np.ndarray, max_genes: int, seed: int
) -> np.ndarray:
    """Which stored values stay: in a cell above the limit, `max_genes` of them, drawn without replacement.

    Weights are log1p(value), as in the authors' `numpy.random.choice`. An exponential race has the same
    distribution (Efraimidis & Spirakis 2006), and its draws depend on the cell and the gene alone.
    """
    keep = np.ones(known.nnz, bool)
    long = np.flatnonzero((np.diff(known.indptr) > max_genes)[rows])
    keys = cell_keys(known.indptr, ids, known.data)
    draws = uniform(keys[rows[long]], ids[long], seed=seed)
    arrival = -np.log1p(-draws) / np.log1p(values[long].astype(np.float64))
    order = np.lexsort((arrival, rows[long]))
    ranked = rows[long][order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    keep[long[order[rank >= max_genes]]] = False
    return keep


def _pad(rows: np.ndarray, ids: np.ndarray, values: np.ndarray, n_cells: int) -> TokenBatch:
    sizes = np.bincount(rows, minlength=n_cells)
    position = np.arange(len(rows)) - (np.cumsum(sizes) - sizes)[rows]
    shape = (n_cells, int(sizes.max(initial=0)))
    gene_ids, padded, mask = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, bool)
    gene_ids[rows, position] = ids
    padded[rows, position] = values
    mask[rows, position] = True
    return TokenBatch(gene_ids, padded, mask)
