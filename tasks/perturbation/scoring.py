"""From predicted mean profiles to metric rows: every metric perturbation by perturbation, and its mean over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.metrics import row
from harness.results import MetricRow
from tasks import profiles
from tasks.distances import EVALUATION_GAMMAS, e_distance, mmd_rbf
from tasks.perturbation import discrimination
from tasks.perturbation.cells import TOP_DE, PerturbedCells
from tasks.perturbation.collapse import mean_pairwise_pearson
from tasks.perturbation.conditions import CONTROL, Condition, name_of
from tasks.perturbation.de_overlap import de_auprc, de_overlap
from tasks.perturbation.splits import ConditionSplit

#: Metrics that are means over perturbations.
BY_PERTURBATION = (
    "pearson_delta",
    "pearson_delta_de20",
    "pearson_delta_perturbed",
    "pearson_delta_perturbed_de20",
    "r2_delta",
    "mse",
    "mse_de20",
    "l2_top",
    "centroid_accuracy",
    "discrimination_cosine",
    "rank_score",
    "de_overlap",
    "de_auprc",
    "e_distance",
    "mmd",
)
METRICS = (*BY_PERTURBATION, "prediction_similarity", "interaction_auprc", "interaction_pearson")
#: Cells of a condition, and of the controls, that distances of cells are taken between.
DISTANCE_CELLS = 200


@dataclass(frozen=True)
class Fold:
    """What the predictions of one split are held against.

    Parameters
    ----------
    name
        Of the split.
    truth
        All cells; those of the test conditions are what is to be predicted.
    split
        Its conditions.
    top_genes
        Most expressed genes that `l2_top` compares.
    """

    name: str
    truth: PerturbedCells
    split: ConditionSplit
    top_genes: int

    @property
    def test(self) -> tuple[Condition, ...]:
        """The conditions that are predicted, in the order of the predictions."""
        return self.split.test

    @property
    def control(self) -> np.ndarray:
        """Control mean, float64 (g,)."""
        return self.truth.control_mean

    @cached_property
    def profiles(self) -> np.ndarray:
        """Observed mean profiles of the test conditions, float64 (n_test, g)."""
        return np.stack([self.truth.mean(condition) for condition in self.test])

    @cached_property
    def deltas(self) -> np.ndarray:
        """Their change from control."""
        return self.profiles - self.control

    @cached_property
    def reference(self) -> np.ndarray:
        """Mean of the mean profiles of the training side, (g,): what all perturbations share (Systema).

        Validation conditions are of that side: what predicts this very mean has no correlation, and is null.
        """
        return np.mean([self.truth.mean(condition) for condition in (*self.split.train, *self.split.val)], axis=0)

    @cached_property
    def ranked(self) -> list[np.ndarray]:
        """Genes of each test condition by how surely they differ from control."""
        return [self.truth.ranked(condition) for condition in self.test]

    @cached_property
    def de_genes(self) -> list[np.ndarray]:
        """The DE genes of each test condition."""
        return [self.truth.de_genes(condition) for condition in self.test]

    def cells(self, condition: Condition, seed: int) -> np.ndarray:
        """Some cells of a condition, float64 (at most DISTANCE_CELLS, g)."""
        rows = np.random.default_rng([seed, 11]).permutation(self.truth.rows(condition))[:DISTANCE_CELLS]
        return self.truth.values[np.sort(rows)].toarray().astype(np.float64)


def score(folds: Sequence[Fold], predicted: Mapping[str, Sequence[np.ndarray]], seed: int) -> list[MetricRow]:
    """Metric rows of all heads.

    Parameters
    ----------
    predicted
        Head -> predicted mean profiles (n_test, g), fold by fold. A row of NaN is scored as missing, and counted by
        its absence from `n`.
    seed
        Of the cells that distances are taken between.
    """
    rows = []
    for head, guesses in predicted.items():
        found: dict[str, dict[str, list[float]]] = {}
        for fold, guess in zip(folds, guesses, strict=True):
            for metric, values in _scores(fold, np.asarray(guess, np.float64), seed).items():
                for condition, value in zip(fold.test, np.asarray(values).tolist(), strict=True):
                    found.setdefault(metric, {}).setdefault(name_of(condition), []).append(value)
        for metric in BY_PERTURBATION:
            rows += mean_rows(metric, head, found[metric])
        alike = [mean_pairwise_pearson(guess - fold.control) for fold, guess in zip(folds, guesses, strict=True)]
        rows.append(row("prediction_similarity", _mean(alike), head=head))
    return rows


def mean_rows(metric: str, head: str, by_condition: Mapping[str, Sequence[float]]) -> list[MetricRow]:
    """A row per condition, the mean over the folds that test it, and their mean; undefined ones have no part in it."""
    means = {condition: _mean(values) for condition, values in by_condition.items()}
    known = [value for value in means.values() if value == value]
    units = [
        row(metric, value, head=head, scope="per-perturbation", key=condition, n=len(by_condition[condition]))
        for condition, value in means.items()
    ]
    return [row(metric, _mean(known), head=head, n=len(known)), *units]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _scores(fold: Fold, guess: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Metric -> (n_test,)."""
    truth, control, reference = fold.profiles, fold.control, fold.reference
    strongest = [genes[:TOP_DE] for genes in fold.ranked]
    top = profiles.top_expressed(control, fold.top_genes)
    every = fold.truth.conditions[1:]
    centroids = np.stack([fold.truth.mean(condition) for condition in every])
    own = np.array([every.index(condition) for condition in fold.test])
    targets = [[fold.truth.column[g] for g in c if g in fold.truth.column] for c in fold.test]
    change = guess - control
    shifted = fold.cells(CONTROL, seed)
    spread = [
        _distances(shifted + own_change, fold.cells(c, seed)) for own_change, c in zip(change, fold.test, strict=True)
    ]
    return {
        "pearson_delta": profiles.pearson_delta(guess, truth, control),
        "pearson_delta_de20": profiles.pearson_delta(guess, truth, control, strongest),
        "pearson_delta_perturbed": profiles.pearson_delta(guess, truth, reference),
        "pearson_delta_perturbed_de20": profiles.pearson_delta(guess, truth, reference, strongest),
        "r2_delta": profiles.r2_delta(guess, truth, control),
        "mse": profiles.mse(guess, truth),
        "mse_de20": profiles.mse(guess, truth, strongest),
        "l2_top": profiles.l2(guess, truth, top),
        "centroid_accuracy": discrimination.centroid_accuracy(guess, centroids, own),
        "discrimination_cosine": discrimination.discrimination_score(
            change, centroids - control, own, "cosine", targets
        ),
        "rank_score": discrimination.rank_score(guess, truth),
        "de_overlap": de_overlap(change, fold.de_genes),
        "de_auprc": de_auprc(change, fold.de_genes),
        "e_distance": np.array([near for near, _ in spread]),
        "mmd": np.array([near for _, near in spread]),
    }


def _distances(predicted: np.ndarray, observed: np.ndarray) -> tuple[float, float]:
    """E-distance and MMD of two groups of cells."""
    if np.isnan(predicted).any():
        return float("nan"), float("nan")
    return e_distance(predicted, observed), mmd_rbf(predicted, observed, EVALUATION_GAMMAS)
