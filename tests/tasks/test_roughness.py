"""ROGI and ROGI-XD: the recorded values, a curve by hand, and what a score of types must not depend on."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasks import roughness as module
from tasks.roughness import rogi_rows, roughness

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "annotation.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("rogi/")}


@pytest.fixture(scope="module")
def cases():
    return json.loads((GOLDEN / "annotation.json").read_text())


def overall(rows):
    return {r.name: r.value for r in rows if r.scope == "overall"}


def test_the_curve_is_the_recorded(golden, cases):
    x, expected, wide = golden["rogi/X"], cases["rogi"], cases["rogi_xd"]
    y = np.column_stack([golden["rogi/y_continuous"], golden["rogi/y_binary"], golden["rogi/y_shuffled"], np.ones(70)])
    curve = roughness(x, y)
    np.testing.assert_allclose(curve.thresholds, golden["rogi/thresholds"], atol=1e-6)
    np.testing.assert_allclose(curve.spread[:, 0], golden["rogi/coarse_sd"], atol=1e-6)
    names = ("continuous_euclidean", "binary_euclidean", "binary_shuffled_euclidean", "constant")
    np.testing.assert_allclose(curve.rogi(), [expected[name] for name in names], atol=1e-6)
    names = ("continuous_log_cluster_ratio", "binary_log_cluster_ratio")
    np.testing.assert_allclose(curve.rogi_xd()[:2], [wide[name] for name in names], atol=1e-6)
    coarse = roughness(x, y, min_step=0.05)
    np.testing.assert_allclose(coarse.rogi()[0], expected["continuous_min_dt_0.05"], atol=1e-6)


def test_rows_are_the_recorded(golden, cases):
    rows, notes = rogi_rows(golden["rogi/X"], golden["rogi/label"].astype(str))
    found = overall(rows)
    assert found["rogi"] == pytest.approx(cases["rogi"]["one_vs_rest_macro"], abs=1e-6)
    assert found["rogi_published"] == pytest.approx(cases["rogi"]["label_codes_as_number"], abs=1e-6)
    assert found["rogi_xd"] == pytest.approx(cases["rogi_xd"]["one_vs_rest_macro_log_cluster_ratio"], abs=1e-6)
    each = [r.value for r in rows if r.name == "rogi" and r.scope == "per-class"]
    np.testing.assert_allclose(each, cases["rogi"]["one_vs_rest"], atol=1e-6)
    assert "ROGI of shuffled types" in notes


def test_by_hand():
    # Two pairs of points on a line of length 10: pairs merge at 0.1, all at 1.
    curve = roughness(np.array([[0.0], [1.0], [9.0], [10.0]]), np.array([[0, 0, 1, 1], [0, 1, 0, 1]]).T)
    assert curve.thresholds == pytest.approx([0, 0.1, 1, 1]) and curve.clusters.tolist() == [4, 2, 1, 1]
    assert curve.spread == pytest.approx(np.array([[1, 1], [1, 0], [0, 0], [0, 0]]))
    assert curve.rogi() == pytest.approx([1 - (0.1 + 0.45), 1 - 0.05])
    # 1 - log(clusters) / log(4): 0, 1/2, 1.
    assert curve.rogi_xd() == pytest.approx([1 - 0.75, 1 - 0.25])


def test_names_of_types_do_not_matter_to_the_plain_score(golden):
    label = golden["rogi/label"]
    first = overall(rogi_rows(golden["rogi/X"], label.astype(str))[0])
    other = overall(rogi_rows(golden["rogi/X"], np.array(["d", "a", "c", "b"])[label])[0])
    assert first["rogi"] == pytest.approx(other["rogi"]) and first["rogi_xd"] == pytest.approx(other["rogi_xd"])
    assert first["rogi_published"] != pytest.approx(other["rogi_published"], abs=1e-3)


def test_apart_is_smoother_than_mixed():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 40)
    apart = np.repeat(np.eye(3) * 10, 40, axis=0) + rng.normal(size=(120, 3))
    smooth, rough = (overall(rogi_rows(x, labels)[0]) for x in (apart, rng.normal(size=(120, 3))))
    assert smooth["rogi"] < rough["rogi"] and smooth["rogi_xd"] < rough["rogi_xd"]


def test_odd_input(monkeypatch):
    x = np.random.default_rng(0).normal(size=(30, 4))
    rows, notes = rogi_rows(x, np.full(30, "only"))
    assert not rows and notes["ROGI"] == "not applicable: one cell type"
    rows, notes = rogi_rows(np.ones((30, 4)), np.repeat(["a", "b"], 15))
    assert not rows and "one point" in notes["ROGI"]
    rows, _ = rogi_rows(x, np.array(["rare"] + ["b"] * 29))  # a class of one cell
    assert all(0 <= r.value <= 1 for r in rows)
    twice = np.concatenate([x, x])  # identical cells of different types
    assert all(r.value is not None for r in rogi_rows(twice, np.repeat(["a", "b"], 30))[0])
    rows, _ = rogi_rows(np.random.default_rng(1).normal(size=(1000, 3)), np.array([f"t{i % 500}" for i in range(1000)]))
    assert len(rows) == 3 + 2 * 500
    monkeypatch.setattr(module, "MAX_CELLS", 20)
    rows, notes = rogi_rows(x, np.tile(["a", "b"], 15), seed=3)
    assert notes["cells sampled for ROGI"] == "20 of 30" and rows[0].n == 20
    assert rogi_rows(x, np.tile(["a", "b"], 15), seed=3)[0] == rows
