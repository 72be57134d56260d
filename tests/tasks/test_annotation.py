"""Scores equal scikit-learn's on the stored predictions, and an SVM row equals a plain pipeline."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from harness import ResultStore, load_dataset, load_task


@pytest.fixture
def records(bench, tmp_path):
    code, _, err = bench("run", "-m", "model=pca,svm", "task=annotation", "dataset=pbmc68k", "seed=0")
    assert code == 0, err
    store = ResultStore(tmp_path / "results")
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
    assert {m.head for m in found["pca"].metrics} == {"knn", "logreg", "mlp"}
    assert {m.head for m in found["svm"].metrics} == {"svm"}
    assert found["pca"].track == found["svm"].track == "baseline"
    assert len({m.key for m in found["pca"].metrics if m.name == "f1"}) == 10


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
    assert len(first.train) + len(first.test) == 700 and set(first.test) != set(other.test)
    labels = data.labels("cell_type")
    for name in set(labels):
        share = (labels[first.test] == name).sum() / (labels == name).sum()
        assert 0.15 < share < 0.4
    assert first.name == "stratified-70/30"


def test_a_file_never_seen(bench, shared_data, tmp_path):
    path = shared_data / "pbmc3k_annotated.h5ad"
    code, _out, err = bench(
        "run", "model=pca", "task=annotation", f"dataset.path={path}", "dataset.cell_type=cell_type"
    )
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.dataset == "pbmc3k_annotated"
    best = {m.head: m.value for m in record.metrics if m.name == "accuracy"}
    assert best["logreg"] > 0.85
