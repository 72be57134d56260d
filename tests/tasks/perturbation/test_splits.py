"""Splits of conditions: GEARS' draws for its seeds, a column, and genes left out."""

import json

import numpy as np
import pytest

from harness.errors import InputError
from tasks.perturbation.conditions import read_conditions
from tasks.perturbation.splits import SUBGROUPS, given, leave_genes_out, simulation
from tests.conftest import ROOT

RECORDED = json.loads((ROOT / "tests/golden/gears/split.json").read_text())
CASES = {1: RECORDED, **{int(seed): case for seed, case in RECORDED["simulation_other_seeds"].items()}}


@pytest.fixture(scope="module")
def conditions():
    found, _, written = read_conditions(np.array(RECORDED["condition_order"]), "ctrl", None, "recorded")
    return found[1:], written


def canonical(names):
    return sorted(tuple(sorted(set(name.split("+")) - {"ctrl"})) for name in names if name != "ctrl")


@pytest.mark.parametrize("seed", sorted(CASES))
def test_simulation_split_is_that_of_cell_gears(seed, conditions):
    found, case = simulation(conditions[0], seed, conditions[1]), CASES[seed]
    for part in ("train", "val", "test"):
        assert sorted(getattr(found, part)) == canonical(case["set2conditions"][part]), part
    for group in SUBGROUPS:
        own = sorted(c for c, named in found.subgroup.items() if named == group)
        assert own == canonical(case["subgroup"]["test_subgroup"][group])


def test_the_order_of_conditions_does_not_matter(conditions):
    forward, backward = simulation(conditions[0], 1, conditions[1]), simulation(conditions[0][::-1], 1, conditions[1])
    assert set(forward.test) == set(backward.test) and set(forward.val) == set(backward.val)


def test_a_column_says_the_split():
    conditions = [("A",), ("B",), ("A", "B")]
    of_cell = np.array([-1, 0, 0, 1, 2])
    found = given(conditions, of_cell, np.array(["", "train", "train", "test", "test"]), "x")
    assert (found.train, found.test) == ((("A",),), (("B",), ("A", "B")))
    assert found.subgroup == {("B",): "unseen_single", ("A", "B"): "combo_seen1"}
    with pytest.raises(InputError, match=r"of cells of A; one of train"):
        given(conditions, of_cell, np.array(["", "train", "test", "test", "test"]), "x")
    with pytest.raises(InputError, match="0 training and 1 test"):
        given(conditions, of_cell, np.array(["", "", "", "test", ""]), "x")


def test_a_gene_left_out_is_in_no_training_condition(conditions):
    folds = leave_genes_out(conditions[0], 4, 0)
    assert len(folds) == 4
    for name, fold in folds:
        out = set(name.split("+"))
        assert all(out & set(c) for c in fold.test) and not any(out & set(c) for c in (*fold.train, *fold.val))
        assert len(fold.train) + len(fold.val) + len(fold.test) == len(conditions[0])
    assert {c for _, fold in folds for c in fold.test} == set(conditions[0])
    with pytest.raises(InputError, match="number of perturbed genes"):
        leave_genes_out([("A",), ("B",)], 3, 0)
