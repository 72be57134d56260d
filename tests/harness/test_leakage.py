"""What the two sides of a split share is counted in every record."""

import anndata
import numpy as np

from harness import ResultStore
from harness.data import CellData
from harness.leakage import leakage
from harness.task import Split
from tests.conftest import make_cells


def data_of(adata, **columns):
    return CellData(adata, columns=columns)


def halves(n, name="half"):
    return Split(name, np.arange(n // 2), np.arange(n // 2, n))


def test_identical_cells_are_found_whatever_they_are_called():
    cells = make_cells()
    twice = anndata.concat([cells, cells[:5]])
    twice.obs_names = [f"c{i}" for i in range(65)]
    found = leakage(data_of(twice), Split("s", np.arange(60), np.arange(60, 65)))
    assert found.notes == {"test cells identical to a training cell": 5}
    assert found.flags == ["identical-cells"]
    clean = leakage(data_of(cells), halves(60))
    assert clean.notes == {"test cells identical to a training cell": 0}
    assert clean.flags == []


def test_cells_without_counts_are_not_each_others_twins():
    cells = make_cells()
    cells.X[[3, 40, 50]] = 0
    cells.X.eliminate_zeros()
    assert leakage(data_of(cells), halves(60)).flags == []


def test_donors_on_both_sides():
    cells = make_cells()
    cells.obs["who"] = [f"donor {i // 15}" for i in range(60)]
    assert leakage(data_of(cells, donor="who"), halves(60)).flags == []
    found = leakage(data_of(cells, donor="who"), Split("s", np.arange(20), np.arange(20, 60)))
    assert found.flags == ["same-donors"]
    assert found.notes["donors on both sides of the split"] == "1 of 4"
    cells.obs["who"] = np.where(np.arange(60) % 7 == 0, None, cells.obs["who"])
    cells.obs.loc[cells.obs_names[:15], "who"] = None
    found = leakage(data_of(cells, donor="who"), Split("s", np.arange(15), np.arange(15, 60)))
    assert found.flags == [], "cells of no known donor have none in common"


def test_a_split_of_one_side_leaks_nothing():
    found = leakage(data_of(make_cells()), Split("all", np.array([], int), np.arange(60)))
    assert (found.notes, found.flags) == ({}, [])


def test_every_fold_is_counted_by_itself():
    """Each cell is trained on in some fold and tested in another: that alone is no leak."""
    cells = make_cells()
    cells.obs["who"] = [f"donor {i // 20}" for i in range(60)]
    data = data_of(cells, donor="who")
    rows = np.arange(60)
    folds = tuple(Split(f"{k}", rows[rows // 20 != k], rows[rows // 20 == k]) for k in range(3))
    found = leakage(data, Split("leave-donor-out", rows, rows, folds=folds))
    assert (found.flags, found.notes["donors on both sides of the split"]) == ([], "0 of 3")
    assert found.notes["test cells identical to a training cell"] == 0
    twice = anndata.concat([cells, cells[:2]])
    twice.obs["who"] = [*cells.obs["who"], "donor 2", "donor 2"]
    rows = np.arange(62)
    where = np.array([0] * 20 + [1] * 20 + [2] * 22)
    folds = tuple(Split(f"{k}", rows[where != k], rows[where == k]) for k in range(3))
    found = leakage(data_of(twice, donor="who"), Split("leave-donor-out", rows, rows, folds=folds))
    assert found.flags == ["identical-cells"]
    assert found.notes["test cells identical to a training cell"] == 4  # two in fold 0, their twins in fold 2


def test_records_carry_it(bench, tmp_path):
    cells = make_cells(n_cells=40)
    twice = anndata.concat([cells, cells])
    twice.obs_names = [f"c{i}" for i in range(80)]
    twice.obs["who"] = [f"donor {i % 4}" for i in range(80)]
    twice.write_h5ad(tmp_path / "twice.h5ad")
    columns = (f"dataset.path={tmp_path}/twice.h5ad", "dataset.cell_type=cell_type", "dataset.donor=who")
    code, _, err = bench("run", "model=svm", "task=annotation", *columns)
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.flags == ["identical-cells", "same-donors"]
    assert record.notes["test cells identical to a training cell"] > 0
    assert record.notes["donors on both sides of the split"] == "4 of 4"
