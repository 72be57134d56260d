"""Baselines of annotation: what they learn from, what they give, and their scores against scikit-learn's."""

from importlib.util import find_spec

import numpy as np
import pytest

from harness.data import CellData
from harness.errors import InputError, InternalError
from harness.registry import MODELS
from harness.task import Split
from tasks.annotation.score_rows import assigned_rows, class_accuracy_rows, score_rows
from tests.conftest import make_cells

NAMES = ("majority", "logreg_pca", "knn_pca", "celltypist_lr", "svm")


def task_data(n_types=4, n_cells=160, n_genes=120, seed=0):
    data = CellData(make_cells(n_cells, n_genes, n_types, seed), columns={"cell_type": "cell_type"}, name="made")
    order = np.random.default_rng(seed).permutation(n_cells)
    cut = n_cells * 7 // 10
    return data, Split("made", np.sort(order[:cut]), np.sort(order[cut:])), data.labels("cell_type").astype("U32")


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_the_class_of_the_largest_score(name):
    data, split, labels = task_data()
    model = MODELS.get(name)()
    classes, scores = model.predict_scores(data, split, labels, 0)
    found = model.predict(data, split, labels, 0)
    assert classes.tolist() == sorted(set(labels[split.train]))
    assert scores.shape == (len(split.test), len(classes)) and np.isfinite(scores).all()
    assert (classes[scores.argmax(axis=1)] == found).all()
    accuracy = (found == labels[split.test]).mean()
    assert accuracy > 0.95 or (name == "majority" and accuracy < 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_test_cells_teach_nothing(name):
    data, split, labels = task_data()
    found = MODELS.get(name)().predict_scores(data, split, labels, 0)[1]
    blind = labels.copy()
    blind[split.test] = "hidden"
    np.testing.assert_array_equal(MODELS.get(name)().predict_scores(data, split, blind, 0)[1], found)
    few = Split("made", split.train, split.test[5:9])
    np.testing.assert_allclose(MODELS.get(name)().predict_scores(data, few, labels, 0)[1], found[5:9], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_odd_splits(name):
    data, split, labels = task_data()
    model = MODELS.get(name)()
    two = np.where(labels == "type 0", "a", "b")
    classes, scores = model.predict_scores(data, split, two, 0)
    assert classes.tolist() == ["a", "b"] and scores.shape[1] == 2
    rare = labels.copy()
    rare[split.train[0]] = "a class with one cell"
    assert model.predict_scores(data, split, rare, 0)[1].shape[1] == 5
    one = np.full(len(labels), "only")
    if name == "majority":
        assert set(model.predict(data, split, one, 0)) == {"only"}
    else:
        with pytest.raises(InputError, match="all only"):
            model.predict(data, split, one, 0)
    many = np.array([f"type {i // 2:03}" for i in range(len(labels))])
    assert len(model.predict(data, split, many, 0)) == len(split.test)
    none = Split("made", split.train, split.test[:1])
    assert len(model.predict(data, none, labels, 0)) == 1


@pytest.mark.parametrize("name", ["logreg_pca", "knn_pca", "celltypist_lr"])
def test_few_genes_and_empty_cells(name):
    data, split, labels = task_data(n_types=2, n_genes=2)
    assert len(MODELS.get(name)().predict(data, split, labels, 0)) == len(split.test)


def test_logistic_regression_equals_a_plain_pipeline():
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    data, split, labels = task_data(n_types=6, n_cells=300, seed=3)
    x = data.counts().toarray().astype(np.float64)
    x = np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)
    components = PCA(20, svd_solver="full").fit(x[split.train])
    train, test = components.transform(x[split.train]), components.transform(x[split.test])
    spread = train.std(axis=0)
    plain = LogisticRegression(max_iter=1000).fit(train / spread, labels[split.train])
    _, scores = MODELS.get("logreg_pca")(n_components=20).predict_scores(data, split, labels, 0)
    np.testing.assert_allclose(scores, plain.predict_proba(test / spread), atol=2e-3)
    near = KNeighborsClassifier(10).fit(train, labels[split.train])
    _, scores = MODELS.get("knn_pca")(n_components=20).predict_scores(data, split, labels, 0)
    np.testing.assert_allclose(scores, near.predict_proba(test), atol=0.11)  # a tied neighbour may differ
    assert (scores.argmax(axis=1) == near.predict_proba(test).argmax(axis=1)).mean() > 0.98


def test_celltypist_trains_again_on_the_genes_that_counted():
    data, split, labels = task_data()
    model = MODELS.get("celltypist_lr")(top_genes=10)
    model.fit(data.counts(split.train), labels[split.train], 0)
    assert 10 <= len(model.genes) <= 40
    assert model.model.coef_.shape == (4, len(model.genes))
    assert (model.predict(data, split, labels, 0) == labels[split.test]).mean() > 0.9


def test_the_floor_knows_the_largest_type():
    data, split, labels = task_data()
    labels = np.where(labels == "type 1", "type 0", labels)
    assert set(MODELS.get("majority")().predict(data, split, labels, 0)) == {"type 0"}


@pytest.mark.skipif(find_spec("scvi") is not None, reason="scvi-tools is installed")
def test_scanvi_says_how_to_get_it():
    data, split, labels = task_data()
    with pytest.raises(InputError, match=r"pip install 'cellfm-bench\[scvi\]'"):
        MODELS.get("scanvi")().predict(data, split, labels, 0)


# -- rows ---------------------------------------------------------------------------------------------


def values(rows):
    return {(r.name, r.key): r.value for r in rows}


def test_rows_equal_scikit_learn():
    from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
    from sklearn.preprocessing import label_binarize

    rng = np.random.default_rng(0)
    classes = np.array(["a", "b", "c", "d"])
    true = rng.choice(classes, 200, p=[0.5, 0.3, 0.15, 0.05])
    scores = rng.normal(size=(200, 4)) + 1.5 * label_binarize(true, classes=classes)
    predicted = classes[scores.argmax(axis=1)]
    found = values(score_rows(true, classes, scores, "svm"))
    truth = label_binarize(true, classes=classes)
    assert found["macro_auprc", ""] == pytest.approx(average_precision_score(truth, scores, average="macro"), abs=1e-9)
    assert found["auroc", ""] == pytest.approx(roc_auc_score(truth, scores, average="macro"), abs=1e-9)
    each = average_precision_score(truth, scores, average=None)
    assert [found["auprc", c] for c in classes] == pytest.approx(each)
    table = confusion_matrix(true, predicted, labels=classes, normalize="true")
    accuracy = values(class_accuracy_rows(true, predicted, "svm"))
    assert [accuracy["class_accuracy", c] for c in classes] == pytest.approx(np.diag(table))


def test_rows_of_odd_cells():
    true = np.array(["a", "a", "new", "b"])
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    found = values(score_rows(true, np.array(["a", "b"]), scores, "svm"))
    assert found["auprc", "new"] is None and found["macro_auprc", ""] == 1
    one = values(score_rows(np.array(["a", "a"]), np.array(["a", "b"]), scores[:2], "svm"))
    assert one["macro_auprc", ""] == 1 and one["auroc", ""] is None
    unknown = values(score_rows(np.array(["z"]), np.array(["a", "b"]), scores[:1], "svm"))
    assert unknown["macro_auprc", ""] is None
    with pytest.raises(InternalError, match="class scores"):
        score_rows(true, np.array(["a", "b"]), scores[:3], "svm")
    with pytest.raises(InternalError):
        score_rows(true, np.array(["a", "b"]), scores * np.nan, "svm")


def test_unassigned_cells_are_wrong_but_counted():
    true, predicted = np.array(["a", "a", "b", "b"]), np.array(["a", "unassigned", "b", "a"])
    found = values(assigned_rows(true, predicted, "scmap"))
    assert found["assigned_share", ""] == 0.75 and found["accuracy_assigned", ""] == pytest.approx(2 / 3)
    none = values(assigned_rows(true, np.full(4, "unassigned"), "scmap"))
    assert none["assigned_share", ""] == 0 and none["accuracy_assigned", ""] is None
