"""The tables that the figures are drawn from: effects condition by condition, and the strongest genes of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.perturbation.cells import TOP_DE
from tasks.perturbation.conditions import name_of

if TYPE_CHECKING:
    import pandas as pd

    from tasks.perturbation.scoring import Fold

#: Conditions whose genes are drawn: those that change expression most, so that every model shows the same.
DRAWN = 6
#: Quantiles of a box and its whiskers.
QUANTILES = {"low": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "high": 0.95}


def effects_table(folds: Sequence[Fold], predicted: Mapping[str, Sequence[np.ndarray]]) -> pd.DataFrame:
    """A line per fold, head and test condition: size of the observed and of the predicted change (L2 of Δ)."""
    import pandas as pd

    lines = []
    for head, profiles in predicted.items():
        for fold, guess in zip(folds, profiles, strict=True):
            for i, condition in enumerate(fold.test):
                lines.append(
                    {
                        "condition": name_of(condition),
                        "key": fold.split.subgroup.get(condition, ""),
                        "head": head,
                        "fold": fold.name,
                        "cells": int(fold.truth.sizes[fold.truth.index[condition]]),
                        "observed_l2": float(np.linalg.norm(fold.deltas[i])),
                        "predicted_l2": float(np.linalg.norm(guess[i] - fold.control)),
                    }
                )
    return pd.DataFrame(lines)


def genes_table(folds: Sequence[Fold], predicted: Mapping[str, Sequence[np.ndarray]]) -> pd.DataFrame:
    """Top 20 DE genes of the largest effects: quantiles of the cells' Δ, the mean, the predicted Δ."""
    import pandas as pd

    lines, shown = [], set()
    size = {c: float(np.linalg.norm(fold.deltas[i])) for fold in folds for i, c in enumerate(fold.test)}
    largest = sorted(size, key=lambda c: (-size[c], c))[:DRAWN]
    for fold in folds:
        for condition in (c for c in fold.test if c in largest and c not in shown):
            shown.add(condition)
            i, genes = fold.test.index(condition), fold.ranked[fold.test.index(condition)][:TOP_DE]
            cells = fold.truth.values[fold.truth.rows(condition)][:, genes].toarray() - fold.control[genes]
            quantiles = np.quantile(cells, list(QUANTILES.values()), axis=0)
            for head, profiles in predicted.items():
                guess = profiles[folds.index(fold)][i] - fold.control
                for j, gene in enumerate(genes.tolist()):
                    lines.append(
                        {
                            "condition": name_of(condition),
                            "head": head,
                            "fold": fold.name,
                            "gene": str(fold.truth.genes[gene]),
                            "observed_delta": float(fold.deltas[i][gene]),
                            "predicted_delta": float(guess[gene]),
                            **{name: float(q[j]) for name, q in zip(QUANTILES, quantiles, strict=True)},
                        }
                    )
    return pd.DataFrame(lines)
