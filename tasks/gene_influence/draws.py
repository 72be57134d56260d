"""How many targets chance finds: as many genes drawn from all, and drawn from those of like expression.

A network's most influenced genes tend to be highly expressed, and so do the targets that ChIP finds: 18 of 20 means
nothing beside the genes of all levels. What counts is the overlap beside genes of the same deciles of expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Groups of like expression.
DECILES = 10


@dataclass(frozen=True)
class Chance:
    """An observed overlap beside those of n draws: their mean and 95 % range; p = (1 + #draws >= observed)/(1 + n)."""

    mean: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, observed: int, draws: np.ndarray) -> Chance:
        """Judge `observed` by the overlaps `draws`, int (n,)."""
        low, high = np.percentile(draws, [2.5, 97.5])
        return cls(
            float(draws.mean()), float(low), float(high), (1 + int((draws >= observed).sum())) / (1 + len(draws))
        )


def random_draws(target: np.ndarray, k: int, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Targets among `k` different genes drawn from all, int (n_draws,).

    Parameters
    ----------
    target
        Bool (n_genes,). How many of the drawn genes are targets is hypergeometric, and is drawn as such.
    """
    n = int(target.sum())
    return rng.hypergeometric(n, len(target) - n, k, n_draws)


def matched_draws(
    chosen: np.ndarray, target: np.ndarray, expression: np.ndarray, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Targets among genes drawn from the same deciles of expression as the chosen ones, int (n_draws,).

    Parameters
    ----------
    chosen
        Places of the chosen genes, int (k,): from each decile as many are drawn as they have in it.
    target, expression
        (n_genes,), which genes are targets, and how much they are expressed.
    """
    decile = deciles(expression)
    found = np.zeros(n_draws, np.int64)
    for each in np.unique(decile[chosen]):
        found += random_draws(target[decile == each], int((decile[chosen] == each).sum()), n_draws, rng)
    return found


def deciles(expression: np.ndarray) -> np.ndarray:
    """Decile of each gene, int (n,) from 0 for the least expressed tenth; equals stand in their order."""
    rank = np.empty(len(expression), np.int64)
    rank[np.argsort(expression, kind="stable")] = np.arange(len(expression))
    return rank * DECILES // max(len(expression), 1)
