"""Labels of conditions, in the ways data sets spell them."""

import numpy as np
import pytest

from harness.data import CellData
from harness.errors import InputError
from tasks.perturbation.conditions import name_of, parse, read_conditions, separator_of
from tasks.perturbation.prepare import prepare
from tests.tasks.perturbation.made import made_cells

SETTINGS = {"separator": None, "min_cells": 5, "cells_per_condition": None, "n_top_genes": None}


@pytest.mark.parametrize("notation", ["gears", "plain"])
def test_both_notations_say_the_same(notation):
    control = "ctrl" if notation == "gears" else "control"
    data = CellData(made_cells(notation=notation), columns={"condition": "condition"}, control=control)
    found = prepare(data, **SETTINGS)
    assert found.cells.conditions[0] == () and len(found.cells.conditions) == 10
    assert ("GENE0", "GENE1") in found.cells.index and found.cells.sizes.sum() == data.n_obs


def test_order_and_the_name_of_nothing_do_not_matter():
    assert parse("B+A", "ctrl", "+") == parse("A+B", "ctrl", "+") == ("A", "B")
    assert parse("ctrl+A", "ctrl", "+") == parse("A+ctrl", "ctrl", "+") == ("A",)
    assert parse("control", "control", "+") == parse("ctrl", "control", "+") == ()
    assert name_of(()) == "control" and name_of(("A", "B")) == "A+B"


def test_a_dash_or_an_underscore_in_a_name_is_no_pair():
    assert separator_of(["HLA-A", "NT_1", "control"], "control") == ""
    assert separator_of(["A", "A_B", "control"], "control") == "_"


def test_spelling_of_pairs_is_kept_for_the_official_draws():
    _, _, written = read_conditions(np.array(["ctrl", "B+A", "A+ctrl"]), None, None, "x")
    assert written["A", "B"] == "B+A"


def test_no_control_cells():
    with pytest.raises(InputError, match=r"labelled 'ctrl'.*dataset.control=LABEL"):
        read_conditions(np.array(["A", "B"]), "ctrl", None, "x")


def test_nothing_but_controls():
    with pytest.raises(InputError, match="every labelled cell is a control"):
        read_conditions(np.array(["ctrl", "ctrl"]), "ctrl", None, "x")


def test_what_does_not_take_part_is_counted_and_named():
    cells = made_cells()
    labels = cells.obs["condition"].to_numpy(dtype=object)
    labels[:3] = ""  # unknown
    labels[5:15] = "GENE1+GENE2+GENE3"  # three genes
    labels[20] = "GENE50+ctrl"  # one cell
    cells.obs["condition"] = labels
    cells.X[30] = 0  # a cell without a count
    found = prepare(CellData(cells, columns={"condition": "condition"}, control="ctrl"), **SETTINGS)
    assert found.excluded == {
        "cells without a condition": 3,
        "cells without a count": 1,
        "conditions of more than 2 genes": 1,
        "conditions of too few cells": 1,
    }
    assert found.notes["conditions of more than 2 genes, by name"] == "GENE1+GENE2+GENE3"
    assert found.notes["conditions of too few cells, by name"] == "GENE50"


def test_a_target_that_is_not_measured_is_named():
    cells = made_cells()
    cells.obs["condition"] = cells.obs["condition"].str.replace("GENE0", "ABSENT")
    found = prepare(CellData(cells, columns={"condition": "condition"}, control="ctrl"), **SETTINGS)
    assert found.notes["targets measured"] == "5 of 6" and found.notes["targets not measured"] == "ABSENT"


def test_too_few_conditions():
    data = CellData(made_cells(singles=1, pairs=0), columns={"condition": "condition"}, control="ctrl")
    with pytest.raises(InputError, match=r"1 perturbed conditions.*two are needed"):
        prepare(data, **SETTINGS)


def test_a_sample_of_each_condition_is_always_the_same():
    data = CellData(made_cells(), columns={"condition": "condition"}, control="ctrl")
    few = {**SETTINGS, "cells_per_condition": 8}
    first, again = (
        prepare(data, **few),
        prepare(CellData(data.adata.copy(), columns=data.columns, control="ctrl"), **few),
    )
    assert (first.rows == again.rows).all()
    assert first.cells.sizes.tolist() == [32] + [8] * 9
    assert first.excluded["cells beyond task.cells_per_condition"] == data.n_obs - 32 - 72


def test_the_most_variable_genes_and_the_targets():
    found = prepare(
        CellData(made_cells(n_genes=200), columns={"condition": "condition"}, control="ctrl"),
        **{**SETTINGS, "n_top_genes": 50},
    )
    assert 50 <= len(found.columns) <= 56 and {f"GENE{i}" for i in range(6)} <= set(found.cells.genes)


def test_means_and_variances_are_those_of_the_cells():
    found = prepare(CellData(made_cells(), columns={"condition": "condition"}, control="ctrl"), **SETTINGS).cells
    own = found.values[found.rows(("GENE1",))].toarray().astype(float)
    np.testing.assert_allclose(found.mean(("GENE1",)), own.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.variances[found.index["GENE1",]], own.var(axis=0, ddof=1), atol=1e-6)
    assert len(found.ranked(("GENE1",))) == 60
