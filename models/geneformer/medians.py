"""The usual level of each gene: the median of its non-zero counts per 10,000 over a corpus.

Theodoris et al. 2023, Methods. The authors approximate it with a t-digest; here it is exact.
"""

from __future__ import annotations

import numpy as np

from harness.data import CellData
from models.geneformer.tokenizer import token_counts

#: Values kept in memory at a time (about 1 GB while they are sorted).
MAX_VALUES = 32_000_000


def gene_medians(
    corpus: CellData, token_of_column: np.ndarray, n_tokens: int, max_values: int = MAX_VALUES
) -> np.ndarray:
    """Medians, float64 (n_tokens,); 1 for a gene that no cell of the corpus expresses, and for special tokens.

    Reads the corpus once to count, then once for each group of genes whose values fit in memory together.

    Parameters
    ----------
    token_of_column
        int64 (n_genes,), the token of each column of the corpus, -1 for none.
    """
    seen = np.zeros(n_tokens, np.int64)
    for _, counts in corpus.blocks():
        seen += np.bincount(token_counts(counts, token_of_column, n_tokens).indices, minlength=n_tokens)
    medians = np.ones(n_tokens)
    group = np.cumsum(seen) // max_values
    for number in np.unique(group[seen > 0]):
        tokens, values = _values(corpus, np.where(group == number, seen, 0) > 0, token_of_column)
        order = np.lexsort((values, tokens))
        values = values[order]
        found, n = np.unique(tokens, return_counts=True)
        first = np.cumsum(n) - n
        medians[found] = (values[first + (n - 1) // 2] + values[first + n // 2]) / 2
    return medians


def _values(corpus: CellData, wanted: np.ndarray, token_of_column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, int32, and counts per 10,000, float64, of all non-zero entries of some genes."""
    tokens, values = [], []
    for _, counts in corpus.blocks():
        totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        by_token = token_counts(counts, token_of_column, len(wanted))
        keep = wanted[by_token.indices]
        tokens.append(by_token.indices[keep].astype(np.int32))
        values.append((by_token.data / np.repeat(totals, np.diff(by_token.indptr)) * 1e4)[keep])
    return np.concatenate(tokens), np.concatenate(values)
