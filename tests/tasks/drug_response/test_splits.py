"""Splits of cells: CellOT's as recorded, and ours: nothing on two sides, the same for any order of the file."""

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from harness.errors import InputError
from tasks.drug_response.published_splits import published_labels, toggle_ood, train_test, train_test_eval
from tasks.drug_response.splits import cells_split, given_split, group_split, published_split
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/cellot"
RECORDED = {
    "split_train_test": {"name": "train_test", "groupby": "drug", "test_size": 0.2, "random_state": 0},
    **{
        f"split_toggle_ood_{mode}": {
            "name": "toggle_ood",
            "key": "cell_type",
            "holdout": "K562",
            "groupby": ["cell_type", "drug"],
            "test_size": 10,
            "mode": mode,
        }
        for mode in ("iid", "ood")
    },
}


@pytest.fixture(scope="module")
def obs():
    frame = anndata.read_h5ad(GOLDEN / "drug.h5ad").obs
    return {column: frame[column].to_numpy().astype(str) for column in frame}


def recorded(name):
    return pd.read_csv(GOLDEN / f"{name}.csv", dtype=str, keep_default_na=False)["split"].to_numpy().astype(str)


@pytest.mark.parametrize("name", RECORDED)
def test_published_splits_are_as_recorded(name, obs):
    assert (published_labels(obs, **RECORDED[name]) == recorded(name)).all()


@pytest.mark.parametrize("model", ["model-scgen", "model-cellot-latent", "model-cellot-gene"])
def test_a_configuration_says_the_recorded_split(model, obs):
    settings = yaml.safe_load((GOLDEN / model / "config.yaml").read_text())["datasplit"]
    found = published_labels(obs, **settings)
    assert (found == recorded("split")).all() and found.dtype.kind == "U"


def test_folds_of_the_published_split(obs):
    folds, excluded = published_split(obs["drug"], "control", ["trametinib"], 110, 40)
    part = np.full(len(obs["drug"]), "", "<U5")
    for name in ("train", "val", "test"):
        side = getattr(folds[0], name)
        part[side.rows] = "eval" if name == "val" else name
        assert (obs["drug"][side.control] == "control").all() and (obs["drug"][side.treated] == "trametinib").all()
    assert (part == recorded("split")).all() and not excluded
    with pytest.raises(InputError, match="320 cells of condition=control do not suffice to cut off 1000"):
        published_split(obs["drug"], "control", ["trametinib"])


def test_published_split_leaves_drugs_out_that_are_too_small(obs):
    drugs = np.where(np.arange(640) % 20 == 0, "rare", obs["drug"])
    folds, excluded = published_split(drugs, "control", ["trametinib", "rare"], 110, 40)
    assert [fold.drug for fold in folds] == ["trametinib"]
    assert excluded == {"folds with no treated cells to test (rare)": 1}


def test_held_out_cells_of_published_splits(obs):
    out = obs["cell_type"] == "K562"
    by_type = train_test_eval(obs, groupby="drug", holdout={"cell_type": "K562"}, test_size=20, eval_size=0.1)
    assert ((by_type == "ood") == out).all() and set(by_type) == {"train", "test", "eval", "ood"}
    relabelled = train_test(obs, groupby="drug", holdout={"cell_type": ["K562"], "drug": "trametinib"}, test_size=20)
    assert ((relabelled == "ood") == (out | (obs["drug"] == "trametinib"))).all()
    plain = train_test(obs, groupby="drug", test_size=20)
    assert (relabelled[relabelled != "ood"] == plain[relabelled != "ood"]).all()
    modes = [toggle_ood(obs, key="cell_type", holdout="K562", mode=mode, groupby="drug") for mode in ("iid", "ood")]
    assert ((modes[0] == "ood") == (modes[1] == "ood")).all() and (out[modes[0] == "ood"]).all()
    assert set(modes[1][out]) == {"ignore", "ood"} and set(modes[0][out]) == {"train", "ood"}


def test_cells_outside_a_published_split(obs):
    found = published_labels(obs, subset={"cell_type": ["A549", "MCF7"]}, groupby="drug", test_size=0.2)
    assert ((found == "") == (obs["cell_type"] == "K562")).all()
    alone = {column: labels[found != ""] for column, labels in obs.items()}
    assert (published_labels(alone, groupby="drug", test_size=0.2) == found[found != ""]).all()
    missing = {**obs, "drug": np.where(np.arange(640) < 5, "", obs["drug"])}
    assert (published_labels(missing, groupby="drug")[:5] == "").all()
    numbers = {"sample": np.array(["101", "102"] * 20)}
    assert (train_test(numbers, holdout={"sample": 101}) == "ood").sum() == 20


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "other"}, "one of train_test, train_test_eval, toggle_ood"),
        ({"name": "train_test", "eval_size": 3}, "does not take eval_size"),
        ({"name": "toggle_ood", "key": "cell_type"}, "needs holdout, mode"),
        ({"name": "toggle_ood", "key": "cell_type", "holdout": "K562", "mode": "x"}, "iid or ood"),
        ({"groupby": "celltype"}, "no column celltype; the columns are drug, cell_type"),
        ({"groupby": "drug", "test_size": 400}, "320 cells of drug=control do not suffice to cut off 400"),
        ({"name": "toggle_ood", "key": "cell_type", "holdout": "HeLa", "mode": "ood"}, "0 cells of cell_type=HeLa"),
    ],
)
def test_wrong_settings_of_published_splits(settings, says, obs):
    with pytest.raises(InputError, match=says) as error:
        published_labels(obs, **settings)
    assert "\n" not in str(error.value)


TYPES, DONORS = ("B", "T", "NK"), ("d1", "d2", "d3", "d4")


@pytest.fixture
def made():
    """Cells of a control, of two drugs, and of one that is not asked for; three types, four donors."""
    rng = np.random.default_rng(0)
    n = 900
    return {
        "condition": rng.choice(["ctrl", "x", "y", "other"], n, p=[0.4, 0.3, 0.2, 0.1]),
        "types": rng.choice(TYPES, n, p=[0.6, 0.3, 0.1]),
        "donors": rng.choice(DONORS, n),
        "names": np.array([f"cell{i:04d}" for i in rng.permutation(n)]),
    }


def by_cells(made, **changed):
    known = {"condition": made["condition"], "control": "ctrl", "drugs": ["x", "y"], "strata": made["types"], "seed": 0}
    return cells_split(**{**known, "cell_names": made["names"], "name": "data", **changed})


def by_group(made, **changed):
    return group_split(
        **{
            "condition": made["condition"],
            "control": "ctrl",
            "drugs": ["x", "y"],
            "strata": made["types"],
            "seed": 0,
            "groups": made["donors"],
            "cell_names": made["names"],
            "name": "data",
            **changed,
        }
    )


def disjoint(fold):
    """All rows of a fold, none of which is in two parts."""
    rows = np.concatenate([fold.train_rows, fold.test_rows])
    assert len(np.unique(rows)) == len(rows) and rows.dtype == np.int64
    for side in (fold.train, fold.val, fold.test):
        for own in (side.control, side.treated):
            assert (np.diff(own) > 0).all()
    return rows


def test_parts_are_disjoint_and_cover_control_and_drug(made):
    folds, excluded = by_cells(made)
    assert [fold.drug for fold in folds] == ["x", "y"] == [fold.name for fold in folds] and not excluded
    for fold in folds:
        taken = np.flatnonzero(np.isin(made["condition"], ["ctrl", fold.drug]))
        assert (np.sort(disjoint(fold)) == taken).all() and fold.held_out == ""
        for side in (fold.train, fold.val, fold.test):
            assert (made["condition"][side.control] == "ctrl").all()
            assert (made["condition"][side.treated] == fold.drug).all()


def test_controls_are_divided_once_for_all_drugs(made):
    folds, _ = by_cells(made)
    alone, _ = by_cells(made, drugs=["y"])
    for part in ("train", "val", "test"):
        own = [getattr(fold, part).control for fold in folds]
        assert (own[0] == own[1]).all() and (own[0] == getattr(alone[0], part).control).all()
        assert (getattr(folds[1], part).treated == getattr(alone[0], part).treated).all()


@pytest.mark.parametrize(("test_share", "val_share"), [(0.2, 0.1), (0.37, 0.25), (0.5, 0.5)])
def test_each_type_has_its_share(made, test_share, val_share):
    folds, _ = by_cells(made, test_share=test_share, val_share=val_share)
    for fold in folds:
        for kind in ("control", "treated"):
            train, val, test = (getattr(side, kind) for side in (fold.train, fold.val, fold.test))
            whole = len(train) + len(val) + len(test)
            assert len(test) == round(whole * test_share) and len(val) == round((whole - len(test)) * val_share)
            for name in TYPES:
                n_train, n_val, n_test = ((made["types"][rows] == name).sum() for rows in (train, val, test))
                n = n_train + n_val + n_test
                assert abs(n_test - n * len(test) / whole) < 1
                assert abs(n_val - (n - n_test) * len(val) / (whole - len(test))) < 1


@pytest.mark.parametrize("split", [by_cells, by_group])
def test_the_order_of_the_file_does_not_matter(made, split):
    order = np.random.default_rng(7).permutation(len(made["names"]))
    moved = {what: labels[order] for what, labels in made.items()}
    there, here = split(made)[0], split(moved)[0]
    assert [fold.name for fold in there] == [fold.name for fold in here]
    for a, b in zip(there, here, strict=True):
        for part in ("train", "val", "test"):
            for kind in ("control", "treated"):
                names = [
                    set(cells["names"][getattr(getattr(fold, part), kind)]) for cells, fold in ((made, a), (moved, b))
                ]
                assert names[0] == names[1]


@pytest.mark.parametrize("split", [by_cells, by_group])
def test_the_seed_says_the_draw(made, split):
    first, again, other = (split(made, seed=seed)[0][0].val.control.tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert split(made, cell_names=None)[0][0].val.control.tolist() != first  # by the order of the file


@pytest.mark.parametrize("strata", [None, np.full(900, "B")])
def test_one_type_or_none(made, strata):
    folds, _ = by_cells(made, strata=strata)
    for fold in folds:
        disjoint(fold)
        assert len(fold.test.control) == round((made["condition"] == "ctrl").sum() * 0.2)


def test_held_out_donors_train_nothing(made):
    folds, excluded = by_group(made)
    assert [fold.name for fold in folds] == [f"{drug}, {donor}" for donor in DONORS for drug in ("x", "y")]
    assert not excluded
    for fold in folds:
        taken = np.isin(made["condition"], ["ctrl", fold.drug])
        assert (np.sort(disjoint(fold)) == np.flatnonzero(taken)).all()
        assert (np.sort(fold.test_rows) == np.flatnonzero(taken & (made["donors"] == fold.held_out))).all()
        for kind in ("control", "treated"):
            train, val = getattr(fold.train, kind), getattr(fold.val, kind)
            whole = len(train) + len(val)
            assert len(val) == round(whole * 0.1)
            for donor in set(DONORS) - {fold.held_out}:
                for name in TYPES:
                    own = [((made["donors"][r] == donor) & (made["types"][r] == name)).sum() for r in (train, val)]
                    assert abs(own[1] - sum(own) * len(val) / whole) < 1


def test_some_groups_are_held_out(made):
    folds, _ = by_group(made, held_out=["d3"])
    assert [fold.name for fold in folds] == ["x, d3", "y, d3"]
    every, _ = by_group(made)
    whole = next(fold for fold in every if fold.name == "y, d3")
    assert (folds[1].train.treated == whole.train.treated).all() and (folds[1].val.control == whole.val.control).all()


def test_cells_of_no_donor_take_no_part(made):
    lost = np.arange(900) % 9 == 0
    folds, excluded = by_group(made, groups=np.where(lost, "", made["donors"]))
    assert excluded == {"cells of no group": int((lost & (made["condition"] != "other")).sum())}
    assert not any(lost[disjoint(fold)].any() for fold in folds)


def test_groups_that_lack_cells_are_left_out_unless_they_are_named(made):
    made["condition"][(made["donors"] == "d2") & (made["condition"] == "y")] = "other"
    folds, excluded = by_group(made)
    assert "y, d2" not in [fold.name for fold in folds] and len(folds) == 7
    assert excluded == {"folds with no treated cells to test (y, d2)": 1}
    with pytest.raises(InputError, match="data: y, d2 has no treated cells to test"):
        by_group(made, held_out=["d2"])
    assert len(by_group(made, held_out=["d2"], drugs=["x"])[0]) == 1
    made["condition"][(made["donors"] == "d4") & (made["condition"] == "ctrl")] = ""
    with pytest.raises(InputError, match="x, d4 has no control cells to test"):
        by_group(made, held_out=["d4"])
    _, excluded = by_group(made)
    assert excluded["folds with no control cells to test (x, d4, y, d4)"] == 2


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"held_out": ["d11"]}, r"data: task.held_out=d11: no such group; did you mean d1\? there are d1, d2, d3, d4"),
        ({"held_out": ["?"]}, r"no such group; there are d1"),
        ({"groups": np.full(900, "d1")}, "takes two, and there is only d1"),
        ({"groups": np.full(900, "")}, "takes two, and there is none"),
        ({"val_share": 0}, "task.val_share=0"),
        ({"min_cells": 150}, "no fold can be tested: x, d1 has fewer than 150 control cells to test"),
    ],
)
def test_groups_that_cannot_be_held_out(made, changed, says):
    with pytest.raises(InputError, match=says) as error:
        by_group(made, **changed)
    assert "\n" not in str(error.value)


def test_a_group_that_all_treated_cells_are_of_leaves_nothing_to_train_on(made):
    made["donors"][made["condition"] == "y"] = "d1"
    _, excluded = by_group(made)
    assert excluded["folds with no treated cells to train on (y, d1)"] == 1
    with pytest.raises(InputError, match="y, d1 has no treated cells to train on"):
        by_group(made, held_out=["d1"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"control": "control"}, "data: no control cell: no cell is labelled 'control'"),
        ({"control": "oter"}, "did you mean other"),
        ({"drugs": ["x", "z"]}, "drug 'z' has no cell; the drugs are other, x, y"),
        ({"drugs": ["othr"]}, "did you mean other"),
        ({"drugs": ["ctrl"]}, "drug 'ctrl' is the control"),
        ({"drugs": []}, "of 0 drugs none has"),
        ({"min_cells": 300}, "of 2 drugs none has task.min_cells=300"),
        ({"min_cells": 100}, "no fold can be tested: x has fewer than 100 control cells to test"),
        ({"test_share": 1.0}, "task.test_share=1.0"),
        ({"val_share": -1}, "task.val_share=-1"),
    ],
)
def test_cells_that_cannot_be_split(made, changed, says):
    with pytest.raises(InputError, match=says) as error:
        by_cells(made, **changed)
    assert "\n" not in str(error.value)


def test_small_drugs_are_left_out_and_named(made):
    made["condition"][np.flatnonzero(made["condition"] == "other")[12:]] = ""  # 12 cells are left
    folds, excluded = by_cells(made, drugs=["other", "x", "y"])
    assert [fold.drug for fold in folds] == ["x", "y"]
    assert excluded == {"drugs with fewer than 20 treated cells (other)": 1}
    made["condition"][np.flatnonzero(made["condition"] == "y")[50:]] = ""  # 10 cells to test
    folds, excluded = by_cells(made, drugs=["x", "y"])
    assert excluded == {"folds with fewer than 20 treated cells to test (y)": 1} and len(folds) == 1


def test_few_cells_are_on_every_side():
    condition = np.array(["ctrl"] * 7 + ["x"] * 6)
    folds, _ = cells_split(condition, "ctrl", ["x"], None, 0, min_cells=2)
    sizes = [len(own) for side in (folds[0].train, folds[0].val, folds[0].test) for own in (side.control, side.treated)]
    assert sizes == [3, 2, 2, 2, 2, 2]


def test_a_column_says_the_parts(made):
    condition = made["condition"]
    labels = np.random.default_rng(1).choice(["Train", "valid", "test", "ood", ""], 900, p=[0.5, 0.1, 0.3, 0.06, 0.04])
    folds, excluded = given_split(labels, condition, "ctrl", ["x", "y"], min_cells=10)
    asked = np.isin(condition, ["ctrl", "x", "y"])
    assert excluded == {
        "cells of part unknown": int((asked & (labels == "")).sum()),
        "cells of part ood": int((asked & (labels == "ood")).sum()),
    }
    for fold in folds:
        disjoint(fold)
        for part, word in (("train", "Train"), ("val", "valid"), ("test", "test")):
            own = np.isin(condition, ["ctrl", fold.drug]) & (labels == word)
            assert (np.sort(getattr(fold, part).rows) == np.flatnonzero(own)).all()


def test_a_column_without_validation_cells(made):
    labels = np.where(np.arange(900) % 4 == 0, "test", "train")
    folds, _ = given_split(labels, made["condition"], "ctrl", ["x"], cell_names=made["names"])
    train = np.flatnonzero(np.isin(made["condition"], ["ctrl", "x"]) & (labels == "train"))
    assert (np.sort(folds[0].train_rows) == train).all()
    n = (made["condition"][train] == "x").sum()
    assert len(folds[0].val.treated) == round(n * 0.1)


@pytest.mark.parametrize("labels", [["train", "ood"], ["test", "x"], ["", ""]])
def test_a_column_that_says_no_split(labels, made):
    with pytest.raises(InputError, match=r"data: dataset.split needs cells called train and test; it says"):
        given_split(np.resize(labels, 900), made["condition"], "ctrl", ["x"], name="data")
