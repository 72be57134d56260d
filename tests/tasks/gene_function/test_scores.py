"""Scores against recorded numbers and scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tasks.gene_function.attribute_learning import attribute_learning_index
from tasks.gene_function.labels import GeneLabels
from tasks.gene_function.scores import fmax, fmax_published, fold_scores
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "gene_function"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "expected.npz"), json.loads((GOLDEN / "expected.json").read_text())


def functions(true):
    return GeneLabels(np.arange(len(true)).astype(str), tuple(map(str, range(true.shape[1]))), true > 0, False, "made")


def test_functions_as_recorded(golden):
    arrays, numbers = golden
    true, score = arrays["go/truth"], arrays["go/score"]
    found, by_class = fold_scores(functions(true), score, 0)
    assert found["fmax"] == pytest.approx(numbers["go"]["cafa_fmax"], abs=1e-9)
    assert found["fmax_published"] == pytest.approx(numbers["go"]["tutorial_fmax"], abs=1e-9)
    assert found["auprc_micro"] == pytest.approx(numbers["go"]["aupr_micro"], abs=1e-9)
    assert found["macro_auprc"] == pytest.approx(numbers["go"]["aupr_macro"], abs=1e-9)
    assert len(by_class) == true.shape[1] and np.mean(list(by_class.values())) == found["macro_auprc"]


def test_attribute_learning_index_as_recorded(golden):
    arrays, numbers = golden
    found = attribute_learning_index(arrays["ali/cluster"], arrays["ali/group"])
    assert found == pytest.approx(numbers["attribute_learning_index"]["ali"], abs=1e-9)


def test_published_fmax_is_scikit_learns_f1():
    rng = np.random.default_rng(3)
    true, score = rng.random((30, 4)) < 0.3, np.round(rng.random((30, 4)), 2)
    cuts = np.arange(100) / 100
    plain = max(f1_score(true.ravel(), score.ravel() >= c, average="macro", zero_division=0) for c in cuts)
    assert fmax_published(true, score) == pytest.approx(plain, abs=1e-12)


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    score = np.full((4, 2), 0.5)
    assert np.isnan(fmax(np.zeros((4, 2)), score)) and np.isnan(fmax_published(np.zeros((4, 2)), score))
    assert fmax(np.ones((4, 2)), np.zeros((4, 2))) == 0


def test_a_class_training_never_saw_and_a_fold_of_one_class():
    member = np.eye(3, dtype=bool)[[0, 0, 1, 1]]
    labels = GeneLabels(np.array(list("abcd")), ("x", "y", "z"), member, True, "made")
    scores = np.array([[0.9, 0.1, np.nan], [0.8, 0.2, np.nan], [0.1, 0.9, np.nan], [0.3, 0.7, np.nan]])
    found, _ = fold_scores(labels, scores, 0)
    assert found["accuracy"] == 1 and found["auroc"] == 1 and found["macro_auprc"] == 1
    alone = GeneLabels(np.array(["a", "b"]), ("x", "y"), np.array([[True, False]] * 2), True, "made")
    found, _ = fold_scores(alone, np.array([[0.9, 0.1], [0.4, 0.6]]), 1)
    assert np.isnan(found["auroc"]) and np.isnan(found["auprc"]) and found["accuracy"] == 0.5
