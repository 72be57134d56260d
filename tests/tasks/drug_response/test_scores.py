"""Scores of predicted cells: as recorded from CellOT's evaluation and CellFM's; by hand; odd inputs."""

import json
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest

from harness.metrics import card
from tasks.distances import EVALUATION_GAMMAS, e_distance, mmd_rbf
from tasks.drug_response.scores import METRICS, PUBLISHED_METRICS, published_scores, response_scores
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/cellot"
RECORDED = json.loads((GOLDEN / "metrics.json").read_text())
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
PREDICTORS = sorted(RECORDED["metrics"])


@pytest.fixture(scope="module")
def golden():
    """Control and treated test cells, the markers in order, and the predictions."""
    data, arrays = anndata.read_h5ad(GOLDEN / "drug.h5ad"), np.load(GOLDEN / "expected.npz")
    cells = pd.DataFrame(data.X.toarray(), data.obs_names)
    control, treated = (cells.loc[arrays[f"test_{side}_cells"]].to_numpy() for side in ("source", "target"))
    predicted = {name: arrays[f"eval_pred/{name}"] for name in PREDICTORS}
    return control, treated, data.var_names.get_indexer(arrays["markers"]), predicted


@pytest.mark.parametrize("which", ["markers_10", "markers_all"])
@pytest.mark.parametrize("name", PREDICTORS)
def test_scores_are_as_recorded(name, which, golden):
    control, treated, markers, predicted = golden
    markers, recorded = markers[:10] if which == "markers_10" else markers, RECORDED["metrics"][name][which]
    official = published_scores(predicted[name], treated, markers)
    assert tuple(official) == PUBLISHED_METRICS
    for metric in set(PUBLISHED_METRICS) & set(recorded):
        np.testing.assert_allclose(official[metric], recorded[metric], **TOLERANCE, err_msg=metric)
    found = response_scores(predicted[name], treated, control, markers)
    for metric, of in {
        "l2_means": ("cellfm_l2", "drug_signature_l2", "l2-means"),
        "pearson_means": ("cellfm_pcc", "r2-means"),
        "r2_means": ("true_r2_of_means",),
        "l2_stds": ("l2-stds",),
        "mmd": ("mmd",),
    }.items():
        for each in of:
            np.testing.assert_allclose(found[metric], recorded[each], **TOLERANCE, err_msg=each)
    if which == "markers_all":
        assert found["l2_means_all"] == pytest.approx(found["l2_means"])
        assert found["pearson_delta"] == pytest.approx(found["pearson_delta_markers"], nan_ok=True)
        enriched = RECORDED["knn_enrichment"].get(name, {})
        for k, value in enriched.items():
            np.testing.assert_allclose(official[f"enrichment-{k}"], value, **TOLERANCE)


def test_gammas_are_those_of_the_evaluation():
    np.testing.assert_allclose(EVALUATION_GAMMAS, RECORDED["mmd_gammas_eval"], rtol=1e-12)


def made(seed=0, n=40, g=8, shift=0.0):
    return np.random.default_rng(seed).gamma(2, 1, (n, g)).astype(np.float32) + np.float32(shift)


def test_scores_by_hand():
    predicted, treated, control = made(0, 30), made(1, 40, shift=1), made(2, 25)
    markers = np.array([6, 1, 3])
    found = response_scores(predicted, treated, control, markers)
    a, b, c = (cells.mean(axis=0, dtype=np.float64) for cells in (predicted, treated, control))
    near, own = predicted[:, markers].astype(np.float64), treated[:, markers].astype(np.float64)
    for metric, value in {
        "l2_means": np.sqrt(((a - b)[markers] ** 2).sum()),
        "l2_means_all": np.sqrt(((a - b) ** 2).sum()),
        "pearson_means": np.corrcoef(a[markers], b[markers])[0, 1],
        "pearson_delta": np.corrcoef(a - c, b - c)[0, 1],
        "pearson_delta_markers": np.corrcoef((a - c)[markers], (b - c)[markers])[0, 1],
        "r2_means": 1 - ((a - b)[markers] ** 2).sum() / ((b[markers] - b[markers].mean()) ** 2).sum(),
        "l2_stds": np.linalg.norm(near.std(axis=0, ddof=1) - own.std(axis=0, ddof=1)),
        "mmd": mmd_rbf(near, own, EVALUATION_GAMMAS),
        "e_distance": e_distance(near, own),
    }.items():
        assert found[metric] == pytest.approx(value), metric
    assert tuple(found) == METRICS
    assert all(card(metric).name == metric for metric in METRICS)


def test_the_truth_is_best_also_of_drawn_cells():
    treated, control, markers = made(0, 60), made(1, shift=1), np.arange(5)
    for most in (1500, 20):
        found = response_scores(treated.copy(), treated, control, markers, most=most)
        for metric, value in found.items():
            best = 1.0 if card(metric).higher_is_better else 0.0
            assert value == pytest.approx(best, abs=1e-6), metric


def test_distances_can_be_left_out():
    given = made(0), made(1, shift=0.5), made(2), np.arange(4)
    whole, without = response_scores(*given), response_scores(*given, most=0)
    assert undefined(without) == {"mmd", "e_distance"}
    assert all(without[metric] == whole[metric] for metric in set(METRICS) - {"mmd", "e_distance"})


def test_distances_are_of_drawn_cells_and_means_of_all():
    predicted, treated, control, markers = made(0, 90), made(1, 80, shift=0.5), made(2), np.arange(4)
    whole, some, again, other = (
        response_scores(predicted, treated, control, markers, **kwargs)
        for kwargs in ({}, {"most": 30}, {"most": 30}, {"most": 30, "seed": 1})
    )
    assert some == again
    for metric in METRICS:
        drawn = metric in ("mmd", "e_distance")
        assert (some[metric] != whole[metric]) == drawn and (some[metric] != other[metric]) == drawn, metric
    official = [published_scores(predicted, treated, markers, most=most) for most in (1500, 30)]
    drawn = {metric for metric in PUBLISHED_METRICS if official[0][metric] != official[1][metric]}
    assert drawn == {"mmd", "enrichment-k50", "enrichment-k100"}


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def undefined(found):
    return {metric for metric, value in found.items() if np.isnan(value)}


ODD = {
    "no markers": (made(), made(1), made(2), [], set(METRICS) - {"l2_means_all", "pearson_delta"}),
    "one marker": (made(), made(1), made(2), [3], {"pearson_means", "pearson_delta_markers", "r2_means"}),
    "one predicted cell": (made(n=1), made(1), made(2), [0, 1, 2], {"l2_stds"}),
    "one treated cell": (made(), made(1, n=1), made(2), [0, 1, 2], {"l2_stds"}),
    "no predicted cell": (made(n=0), made(1), made(2), [0, 1, 2], set(METRICS)),
    "no treated cell": (made(), made(1, n=0), made(2), [0, 1, 2], set(METRICS)),
    "no control cell": (made(), made(1), made(2, n=0), [0, 1, 2], {"pearson_delta", "pearson_delta_markers"}),
    "a NaN": (np.where(np.eye(40, 8), np.nan, made()), made(1), made(2), [0, 1, 2], set(METRICS)),
    "an infinity": (np.where(np.eye(40, 8), np.inf, made()), made(1), made(2), [0, 1, 2], set(METRICS)),
    "nothing changes": (made(2), made(1), made(2), [0, 1, 2], {"pearson_delta", "pearson_delta_markers"}),
    "all genes alike": (np.ones((9, 8)), made(1), np.zeros((9, 8)), [0, 1, 2], {"pearson_means"}),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_undefined_is_nan_without_a_warning(case, quiet):
    predicted, treated, control, markers, missing = ODD[case]
    found = response_scores(predicted, treated, control, np.array(markers))
    if case == "all genes alike":
        missing = missing | {"pearson_delta", "pearson_delta_markers"}
    assert undefined(found) == missing


OFFICIAL_ODD = {
    "no markers": ([], made(), made(1), set(PUBLISHED_METRICS)),
    "one marker": ([2], made(), made(1), {"r2-means", "r2-stds", "r2-pairwise_feat_corrs", "l2-pairwise_feat_corrs"}),
    "one cell": (
        [0, 1, 2],
        made(n=1),
        made(1),
        set(PUBLISHED_METRICS) - {"l2-means", "r2-means", "mmd"},
    ),
    "no cell": ([0, 1, 2], made(n=0), made(1), set(PUBLISHED_METRICS)),
    "a NaN": ([0, 1, 2], np.full((40, 8), np.nan), made(1), set(PUBLISHED_METRICS)),
    "a gene constant on one side": (
        [0, 1, 2, 3],
        made() * np.r_[0, np.ones(7)],
        made(1),
        {"l2-pairwise_feat_corrs"},
    ),
    "a gene constant on both sides": (
        [0, 1, 2, 3],
        made() * np.r_[0, np.ones(7)],
        made(1) * np.r_[0, np.ones(7)],
        set(),
    ),
    "as many genes as are compared": (
        np.arange(8).repeat(125),
        made(),
        made(1),
        {"mmd", "enrichment-k50", "enrichment-k100"},
    ),
}


@pytest.mark.parametrize("case", OFFICIAL_ODD)
def test_official_scores_of_odd_input(case, quiet):
    markers, predicted, treated, missing = OFFICIAL_ODD[case]
    assert undefined(published_scores(predicted, treated, np.array(markers))) == missing


def test_enrichment_says_how_mixed_cells_are():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(400, 5))
    mixed = published_scores(cells[:200], cells[200:], np.arange(5))
    apart = published_scores(cells[:200] + 9, cells[200:], np.arange(5))
    assert mixed["enrichment-k50"] == pytest.approx(0.5, abs=0.03) and apart["enrichment-k50"] == 1
    uneven = published_scores(cells[:300], cells[300:], np.arange(5))  # as many of both are compared
    assert uneven["enrichment-k50"] == pytest.approx(0.5, abs=0.05)
