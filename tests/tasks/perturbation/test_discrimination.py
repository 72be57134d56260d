"""Ranks of the own perturbation among all: as recorded from Systema, PerturBench and cell-eval; ties are at chance."""

import numpy as np
import pytest

from tasks.perturbation.discrimination import centroid_accuracy, discrimination_score, logfc_cosine, rank_score
from tests.tasks.perturbation.recorded import arrays, as_array, numbers, predictors, rows_of, same


@pytest.mark.parametrize("name", sorted(predictors()))
def test_systema_and_perturbench_are_as_recorded(name):
    given, recorded, rows = arrays(), predictors()[name], rows_of(name)
    names = recorded["conditions_scored"]
    predicted, true, control = given[f"pred/{name}"][rows], given["truth_means"], given["ctrl_mean"]
    same(centroid_accuracy(predicted, true, rows), as_array(recorded["systema_centroid_accuracy"], names))
    same(logfc_cosine(predicted, true[rows], control), as_array(recorded["perturbench_logfc_cosine"], names))
    for metric, by in (("average_rmse", "rmse"), ("average_pearson", "pearson"), ("logfc_cosine", "logfc_cosine")):
        found, values = rank_score(predicted, true[rows], by, control), recorded[f"perturbench_rank_{metric}"]
        chance = (len(rows) - 1) / 2 / len(rows)
        if isinstance(values, str):  # all tied: drawn in the official code
            same(found, np.full(len(rows), chance))
            continue
        values, spread = as_array(values, names), ties(predicted)
        # Where predictions are the same the official rank is a draw among theirs, and ours is the middle.
        same(found[spread == 0], values[spread == 0])
        assert (np.abs(found - values) <= spread / 2 / len(rows) + 1e-12).all()


def ties(predicted):
    """How many other predictions are the same as each one."""
    return (np.abs(predicted[:, None] - predicted[None]).max(axis=2) < 1e-9).sum(axis=1) - 1


@pytest.mark.parametrize("name", sorted(numbers()["cell_eval"]))
def test_discrimination_scores_are_cell_evals(name):
    given, recorded = arrays(), numbers()["cell_eval"][name]
    labels, targets, genes = given["cell_eval/labels"], given["cell_eval/targets"].tolist(), given["genes"].tolist()

    def changes(cells):
        control = given["cell_eval/real_X"][labels == "non-targeting"].mean(axis=0, dtype=np.float64)
        return np.stack([cells[labels == target].mean(axis=0, dtype=np.float64) - control for target in targets])

    predicted, true = changes(given[f"cell_eval/pred_X/{name}"]), changes(given["cell_eval/real_X"])
    own = np.arange(len(targets))
    left_out = [[genes.index(target)] if target in genes else [] for target in targets]
    for distance in ("l1", "l2", "cosine"):
        found = discrimination_score(predicted, true, own, distance, left_out)
        same(found, as_array(recorded[f"discrimination_score_{distance}"], targets))
    kept = discrimination_score(predicted, true, own, "l1")
    same(kept, as_array(recorded["discrimination_score_l1_keep_target"], targets))


def made(n=5, g=30):
    rng = np.random.default_rng(0)
    return rng.gamma(2, 1, (n, g)), rng.gamma(2, 1, g)


@pytest.mark.parametrize("by", ["rmse", "pearson", "logfc_cosine"])
def test_the_same_prediction_for_all_is_at_chance(by):
    true, control = made()
    for profile in (control, true.mean(axis=0)):
        found = rank_score(np.tile(profile, (5, 1)), true, by, control)
        np.testing.assert_allclose(found, np.full(5, 0.4))
    np.testing.assert_allclose(rank_score(true, true, by, control), np.zeros(5))


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_no_change_is_at_chance_or_ranks_by_size_alone(distance):
    true, control = made()
    own = np.arange(5)
    nothing = discrimination_score(np.zeros_like(true), true - control, own, distance)
    assert nothing.mean() == pytest.approx(0.6)  # the mean of 1, 4/5 … 1/5
    np.testing.assert_allclose(discrimination_score(true - control, true - control, own, distance), np.ones(5))


def test_cosine_does_not_see_a_scale_and_the_others_do():
    true, control = made()
    changes, own = true - control, np.arange(5)
    np.testing.assert_allclose(discrimination_score(0.01 * changes, changes, own, "cosine"), np.ones(5))
    assert discrimination_score(0.01 * changes, changes, own, "l1").mean() < 1


def test_the_target_is_left_out():
    true = np.array([[5.0, 1.0, 0.0], [0.0, 1.0, 0.1]])
    predicted = np.array([[5.0, 1.0, 0.1], [0.0, 1.0, 0.0]])
    own = np.array([0, 1])
    for distance in ("l1", "l2"):
        assert discrimination_score(predicted, true, own, distance).tolist() == [1, 1]
        assert discrimination_score(predicted, true, own, distance, [[0], [0]]).tolist() == [0.5, 0.5]


def test_nan_predictions_are_undefined_and_take_no_rank():
    true, control = made()
    predicted = true.copy()
    predicted[2] = np.nan
    own = np.arange(5)
    for found in (
        centroid_accuracy(predicted, true, own),
        discrimination_score(predicted - control, true - control, own, "cosine"),
        rank_score(predicted, true, "rmse"),
    ):
        assert np.isnan(found).tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(rank_score(predicted, true, "rmse")[[0, 1, 3, 4]], np.zeros(4))


def test_one_perturbation():
    true, control = made(1)
    assert np.isnan(centroid_accuracy(true, true, [0])).all()
    assert discrimination_score(true - control, true - control, [0]).tolist() == [1]
    assert rank_score(true, true).tolist() == [0]
