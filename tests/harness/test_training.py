"""Pretraining: the same cells for all, a budget in gene tokens, cached, and never on what is evaluated."""

import numpy as np
import pytest
import torch

from harness import CellData, InputError, ResultStore
from harness.training import pretrain
from tests.conformance.toy import Toy
from tests.conftest import make_cells


@pytest.fixture
def corpus():
    return CellData(make_cells(n_cells=90, n_genes=60), name="corpus")


def trained(corpus, seed=0, **settings):
    model = Toy.from_scratch(corpus.genes, seed=0)
    log = pretrain(model, corpus, tokens=20_000, batch_cells=16, seed=seed, learning_rate=3e-3, **settings)
    return model, log


def test_the_loss_falls_and_the_budget_is_kept(corpus):
    model, log = trained(corpus)
    assert np.mean(log.losses[-10:]) < 0.8 * np.mean(log.losses[:10])
    assert 20_000 <= log.tokens < 20_000 + 16 * 60
    assert log.steps == len(log.losses)
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())


def test_same_seed_same_network_and_the_global_generator_is_left_alone(corpus):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, log = trained(corpus)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    again, same = trained(corpus)
    assert same.losses == log.losses
    for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert trained(corpus, seed=1)[1].losses != log.losses


def test_a_corpus_without_known_genes_is_refused(corpus):
    other = make_cells()
    other.var_names = [f"OTHER{i}" for i in range(other.n_vars)]
    model = Toy.from_scratch(corpus.genes, seed=0)
    with pytest.raises(InputError):
        pretrain(model, CellData(other), tokens=100)


def scratch(bench, *more):
    return bench(
        "run", "model=cellfm", "track=scratch", "task=annotation", "task.heads=[knn]", "corpus.tokens=20000", *more
    )


def test_pretrained_once_and_marked(bench, tmp_path):
    code, _, err = scratch(bench, "dataset=pbmc68k")
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.track == "scratch" and "cells-seen" in record.flags
    assert record.label.startswith("cellfm · scratch · 0.") and "490 cells" in record.label
    assert record.provenance.corpus["name"] == "demo" and record.provenance.corpus["seen"]["tokens"] < 40_000
    assert record.cost.n_params > 0 and record.cost.pretrain_s > 0
    [folder] = (tmp_path / "cache" / "pretrained").iterdir()
    before = (folder / "pretraining.json").stat().st_mtime_ns
    code, _, _ = scratch(bench, "dataset=pbmc68k", "task.test_size=0.4")  # another run of the same network
    assert code == 0
    assert [p.name for p in (tmp_path / "cache" / "pretrained").iterdir()] == [folder.name]
    assert (folder / "pretraining.json").stat().st_mtime_ns == before


def test_overlap_with_evaluated_cells_is_refused_unless_allowed(bench, tmp_path):
    make_cells(n_cells=60).write_h5ad(tmp_path / "evaluated.h5ad")
    make_cells(n_cells=40, seed=1).write_h5ad(tmp_path / "other.h5ad")
    cells = (f"dataset.path={tmp_path}/evaluated.h5ad", "dataset.cell_type=cell_type")
    code, _, err = scratch(bench, *cells)
    assert code == 2 and "corpus.path=" in err
    code, _, err = scratch(bench, *cells, f"corpus.path={tmp_path}/evaluated.h5ad")
    assert code == 2 and "60 of the 60 cells" in err and "corpus.allow_overlap=true" in err
    code, _, err = scratch(bench, *cells, f"corpus.path={tmp_path}/other.h5ad")
    assert code == 0, err
    code, _, err = scratch(bench, *cells, f"corpus.path={tmp_path}/evaluated.h5ad", "corpus.allow_overlap=true")
    assert code == 0, err
    flags = sorted(r.flags for r in ResultStore(tmp_path / "results").records())
    assert flags == [[], ["cells-seen"]]


def test_untrained_is_its_own_track(bench, tmp_path):
    code, _, err = bench("run", "model=cellfm", "track=untrained", "task=annotation", "task.heads=[knn]")
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.track == "untrained" and record.label == "cellfm · untrained" and not record.flags
