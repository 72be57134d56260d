"""E-distance and MMD: as recorded (cell-eval, scPerturb's form, CellOT's kernel); dense and sparse; odd groups."""

import numpy as np
import pytest
import scipy.sparse as sp

from tasks.distances import EVALUATION_GAMMAS, GAMMAS, e_distance, mmd_rbf, pearson_edistance, within
from tasks.perturbation.collapse import collapse, mean_pairwise_pearson
from tests.tasks.perturbation.recorded import arrays, as_array, numbers, same

PREDICTORS = sorted(numbers()["cell_eval"])


def groups(name):
    """True and predicted cells of each target, and the control cells."""
    given = arrays()
    labels, targets = given["cell_eval/labels"], given["cell_eval/targets"].tolist()
    real, cells = given["cell_eval/real_X"], given[f"cell_eval/pred_X/{name}"]
    split = [[values[labels == target] for target in targets] for values in (real, cells)]
    return *split, real[labels == "non-targeting"], targets


@pytest.mark.parametrize("name", PREDICTORS)
def test_distances_are_as_recorded(name):
    true, predicted, control, targets = groups(name)
    recorded, pairs = numbers()["cell_eval"][name], list(zip(true, predicted, strict=True))
    for metric, found in {
        "edistance_to_truth_euclidean": [e_distance(x, y) for x, y in pairs],
        "edistance_to_truth_sqeuclidean": [e_distance(x, y, squared=True) for x, y in pairs],
        "mmd_rbf_cellot_gammas": [mmd_rbf(x, y) for x, y in pairs],
    }.items():
        same(np.array(found), as_array(recorded[metric], targets))
    same(pearson_edistance(true, predicted, control), recorded["pearson_edistance"])


FORMS = {
    "scperturb_default_sqeuclidean_corrected": {"squared": True, "corrected": True},
    "sqeuclidean_uncorrected": {"squared": True},
    "euclidean_corrected": {"corrected": True},
    "euclidean_uncorrected_cell_eval_pertpy": {},
}


@pytest.mark.parametrize("form", FORMS)
def test_e_distance_is_that_of_scperturb_and_pertpy(form):
    cells, group = arrays("distances")["X"], arrays("distances")["group"]
    for pair, value in numbers("distances")["edistance"][form].items():
        a, b = pair.split("|")
        if a != b:  # a group with itself is set to 0 there
            same(e_distance(cells[group == a], cells[group == b], **FORMS[form]), value)


def test_mmd_is_cellots():
    cells, group = arrays("distances")["X"], arrays("distances")["group"]
    x, y, recorded = cells[group == "ctrl"], cells[group == "p2"], numbers("distances")["mmd"]
    same(mmd_rbf(x, y), recorded["cellot_mean_six_gammas"])
    same(mmd_rbf(x, y, EVALUATION_GAMMAS), recorded["gammas_50"])
    same(mmd_rbf(x, x), recorded["same_sample"])
    for gamma, value in recorded["per_gamma"].items():
        same(mmd_rbf(x, y, [float(gamma)]), value)


def made(seed, n=20, g=6, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, g))


def test_sparse_and_dense_are_the_same():
    x, y = np.maximum(made(0), 0), np.maximum(made(1, 12), 0)
    for measure in (e_distance, mmd_rbf, lambda a, b: e_distance(a, b, squared=True, corrected=True)):
        assert measure(sp.csr_matrix(x), sp.csr_matrix(y)) == pytest.approx(measure(x, y), rel=1e-12)
        assert measure(sp.csr_matrix(x), y) == pytest.approx(measure(x, y), rel=1e-12)


def test_squared_distance_is_that_of_the_means():
    x, y = made(0), made(1, 9, shift=1)
    gap = x.mean(axis=0) - y.mean(axis=0)
    assert e_distance(x, y, squared=True) == pytest.approx(2 * gap @ gap)
    assert e_distance(x, y, squared=True, corrected=True) < e_distance(x, y, squared=True)


def test_equal_groups_are_at_zero_and_shifted_ones_are_not():
    x = made(0)
    for measure in (e_distance, mmd_rbf):
        assert measure(x, x.copy()) == pytest.approx(0, abs=1e-6)
        assert 0 < measure(x, x + 0.5) < measure(x, x + 2)
    assert mmd_rbf(x, x + 1) == pytest.approx(np.mean([mmd_rbf(x, x + 1, [gamma]) for gamma in GAMMAS]))
    assert len(EVALUATION_GAMMAS) == 50 and EVALUATION_GAMMAS[0] == 10


def test_single_cells_and_constants():
    one, x = made(0, 1), made(1)
    assert e_distance(one, x) > 0
    assert np.isnan(within(one, corrected=True)) and np.isnan(e_distance(one, x, corrected=True))
    assert np.isnan(pearson_edistance([x], [x], made(2)))  # one perturbation
    assert np.isnan(pearson_edistance([x, x + 1], [x, x], made(2)))  # the same prediction for both


def test_predictions_that_say_the_same_are_flagged():
    rng = np.random.default_rng(0)
    control, true = rng.gamma(2, 1, 50), rng.gamma(2, 1, (6, 50))
    found = collapse(np.tile(true.mean(axis=0), (6, 1)), true, control)
    assert found.predicted == pytest.approx(1) and found.identical and found.excess > 0.3
    assert found.observed == pytest.approx(brute(true - control)) and found.ratio == pytest.approx(1 / found.observed)
    itself = collapse(true, true, control)
    assert itself.excess == 0 and itself.ratio == 1 and not itself.identical
    nothing = collapse(np.tile(control, (6, 1)), true, control)
    assert np.isnan(nothing.predicted) and np.isnan(nothing.excess) and nothing.identical


def brute(changes):
    found = np.corrcoef(changes)
    return found[~np.eye(len(found), dtype=bool)].mean()


def test_likeness_is_the_mean_over_pairs():
    changes = np.random.default_rng(1).normal(size=(5, 12))
    assert mean_pairwise_pearson(changes) == pytest.approx(brute(changes))
    odd = np.vstack([changes, np.zeros(12), np.full(12, np.nan)])
    assert mean_pairwise_pearson(odd) == pytest.approx(brute(changes))
    assert np.isnan(mean_pairwise_pearson(changes[:1]))
