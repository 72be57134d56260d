"""scGPT's tokens: expressed genes in column order, values binned by rank within the cell, `<cls>` first.

The authors' binning and sampling draw from global generators; here every draw is a function of the seed and
of the cell's own (gene, count) pairs, so that a cell's tokens do not depend on its companions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.draws import cell_keys, uniform
from harness.tokens import TokenBatch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: 51 bins: 0 is reserved for zero, 1..50 lie between 50 quantiles. The official embedding hard-codes this.
N_BINS = 51
QUANTILES = np.linspace(0, 1, N_BINS - 1)
#: Independent uses of the cell's random numbers.
BIN_STREAM, SAMPLE_STREAM = 0, 1


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of `<pad>` and `<cls>`, and the value both carry."""

    pad: int
    cls: int
    pad_value: float = -2.0


def tokenize(
    counts: csr_matrix, token_ids: np.ndarray, special: SpecialTokens, *, max_length: int, seed: int = 0
) -> TokenBatch:
    """Token batch of some cells.

    Parameters
    ----------
    counts
        float32 CSR (n, n_genes) in canonical form. Only the ranks within a cell matter.
    token_ids
        int64 (n_genes,), token of each column, -1 for genes outside the vocabulary, which are dropped.
    special
        The special tokens.
    max_length
        Longest sequence, `<cls>` included. A longer cell keeps a random sample of its genes, in random order.
    seed
        Seed of the draws.
    """
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    genes = token_ids[counts.indices]
    known = (genes >= 0) & (counts.data != 0)
    cell, genes, values = cell[known], genes[known], counts.data[known]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=counts.shape[0]))])

    keys = cell_keys(indptr, genes, values)[cell]
    bins = bin_values(values, indptr, uniform(keys, genes, seed=seed, stream=BIN_STREAM))
    keys = uniform(keys, genes, seed=seed, stream=SAMPLE_STREAM)
    places = sampled_places(indptr, keys, max_length - 1)
    return assemble(genes, bins, places, indptr, special, max_length)


def quantile_edges(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """50 quantiles of every cell, float64 (n, 50): `numpy.quantile(x, linspace(0, 1, 50))` bit for bit.

    Parameters
    ----------
    values
        float32 (nnz,), the cells' non-zero values one cell after the other.
    indptr
        int (n + 1,), cell i owns values[indptr[i]:indptr[i+1]]. A cell without values gets a row that
        means nothing.
    """
    lengths = np.diff(indptr)
    if not len(values):
        return np.zeros((len(lengths), len(QUANTILES)))
    cell = np.repeat(np.arange(len(lengths)), lengths)
    ordered = values[np.lexsort((values, cell))]
    last = np.maximum(lengths - 1, 0)[:, None]
    virtual = last * QUANTILES
    below = np.floor(virtual).astype(np.int64)
    start = np.minimum(indptr[:-1], len(values) - 1)[:, None]
    low, high = ordered[start + below], ordered[start + np.minimum(below + 1, last)]
    # As numpy does it: the difference in float32, the interpolation in float64 from the nearer end.
    weight, step = virtual - below, high - low
    return np.where(weight >= 0.5, high - step * (1 - weight), low + step * weight)


def bin_values(values: np.ndarray, indptr: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Bin 1..50 of every value by the quantiles of its cell, float32 (nnz,).

    A value equal to several tied edges is spread uniformly over their bins; with raw counts that is most
    values (count 1), and the authors have no deterministic option.

    Parameters
    ----------
    values, indptr
        As in `quantile_edges`.
    draws
        float64 (nnz,), uniform in [0, 1), one per value.
    """
    cell = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    edges = quantile_edges(values, indptr)
    left = _count_edges(edges, cell, values, np.less_equal)
    right = _count_edges(edges, cell, values, np.less)
    return np.ceil(draws * (right - left) + left).astype(np.float32)


def _count_edges(edges: np.ndarray, cell: np.ndarray, values: np.ndarray, compare: np.ufunc) -> np.ndarray:
    """How many edges of its cell compare true with each value: one binary search for all values at once."""
    steps = 1 << np.arange(edges.shape[1].bit_length())[::-1]
    width = 2 * int(steps[0])
    table = np.full((len(edges), width), np.inf)
    table[:, : edges.shape[1]] = edges
    flat, first, exact = table.ravel(), cell * width - 1, values.astype(np.float64)
    found = np.zeros(len(values), np.int64)
    for step in steps:
        found += step * compare(flat[first + found + step], exact)
    return found


def sampled_places(indptr: np.ndarray, keys: np.ndarray, limit: int) -> np.ndarray:
    """Place of each gene in its cell's sequence, from 0, `<cls>` not counted; those >= `limit` fall out.

    Cells of at most `limit` genes keep column order. Longer ones are put in ascending order of `keys`, uniform
    in [0, 1) (equal ones stay in column order), so that the first `limit` are a uniform sample.
    """
    lengths = np.diff(indptr)
    places = np.arange(len(keys)) - np.repeat(indptr[:-1], lengths)
    long = np.flatnonzero(np.repeat(lengths > limit, lengths))
    cell = np.repeat(np.arange(len(lengths)), lengths)[long]
    # Cell and 40 bits of the key in one integer: three times as fast to sort as the pair.
    packed = (cell << 40) | (keys[long] * 2.0**40).astype(np.int64)
    places[long[np.argsort(packed, kind="stable")]] = places[long]
    return places


def assemble(
    genes: np.ndarray,
    bins: np.ndarray,
    places: np.ndarray,
    indptr: np.ndarray,
    special: SpecialTokens,
    max_length: int,
) -> TokenBatch:
    """Put binned genes at their places behind `<cls>`; a cell without genes has no real token."""
    lengths = np.diff(indptr)
    shape = (len(lengths), int(min(lengths.max(initial=0) + 1, max_length)))
    ids = np.full(shape, special.pad, np.int64)
    values = np.full(shape, special.pad_value, np.float32)
    mask = np.zeros(shape, bool)
    kept = places < max_length - 1
    where = np.repeat(np.arange(len(lengths)), lengths)[kept], places[kept] + 1
    ids[where], values[where], mask[where] = genes[kept], bins[kept], True
    ids[lengths > 0, 0] = special.cls
    mask[:, 0] = lengths > 0
    return TokenBatch(ids, values, mask)
