"""scFoundation's tokens: a cell's expressed genes with their log-normalised values, then its two depth tokens.

T says what depth the model is asked for, S what depth the cell has, both as log10 of a total count over the genes of
the vocabulary. Nothing is drawn, nothing is cut: the context is the whole vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError
from harness.tokens import TokenBatch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SCALE = 1e4


@dataclass(frozen=True)
class Target:
    """What T is set to: `t4` the number itself, `f2` log10(2 · total), `a1` log10(total) + 1."""

    kind: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `t4`, `f1`, `a0.5` … (the authors' `--tgthighres`).

        Raises
        ------
        InputError
            Anything else, or a depth that is not above zero.
        """
        kind, number = str(text)[:1], math.nan
        with contextlib.suppress(ValueError):
            number = float(str(text)[1:])
        if kind not in ("t", "f", "a") or not math.isfinite(number) or (kind in "tf" and number <= 0):
            raise InputError(
                f"model.target={text}: expected t, f or a and a number: t4 (T = 4), f2 (log10 of twice the total "
                "count), a1 (log10 of the total count, plus 1)"
            )
        return cls(kind, number)

    def of(self, totals: np.ndarray) -> np.ndarray:
        """T of cells with these totals, float64 (n,)."""
        if self.kind == "t":
            return np.full(len(totals), self.number)
        return np.log10(totals * self.number) if self.kind == "f" else np.log10(totals) + self.number


def mapped(counts: csr_matrix, token_ids: np.ndarray, n_genes: int, *, normalised: bool = False) -> csr_matrix:
    """The cells over the vocabulary, float64 CSR (n, n_genes); counts of columns of one gene are added.

    Parameters
    ----------
    counts
        CSR (n, n_columns).
    token_ids
        int64 (n_columns,), gene of each column, -1 outside the vocabulary; those are dropped.
    normalised
        The values are logarithms, which cannot be added: two columns of one gene are then refused.

    Raises
    ------
    InputError
        Two columns of one gene, where they cannot be added.
    """
    if normalised:
        genes, times = np.unique(token_ids[token_ids >= 0], return_counts=True)
        if (times > 1).any():
            raise InputError(
                f"{int((times > 1).sum())} genes of the model stand in more than one column (token "
                f"{int(genes[times > 1][0])} first); normalised values cannot be added, keep one column of each"
            )
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    genes = token_ids[counts.indices]
    known = (genes >= 0) & (counts.data > 0)
    entries = counts.data[known].astype(np.float64), (cell[known], genes[known])
    return sp.csr_matrix(entries, shape=(counts.shape[0], n_genes))


def totals_of(cells: csr_matrix) -> np.ndarray:
    """Sum of each row, float64 (n,)."""
    return np.asarray(cells.sum(axis=1), np.float64).ravel()


def single_cells(cells: csr_matrix, target: Target) -> TokenBatch:
    """Tokens of raw counts (official mode F): values log1p(count / total · 10⁴), S = log10(total)."""
    totals = totals_of(cells)
    return assemble(_log_scaled(cells, totals, SCALE), target, totals)


def normalised_cells(cells: csr_matrix, target: Target, totals: np.ndarray | None = None) -> TokenBatch:
    """Tokens of log-normalised values, taken as they are (official modes T and A).

    Parameters
    ----------
    totals
        Total raw count of each cell, (n,) (mode A). None: the sum of the values, which is what mode T takes for it.
    """
    return assemble(cells, target, totals_of(cells) if totals is None else np.asarray(totals, np.float64))


def bulk_samples(cells: csr_matrix, depth: float) -> TokenBatch:
    """Tokens of bulk counts: scaled to `depth` and logged, T = S = log10 of the sum of these logarithms."""
    cells = _log_scaled(cells, totals_of(cells), depth)
    return assemble(cells, Target("a", 0.0), totals_of(cells))


def normalised_bulk(cells: csr_matrix) -> TokenBatch:
    """Tokens of log-normalised bulk values: T = S = their sum, without a logarithm (official)."""
    totals = totals_of(cells)
    return pack(cells, totals, totals)


def _log_scaled(cells: csr_matrix, totals: np.ndarray, scale: float) -> csr_matrix:
    values = np.log1p(cells.data / np.repeat(totals, np.diff(cells.indptr)) * scale)
    return sp.csr_matrix((values, cells.indices, cells.indptr), shape=cells.shape)


def assemble(cells: csr_matrix, target: Target, totals: np.ndarray) -> TokenBatch:
    """Tokens of the values of some cells and of their total counts."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return pack(cells, target.of(totals), np.log10(totals))


def pack(cells: csr_matrix, target: np.ndarray, source: np.ndarray) -> TokenBatch:
    """Genes ascending, then T, then S; ids are positions in the vocabulary, T and S the two behind it.

    A cell whose T or S is not above zero has no real token: the network drops such a token, and without both the
    cell vector is not defined (total counts 0 and 1, above all; the authors' code crashes or shifts its slots).
    """
    n, n_genes = cells.shape
    target, source = target.astype(np.float32), source.astype(np.float32)
    lengths = np.diff(cells.indptr)
    with np.errstate(invalid="ignore"):
        readable = (lengths > 0) & (target > 0) & (source > 0) & np.isfinite(target) & np.isfinite(source)
    width = int(lengths[readable].max(initial=-2)) + 2
    ids = np.full((n, width), n_genes + 2, np.int64)
    values = np.zeros((n, width), np.float32)
    mask = np.zeros((n, width), bool)
    kept = np.repeat(readable, lengths)
    row = np.repeat(np.arange(n), lengths)[kept]
    column = (np.arange(cells.nnz) - np.repeat(cells.indptr[:-1], lengths))[kept]
    ids[row, column], values[row, column], mask[row, column] = cells.indices[kept], cells.data[kept], True
    rows = np.flatnonzero(readable)
    for place, depths in enumerate((target, source)):
        columns = lengths[rows] + place
        ids[rows, columns], values[rows, columns], mask[rows, columns] = n_genes + place, depths[rows], True
    return TokenBatch(ids, values, mask)
