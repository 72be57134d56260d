"""Rank value encoding: a cell is its genes, sorted by how far they stand above their usual level.

Theodoris et al. 2023, Methods: counts, divided by the cell's total and by the gene's non-zero median over the
pretraining corpus, in descending order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.tokens import TokenBatch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def token_counts(counts: csr_matrix, token_of_column: np.ndarray, n_tokens: int) -> csr_matrix:
    """Counts by token, float64 CSR (n, n_tokens), columns ascending: unknown columns dropped, like ones summed."""
    import scipy.sparse as sp

    tokens = token_of_column[counts.indices]
    known = tokens >= 0
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    values = counts.data[known].astype(np.float64)
    matrix = sp.csr_matrix((values, (rows[known], tokens[known])), shape=(counts.shape[0], n_tokens))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def rank_tokens(
    by_token: csr_matrix,
    medians: np.ndarray,
    *,
    context_length: int,
    pad: int,
    cls: int | None = None,
    eos: int | None = None,
) -> TokenBatch:
    """Tokens of each cell, most elevated gene first.

    The order is that of count / median in float64. The official value has the factor 10,000 / n_counts as well;
    it is one number per cell and cannot change the order, and without it equal values are exactly equal whatever
    the total. Genes of equal value stand in the order of their token ids: the official order within a tie is that
    of an unstable sort; this one does not depend on the file's columns or on the machine.

    Parameters
    ----------
    by_token
        Counts (n, n_tokens) with ascending columns, see `token_counts`.
    medians
        float64 (n_tokens,).
    context_length
        Longest sequence, special tokens included.
    pad, cls, eos
        Ids of the special tokens; the latter None for V1.
    """
    n = by_token.shape[0]
    lengths = np.diff(by_token.indptr)
    rows = np.repeat(np.arange(n), lengths)
    places = np.arange(by_token.nnz) - np.repeat(by_token.indptr[:-1], lengths)
    width = int(lengths.max(initial=0))
    value = np.full((n, width), np.inf)
    value[rows, places] = -by_token.data / medians[by_token.indices]
    tokens = np.full((n, width), pad, np.int64)
    tokens[rows, places] = by_token.indices
    # Rows are short and contiguous: sorting them in a rectangle is several times faster than one long lexsort.
    framed = cls is not None and eos is not None
    limit = context_length - 2 if framed else context_length
    order = value.argsort(axis=1, kind="stable")[:, :limit]
    tokens, lengths = np.take_along_axis(tokens, order, axis=1), np.minimum(lengths, limit)
    if framed:
        has_gene = lengths > 0
        column = np.full((n, 1), pad, np.int64)
        tokens = np.hstack([np.where(has_gene[:, None], cls, pad), tokens, column])
        lengths = np.where(has_gene, lengths + 2, 0)
        tokens[has_gene, lengths[has_gene] - 1] = eos
    longest = int(lengths.max(initial=0))
    return TokenBatch(tokens[:, :longest], None, np.arange(longest) < lengths[:, None])
