"""Metrics of mean profiles: as recorded from GEARS, scGPT, CellFM, const-ae, Systema and cell-eval; odd inputs."""

import numpy as np
import pytest

from tasks.profiles import (
    direction_shares,
    l2,
    mae,
    mse,
    pearson_delta,
    r2_delta,
    rows_pearson,
    strongest,
    top_expressed,
)
from tests.tasks.perturbation.recorded import arrays, as_array, conditions, numbers, predictors, rows_of, same

PREDICTORS = sorted(predictors())
GEARS = ("model", "noisy", "no_change_basal", "constant")
#: Sizes of the lists of genes that the deeper analysis looks at.
TOPS = (20, 50, 100, 200)


@pytest.mark.parametrize("name", PREDICTORS)
def test_profiles_are_scored_as_recorded(name):
    given, recorded, rows = arrays(), predictors()[name], rows_of(name)
    names = recorded["conditions_scored"]
    predicted, true = given[f"pred/{name}"][rows], given["truth_means"][rows]
    control, centroid = given["ctrl_mean"], given["perturbed_reference"]
    top, strong = top_expressed(control, 100), strongest(true, control)
    assert top.tolist() == given["top_expressed_genes"].tolist()
    for metric, found in {
        "const_ae_l2_top_expressed": l2(predicted, true, top),
        "const_ae_pearson_delta_top_expressed": pearson_delta(predicted, true, control, top),
        "pearson_delta_control_ref": pearson_delta(predicted, true, control),
        "systema_pearson_delta_perturbed_ref": pearson_delta(predicted, true, centroid),
        "systema_pearson_delta20_perturbed_ref": pearson_delta(predicted, true, centroid, strong),
        "perturbench_average_rmse": np.sqrt(mse(predicted, true)),
        "perturbench_average_pearson": rows_pearson(predicted, true),
    }.items():
        same(found, as_array(recorded[metric], names))


@pytest.mark.parametrize("name", sorted(numbers()["cell_eval"]))
def test_means_of_cells_are_scored_as_cell_eval_does(name):
    given, recorded = arrays(), numbers()["cell_eval"][name]
    labels, targets = given["cell_eval/labels"], given["cell_eval/targets"].tolist()

    def means(cells):
        return np.stack([cells[labels == target].mean(axis=0, dtype=np.float64) for target in targets])

    real, cells = given["cell_eval/real_X"], given[f"cell_eval/pred_X/{name}"]
    control = real[labels == "non-targeting"].mean(axis=0, dtype=np.float64)
    predicted, true = means(cells), means(real)
    for metric, found in {
        "pearson_delta": pearson_delta(predicted, true, control),
        "mse": mse(predicted, true),
        "mae": mae(predicted, true),
        "mse_delta": mse(predicted - control, true - control),
        "mae_delta": mae(predicted - control, true - control),
    }.items():
        same(found, as_array(recorded[metric], targets))


@pytest.fixture(scope="module")
def gears():
    """Conditions, control, true means, predictor -> predicted means, and lists of genes."""
    given = arrays("gears")
    names, cells = given["conditions"].tolist(), given["test_pert_cat"]

    def means(values):
        """In float32, as the official code has them."""
        return np.stack([values[cells == name].mean(axis=0) for name in names]).astype(np.float64)

    predicted = {name: means(given[f"test_pred_{name}"]) for name in ("model", "noisy")}
    predicted["no_change_basal"] = means(given["test_basal"])
    predicted["constant"] = np.ones_like(predicted["model"])
    lists = {
        kind: [given[f"{kind}/{name}"] for name in names]
        for kind in ("top_non_dropout_de_20", "top_non_zero_de_20", "non_zeros_gene_idx", "non_dropout_gene_idx")
    }
    lists["de"] = [given["test_de_idx"][cells == name][0] for name in names]
    lists["ranked"] = list(given["ranked"])
    return names, given["ctrl_expression"].astype(np.float64), means(given["test_truth"]), predicted, lists


def check_gears(found, recorded, metric, names):
    """Equal to GEARS, but that a correlation with a constant is NaN here and 0 there."""
    values = as_array({name: recorded[name][metric] for name in names}, names)
    undefined = np.isnan(found)
    assert (values[undefined] == 0).all(), metric
    same(found[~undefined], values[~undefined])


@pytest.mark.parametrize("name", GEARS)
def test_gears_metrics_are_as_recorded(gears, name):
    names, control, true, predictions, lists = gears
    predicted, recorded = predictions[name], numbers("gears")["metrics"][name]
    nothing = np.zeros_like(control)
    per_condition = {
        "mse": mse(predicted, true),
        "mse_de": mse(predicted, true, lists["de"]),
        "pearson": pearson_delta(predicted, true, nothing),
        "pearson_de": pearson_delta(predicted, true, nothing, lists["de"]),
    }
    for metric, found in per_condition.items():
        check_gears(found, recorded["compute_metrics_per_pert"], metric, names)
        # The mean over conditions, in which an undefined correlation counts as 0 in GEARS.
        same(np.nan_to_num(found).mean(), recorded["compute_metrics"][metric])
    cellfm = {
        "pearson": pearson_delta(predicted, true, control),
        "pearson_de": pearson_delta(predicted, true, control, lists["de"]),
    }
    for metric, found in cellfm.items():
        check_gears(found, recorded["cellfm_compute_metrics_per_pert"], metric, names)
        same(np.nan_to_num(found).mean(), recorded["cellfm_compute_metrics"][metric])
    assert np.isnan(per_condition["pearson"]).all() == (name == "constant")


@pytest.mark.parametrize("name", GEARS)
def test_gears_deeper_analysis_is_as_recorded(gears, name):
    names, control, true, predictions, lists = gears
    predicted, recorded = predictions[name], numbers("gears")["metrics"][name]
    deeper, ranked, nothing = recorded["deeper_analysis"], lists["ranked"], np.zeros_like(control)
    check_gears(pearson_delta(predicted, true, control), deeper, "pearson_delta", names)
    check_gears(pearson_delta(predicted, true, control, lists["de"]), deeper, "pearson_delta_de", names)
    check_gears(direction_shares(predicted, true, control)[0], deeper, "frac_correct_direction_all", names)
    # 200 genes are all there are, so that the 200 of the highest variance are known.
    check_gears(pearson_delta(predicted, true, control), deeper, "pearson_delta_top200_hvg", names)
    check_gears(pearson_delta(predicted, true, nothing), deeper, "pearson_top200_hvg", names)
    check_gears(mse(predicted, true), deeper, "mse_top200_hvg", names)
    for n in TOPS:
        genes = [own[:n] for own in ranked]
        check_gears(pearson_delta(predicted, true, control, genes), deeper, f"pearson_delta_top{n}_de", names)
        check_gears(pearson_delta(predicted, true, nothing, genes), deeper, f"pearson_top{n}_de", names)
        check_gears(mse(predicted, true, genes), deeper, f"mse_top{n}_de", names)
        check_gears(direction_shares(predicted, true, control, genes)[0], deeper, f"frac_correct_direction_{n}", names)


@pytest.mark.parametrize("name", GEARS)
@pytest.mark.parametrize("kind", ["non_dropout", "non_zero"])
def test_gears_analyses_of_expressed_genes_are_as_recorded(gears, name, kind):
    names, control, true, predictions, lists = gears
    predicted = predictions[name]
    recorded = numbers("gears")["metrics"][name][f"{kind}_analysis"]
    top = lists[f"top_{kind}_de_20"]
    spans = {f"top20_{kind}": top}
    if kind == "non_dropout":
        spans |= {"non_zero": lists["non_zeros_gene_idx"], "non_dropout": lists["non_dropout_gene_idx"]}
    for suffix, genes in spans.items():
        right, opposite = direction_shares(predicted, true, control, genes)
        check_gears(right, recorded, f"frac_correct_direction_{suffix}", names)
        check_gears(opposite, recorded, f"frac_opposite_direction_{suffix}", names)
        check_gears(1 - right - opposite, recorded, f"frac_0/1_direction_{suffix}", names)
    check_gears(pearson_delta(predicted, true, control, top), recorded, f"pearson_delta_top20_de_{kind}", names)
    check_gears(
        pearson_delta(predicted, true, np.zeros_like(control), top), recorded, f"pearson_top20_de_{kind}", names
    )
    check_gears(mse(predicted, true, top), recorded, f"mse_top20_de_{kind}", names)


def test_scgpt_metrics_are_the_means_of_ours(gears):
    _, control, true, predictions, lists = gears
    nothing = np.zeros_like(control)
    for name in ("model", "noisy"):
        recorded = numbers("gears")["metrics"][name]["scgpt_compute_perturbation_metrics"]
        for metric, reference, genes in (
            ("pearson", nothing, None),
            ("pearson_de", nothing, lists["de"]),
            ("pearson_delta", control, None),
            ("pearson_de_delta", control, lists["de"]),
        ):
            same(pearson_delta(predictions[name], true, reference, genes).mean(), recorded[metric])


def test_a_constant_has_no_correlation():
    true = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.5]])
    control = np.array([0.5, 0.5, 0.5])
    for predicted in (np.tile(control, (2, 1)), np.tile(control + 0.1, (2, 1)), np.tile(control + 1e-9, (2, 1))):
        assert np.isnan(pearson_delta(predicted, true, control)).all()
    assert np.isnan(pearson_delta(true, np.tile(control, (2, 1)), control)).all()
    assert np.isnan(r2_delta(true, np.tile(control, (2, 1)), control)).all()


def test_rounding_to_float32_is_no_change():
    rng = np.random.default_rng(0)
    control, true = rng.gamma(2, 1, 500), rng.gamma(2, 1, (3, 500))
    predicted = np.tile(control, (3, 1)).astype(np.float32)
    assert np.isnan(pearson_delta(predicted, true, control)).all()


def test_no_gene_and_no_prediction_are_undefined():
    true, control = np.ones((2, 4)) * [[1], [2]] + np.arange(4), np.zeros(4)
    predicted = true.copy()
    predicted[1] = np.nan
    for measure in (mse, mae, l2):
        np.testing.assert_array_equal(measure(predicted, true), [0, np.nan])
        assert np.isnan(measure(true, true, [np.array([], int), np.array([], int)])).all()
    for measure in (pearson_delta, r2_delta):
        np.testing.assert_allclose(measure(predicted, true, control), [1, np.nan])
        assert np.isnan(measure(true, true, control, [np.array([], int), np.array([0])])).all()
    right, opposite = direction_shares(predicted, true, control)
    assert right[0] == 1 and opposite[0] == 0 and np.isnan(right[1]) and np.isnan(opposite[1])


def test_one_perturbation_and_genes_of_any_form():
    true, control = np.array([[0.0, 3.0, 1.0, 2.0]]), np.zeros(4)
    predicted = np.array([[1.0, 3.0, 1.0, 4.0]])
    np.testing.assert_allclose(mse(predicted, true, np.array([0, 3])), [2.5])
    np.testing.assert_allclose(mse(predicted, true, [[0, 3]]), [2.5])
    np.testing.assert_allclose(r2_delta(predicted, true, control), [1 - 5 / 5])
    assert strongest(true, control, 2)[0].tolist() == [1, 3]
    assert top_expressed(np.array([1.0, 2.0, 2.0]), 2).tolist() == [1, 2]
    assert len(top_expressed(np.array([1.0, 2.0, 2.0]))) == 3


def test_every_recorded_condition_is_known():
    assert all(set(found["conditions_scored"]) <= set(conditions()) for found in predictors().values())
