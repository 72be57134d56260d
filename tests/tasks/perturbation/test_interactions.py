"""Interactions: GEARS' scores as recorded; kinds, thresholds and curves on made effects."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tasks.perturbation.interactions import (
    KINDS,
    NEOMORPHISM,
    OPPOSITE,
    SUPPRESSION,
    SYNERGY,
    difference_to_additive,
    discovery_curve,
    distance_correlation,
    interaction_auprc,
    interaction_pearson,
    interaction_threshold,
    kind_confusion,
    kinds,
    pair_scores,
)
from tests.tasks.perturbation.recorded import arrays, numbers, same

RECORDED = numbers("gears")["gi_scores"]
DISTANCES = ("dcor", "dcor_singles", "dcor_first", "dcor_second", "eq_contr")


@pytest.fixture(scope="module")
def scores():
    given = arrays("gears")
    return {
        pair: pair_scores(*(given[f"gi/{name}"] for name in (*pair.split("+"), pair)))
        for pair in sorted(RECORDED["gi"])
    }


@pytest.mark.parametrize("pair", sorted(RECORDED["gi"]))
def test_scores_are_as_recorded(scores, pair):
    for name, value in RECORDED["gi"][pair].items():
        if name in DISTANCES:
            # The dcor package sums in float32 where its input is; ours are its numbers in float64.
            same(getattr(scores[pair], name), numbers("gears")["dcor_float64"][pair][name])
            assert getattr(scores[pair], name) == pytest.approx(value, abs=1e-5)
        else:
            same(getattr(scores[pair], name), value)


def test_scores_tell_the_planted_kinds(scores):
    mag = {kind: [] for kind in RECORDED["planted_kinds"].values()}
    for pair, kind in RECORDED["planted_kinds"].items():
        mag[kind].append(scores[pair].mag)
    assert max(mag["buffering_x0.4"]) < min(mag["additive"]) and np.mean(mag["additive"]) < min(mag["synergy_x1.6"])
    dominant = [pair for pair, kind in RECORDED["planted_kinds"].items() if kind == "epistasis_first_dominates"]
    assert max(scores, key=lambda pair: scores[pair].dominance) in dominant


def test_distance_correlation():
    x = np.random.default_rng(0).normal(size=40)
    assert distance_correlation(x, -2 * x + 1) == pytest.approx(1)
    assert 0 < distance_correlation(x, x**2) < 1
    assert np.isnan(distance_correlation(x, np.ones(40)))


def test_scores_of_silent_singles_are_undefined():
    rng = np.random.default_rng(0)
    found = pair_scores(rng.normal(size=30), np.zeros(30), rng.normal(size=30))
    assert np.isnan(found.dcor_singles) and np.isnan(found.dcor_second)


def made(n=4, g=500, seed=0):
    """Singles, and pairs in which one gene in ten interacts."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 1, (2, n, g))
    extra = np.where(rng.random((n, g)) < 0.1, rng.choice([-2.0, 2.0], (n, g)), 0)
    return first, second, first + second + extra + rng.normal(0, 0.1, (n, g)), extra


def test_threshold_finds_what_was_planted():
    first, second, pair, extra = made()
    gap = difference_to_additive(first, second, pair)
    threshold = interaction_threshold(gap)
    called = np.abs(gap) >= threshold
    assert called[extra != 0].all() and called[extra == 0].mean() < 0.02
    assert np.sum(called & (extra == 0)) / called.sum() < 0.1
    assert interaction_threshold(np.zeros(5)) == np.inf
    assert interaction_threshold(np.append(np.zeros(9000), gap)) == threshold  # silent genes change nothing


def test_curve_and_references():
    first, second, pair, _ = made()
    gap = difference_to_additive(first, second, pair)
    interacts = (np.abs(gap) >= interaction_threshold(gap)).ravel()
    assert interaction_auprc(gap.ravel(), interacts) == pytest.approx(1)
    # The sum calls nothing, and is at the share of interactions.
    assert interaction_auprc(np.zeros(interacts.size), interacts) == pytest.approx(interacts.mean())
    proportion, rate = discovery_curve(np.zeros(interacts.size), interacts)
    assert len(rate) == 1 and rate[0] == 1 and proportion[0] == pytest.approx(1 - interacts.mean())
    # No change calls every effect.
    nothing = difference_to_additive(first, second, 0 * pair).ravel()
    assert interaction_auprc(nothing, interacts) < 0.3
    proportion, rate = discovery_curve(nothing, interacts)
    assert (np.diff(rate) >= 0).all() and rate[-1] == 1 and ((proportion >= 0) & (proportion <= 1)).all()


def test_auprc_is_average_precision_with_ties():
    rng = np.random.default_rng(0)
    predicted, interacts = rng.integers(-3, 4, 200).astype(float), rng.random(200) < 0.2
    assert interaction_auprc(predicted, interacts) == pytest.approx(
        average_precision_score(interacts, np.abs(predicted))
    )
    assert np.isnan(interaction_auprc(predicted, np.zeros(200, bool)))


def test_pearson_of_the_sum_is_undefined():
    first, second, pair, _ = made()
    gap = difference_to_additive(first, second, pair)
    assert np.isnan(interaction_pearson(np.zeros_like(gap), gap)).all()
    np.testing.assert_allclose(interaction_pearson(2 * gap, gap), np.ones(4))


def test_kinds_of_single_genes():
    first = np.array([1.0, 1.0, 1.0, 1.0, 0.0, -1.0])
    second = np.array([1.0, 1.0, 1.0, 1.0, 0.1, -1.0])
    pair = np.array([2.1, 3.0, 0.5, -1.0, 2.0, -3.0])
    found = kinds(first, second, pair, 0.5)
    assert found.tolist() == [0, SYNERGY, SUPPRESSION, OPPOSITE, NEOMORPHISM, SYNERGY]
    assert KINDS[0] == "additive"
    # No change suppresses; the sum is additive.
    assert set(kinds(first, second, 0 * pair, 0.5).tolist()) == {SUPPRESSION, 0}
    assert not kinds(first, second, first + second, 0.5).any()


def test_confusion_counts_genes():
    first, second, pair, _ = made()
    observed = kinds(first, second, pair, 0.5)
    table = kind_confusion(observed, observed)
    assert table.sum() == observed.size and np.trace(table) == observed.size
    missed = kind_confusion(observed, kinds(first, second, first + second, 0.5))
    assert missed[:, 0].sum() == observed.size and missed[0, 0] == (observed == 0).sum()
