"""Rejection: which types are held out, and how sure a classifier is of cells it cannot know."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness.data import CellData
from harness.errors import InputError
from harness.registry import MODELS
from harness.task import Split
from tasks.annotation.rejection import (
    choose_held_out,
    max_probability,
    max_softmax,
    negative_energy,
    rejection_rows,
    without_types,
)
from tests.conftest import make_cells

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
LABELS = np.array([f"t{i % 10}" for i in range(200)])
SPLIT = Split("stratified-70/30", np.arange(140), np.arange(140, 200), {"cells without a label": 3})


def test_auroc_is_the_recorded():
    with np.load(GOLDEN / "annotation.npz", allow_pickle=False) as arrays:
        logits, unknown = arrays["ood/logits"], arrays["ood/unknown"]
    cases = json.loads((GOLDEN / "annotation.json").read_text())["novel_type"]
    true = np.where(unknown, "new", "known")
    for name, confidence in (("max_softmax", max_softmax), ("negative_energy", negative_energy)):
        rows = rejection_rows(true, confidence(logits), ["new"], "mlp")
        assert rows[0].value == pytest.approx(cases[name]["auroc_known_positive"], abs=1e-6)
        assert rows[1].value == rows[0].value and rows[1].key == "new" and rows[1].n == unknown.sum()


def test_the_choice_is_drawn_by_the_seed_and_leaves_two():
    first = choose_held_out(LABELS, SPLIT, 0.2, seed=0)
    assert first == choose_held_out(LABELS, SPLIT, 0.2, seed=0) and len(first) == 2
    assert len({tuple(choose_held_out(LABELS, SPLIT, 0.2, seed)) for seed in range(10)}) > 3
    assert len(choose_held_out(LABELS, SPLIT, 0.99)) == 8
    assert len(choose_held_out(LABELS, SPLIT, 0.01)) == 1
    only_trained = np.where(np.arange(200) < 140, LABELS, "t1")  # a type without test cells cannot be asked for
    with pytest.raises(InputError, match="1 cell type has"):
        choose_held_out(only_trained, SPLIT)
    with pytest.raises(InputError, match="0 cell types have"):
        choose_held_out(np.full(200, ""), SPLIT)
    with pytest.raises(InputError, match="between 0 and 1"):
        choose_held_out(LABELS, SPLIT, 1.5)


def test_training_cells_of_held_out_types_go_and_test_cells_stay():
    part = without_types(SPLIT, LABELS, ["t1", "t2"])
    assert not np.isin(LABELS[part.train], ["t1", "t2"]).any() and len(part.train) == 112
    assert (part.test == SPLIT.test).all()
    assert part.excluded == {"cells without a label": 3, "training cells of held-out types": 28}
    folds = Split("leave-donor-out", np.arange(200), np.arange(200), {}, (SPLIT, SPLIT))
    for fold in without_types(folds, LABELS, ["t1", "t2"]).each():
        assert (fold.train == part.train).all() and (fold.test == part.test).all()


def test_auroc_by_hand():
    true = np.array(["a", "b", "x", "y", "a"])
    rows = rejection_rows(true, np.array([0.9, 0.4, 0.5, 0.1, 0.8]), ["x", "y"], "knn")
    assert [(r.scope, r.key, r.n) for r in rows] == [("overall", "", 5), ("per-class", "x", 1), ("per-class", "y", 1)]
    assert [r.value for r in rows] == pytest.approx([5 / 6, 2 / 3, 1.0])
    assert rejection_rows(true, np.ones(5), ["x", "y"], "knn")[0].value == 0.5
    assert rejection_rows(true, np.ones(5), [], "knn")[0].value is None
    assert rejection_rows(true, np.ones(5), ["z"], "knn")[1].value is None
    assert rejection_rows(np.array(["x"]), np.ones(1), ["x"], "knn")[0].value is None


@pytest.mark.parametrize("name", ["logreg_pca", "knn_pca", "svm", "celltypist_lr", "majority"])
def test_baselines_are_less_sure_of_what_they_never_saw(name):
    data = CellData(make_cells(300, 200, 6), columns={"cell_type": "cell_type"}, name="made")
    labels = data.labels("cell_type")
    order = np.random.default_rng(0).permutation(300)
    split = Split("made", np.sort(order[:200]), np.sort(order[200:]))
    held_out = choose_held_out(labels, split, 0.3)
    classes, scores = MODELS.get(name)().predict_scores(data, without_types(split, labels, held_out), labels, 0)
    assert not set(classes) & set(held_out)
    [overall, *each] = rejection_rows(labels[split.test], max_probability(scores), held_out, name)
    assert len(each) == len(held_out)
    assert overall.value == 0.5 if name == "majority" else overall.value > 0.8
