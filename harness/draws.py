"""Random draws that depend on a cell's own content and on nothing else.

A counter-based generator (SplitMix64 finaliser over hashed keys): every draw is a pure function of
(seed, cell, gene, stream), so it is the same in any batch, order, process or number of threads, and a
whole block of cells is drawn at once.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 finaliser, uint64 -> uint64 (Steele, Lea & Flood 2014)."""
    x = np.asarray(x).astype(np.uint64)
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def cell_keys(indptr: np.ndarray, genes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One key per cell, uint64 (n,), from its (gene, count) pairs whatever their order.

    Parameters
    ----------
    indptr
        int (n + 1,), CSR layout over cells.
    genes
        int (nnz,), a stable id of the gene: the model's token id, never the column of the file.
    counts
        (nnz,), the counts.
    """
    with np.errstate(over="ignore"):
        pairs = mix(mix(genes) ^ np.asarray(counts, np.float64).view(np.uint64))
        totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(pairs, dtype=np.uint64)])
        return mix(totals[indptr[1:]] - totals[indptr[:-1]])


def uniform(keys: np.ndarray, counters: np.ndarray, *, seed: int = 0, stream: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1), float64, one per (key, counter) pair; the arguments broadcast.

    Parameters
    ----------
    keys
        uint64, the key of the cell each draw belongs to.
    counters
        int, what tells the draws of one cell apart: a token id, or the number of the draw.
    seed, stream
        The run's seed, and a number for each independent use within one model.
    """
    base = mix(mix(np.asarray(seed, np.int64)) ^ mix(np.asarray(stream, np.int64) + np.int64(1) << np.int64(32)))
    bits = mix(mix(np.asarray(keys, np.uint64) ^ base) ^ mix(counters))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
