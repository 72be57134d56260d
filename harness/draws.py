"""Random draws that depend on a cell's own content and on nothing else.

A counter-based generator (SplitMix64 finaliser over hashed keys): every draw is a pure function of
(seed, cell, gene, stream), so it is the same in any batch, order, process or number of threads, and a
whole block of cells is drawn at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from harness.tokens import TokenBatch

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


def normal(keys: np.ndarray, k: int, *, seed: int = 0, stream: int = 0) -> np.ndarray:
    """Standard normal numbers, float64 (n, k), for each of the keys; the first ones are the same for any `k`."""
    from scipy.special import ndtri

    numbers = uniform(np.asarray(keys)[:, None], np.arange(k)[None], seed=seed, stream=stream)
    return ndtri(numbers + 2.0**-54)  # never at 0, where the quantile is infinite


class CellDraws:
    """Uniform numbers for the cells of a token batch, one stream after the other.

    A cell's numbers depend on its own tokens and on one draw from the generator: not on padding, on the other rows, or
    on which device has the cell. Masks of a pretraining step are drawn so.

    Parameters
    ----------
    batch
        Numpy arrays or tensors.
    generator
        torch generator; advanced by one draw, whatever the batch holds.
    """

    def __init__(self, batch: TokenBatch, generator: Any):
        import torch

        draw = torch.randint(2**62, (1,), generator=generator, device=generator.device)
        self.seed, self.stream = int(draw), 0
        self.shape = tuple(batch.gene_ids.shape)
        ids, mask = _array(batch.gene_ids), _array(batch.mask).astype(bool)
        tokens = mix(ids)
        if batch.values is not None:
            tokens = mix(tokens ^ _array(batch.values).astype(np.float64).view(np.uint64))
        with np.errstate(over="ignore"):
            self.keys = mix((tokens * mask).sum(axis=1, dtype=np.uint64))

    def tokens(self) -> Tensor:
        """A number for each position, float32 (n, L)."""
        return self.cells(self.shape[1])

    def cells(self, k: int) -> Tensor:
        """`k` numbers for each cell, float32 (n, k); the first ones are the same for any `k`."""
        import torch

        numbers = uniform(self.keys[:, None], np.arange(k)[None], seed=self.seed, stream=self.stream)
        self.stream += 1
        return torch.from_numpy(_below_one(numbers))

    def binomial(self, counts: Tensor, rate: Tensor) -> Tensor:
        """How many of `counts` (n, L), whole numbers, are drawn with chance `rate` (n, 1) each; float32 (n, L)."""
        import torch

        n = _array(counts).astype(np.int64)
        place = np.repeat(np.arange(n.size), n.ravel())
        row, column = np.divmod(place, n.shape[1])
        within = np.arange(len(place)) - np.repeat(np.cumsum(n.ravel()) - n.ravel(), n.ravel())
        numbers = uniform(self.keys[row], (column << 32) + within, seed=self.seed, stream=self.stream)
        self.stream += 1
        drawn = np.bincount(place[numbers < _array(rate).ravel()[row]], minlength=n.size)
        return torch.from_numpy(drawn.reshape(n.shape).astype(np.float32))


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _below_one(numbers: np.ndarray) -> np.ndarray:
    """float32, rounded down: a number below one stays below one."""
    return np.minimum(numbers.astype(np.float32), np.float32(1 - 2.0**-24))
