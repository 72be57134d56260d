"""Confounded designs are said, bad input is counted or refused, and a subsample is stratified and recorded."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from harness import load_task
from harness.data import CellData
from harness.errors import InputError
from harness.results import ResultStore
from harness.subsample import stratified
from tasks.integration.design import judge
from tests.conftest import make_cells

pytestmark = pytest.mark.xdist_group("integration")
COLUMNS = {"cell_type": "cell_type", "batch": "batch"}
TYPES = np.array(["a", "b", "c"] * 20)


def test_a_sound_design_has_nothing_to_say():
    found = judge(TYPES, np.repeat(["x", "y"], 30), np.array(["ctrl", "stim"] * 30))
    assert (found.notes, found.flags, found.unscored) == ({}, [], "")


def test_one_batch():
    assert "one batch" in judge(TYPES, np.full(60, "x")).unscored


def test_a_type_in_one_batch_is_named():
    batches = np.repeat(["x", "y"], 30)
    batches[TYPES == "c"] = "x"
    found = judge(TYPES, batches)
    assert found.flags == ["type-in-one-batch"] and not found.unscored
    assert found.notes["types in one batch only"].startswith("1 of 3 (c)")


def test_types_that_are_batches_leave_nothing_to_score():
    found = judge(TYPES, np.char.add("batch of ", TYPES))
    assert (
        "every cell type is in one batch only" in found.unscored and "3 of 3" in found.notes["types in one batch only"]
    )


@pytest.mark.parametrize("per_condition", [1, 2])
def test_batches_of_one_condition_each(per_condition):
    batch = np.repeat(np.arange(2 * per_condition), 60 // (2 * per_condition))
    conditions = np.array(["ctrl", "stim"])[batch // per_condition]
    found = judge(TYPES, np.char.add("b", batch.astype(str)), conditions)
    assert found.flags == ["batch-is-condition"]
    assert f"each of the {2 * per_condition} batches" in found.notes["batch and condition"]
    assert not judge(TYPES, np.char.add("b", batch.astype(str)), np.full(60, "ctrl")).flags


@pytest.mark.slow
def test_a_batch_of_one_cell_is_said_and_scored(bench, tmp_path):
    cells = make_cells(n_cells=150, batches=2)
    cells.obs["batch"] = np.where(np.arange(150) == 7, "single", cells.obs["batch"])
    cells.obs.loc[cells.obs_names[:4], "batch"] = np.nan
    cells.X = csr_matrix(np.where(np.arange(150)[:, None] == 20, 0, cells.X.toarray()))
    cells.write_h5ad(tmp_path / "odd.h5ad")
    columns = [f"dataset.{role}={column}" for role, column in COLUMNS.items()]
    path = f"dataset.path={tmp_path}/odd.h5ad"
    code, _, err = bench("run", "model=harmony", "task=integration", path, *columns)
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.status == "ok" and record.track == "baseline" and record.label == "Harmony"
    assert record.notes["batches of one cell"] == "1 of 3 (single)"
    assert record.notes["left out: cells without a batch"] == 4
    assert record.notes["cells the model cannot read"] == 1 and record.notes["cells scored"] == 145
    assert [a.kind for a in record.artifacts] == ["umap"]
    scores = {m.name: m.value for m in record.metrics if m.scope == "overall"}
    assert all(scores[name] is not None for name in ("avg_bio", "avg_batch", "overall", "bras", "kbet"))


def test_a_subsample_keeps_shares_and_says_so():
    cells = CellData(make_cells(n_cells=300, batches=3), columns=COLUMNS)
    split = load_task("integration", subsample=100).split(cells, 0)
    assert len(split.test) == 100 and split.excluded["cells beyond the subsample"] == 200
    for role in COLUMNS:
        whole, part = cells.labels(role), cells.labels(role)[split.test]
        for name in set(whole):
            assert (part == name).sum() == pytest.approx((whole == name).sum() / 3, abs=3)
    again, other = (load_task("integration", subsample=100).split(cells, seed).test for seed in (0, 1))
    assert np.array_equal(split.test, again) and not np.array_equal(split.test, other)
    assert len(load_task("integration", subsample="none").split(cells, 0).test) == 300


def test_a_stratum_of_one_is_no_trouble():
    rows = np.arange(10)
    assert np.array_equal(stratified(rows, [np.array(["a"] * 9 + ["b"])], 10, 0), rows)
    assert len(stratified(rows, [np.array(["a"] * 9 + ["b"])], 3, 0)) == 3


@pytest.mark.parametrize("wrong", [1, "half", 0.5])
def test_a_subsample_is_a_number_of_cells(wrong):
    with pytest.raises(InputError, match=r"task\.subsample"):
        load_task("integration", subsample=wrong)


def test_one_type_is_refused():
    cells = make_cells(n_cells=30, n_types=1)
    with pytest.raises(InputError, match="two are needed"):
        load_task("integration").split(CellData(cells, columns=COLUMNS), 0)
