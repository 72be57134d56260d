"""The genes that one perturbed gene influences, in order, and how many of them are its known targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.gene_influence.draws import Chance, matched_draws, random_draws

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Influenced:
    """All genes that can be found for a perturbed one: those that a model reads in its cells, without itself.

    Parameters
    ----------
    perturbed
        Symbol of the perturbed gene.
    cells
        Cells that were read.
    names, influence, expression, target
        (n_genes,), symbols, influences, mean log-normalised expression in these cells, and which are targets.
    """

    perturbed: str
    cells: int
    names: np.ndarray
    influence: np.ndarray
    expression: np.ndarray
    target: np.ndarray

    @classmethod
    def of(
        cls,
        perturbed: str,
        cells: int,
        names: np.ndarray,
        influence: np.ndarray,
        expression: np.ndarray,
        targets: Collection[str],
    ) -> Influenced:
        """Of influences by column (n_vars,), NaN where there is none; of several columns of a symbol the first."""
        columns = np.flatnonzero(~np.isnan(influence) & (names != perturbed))
        columns = np.sort(columns[np.unique(names[columns], return_index=True)[1]])
        target = np.array([name in targets for name in names[columns].tolist()], bool)
        return cls(perturbed, cells, names[columns], influence[columns], expression[columns], target)

    def top(self, k: int) -> np.ndarray:
        """Places of the `k` most influenced genes, int (k,), the first first; equals in their order."""
        return np.argsort(-self.influence, kind="stable")[:k]

    def overlap(self, k: int, n_draws: int, seed: int) -> Overlap:
        """Targets among the `k` most influenced genes, beside draws of as many genes."""
        top = self.top(k)
        observed = int(self.target[top].sum())
        # Of the perturbed gene alone: the others that are asked for change nothing.
        rng = np.random.default_rng([seed, *self.perturbed.encode()])
        drawn = random_draws(self.target, len(top), n_draws, rng)
        matched = matched_draws(top, self.target, self.expression, n_draws, rng)
        return Overlap(self, len(top), observed, Chance.of(observed, drawn), Chance.of(observed, matched))


@dataclass(frozen=True)
class Overlap:
    """Targets among the `k` most influenced genes: observed, and by both kinds of chance."""

    of: Influenced
    k: int
    observed: int
    random: Chance
    matched: Chance

    @property
    def precision(self) -> float:
        """Share of the most influenced genes that are targets."""
        return self.observed / self.k

    @property
    def lift(self) -> float:
        """Observed targets by the mean of those among genes of like expression; NaN where these have none."""
        return self.observed / self.matched.mean if self.matched.mean else np.nan

    @property
    def auprc(self) -> float:
        """Average precision of the targets among all genes, ranked by influence."""
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.of.target, self.of.influence))

    def line(self) -> dict[str, Any]:
        """A line of the table of draws."""
        chance = {
            f"{kind}_{part}": getattr(of, part)
            for kind, of in (("random", self.random), ("matched", self.matched))
            for part in ("mean", "low", "high", "p")
        }
        sizes = {"genes": len(self.of.names), "targets": int(self.of.target.sum()), "cells": self.of.cells}
        return {
            "perturbed": self.of.perturbed,
            "observed": self.observed,
            **chance,
            **{f"n_{what}": n for what, n in sizes.items()},
        }
