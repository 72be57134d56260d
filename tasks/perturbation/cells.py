"""Cells by condition: log-normalised expression, its means, and the genes that differ from control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tasks.perturbation.conditions import CONTROL, Condition, name_of

if TYPE_CHECKING:
    import scipy.sparse as sp

#: Genes a profile is compared on where only the strongest effects count (GEARS' top 20).
TOP_DE = 20


@dataclass(frozen=True)
class PerturbedCells:
    """Cells and what was done to them.

    Parameters
    ----------
    values
        log1p of counts per 10,000, float32 CSR (n, g).
    genes
        Names of the columns, Unicode (g,), as the conditions spell them where they do.
    conditions
        The conditions, control first.
    of_cell
        Int (n,): index into `conditions`.
    """

    values: sp.csr_matrix
    genes: np.ndarray
    conditions: tuple[Condition, ...]
    of_cell: np.ndarray

    @cached_property
    def index(self) -> dict[Condition, int]:
        """Condition -> its place in `conditions`."""
        return {condition: i for i, condition in enumerate(self.conditions)}

    @cached_property
    def column(self) -> dict[str, int]:
        """Gene -> its column."""
        return {gene: i for i, gene in enumerate(self.genes.tolist())}

    @cached_property
    def sizes(self) -> np.ndarray:
        """Cells of each condition, int (c,)."""
        return np.bincount(self.of_cell, minlength=len(self.conditions))

    @cached_property
    def means(self) -> np.ndarray:
        """Mean profile of each condition, float64 (c, g); NaN for a condition without cells."""
        return self._sums(self.values) / np.where(self.sizes > 0, self.sizes, np.nan)[:, None]

    @cached_property
    def variances(self) -> np.ndarray:
        """Sample variance of each gene in each condition, float64 (c, g); NaN under two cells."""
        squares = self.values.copy()
        squares.data = squares.data.astype(np.float64) ** 2
        n = self.sizes[:, None].astype(float)
        centred = self._sums(squares) - n * self.means**2
        return np.maximum(centred, 0) / np.where(n > 1, n - 1, np.nan)

    def _sums(self, values: sp.csr_matrix) -> np.ndarray:
        import scipy.sparse as sp

        n = len(self.of_cell)
        members = sp.csr_matrix((np.ones(n), (self.of_cell, np.arange(n))), shape=(len(self.conditions), n))
        return (members @ values.astype(np.float64)).toarray()

    @property
    def control_mean(self) -> np.ndarray:
        """Mean profile of the control cells, float64 (g,)."""
        return self.means[self.index[CONTROL]]

    def rows(self, condition: Condition) -> np.ndarray:
        """Cells of a condition, int64."""
        return np.flatnonzero(self.of_cell == self.index[condition])

    def mean(self, condition: Condition) -> np.ndarray:
        """Mean profile of a condition, float64 (g,)."""
        return self.means[self.index[condition]]

    def of(self, conditions: Sequence[Condition]) -> PerturbedCells:
        """The cells of some conditions (control among them), and those conditions only."""
        kept = tuple(condition for condition in self.conditions if condition in set(conditions) | {CONTROL})
        place = np.full(len(self.conditions), -1)
        place[[self.index[condition] for condition in kept]] = np.arange(len(kept))
        code = place[self.of_cell]
        return PerturbedCells(self.values[code >= 0], self.genes, kept, code[code >= 0])

    def ranked(self, condition: Condition) -> np.ndarray:
        """Genes by how surely they differ from control, the surest first, int64 (g,).

        Absolute t statistic with unequal variances, as GEARS ranks them (scanpy's `t-test`, `rankby_abs`); genes that
        vary in neither come last.
        """
        a, b = self.index[condition], self.index[CONTROL]
        error = self.variances[a] / self.sizes[a] + self.variances[b] / self.sizes[b]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(self.means[a] - self.means[b]) / np.sqrt(error)
        return np.argsort(-np.nan_to_num(t, nan=0.0), kind="stable")

    def de_genes(self, condition: Condition, fdr: float = 0.05) -> np.ndarray:
        """Genes that differ from control at a false discovery rate, int64: t test with unequal variances."""
        from scipy.stats import false_discovery_control, ttest_ind_from_stats

        a, b = self.index[condition], self.index[CONTROL]
        groups = [(self.means[i], np.sqrt(self.variances[i]), self.sizes[i]) for i in (a, b)]
        with np.errstate(divide="ignore", invalid="ignore"):
            _, p = ttest_ind_from_stats(*groups[0], *groups[1], equal_var=False)
        return np.flatnonzero(false_discovery_control(np.nan_to_num(p, nan=1.0)) < fdr)

    def describe(self) -> str:
        """What there is, in words."""
        return f"{len(self.of_cell)} cells, {len(self.conditions) - 1} conditions beside {name_of(CONTROL)}"
