"""The heads on frozen vectors are scikit-learn's, and what they are called."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from harness.errors import InputError
from harness.loading import load_task
from tasks.annotation.heads import HEADS, class_scores, make_head

RNG = np.random.default_rng(0)
TYPES = np.array(["a", "b", "c"])
LABELS = TYPES[np.arange(120) % 3]
VECTORS = (RNG.normal(size=(120, 5)) + 2 * (LABELS[:, None] == np.array(["a", "b", "c", "", ""]))).astype(np.float32)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns_and_scores_its_classes(name):
    head = make_head(name, 90, neighbors=10, seed=0).fit(VECTORS[:90], LABELS[:90])
    found = head.predict(VECTORS[90:])
    assert accuracy_score(LABELS[90:], found) > 0.7
    scores = class_scores(head, VECTORS[90:])
    assert scores.shape == (30, 3) and (head.classes_[scores.argmax(axis=1)] == found).mean() > 0.9


def test_centroid_is_the_nearest_mean():
    means = np.array([VECTORS[:90][LABELS[:90] == name].mean(axis=0) for name in TYPES])
    nearest = TYPES[((VECTORS[90:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]
    head = make_head("centroid", 90, neighbors=10, seed=0).fit(VECTORS[:90], LABELS[:90])
    assert (head.predict(VECTORS[90:]) == nearest).all()


def test_svm_and_logreg_do_not_care_for_the_scale_of_a_dimension():
    scale = np.array([1e-3, 1, 10, 1e3, 1], np.float32)
    for name in ("svm", "logreg"):
        one, two = (
            make_head(name, 90, neighbors=10, seed=0).fit(x[:90], LABELS[:90]) for x in (VECTORS, VECTORS * scale)
        )
        assert (one.predict(VECTORS[90:]) == two.predict((VECTORS * scale)[90:])).mean() > 0.95


def test_few_training_cells():
    head = make_head("knn", 4, neighbors=10, seed=0).fit(VECTORS[:4], LABELS[:4])
    assert set(head.predict(VECTORS)) <= set(TYPES)


def test_the_default_and_unknown_heads():
    assert load_task("annotation").config["heads"] == ["knn", "logreg", "mlp"]
    assert load_task("annotation", heads=list(HEADS)).config["heads"] == ["knn", "centroid", "logreg", "svm", "mlp"]
    for heads in (["forest"], []):
        with pytest.raises(InputError, match="knn, centroid, logreg, svm, mlp"):
            load_task("annotation", heads=heads)
