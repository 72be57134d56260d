"""Genetic interactions of the tested pairs: what a pair does beyond the sum of its singles, and who foresees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.metrics import row
from harness.results import MetricRow
from tasks.perturbation.conditions import Condition, name_of
from tasks.perturbation.interactions import (
    KINDS,
    difference_to_additive,
    discovery_curve,
    interaction_auprc,
    interaction_pearson,
    interaction_threshold,
    kind_confusion,
    kinds,
)
from tasks.perturbation.scoring import Fold, mean_rows

if TYPE_CHECKING:
    import pandas as pd

#: Points of a curve that are kept.
POINTS = 100
#: What costs nothing: a pair that changes nothing, and one that is the sum of its singles.
NO_CHANGE, ADDITIVE = "no change", "additive"


@dataclass(frozen=True)
class Pairs:
    """The test pairs of a fold whose singles were measured, in training or not.

    Parameters
    ----------
    at
        Int (p,): their places among the test conditions.
    first, second, observed
        Observed changes of the singles and of the pairs, (p, g).
    """

    conditions: list[Condition]
    at: np.ndarray
    first: np.ndarray
    second: np.ndarray
    observed: np.ndarray

    @classmethod
    def of(cls, fold: Fold) -> Pairs | None:
        """None where there is no such pair."""
        measured = fold.truth.index
        at = [i for i, c in enumerate(fold.test) if len(c) == 2 and all((gene,) in measured for gene in c)]
        if not at:
            return None
        conditions = [fold.test[i] for i in at]
        singles = [np.stack([fold.truth.mean((c[j],)) - fold.control for c in conditions]) for j in (0, 1)]
        return cls(conditions, np.array(at), singles[0], singles[1], fold.deltas[at])

    @property
    def beyond(self) -> np.ndarray:
        """Observed difference to the sum, (p, g)."""
        return difference_to_additive(self.first, self.second, self.observed)


def interactions(
    folds: Sequence[Fold], predicted: Mapping[str, Sequence[np.ndarray]]
) -> tuple[list[MetricRow], dict[str, pd.DataFrame]]:
    """Metric rows and tables; both empty where no pair is tested whose singles were measured.

    A gene of a pair interacts where the observed difference to the sum of the observed singles is beyond the threshold
    of all pairs (`interaction_threshold`). Predictors are asked for that difference, whatever singles they were shown.
    """
    import pandas as pd

    parts = [(fold, pairs) for fold in folds if (pairs := Pairs.of(fold)) is not None]
    if not parts:
        return [], {}
    threshold = interaction_threshold(np.concatenate([pairs.beyond for _, pairs in parts]))
    interacts = np.concatenate([(np.abs(pairs.beyond) >= threshold).ravel() for _, pairs in parts])
    changes = {
        head: [guess[pairs.at] - fold.control for (fold, pairs), guess in zip(parts, _of(folds, guesses), strict=True)]
        for head, guesses in predicted.items()
    }
    rows, curves, confusions = [], [], []
    references = {
        NO_CHANGE: [np.zeros_like(pairs.observed) for _, pairs in parts],
        ADDITIVE: [pairs.first + pairs.second for _, pairs in parts],
    }
    for head, own in {**changes, **references}.items():
        if any(np.isnan(change).any() for change in own):
            continue
        beyond = [difference_to_additive(p.first, p.second, c) for (_, p), c in zip(parts, own, strict=True)]
        flat = np.concatenate([each.ravel() for each in beyond])
        curves += _curve(head, flat, interacts)
        confusions += _confusion(head, [pairs for _, pairs in parts], own, threshold)
        if head in references:
            continue
        rows.append(row("interaction_auprc", interaction_auprc(flat, interacts), head=head, n=int(interacts.sum())))
        by_pair: dict[str, list[float]] = {}
        for (_, pairs), each in zip(parts, beyond, strict=True):
            for condition, value in zip(
                pairs.conditions, interaction_pearson(each, pairs.beyond).tolist(), strict=True
            ):
                by_pair.setdefault(name_of(condition), []).append(value)
        rows += mean_rows("interaction_pearson", head, by_pair)
    return rows, {"interaction_curve": pd.DataFrame(curves), "interaction_kinds": pd.DataFrame(confusions)}


def _of(folds: Sequence[Fold], guesses: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The predictions of the folds that test pairs."""
    return [guess for fold, guess in zip(folds, guesses, strict=True) if Pairs.of(fold) is not None]


def _curve(head: str, beyond: np.ndarray, interacts: np.ndarray) -> list[dict[str, object]]:
    false, found = discovery_curve(beyond, interacts)
    chosen = np.unique(np.linspace(0, len(false) - 1, POINTS).round().astype(int))
    return [
        {"label": head, "false_discovery_proportion": float(false[i]), "true_positive_rate": float(found[i])}
        for i in chosen
    ]


def _confusion(
    head: str, pairs: Sequence[Pairs], changes: Sequence[np.ndarray], threshold: float
) -> list[dict[str, object]]:
    table = sum(
        kind_confusion(kinds(p.first, p.second, p.observed, threshold), kinds(p.first, p.second, change, threshold))
        for p, change in zip(pairs, changes, strict=True)
    )
    return [
        {"label": head, "true": KINDS[i], "predicted": KINDS[j], "n": int(table[i, j])}  # type: ignore[index]
        for i in range(len(KINDS))
        for j in range(len(KINDS))
    ]
