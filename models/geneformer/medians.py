"""The usual level of each gene: the median of its non-zero counts per 10,000 over a corpus.

Theodoris et al. 2023, Methods. The authors approximate it with a t-digest; here it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from harness.data import CellData
from models.geneformer.tokenizer import token_counts

#: Values kept in memory at a time (about 1 GB while they are sorted).
MAX_VALUES = 32_000_000


#: Files of a corpus, each with the token of each of its columns, int64 (n_genes,), -1 for none.
Parts = Sequence[tuple[CellData, np.ndarray]]


def gene_medians(parts: Parts, n_tokens: int, max_values: int = MAX_VALUES) -> np.ndarray:
    """Medians, float64 (n_tokens,); 1 for a gene that no cell of the corpus expresses, and for special tokens.

    Reads the corpus once to count, then once for each group of genes whose values fit in memory together.
    """
    seen = np.zeros(n_tokens, np.int64)
    for counts, token_of_column in _blocks(parts):
        seen += np.bincount(token_counts(counts, token_of_column, n_tokens).indices, minlength=n_tokens)
    medians = np.ones(n_tokens)
    group = np.cumsum(seen) // max_values
    for number in np.unique(group[seen > 0]):
        tokens, values = _values(parts, np.where(group == number, seen, 0) > 0)
        order = np.lexsort((values, tokens))
        values = values[order]
        found, n = np.unique(tokens, return_counts=True)
        first = np.cumsum(n) - n
        medians[found] = (values[first + (n - 1) // 2] + values[first + n // 2]) / 2
    return medians


def _blocks(parts: Parts) -> Iterator[tuple[csr_matrix, np.ndarray]]:
    for part, token_of_column in parts:
        for _, counts in part.blocks():
            yield counts, token_of_column


def _values(parts: Parts, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, int32, and counts per 10,000, float64, of all non-zero entries of some genes."""
    tokens, values = [], []
    for counts, token_of_column in _blocks(parts):
        totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        by_token = token_counts(counts, token_of_column, len(wanted))
        keep = wanted[by_token.indices]
        tokens.append(by_token.indices[keep].astype(np.int32))
        values.append((by_token.data / np.repeat(totals, np.diff(by_token.indptr)) * 1e4)[keep])
    return np.concatenate(tokens), np.concatenate(values)
