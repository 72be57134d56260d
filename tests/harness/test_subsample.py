"""A stratified subsample: shares kept, always the same cells, said in the record; grids of an experiment."""

import numpy as np
import pytest

from harness import CellData, InputError, ResultStore
from harness.grid import expand, sweeps
from harness.subsample import subsample
from tests.conftest import make_cells


def data(n=300):
    return CellData(make_cells(n_cells=n, n_types=3, batches=2), columns={"cell_type": "cell_type", "batch": "batch"})


def test_shares_are_kept_and_the_cells_are_the_same_again():
    whole = data()
    part, again = subsample(whole, 100), subsample(whole, 100)
    assert part.n_obs == 100 and part.obs_names.tolist() == again.obs_names.tolist()
    assert list(map(whole.obs_names.tolist().index, part.obs_names)) == sorted(
        map(whole.obs_names.tolist().index, part.obs_names)
    )
    both = [np.char.add(d.labels("cell_type"), d.labels("batch")) for d in (whole, part)]
    for group in set(both[0].tolist()):
        assert abs((both[1] == group).sum() - (both[0] == group).sum() / 3) <= 1
    assert part.notes["subsample"] == "100 of 300 cells, stratified by cell type and batch"
    assert part.content_hash != whole.content_hash
    assert subsample(whole, 300) is whole


@pytest.mark.parametrize("wanted", [0, -3, 2.5, "many", True])
def test_a_wrong_number_is_refused(wanted):
    with pytest.raises(InputError, match="max_cells"):
        subsample(data(30), wanted)


def test_the_record_says_it(bench, tmp_path, cells_file):
    code, _, err = bench(
        "run",
        "model=pca",
        "task=annotation",
        "task.heads=[knn]",
        "task.min_train_cells=3",
        f"dataset.path={cells_file}",
        "dataset.cell_type=cell_type",
        "dataset.max_cells=40",
    )
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.notes["subsample"] == "40 of 60 cells, stratified by cell type"


def test_an_experiment_of_several_grids():
    found = sweeps(["experiment=annotation_real"])
    assert len(found) == 6
    assert all("experiment=annotation_real" in sweep and "task.split=auto" in sweep for sweep in found)
    assert len(expand(found[-2])) == 12  # two models x three settings x two seeds
    overridden = sweeps(["experiment=annotation_real", "seed=7", "dataset.max_cells=null"])
    assert all("seed=7" in sweep and "dataset.max_cells=null" in sweep for sweep in overridden)
    assert sweeps(["model=pca", "task=annotation"]) == [["model=pca", "task=annotation"]]


def test_sizes_of_an_experiment():
    full, small = (sweeps(["experiment=perturbation_real", f"size={size}"]) for size in ("full", "small"))
    assert full == sweeps(["experiment=perturbation_real"])
    assert len(small) == len(full) - 1  # a grid of more splits is left out
    assert all("seed=0,1" in sweep for sweep in small)
    assert all("seed=3" in sweep for sweep in sweeps(["experiment=perturbation_real", "size=small", "seed=3"]))
    for grid in sweeps(["experiment=drug_real", "size=small"]):
        assert "dataset.max_cells=1000" in grid
    with pytest.raises(InputError, match="has no size=tiny; it has full, small"):
        sweeps(["experiment=drug_real", "size=tiny"])
    with pytest.raises(InputError, match="say experiment=NAME"):
        sweeps(["model=pca", "task=annotation", "size=small"])
