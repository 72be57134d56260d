"""The protocol: what each side of a fold sees, what bad input says, and what a record holds."""

import json

import numpy as np
import pytest

from harness import CellData, load_task
from harness.cache import Cache
from harness.errors import InputError
from harness.registry import MODELS
from harness.sources import ModelSource
from harness.subject import Subject
from harness.tuning import Tuning
from tasks.drug_response.cells import cells_of
from tests.tasks.drug_response.made import made_cells

QUICK = {"steps": 30, "inner": 3, "check_every": 10, "batch": 32}
COLUMNS = {"condition": "condition", "cell_type": "cell_type"}


def data_of(cells, control="ctrl", **columns):
    return CellData(cells, name="made", columns={**COLUMNS, **columns}, control=control)


@pytest.fixture(scope="module")
def data():
    return data_of(made_cells())


def subject_of(model, data, tmp_path, tuning=None):
    source = ModelSource(model.spec, "baseline", {"model": model.spec.name, "object": id(model)}, lambda: model)
    return Subject(source, data, Cache(tmp_path / "cache"), tuning=tuning)


def run(model, data, tmp_path, tuning=None, seed=0, **settings):
    settings = {"layout": False, "cellot": QUICK, "decoder": {"steps": 100}, **settings}
    task = load_task("drug_response", **settings)
    return task.run(subject_of(model, data, tmp_path, tuning), data, task.split(data, seed), seed)


def value(result, name, head="none", scope="overall", key=""):
    found = [
        row.value for row in result.metrics if (row.name, row.head, row.scope, row.key) == (name, head, scope, key)
    ]
    assert len(found) == 1, (name, head, scope, key)
    return found[0]


# -- what is seen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"holdout": "cell_type"}, {"holdout": "cell_type", "held_out": ["B"]}])
def test_no_test_cell_is_learned_from(data, settings):
    task = load_task("drug_response", **settings)
    split = task.split(data, 0)
    kinds = data.labels("cell_type")
    for part in split.folds:
        assert not np.intersect1d(part.train, part.test).size
        fold = part.fold
        parts = [fold.train.control, fold.train.treated, fold.val.control, fold.val.treated, fold.test.control]
        every = np.concatenate([*parts, fold.test.treated])
        assert len(np.unique(every)) == len(every)
        if fold.held_out:
            assert set(kinds[part.test]) == {fold.held_out} and fold.held_out not in set(kinds[part.train])


def test_genes_are_chosen_on_training_cells(data):
    task = load_task("drug_response", holdout="cell_type", held_out="B", n_top_genes=20)
    fold = task.split(data, 0).folds[0].fold
    prepared = task.prepared(data)
    chosen = cells_of(fold, prepared, 20, False).columns
    changed = made_cells()
    test = np.concatenate([fold.test.control, fold.test.treated])
    changed.X[test] = changed.X[np.random.default_rng(1).permutation(test)] * 3
    assert np.array_equal(chosen, cells_of(fold, task.prepared(data_of(changed)), 20, False).columns)


def test_a_method_is_not_given_the_treated_test_cells(data, tmp_path):
    seen = {}

    class Spy(MODELS.get("identity")):
        def predict(self, problem):
            seen["problem"] = problem
            return super().predict(problem)

    run(Spy(), data, tmp_path)
    task = load_task("drug_response")
    fold = task.split(data, 0).folds[0].fold
    cells = cells_of(fold, task.prepared(data), 1000, False)
    treated = {row.tobytes() for row in cells.expression(fold.test.treated)}
    problem = seen["problem"]
    for matrix in (problem.train.control, problem.train.treated, problem.val.treated, problem.test):
        assert not treated & {row.tobytes() for row in matrix}


# -- scores ------------------------------------------------------------------------------------------------------


def test_who_knows_more_scores_better(tmp_path):
    data = data_of(made_cells(per_group=150))
    identity, shift, half = (
        run(MODELS.get(name)(), data, tmp_path) for name in ("identity", "mean_shift", "treated_half")
    )
    for metric in ("l2_means", "mmd"):
        assert value(half, metric) < value(shift, metric) < value(identity, metric)
    assert value(identity, "pearson_delta") is None  # no change is predicted: undefined, never zero
    assert value(shift, "pearson_delta") > 0.9


def test_with_one_drug_and_one_group_there_are_no_units(data, tmp_path):
    result = run(MODELS.get("mean_shift")(), data, tmp_path, holdout="cell_type", held_out="B")
    assert {row.scope for row in result.metrics} == {"overall"}


def test_groups_and_drugs_are_the_parts_of_the_overall_number(tmp_path):
    data = data_of(made_cells(drugs=("one", "two")))
    result = run(MODELS.get("mean_shift")(), data, tmp_path, holdout="cell_type")
    total = value(result, "l2_means")
    for scope, keys in (("per-drug", ("one", "two")), ("per-class", ("A", "B", "C"))):
        parts = [value(result, "l2_means", scope=scope, key=key) for key in keys]
        assert np.isclose(np.mean(parts), total)


def test_cell_types_of_an_iid_split_have_their_own_scores(tmp_path):
    data = data_of(made_cells(responding=("A",)))
    result = run(MODELS.get("identity")(), data, tmp_path)
    of_type = {key: value(result, "l2_means", scope="per-class", key=key) for key in "ABC"}
    assert of_type["A"] > 2 * max(of_type["B"], of_type["C"])


def test_donors_are_held_out(tmp_path):
    data = data_of(made_cells(donors=3), donor="donor")
    result = run(MODELS.get("mean_shift")(), data, tmp_path, holdout="donor")
    assert {row.key for row in result.metrics if row.scope == "per-donor"} == {"donor0", "donor1", "donor2"}


# -- models ------------------------------------------------------------------------------------------------------


def test_a_model_moves_cells_in_its_own_space(data, tmp_path):
    result = run(MODELS.get("pca")(), data, tmp_path, code_size=10)
    heads = {row.head for row in result.metrics}
    assert heads == {"cellot", "shift", "untransported"}
    assert value(result, "l2_means", "shift") < value(result, "l2_means", "untransported")
    assert value(result, "decoding_l2_means", "shift") < value(result, "l2_means", "untransported")
    steps = result.tables["drug_bars"]
    assert set(steps.step) == {"identity", "untransported", "predicted", "decoded", "half"}
    assert set(result.tables["drug_markers"].population) == {"control", "treated", "predicted"}


def test_the_three_populations_are_laid_out(tmp_path):
    data = data_of(made_cells(per_group=20, n_genes=30))
    result = run(MODELS.get("mean_shift")(), data, tmp_path, layout=True, min_cells=5)
    table = result.tables["drug_umap"]
    assert set(table.population) == {"control", "treated", "predicted"} and table[["x", "y"]].notna().all(axis=None)


def test_components_are_fitted_to_training_cells(data, tmp_path):
    subject = subject_of(MODELS.get("pca")(), data, tmp_path)
    fold = load_task("drug_response", holdout="cell_type", held_out="B").split(data, 0).folds[0].fold
    rows = np.sort(fold.train.rows)
    found = subject.cells(fitted_to=rows)
    alone = MODELS.get("pca")().embed_cells(data.subset(rows))
    np.testing.assert_allclose(np.abs(found[rows]), np.abs(alone), atol=1e-3)
    assert not np.allclose(found, subject.cells(), atol=1e-3)  # neither is mistaken for the other in the cache


def test_a_network_is_tuned_on_training_cells_with_its_decoder(tmp_path):
    data = data_of(made_cells(per_group=24, n_genes=40))
    model = MODELS.get("cellfm").from_scratch(data.genes, seed=0)
    tuning = Tuning.of({"max_steps": 4, "batch_cells": 16, "lora_rank": 2}, "lora")
    result = run(model, data, tmp_path, tuning, min_cells=5, heads=["shift", "untransported"], code_size=8)
    assert "smoke" in result.flags and result.notes["optimiser steps"] == 4
    assert np.isfinite(value(result, "l2_means", "shift"))
    assert len(result.tables["finetuning"])


def test_the_published_protocol_leaks_and_says_so(data, tmp_path):
    task = load_task("drug_response", protocol="published")
    fold = task.split(data, 0).folds[0].fold
    cells = cells_of(fold, task.prepared(data), 1000, True)
    learn, check = cells.decoding
    assert set(learn) == set(fold.train.treated) and set(check) == set(fold.test.treated)
    assert np.array_equal(cells.fold.val.control, fold.test.control)
    result = run(MODELS.get("pca")(), data, tmp_path, protocol="published", heads=["shift"])
    assert "leaks" in result.flags
    assert task.split(data, 0).name != load_task("drug_response").split(data, 0).name


def test_features_are_read_as_they_are_and_by_no_model(tmp_path):
    cells = made_cells(n_genes=12)
    cells.X = np.asarray(cells.X.todense()) * 0.37
    data = CellData(cells, name="stains", columns=COLUMNS, control="ctrl", values="features")
    assert value(run(MODELS.get("mean_shift")(), data, tmp_path), "l2_means") > 0
    from harness.errors import NotApplicableError

    with pytest.raises(NotApplicableError, match="holds features"):
        run(MODELS.get("pca")(), data, tmp_path)


# -- bad input ---------------------------------------------------------------------------------------------------


def test_no_treated_cell():
    cells = made_cells(drugs=())
    with pytest.raises(InputError, match="no treated cell"):
        load_task("drug_response").split(data_of(cells), 0)


def test_no_control_cell():
    with pytest.raises(InputError, match=r"dataset\.control=vehicle: no cell is labelled so.*ctrl"):
        load_task("drug_response").split(data_of(made_cells(), control="vehicle"), 0)


def test_a_drug_that_is_not_there(data):
    with pytest.raises(InputError, match=r"task\.drugs: no cell of made is labelled aspirin; it holds drug"):
        load_task("drug_response", drugs=["aspirin"]).split(data, 0)


def test_a_drug_with_fewer_cells_than_a_batch(data, tmp_path):
    with pytest.raises(InputError, match="batch"):
        run(MODELS.get("pca")(), data, tmp_path, cellot={**QUICK, "batch": 500})


def test_of_several_drugs_a_small_one_is_not_learned_and_said(tmp_path):
    cells = made_cells(drugs=("large", "small"))
    small = np.flatnonzero((cells.obs.condition == "small").to_numpy())
    data = data_of(cells[np.setdiff1d(np.arange(cells.n_obs), small[:90])].copy())
    result = run(MODELS.get("pca")(), data, tmp_path, min_cells=5, cellot={**QUICK, "batch": 100})
    assert value(result, "l2_means", "cellot", "per-drug", "small") is None
    assert value(result, "l2_means", "cellot", "per-drug", "large") > 0
    assert value(result, "l2_means", "shift", "per-drug", "small") > 0
    assert "small" in result.notes["not learned"]


def test_what_is_not_said_is_part_of_the_question():
    config = load_task("drug_response").config
    assert config["cellot"]["hidden"] == (64, 64, 64, 64) and config["decoder"]["hidden"] == 512


def test_runs_that_compare_other_genes_stand_on_other_boards(data):
    hashes = {load_task("drug_response", **s).dataset_hash(data) for s in ({}, {"markers": 20}, {"drugs": "drug"})}
    assert len(hashes) == 3
    assert load_task("drug_response", heads=["shift"]).dataset_hash(data) in hashes


def test_donors_may_be_numbers():
    assert load_task("drug_response", holdout="donor", held_out=1015).config["held_out"] == ["1015"]


def test_counts_read_as_features_are_other_data():
    cells = made_cells()
    counts, features = (CellData(cells, columns=COLUMNS, values=values) for values in ("counts", "features"))
    assert counts.content_hash != features.content_hash


def test_a_held_out_type_without_control_cells():
    cells = made_cells()
    keep = ~((cells.obs.cell_type == "B") & (cells.obs.condition == "ctrl"))
    data = data_of(cells[keep.to_numpy()].copy())
    with pytest.raises(InputError, match="drug, B has no control cells to test"):
        load_task("drug_response", holdout="cell_type", held_out="B").split(data, 0)
    split = load_task("drug_response", holdout="cell_type").split(data, 0)
    assert [part.fold.held_out for part in split.folds] == ["A", "C"] and sum(split.excluded.values()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": ["ot"]}, "task.heads=ot: expected cellot"),
        ({"heads": []}, "expected some of"),
        ({"holdout": "drug"}, "task.holdout=drug: expected cells"),
        ({"protocol": "fast"}, "task.protocol=fast"),
        ({"code": "umap"}, "task.code=umap"),
        ({"markers": 0}, "task.markers=0"),
        ({"test_share": 0.9}, "task.test_share=0.9"),
        ({"n_top_genes": 1.5}, "task.n_top_genes=1.5"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        load_task("drug_response", **settings)


def test_settings_of_cellot_and_the_decoder_are_checked(data, tmp_path):
    with pytest.raises(InputError, match=r"task\.decoder\.depth"):
        run(MODELS.get("pca")(), data, tmp_path, decoder={"depth": 3})
    with pytest.raises(InputError, match=r"task\.cellot\.layers"):
        run(MODELS.get("pca")(), data, tmp_path, cellot={"layers": 3})


def test_the_same_seed_gives_the_same_numbers(data, tmp_path):
    first, second = (run(MODELS.get("pca")(), data, tmp_path / name) for name in ("a", "b"))
    assert json.dumps([row.model_dump() for row in first.metrics]) == json.dumps(
        [row.model_dump() for row in second.metrics]
    )
