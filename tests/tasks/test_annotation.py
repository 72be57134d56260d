"""Scores equal scikit-learn's on the stored predictions, and an SVM row equals a plain pipeline."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import accuracy_score, f1_score

from harness import CellData, InputError, ResultStore, load_dataset, load_model, load_task
from harness.__main__ import main


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    home = tmp_path_factory.mktemp("records")
    where = (f"results={home}/results", f"cache={home}/cache")
    assert main(["run", "-m", "model=pca,svm", "task=annotation", "dataset=pbmc68k", "seed=0", *where]) == 0
    store = ResultStore(home / "results")
    return store, {r.model: r for r in store.records()}


def test_scores_follow_from_the_stored_predictions(records):
    store, found = records
    for record in found.values():
        tables = {a.kind: store.table(a) for a in record.artifacts}
        for head, part in tables["predictions"].groupby("head"):
            values = {(m.name, m.key): m.value for m in record.metrics if m.head == head}
            types = sorted(set(part["true"]))
            assert values["accuracy", ""] == pytest.approx(accuracy_score(part["true"], part["predicted"]), abs=1e-9)
            macro = f1_score(part["true"], part["predicted"], labels=types, average="macro", zero_division=0)
            assert values["macro_f1", ""] == pytest.approx(macro, abs=1e-9)
            each = f1_score(part["true"], part["predicted"], labels=types, average=None, zero_division=0)
            for name, value in zip(types, each, strict=True):
                assert values["f1", name] == pytest.approx(value, abs=1e-9)
            confusion = tables["confusion"].query("head == @head")
            assert confusion["n"].sum() == len(part)
    assert {m.head for m in found["pca"].metrics if m.name == "macro_f1"} == {"knn", "logreg", "mlp"}
    assert {m.head for m in found["svm"].metrics if m.name == "macro_f1"} == {"none"}
    assert found["pca"].track == found["svm"].track == "baseline"
    assert len({m.key for m in found["pca"].metrics if m.name == "f1"}) == 8  # two types have under 10 training cells
    assert found["pca"].notes["left out: types with fewer than 10 training cells"] == 2


def test_svm_equals_a_plain_pipeline(records):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    store, found = records
    data = load_dataset("pbmc68k")
    split = load_task("annotation").split(data, 0)
    x = data.counts().toarray()
    x = np.log1p(x / x.sum(1, keepdims=True) * 1e4).astype(np.float32)
    y = data.labels("cell_type")
    model = make_pipeline(StandardScaler(with_mean=False), LinearSVC(random_state=0)).fit(
        x[split.train], y[split.train]
    )
    stored = store.table(next(a for a in found["svm"].artifacts if a.kind == "predictions"))
    assert (model.predict(x[split.test]) == stored["predicted"]).mean() > 0.99
    assert stored["name"].tolist() == data.obs_names[split.test].tolist()


def test_split_is_stratified_seeded_and_disjoint():
    data, task = load_dataset("pbmc68k"), load_task("annotation")
    first, again, other = task.split(data, 0), task.split(data, 0), task.split(data, 1)
    assert (first.train == again.train).all() and not set(first.train) & set(first.test)
    assert set(first.test) != set(other.test)
    assert len(first.train) + len(first.test) + first.excluded["their cells"] == 700
    labels = data.labels("cell_type")
    for name in set(labels[first.train]):
        share = (labels[first.test] == name).sum() / (labels == name).sum()
        assert 0.15 < share < 0.4
    assert first.name == "stratified-70/30"


def test_a_file_never_seen(bench, shared_data, tmp_path):
    path = shared_data / "pbmc3k_annotated.h5ad"
    code, _out, err = bench(
        *("run", "model=pca", "task=annotation", "task.heads=[logreg]"),
        *(f"dataset.path={path}", "dataset.cell_type=cell_type"),
    )
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.dataset == "pbmc3k_annotated"
    best = {m.head: m.value for m in record.metrics if m.name == "accuracy"}
    assert best["logreg"] > 0.85


# -- protocols --------------------------------------------------------------------------------------------------


def cells_of(types, **columns):
    """Cells of the given types, whose expression tells the type."""
    types = np.asarray(types, object)
    names = sorted({t for t in types if isinstance(t, str) and t})
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, 2.0, (len(names) + 1, 60))
    code = np.array([names.index(t) if t in names else len(names) for t in types])
    obs = pd.DataFrame({"cell_type": types, **columns}, index=[f"c{i}" for i in range(len(types))])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(60)])
    counts = sp.csr_matrix(rng.poisson(rates[code]).astype(np.float32))
    return CellData(anndata.AnnData(counts, obs=obs, var=var), columns={c: c for c in obs.columns})


def score(task, data, seed=0):
    """The task on the principal components of the data."""

    class Subject:
        spec, tuning = load_model("pca").spec, None

        def cells(self):
            return load_model("pca").embed_cells(data, seed=seed)

        def umap(self):
            return np.zeros((data.n_obs, 2), np.float32)

    return task.run(Subject(), data, task.split(data, seed), seed)


def test_each_donor_is_left_out_in_turn():
    donors = np.repeat(["d1", "d2", "d3"], 60)
    data = cells_of(np.tile(["a", "b", "c"], 60), donor=donors)
    task = load_task("annotation", split="donor", heads=["knn", "logreg"])
    assert task.needs == ("cell_type", "donor")
    split = task.split(data, 0)
    assert split.name == "leave-donor-out" and [fold.name for fold in split.folds] == ["d1", "d2", "d3"]
    for fold in split.folds:
        assert set(donors[fold.test]) == {fold.name} and fold.name not in set(donors[fold.train])
    result = score(task, data)
    rows = {(m.name, m.head, m.scope, m.key): m.value for m in result.metrics}
    table = result.tables["predictions"]
    for head, part in table.groupby("head"):
        assert sorted(part["name"]) == sorted(data.obs_names)
        folds = {
            name: f1_score(one["true"], one["predicted"], average="macro", labels=sorted(set(one["true"])))
            for name, one in part.groupby("fold")
        }
        for name, value in folds.items():
            assert rows["macro_f1", head, "per-fold", name] == pytest.approx(value)
        assert rows["macro_f1", head, "overall", ""] == pytest.approx(np.mean(list(folds.values())))
        pooled = f1_score(part["true"], part["predicted"], average=None, labels=["a", "b", "c"])
        assert [rows["f1", head, "per-class", k] for k in "abc"] == pytest.approx(pooled)


def test_some_folds_and_a_given_split():
    data = cells_of(
        np.tile(["a", "b"], 60),
        batch=np.repeat(["x", "y", "z"], 40),
        split=np.where(np.arange(120) < 80, "Train", "test"),
    )
    some = load_task("annotation", split="batch", folds=["y"]).split(data, 0)
    assert [fold.name for fold in some.folds] == ["y"] and some.name == "leave-batch-out:y"
    given = load_task("annotation", split="given").split(data, 0)
    assert given.train.tolist() == list(range(80)) and given.test.tolist() == list(range(80, 120))


def test_types_that_cannot_be_learned_are_left_out_and_counted():
    types = ["a"] * 30 + ["b"] * 30 + ["rare"] * 12 + ["only in test"] * 5 + [None] * 3
    batch = ["x"] * 20 + ["y"] * 10 + ["x"] * 20 + ["y"] * 10 + ["x"] * 9 + ["y"] * 3 + ["y"] * 5 + ["x"] * 3
    split = load_task("annotation", split="batch", folds=["y"]).split(cells_of(types, batch=batch), 0)
    assert split.excluded == {
        "cells without a label": 3,
        "types with fewer than 10 training cells": 1,
        "their cells": 12,
        "types that are only tested": 1,
        "cells of types that are only tested": 5,
    }
    [fold] = split.folds
    assert (len(fold.train), len(fold.test)) == (40, 20)


def test_a_donor_of_one_class_tests_and_does_not_train_alone():
    donors = np.repeat(["mixed", "pure"], 60)
    types = np.where(donors == "pure", "a", np.tile(["a", "b"], 60))
    data = cells_of(types, donor=donors)
    split = load_task("annotation", split="donor").split(data, 0)
    assert [fold.name for fold in split.folds] == ["pure"]  # without `mixed`, only one type is left to learn
    assert split.excluded["donor groups that cannot be tested"] == 1
    result = score(load_task("annotation", split="donor", heads=["logreg"]), data)
    values = {m.name: m.value for m in result.metrics if m.scope == "overall"}
    assert values["auroc"] is None and values["accuracy"] > 0.8  # AUROC of one class is not defined


def test_many_types_and_types_of_one_cell():
    many = np.repeat([f"type {i}" for i in range(500)], 4)
    data = cells_of(many)
    result = score(load_task("annotation", heads=["centroid"], min_train_cells=1), data)
    assert len({m.key for m in result.metrics if m.name == "f1"}) == 500
    single = cells_of(["a"] * 20 + ["b"] * 20 + ["alone"])
    split = load_task("annotation").split(single, 0)
    assert 40 not in {*split.train, *split.test}


@pytest.mark.parametrize(
    ("types", "columns", "options", "says"),
    [
        (["a"] * 40, {}, {}, "two are needed"),
        ([None] * 40, {}, {}, "cannot be split"),
        (["a", "b"] * 20, {"batch": ["x"] * 40}, {"split": "batch"}, "only x"),
        (["a", "b"] * 20, {"batch": ["x", "y"] * 20}, {"split": "batch", "folds": ["z"]}, "are x, y"),
        (["a", "b"] * 20, {"split": ["left"] * 40}, {"split": "given"}, "called train and test; found left"),
        ([f"t{i}" for i in range(40)], {}, {}, "cannot be split"),
    ],
)
def test_data_that_cannot_be_split(types, columns, options, says):
    with pytest.raises(InputError, match=says):
        load_task("annotation", **options).split(cells_of(types, **columns), 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "nowhere"}, "expected auto, stratified"),
        ({"folds": ["a"]}, "have folds"),
        ({"target": "colour"}, "cell_type or label"),
        ({"reject": 1.0}, "share"),
        ({"min_train_cells": 0}, "whole number"),
        ({"split": "label", "target": "label"}, "cannot be left out"),
        ({"heads": ["wizard"]}, "expected some of"),
        ({"ontology": "/no/such.obo"}, "no such file"),
        ({"terms": "/no/such.tsv"}, "task.ontology"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(InputError, match=says):
        load_task("annotation", **options)


def test_any_label_focus_and_rejection():
    types = np.tile(["a", "b", "c", "d"], 40)
    data = cells_of(
        types, label=np.where(np.isin(types, ["a", "b"]), "tumour", "normal"), donor=np.repeat(["p", "q"], 80)
    )
    task = load_task("annotation", target="label", split="donor", heads=["logreg"])
    result = score(task, data)
    values = {m.name: m.value for m in result.metrics if m.scope == "overall"}
    assert task.needs == ("label", "donor") and values["auroc"] > 0.9 and values["macro_auprc"] > 0.9
    task = load_task("annotation", heads=["knn", "svm"], focus=["a", "b"], reject=0.25)
    result = score(task, data)
    values = {(m.name, m.head): m.value for m in result.metrics if m.scope == "overall"}
    table = result.tables["predictions"].query("head == 'knn' and true in ['a', 'b']")
    assert values["focus_accuracy", "knn"] == pytest.approx((table["true"] == table["predicted"]).mean())
    assert 0 <= values["rejection_auroc", "svm"] <= 1
    assert result.notes["types held out for rejection"] in "abcd"
    assert set(task.metric_names()) >= {m.name for m in result.metrics}


def test_mistakes_are_measured_on_the_ontology(tmp_path):
    tree = tmp_path / "edges.tsv"
    names = [f"CL:000000{i}" for i in range(6)]
    edges = [(names[1], names[0]), (names[2], names[0]), (names[3], names[1]), (names[4], names[1])]
    tree.write_text("child\tparent\n" + "".join(f"{a}\t{b}\n" for a, b in edges))
    terms = tmp_path / "terms.tsv"
    terms.write_text("cell_type\tcl_id\n" + f"a\t{names[3]}\nb\t{names[4]}\nc\t{names[2]}\n")
    data = cells_of(np.tile(["a", "b", "c"], 40))
    task = load_task("annotation", heads=["knn"], ontology=str(tree), terms=str(terms))
    result = score(task, data)
    assert {m.name for m in result.metrics} >= {"lcad", "error_rate", "lcad_all_cells"}
    assert result.notes["scGraph-OntoRWR"].startswith("too few")
    assert str(tmp_path) not in str(task.config)  # the identity holds the content, not the path
