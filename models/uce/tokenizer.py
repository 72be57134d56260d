"""UCE's sentences: genes drawn by their expression, ordered by where they stand on the chromosomes.

A sentence is CLS, then for every chromosome in random order its token, the drawn genes by start (repeats kept)
and a closing token. The authors draw from the global generator; here every draw is a function of the seed and of
the cell's own (gene, count) pairs. All arithmetic that decides a draw is on integers, so that it is exact and a
cell's sentence is the same in any company.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse as sp

from harness.draws import cell_keys, uniform
from harness.tokens import TokenBatch
from models.uce.genome import CLOSE, CLS, PAD, Genome

#: Weights are whole numbers of 2⁻²⁸: finer than the authors' float32, and their sums over a block stay below 2⁶³.
UNIT = 2.0**28
#: Independent uses of a cell's random numbers.
SAMPLE_STREAM, ORDER_STREAM, EXPRESSED_STREAM, UNEXPRESSED_STREAM = range(4)
#: Genes of each kind that the pretraining objective asks about, per cell.
QUERIES = 64


@dataclass(frozen=True)
class Pool:
    """What some cells' sentences are drawn from.

    Parameters
    ----------
    genes
        int64 (G,), tokens of the measured genes by chromosome and start, each once.
    chromosomes
        int64 (C,), tokens of the chromosomes they stand on.
    chromosome_of
        int64 (G,), index into `chromosomes` of each gene.
    weights
        CSR (n, G) of int64: log1p of the count in units of 2⁻²⁸, columns ascending. Columns of the data that
        stand for one gene add up, as the authors draw from each of them.
    """

    genes: np.ndarray
    chromosomes: np.ndarray
    chromosome_of: np.ndarray
    weights: sp.csr_matrix

    @classmethod
    def of(cls, counts: sp.csr_matrix, token_ids: np.ndarray, genome: Genome) -> Pool:
        """The pool of counts, CSR (n, n_genes), whose columns are the tokens `token_ids` (-1: not read)."""
        genes = np.unique(token_ids[token_ids >= 0])
        genes = genes[np.argsort(genome.rank[genes])]
        chromosomes, chromosome_of = np.unique(genome.chromosome[genes], return_inverse=True)
        column_of = np.full(len(genome.rank), -1, np.int32)
        column_of[genes] = np.arange(len(genes))
        columns = np.where(token_ids >= 0, column_of[token_ids], -1)[counts.indices]
        read = (columns >= 0) & (counts.data != 0)
        indptr = np.concatenate([[0], np.cumsum(read)])[counts.indptr]
        values = np.rint(np.log1p(counts.data[read].astype(np.float64)) * UNIT).astype(np.int64)
        weights = sp.csr_matrix((values, columns[read], indptr), shape=(counts.shape[0], len(genes)))
        weights.sum_duplicates()
        return cls(genes, chromosomes, chromosome_of, weights)

    @property
    def indptr(self) -> np.ndarray:
        """int64 (n + 1,), cell i owns the entries indptr[i]:indptr[i+1]."""
        return self.weights.indptr.astype(np.int64)

    @property
    def cell(self) -> np.ndarray:
        """int64 (nnz,), cell of each entry."""
        return np.repeat(np.arange(self.weights.shape[0]), np.diff(self.indptr))

    @cached_property
    def keys(self) -> np.ndarray:
        """uint64 (n,), what the draws of each cell depend on."""
        return cell_keys(self.indptr, self.genes[self.weights.indices], self.weights.data)


def tokenize(
    counts: sp.csr_matrix,
    token_ids: np.ndarray,
    genome: Genome,
    *,
    sample_size: int,
    max_length: int,
    seed: int = 0,
) -> TokenBatch:
    """Sentences of some cells, with the questions of the pretraining objective in `extra`.

    Parameters
    ----------
    counts
        float32 CSR (n, n_genes) in canonical form.
    token_ids
        int64 (n_genes,), token of each column, -1 for genes outside the vocabulary, which are dropped.
    genome
        Places of the genes.
    sample_size
        Genes drawn per cell, with replacement.
    max_length
        Longest sentence; what is beyond falls out (the authors' code stops with an error).
    seed
        Seed of the draws.
    """
    pool = Pool.of(counts, token_ids, genome)
    draws = uniform(pool.keys[:, None], np.arange(sample_size), seed=seed, stream=SAMPLE_STREAM)
    order = uniform(pool.keys[:, None], pool.chromosomes, seed=seed, stream=ORDER_STREAM)
    batch = sentences(pool, times_drawn(pool, draws), order, max_length)
    return batch.replace(extra=questions(pool, seed))


def times_drawn(pool: Pool, draws: np.ndarray) -> np.ndarray:
    """How often each entry of a pool is drawn, int64 (nnz,), with a chance in proportion to its weight.

    Parameters
    ----------
    draws
        float64 (n, sample_size), uniform in [0, 1). They are read as places on the line of the cell's weights.
    """
    ends = np.cumsum(pool.weights.data)
    edges = np.concatenate([[0], ends])[pool.indptr]
    total = np.diff(edges)[:, None]
    filled = total[:, 0] > 0
    places = np.minimum((draws * total).astype(np.int64), total - 1)[filled] + edges[:-1][filled, None]
    return np.bincount(np.searchsorted(ends, places.ravel(), side="right"), minlength=len(ends))


def sentences(pool: Pool, times: np.ndarray, order: np.ndarray, max_length: int) -> TokenBatch:
    """Put drawn genes in order.

    Parameters
    ----------
    times
        int (nnz,), how often each entry of the pool was drawn.
    order
        (n, C), key by which the chromosomes of each cell are put in ascending order.
    max_length
        Longest sentence.
    """
    n = pool.weights.shape[0]
    drawn = np.flatnonzero(times)
    cell, gene, times = pool.cell[drawn], pool.weights.indices[drawn], times[drawn]
    # Entries are sorted by cell and place in the genome: a chromosome of a cell is a run of them.
    chromosome = pool.chromosome_of[gene]
    first = np.flatnonzero(_changes(cell) | _changes(chromosome))
    run = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(drawn))))
    run_cell, run_chromosome = cell[first], chromosome[first]
    run_length = np.bincount(run, weights=times, minlength=len(first)).astype(np.int64) + 2
    lengths = np.bincount(run_cell, weights=run_length, minlength=n).astype(np.int64) + 1

    reading = np.lexsort((run_chromosome, order[run_cell, run_chromosome], run_cell))
    start = np.empty(len(first), np.int64)
    start[reading] = _before(run_length[reading])
    # Cells stand one after the other in `start`; their own count starts at 1, behind CLS.
    start += 1 - _before(lengths - 1)[run_cell]

    before = _before(times)
    gene_start = start[run] + 1 + before - before[first][run]
    rows = np.concatenate([run_cell, run_cell, np.repeat(cell, times), np.arange(n)])
    columns = np.concatenate(
        [
            start,
            start + run_length - 1,
            np.repeat(gene_start - before, times) + np.arange(times.sum()),
            np.zeros(n, np.int64),
        ]
    )
    tokens = np.concatenate(
        [
            pool.chromosomes[run_chromosome],
            np.full(len(first), CLOSE),
            np.repeat(pool.genes[gene], times),
            np.where(lengths > 1, CLS, PAD),
        ]
    )
    lengths = np.minimum(np.where(lengths > 1, lengths, 0), max_length)
    ids = np.full((n, max(1, int(lengths.max(initial=0)))), PAD, np.int64)
    kept = columns < max_length
    ids[rows[kept], columns[kept]] = tokens[kept]
    return TokenBatch(ids, None, np.arange(ids.shape[1]) < lengths[:, None])


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before; the first does."""
    return np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])


def _before(lengths: np.ndarray) -> np.ndarray:
    """Sum of all lengths before each, int64."""
    return np.cumsum(lengths) - lengths


def questions(pool: Pool, seed: int) -> dict[str, np.ndarray]:
    """Genes the pretraining objective asks about: `expressed` and `unexpressed`, int64 (n, 64) tokens each.

    Both are drawn uniformly and with replacement among the measured genes of the cell, counted or not; there is
    padding where a cell has none of the kind, and in empty cells.
    """
    n, n_genes = pool.weights.shape
    indptr, entries = pool.indptr, pool.weights.indices.astype(np.int64)
    n_expressed = np.diff(indptr)[:, None]
    numbers = np.arange(QUERIES)

    def choose(among: np.ndarray, stream: int) -> np.ndarray:
        """A number below `among` for each question; 0 where there is none."""
        draws = uniform(pool.keys[:, None], numbers, seed=seed, stream=stream)
        return np.clip((draws * among).astype(np.int64), 0, np.maximum(among - 1, 0))

    if not len(entries):
        return {name: np.full((n, QUERIES), PAD, np.int64) for name in ("expressed", "unexpressed")}
    nth = np.minimum(indptr[:-1, None] + choose(n_expressed, EXPRESSED_STREAM), len(entries) - 1)
    expressed = np.where(n_expressed > 0, pool.genes[entries[nth]], PAD)
    # An entry at column c with i entries of its cell before it has c - i unexpressed genes before it: the k-th
    # unexpressed gene stands behind all entries of which this number is at most k.
    absent = entries - (np.arange(len(entries)) - indptr[pool.cell])
    k = choose(n_genes - n_expressed, UNEXPRESSED_STREAM)
    stride = np.arange(n) * (n_genes + 1)
    behind = np.searchsorted(absent + stride[pool.cell], (k + stride[:, None]).ravel(), side="right")
    column = np.minimum(k + behind.reshape(k.shape) - indptr[:-1, None], n_genes - 1)
    unexpressed = np.where((n_expressed > 0) & (n_expressed < n_genes), pool.genes[column], PAD)
    return {"expressed": expressed, "unexpressed": unexpressed}
