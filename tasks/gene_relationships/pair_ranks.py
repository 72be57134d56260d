"""Where some pairs of genes stand among all others: to compare two models, or one before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from tasks.gene_relationships.directions import Directions

if TYPE_CHECKING:
    import pandas as pd

#: Cosines this close are tied: the same product can differ in its last bits from block to block.
TIED = 1e-12
BLOCK = 1024


def parse_pairs(given: Sequence[Any], setting: str = "task.pairs") -> tuple[tuple[str, str], ...]:
    """Pairs of gene symbols, written `A-B` or `[A, B]` (where a symbol holds a hyphen itself).

    Raises
    ------
    InputError
        An entry is neither.
    """
    found = []
    for pair in given:
        parts = pair.split("-") if isinstance(pair, str) else [str(gene) for gene in pair]
        if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
            raise InputError(
                f"{setting}: {pair} is no pair of two genes; write A-B, or [[A,B]] where a symbol holds a hyphen"
            )
        found.append((parts[0].strip(), parts[1].strip()))
    return tuple(found)


def pair_ranks(vectors: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Rank of each pair by cosine, 1 the most similar; tied pairs share their middle rank.

    Parameters
    ----------
    vectors
        Gene -> vector (d,); those that are NaN or zero are none.
    pairs
        Pairs of which a gene has no vector are left out.

    Returns
    -------
    Columns `a`, `b`, `cosine`; `rank` among the `n` pairs of the first gene, `rank_all` among all `n_all` pairs.
    """
    names = np.array(list(vectors), np.str_)
    stacked = np.stack(list(vectors.values())) if vectors else np.zeros((0, 1))
    return ranks_of(Directions.of(names, stacked), pairs)


def ranks_of(genes: Directions, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The same of genes whose directions are known."""
    import pandas as pd

    place = {gene: i for i, gene in enumerate(genes.names.tolist())}
    known = [(a, b) for a, b in pairs if a in place and b in place]
    at = np.array([(place[a], place[b]) for a, b in known], np.int64).reshape(-1, 2)
    unit, n = genes.unit, len(genes)
    own = unit[at[:, 0]] @ unit.T
    cosine = own[np.arange(len(at)), at[:, 1]]
    own[np.arange(len(at)), at[:, 0]] = -np.inf  # no gene is a pair with itself
    above, tied = _counts(own, cosine[:, None])
    every_above, every_tied = np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
    for start in range(0, n if len(at) else 0, BLOCK):
        block = unit[start : start + BLOCK] @ unit[start:].T
        flat = block[np.triu(np.ones(block.shape, bool), 1)]
        for i, value in enumerate(cosine.tolist()):
            more, same = _counts(flat, value)
            every_above[i] += more
            every_tied[i] += same
    return pd.DataFrame(
        {
            "a": [a for a, _ in known],
            "b": [b for _, b in known],
            "cosine": cosine,
            "rank": above + (tied + 1) / 2,
            "n": n - 1,
            "rank_all": every_above + (every_tied + 1) / 2,
            "n_all": n * (n - 1) // 2,
        }
    )


def _counts(values: np.ndarray, than: Any) -> tuple[Any, Any]:
    """How many values are above another, and how many equal it, along the last axis."""
    above = (values > than + TIED).sum(axis=-1)
    return above, (values >= than - TIED).sum(axis=-1) - above
