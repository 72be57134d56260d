"""Scores of folds as metric rows."""

import numpy as np

from tasks.drug_response.rows import FoldScores, metric_rows


def fold(drug, held_out, value, by_type=None):
    return FoldScores(drug, held_out, {"l2_means": value, "mmd": value / 10}, by_type or {}, 10)


def rows_of(rows, name="l2_means"):
    return {(row.scope, row.key): row.value for row in rows if row.name == name}


def test_one_fold_has_no_units():
    assert rows_of(metric_rows("cellot", [fold("a", "B", 2.0)], "per-class")) == {("overall", ""): 2.0}


def test_drugs_count_alike_however_many_groups_they_have():
    folds = [fold("a", "B", 1.0), fold("a", "C", 3.0), fold("b", "B", 6.0)]
    found = rows_of(metric_rows("cellot", folds, "per-class"))
    assert found["overall", ""] == 4.0
    assert found["per-drug", "a"] == 2.0 and found["per-drug", "b"] == 6.0
    assert found["per-class", "B"] == 3.5 and found["per-class", "C"] == 3.0


def test_what_is_undefined_is_left_out_of_means_and_stays_undefined_alone():
    folds = [fold("a", "", 1.0), fold("b", "", np.nan)]
    found = rows_of(metric_rows("none", folds, None))
    assert found == {("overall", ""): 1.0, ("per-drug", "a"): 1.0, ("per-drug", "b"): None}
    assert rows_of(metric_rows("none", [fold("b", "", np.nan)], None)) == {("overall", ""): None}


def test_types_of_an_iid_split_are_rows_beside():
    folds = [fold("a", "", 1.0, {"B": {"l2_means": 5.0}}), fold("b", "", 2.0, {"B": {"l2_means": 7.0}})]
    assert rows_of(metric_rows("none", folds, None))["per-class", "B"] == 6.0
