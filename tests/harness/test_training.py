"""Pretraining: the same cells for all, a budget in gene tokens, cached, and never on what is evaluated."""

import json

import numpy as np
import pytest
import torch

from harness import CellData, InputError, ResultStore
from harness.recipe import Recipe
from harness.training import objective_error, pretrain
from tests.conformance.toy import Toy
from tests.conftest import make_cells


@pytest.fixture
def corpus():
    return CellData(make_cells(n_cells=90, n_genes=60), name="corpus")


def trained(corpus, seed=0, **settings):
    model = Toy.from_scratch(corpus.genes, seed=0)
    log = pretrain(
        model, corpus, tokens=20_000, batch_cells=16, seed=seed, recipe=Recipe(learning_rate=3e-3), **settings
    )
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
    assert record.label.startswith("cellfm · scratch · 0.") and "475 cells" in record.label
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


# -- cellfm-bench pretrain --------------------------------------------------------------------------------------


def losses(directory):
    return json.loads((directory / "pretraining.json").read_text())["losses"]


@pytest.fixture
def folder(tmp_path):
    """Three files, one with its genes in another order and some of its own."""
    home = tmp_path / "corpus"
    home.mkdir()
    for i in range(3):
        cells = make_cells(n_cells=40, n_genes=60, seed=i)
        if i == 2:
            cells = cells[:, ::-1].copy()
            cells.var_names = [n if k > 3 else f"OWN{k}" for k, n in enumerate(cells.var_names)]
        cells.write_h5ad(home / f"{i}.h5ad")
    return home


def pretraining(folder, out, *more):
    given = [f"corpus.path={folder}", f"out={out}", "corpus.tokens=60000", "corpus.batch_cells=8", "save_every=5"]
    return ["pretrain", "model=cellfm", *given, *more]


def test_killed_and_resumed_gives_the_curve_of_an_uninterrupted_run(tmp_path, folder):
    import signal
    import subprocess
    import sys
    import time

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    program = [sys.executable, "-m", "harness"]
    first = subprocess.Popen([*program, *pretraining(folder, cut)], start_new_session=True)
    deadline = time.monotonic() + 120
    while not (cut / ".training.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (cut / ".training.pt").exists() and not (cut / "pretraining.json").exists()
    done = subprocess.run([*program, *pretraining(folder, cut)], capture_output=True, text=True, check=True)
    assert "going on from the last checkpoint" in done.stdout
    subprocess.run([*program, *pretraining(folder, whole)], capture_output=True, check=True)
    assert len(losses(whole)) > 20
    np.testing.assert_allclose(losses(cut), losses(whole), atol=1e-6, rtol=1e-6)
    assert np.mean(losses(whole)[-5:]) < np.mean(losses(whole)[:5])
    assert not (cut / ".training.pt").exists()
    from harness.checkpoints import read_safetensors

    a, b = (read_safetensors(d / "model.safetensors") for d in (cut, whole))
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in b)


def test_a_checkpoint_of_our_own_is_a_scratch_row(bench, tmp_path, folder):
    code, _, err = bench(*pretraining(folder, tmp_path / "mine"))
    assert code == 0, err
    make_cells(n_cells=60, n_genes=60, seed=0).write_h5ad(tmp_path / "seen.h5ad")
    make_cells(n_cells=60, n_genes=60, seed=9).write_h5ad(tmp_path / "new.h5ad")
    task = ("task=annotation", "task.heads=[knn]", "task.min_train_cells=5")
    row = ("run", "model=cellfm", *task, f"model.checkpoint={tmp_path}/mine")
    new = (f"dataset.path={tmp_path}/new.h5ad", "dataset.cell_type=cell_type")
    code, _, err = bench(*row, *new)
    assert code == 2 and "track=scratch" in err
    code, _, err = bench(*row, *new, "track=scratch")
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.track == "scratch" and record.provenance.corpus["name"] == "corpus"
    assert record.label.startswith("cellfm · scratch") and "120 cells" in record.label
    code, _, err = bench(*row, f"dataset.path={folder}/0.h5ad", "dataset.cell_type=cell_type", "track=scratch")
    assert code == 2 and "40 of the 40 cells" in err
    code, _, err = bench(*pretraining(folder, tmp_path / "mine"))
    assert code == 2 and "finished" in err
    more = pretraining(folder, tmp_path / "more", f"model.checkpoint={tmp_path}/mine")
    assert bench(*more)[0] == 0
    assert losses(tmp_path / "more")[0] < losses(tmp_path / "mine")[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["model=pca"], "baseline"),
        (["corpus.path=/no/such"], "no such file"),
        (["save_every=0"], "save_every"),
        (["model.size=huge"], "huge"),
    ],
)
def test_wrong_pretraining(bench, tmp_path, folder, change, says):
    keys = {c.split("=")[0] for c in change}
    given = [a for a in pretraining(folder, tmp_path / "out") if a.split("=")[0] not in keys]
    code, _, err = bench(*given, *change)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "pretraining.json").exists()


def test_a_state_of_another_training_is_refused(corpus, tmp_path):
    model = Toy.from_scratch(corpus.genes, seed=0)
    pretrain(model, corpus, tokens=5000, batch_cells=8, state=tmp_path / "s.pt", save_every=1)
    with pytest.raises(InputError, match=r"another pretraining.*tokens=5000 \(now 6000\)"):
        pretrain(model, corpus, tokens=6000, batch_cells=8, state=tmp_path / "s.pt")


# -- held-out cells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pretraining_lowers_the_error_on_cells_it_has_not_seen(seed):
    from models.cellfm.adapter import CellFM

    everything = CellData(make_cells(n_cells=240, n_genes=80))
    corpus, held_out = everything.subset(np.arange(180)), everything.subset(np.arange(180, 240))
    untrained, trained = (CellFM.from_scratch(everything.genes, seed=seed) for _ in range(2))
    pretrain(trained, corpus, tokens=60_000, batch_cells=16, seed=seed)
    before, after = (objective_error(model, held_out) for model in (untrained, trained))
    assert set(before) == set(after) == {"gene", "cell"}
    for name in before:
        assert after[name] < 0.9 * before[name]
    assert objective_error(trained, held_out, batch_cells=7) == pytest.approx(after, rel=1e-5)


def test_held_out_cells_are_measured_and_may_not_be_in_the_corpus(bench, tmp_path, folder):
    make_cells(n_cells=20, n_genes=60, seed=9).write_h5ad(tmp_path / "held.h5ad")
    out = tmp_path / "out"
    code, text, err = bench(*pretraining(folder, out, f"held_out={tmp_path}/held.h5ad", "corpus.tokens=5000"))
    assert code == 0, err
    assert text.count("held-out cells") == 2
    errors = json.loads((out / "pretraining.json").read_text())["held_out"]
    assert set(errors) == {"before", "after"} and set(errors["before"]) == {"gene", "cell"}
    code, _, err = bench(*pretraining(folder, tmp_path / "o", f"held_out={folder}/0.h5ad"))
    assert code == 2 and "40 of its 40 cells are in the corpus" in err


def test_several_files_calibrate_and_stream_block_by_block(tmp_path, folder, monkeypatch):
    """Gene statistics come from all files, and no more than a block of one file is read at a time."""
    from harness import corpus as module
    from harness.corpus import Corpus
    from harness.loading import load_dataset
    from models.geneformer.adapter import Geneformer

    monkeypatch.setattr(module, "CORPUS_BLOCK_NNZ", 400)
    corpus = Corpus([load_dataset(file) for file in sorted(folder.glob("*.h5ad"))], "folder")
    sizes = []
    rows = CellData.rows
    model = Geneformer.from_scratch(corpus.genes, size="tiny", seed=0)
    model.calibrate(corpus)
    assert (model.dictionaries.medians != 1).sum() > 50
    monkeypatch.setattr(
        CellData, "rows", lambda self, start, stop: sizes.append(stop - start) or rows(self, start, stop)
    )
    seen = 0
    for portion in corpus.batches(model, 8, seed=0):
        if portion.epoch:
            break
        seen += len(portion.batch)
    assert seen == corpus.n_obs == 120
    assert max(sizes[3:]) <= 20  # of 40 cells in a file; the first three reads judge gene coverage on a sample
