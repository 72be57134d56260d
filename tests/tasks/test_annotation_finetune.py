"""Annotation with setting=lora and setting=full: all five models, identical splits, and the records they leave."""

import copy
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness import CellData, ResultStore
from harness.cache import Cache
from harness.classification import Classification
from harness.finetuning import finetune, norms_of
from harness.lora import LowRank, merge_lora
from harness.registry import MODELS
from harness.sources import ModelSource
from harness.subject import Subject
from harness.task import Split, TaskResult
from harness.tuning import LEARNING_RATES, Tuning
from tasks.annotation.finetune import finetuned_scores
from tests.conftest import make_cells

FIVE = {"cellfm": {}, "scgpt": {}, "geneformer": {}, "scfoundation": {}, "uce": {"sample_size": 32}}
N, TYPES, RANK, HEAD = 48, 3, 2, 128
TRAIN, TEST = np.arange(36), np.arange(36, N)


@pytest.fixture(scope="module")
def data():
    return CellData(make_cells(n_cells=N, n_genes=80, n_types=TYPES), columns={"cell_type": "cell_type"})


def settings(setting, **node):
    return Tuning.of({"max_steps": 4, "batch_cells": 16, "lora_rank": RANK, **node}, setting)


# -- every model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["lora", "full"])
@pytest.mark.parametrize("name", FIVE)
def test_every_model_is_trained(data, name, setting):
    model = MODELS.get(name).from_scratch(data.genes, seed=0, **FIVE[name])
    numbers = np.unique(data.labels("cell_type"), return_inverse=True)[1]
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    tuned = finetune(
        model, data, TRAIN, numbers[TRAIN], Classification(TYPES), settings(setting), strata=numbers[TRAIN]
    )
    assert tuned.steps == 4 and np.isfinite(tuned.losses).all()
    vectors, outputs = tuned.read(data)
    assert outputs.shape == (N, TYPES) and np.isfinite(outputs).all()

    after = {key.replace(".base.", "."): tensor for key, tensor in tuned.model.network.state_dict().items()}
    kept = model.network.state_dict()
    assert all(torch.equal(kept[key], before[key]) for key in before)
    moved = {key for key in before if not torch.equal(after[key], before[key])}
    head = model.embedding_size * HEAD + HEAD + HEAD * TYPES + TYPES
    low = [module for module in tuned.model.network.modules() if isinstance(module, LowRank)]
    if setting == "full":
        assert tuned.n_trained_params == sum(before[key].numel() for key in moved) + head
        assert not low and tuned.n_trained_params > 0.5 * model.n_params
        return
    norms = {id(p) for norm in norms_of(tuned.model.network) for p in norm.parameters()}
    of_norms = {key.replace(".base.", ".") for key, p in tuned.model.network.named_parameters() if id(p) in norms}
    assert moved and moved <= of_norms  # all else is frozen, to the bit
    used = [module for module in low if module.B.weight.abs().max() > 0]
    ranks = sum(RANK * (module.base.in_features + module.base.out_features) for module in used)
    assert tuned.n_trained_params == ranks + sum(before[key].numel() for key in moved) + head
    if name == "cellfm":  # no part of it is left out: as declared
        assert used == low and len(low) == 8 * model.config.layers
    merged = copy.copy(tuned.model)
    merged.network = copy.deepcopy(tuned.model.network)
    merge_lora(merged.network)
    np.testing.assert_allclose(merged.embed_cells(data), vectors, atol=1e-5)


def test_cellfms_own_head(data):
    model = MODELS.get("cellfm").from_scratch(data.genes, seed=0)
    numbers = np.unique(data.labels("cell_type"), return_inverse=True)[1]
    tuned = finetune(
        model, data, TRAIN, numbers[TRAIN], Classification(TYPES), settings("lora", head="native", recompute=True)
    )
    plain = finetune(model, data, TRAIN, numbers[TRAIN], Classification(TYPES), settings("lora", head="native"))
    assert type(tuned.head).__name__ == "AnnotationHead" and tuned.head_name == "native"
    np.testing.assert_allclose(tuned.losses, plain.losses, atol=1e-4)  # activations computed again are the same
    assert tuned.read(data)[1].shape == (N, TYPES)


# -- the task ---------------------------------------------------------------------------------------------------


def subject(data, tmp_path, tuning, name="cellfm"):
    model = MODELS.get(name).from_scratch(data.genes, seed=0)
    source = ModelSource(model.spec, "untrained", {"model": name}, lambda: model)
    return Subject(source, data, Cache(tmp_path), tuning=tuning)


def test_labels_of_test_cells_are_not_looked_at(data, tmp_path):
    labels, split = data.labels("cell_type"), Split("given", TRAIN, TEST)
    leak = labels.copy()
    leak[TEST] = np.roll(labels[TEST], 1)
    leak[TEST[0]] = "a type of its own"
    found = []
    for given in (labels, leak):
        result = TaskResult()
        head, test, types, scores = finetuned_scores(
            subject(data, tmp_path, settings("lora", validation=0.2)), data, split, given, result
        )
        found.append((head, test.tolist(), types.tolist(), scores.tolist(), result.tables["finetuning"].to_csv()))
        assert np.allclose(scores.sum(axis=1), 1) and result.flags == ["smoke"]
    assert found[0] == found[1]


def record_of(bench, tmp_path, *arguments):
    known = set((tmp_path / "results").glob("*.json"))
    code, _, err = bench("run", "task=annotation", "dataset=pbmc68k", "seed=0", *arguments)
    assert code == 0, err
    new = set((tmp_path / "results").glob("*.json")) - known
    assert len(new) <= 1
    return ResultStore(tmp_path / "results").get(new.pop().stem) if new else None


def test_on_the_command_line(bench, tmp_path):
    run = ("model=cellfm", "track=untrained", "setting=lora", "finetune.max_steps=5")
    record = record_of(bench, tmp_path, *run)
    assert record.setting == "lora" and record.track == "untrained" and "smoke" in record.flags
    assert {m.head for m in record.metrics} == {"mlp"} and {"accuracy", "macro_f1"} <= {m.name for m in record.metrics}
    width, rank, layers, classes = 64, 16, 2, len({m.key for m in record.metrics if m.name == "f1"})
    trained = 8 * layers * 2 * width * rank + layers * 2 * 2 * width + width * HEAD + HEAD + HEAD * classes + classes
    assert record.cost.n_trained_params == trained < record.cost.n_params
    assert record.cost.task_s > 0 and record.cost.embed_s > 0 and record.readout == "cls" and record.variant == "tiny"
    assert record.provenance.config["finetune"]["max_steps"] == 5
    assert record.notes["optimiser steps"] == 5 and record.notes["learning rate"] == LEARNING_RATES["lora"]
    store = ResultStore(tmp_path / "results")
    tables = {a.kind: store.table(a) for a in record.artifacts}
    assert tables["finetuning"]["steps"].tolist() == [5]
    assert set(tables["predictions"]["head"]) == {"mlp"}
    # The same cells are tested, in the same order, as by a baseline.
    frozen = record_of(bench, tmp_path, "model=svm")
    other = store.table(next(a for a in frozen.artifacts if a.kind == "predictions"))
    assert other["name"].tolist() == tables["predictions"]["name"].tolist() and frozen.split == record.split
    assert "finetune" not in frozen.provenance.config
    # Found again; another budget is another run; a frozen run does not care.
    assert record_of(bench, tmp_path, *run) is None
    assert record_of(bench, tmp_path, "model=svm", "finetune.max_steps=7") is None
    full = record_of(bench, tmp_path, "model=cellfm", "track=untrained", "setting=full", "finetune.max_steps=3")
    assert full.setting == "full" and full.cost.n_trained_params > 4 * trained


def test_what_cannot_be_fine_tuned_says_so(bench, tmp_path):
    settings = ("-m", "model=pca,svm", "task=annotation,integration", "setting=lora,full", "seed=0")
    code, _, err = bench("run", *settings)
    assert code == 0, err
    records = list(ResultStore(tmp_path / "results").records())
    assert len(records) == 8 and {r.status for r in records} == {"not-applicable"}
    reasons = {(r.model, r.task): r.error for r in records}
    assert "setting=frozen" in reasons["pca", "annotation"] and "setting=frozen" in reasons["svm", "annotation"]
    assert "trains no network" in reasons["pca", "integration"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (["setting=tuned"], "expected one of frozen, lora, full"),
        (["setting=lora", "finetune.head=forest"], "finetune.head=forest"),
        (["setting=full", "finetune.clip=-1"], "finetune.clip=-1"),
        (["setting=lora", "finetune=fast"], "unknown finetune 'fast'"),
        (["setting=lora", "finetune.momentum=1"], "momentum"),
    ],
)
def test_wrong_settings(bench, tmp_path, override, says):
    code, _, err = bench("run", "model=cellfm", "track=untrained", "task=annotation", *override)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1
    assert not list((tmp_path / "results").glob("*.json"))


def test_cells_and_types_that_are_awkward(bench, tmp_path):
    """A type with few cells, cells without a count, one type only."""
    cells = make_cells(n_cells=60)
    keep = np.isin(np.arange(60), [3, 40], invert=True)
    cells.X = sp.csr_matrix(sp.diags(keep.astype(np.float32)) @ cells.X)
    cells.obs.iloc[50, 0] = "rare"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    base = ("model=scgpt", "track=untrained", "task=annotation", "dataset.cell_type=cell_type", "corpus=file")
    tuned = ("setting=full", "finetune.max_steps=3", f"corpus.path={tmp_path}/cells.h5ad", "corpus.allow_overlap=true")
    code, _, err = bench("run", *base, *tuned, f"dataset.path={tmp_path}/cells.h5ad")
    assert code == 0, err
    [path] = (tmp_path / "results").glob("*.json")
    record = json.loads(path.read_text())
    assert record["notes"]["cells without a readable gene"] == 2
    cells.obs["cell_type"] = "one"
    cells.write_h5ad(tmp_path / "one.h5ad")
    code, _, err = bench("run", *base, *tuned, f"dataset.path={tmp_path}/one.h5ad")
    assert code == 2 and len(err.strip().splitlines()) == 1
