"""What a fresh network is made over and pretrained on: files by name, vocabularies, and no cell that is evaluated."""

import numpy as np
import pytest

from harness import load_dataset
from harness.cache import Cache
from harness.config import complete, compose
from harness.errors import InputError
from harness.genes import GeneTable
from harness.runner import open_corpus, plan
from harness.sources import resolve
from harness.subject import Subject
from harness.vocabulary import vocabulary
from tests.conftest import make_cells

NOWHERE = ("dataset.cell_type=cell_type", "task=annotation")


@pytest.fixture
def two_files(tmp_path):
    """A corpus and an evaluation file that share no cell."""
    for seed, name in enumerate(("corpus", "cells")):
        make_cells(seed=seed).write_h5ad(tmp_path / f"{name}.h5ad")
    return tmp_path


def planned(*overrides, tmp_path):
    overrides = [*NOWHERE, f"results={tmp_path}/results", f"cache={tmp_path}/cache", "device=cpu", *overrides]
    return plan(compose(complete(overrides)))


def test_real_small_says_where_it_was_looked_for(bench, tmp_path, monkeypatch, cells_file):
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(tmp_path))
    code, _, err = bench(
        "run", "model=cellfm", "track=scratch", "corpus=real_small", f"dataset.path={cells_file}", *NOWHERE
    )
    assert code == 2
    assert "pbmc3k_annotated.h5ad" in err and str(tmp_path) in err and "corpus.path=FILE" in err
    assert "Traceback" not in err and not list((tmp_path / "results").glob("*.json"))


@pytest.mark.parametrize("where", [".", "10x"])
def test_a_named_file_is_found_under_the_data_folder(two_files, monkeypatch, where):
    (two_files / "data" / where).mkdir(parents=True, exist_ok=True)
    (two_files / "corpus.h5ad").rename(two_files / "data" / where / "pbmc3k_annotated.h5ad")
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(two_files / "data"))
    found = planned(
        "model=cellfm",
        "track=untrained",
        "corpus=real_small",
        f"dataset.path={two_files}/cells.h5ad",
        tmp_path=two_files,
    )
    assert found.source.corpus["name"] == "real_small" and found.source.corpus["cells"] == 60


def test_a_path_wins_and_must_be_there(two_files):
    to = f"dataset.path={two_files}/cells.h5ad"
    ask = ("model=cellfm", "track=scratch", to)
    found = planned(*ask, "corpus=real_small", f"corpus.path={two_files}/corpus.h5ad", tmp_path=two_files)
    assert found.source.corpus["tokens"] == 600_000
    with pytest.raises(InputError, match=r"corpus\.path=.*no such file"):
        planned(*ask, f"corpus.path={two_files}/absent.h5ad", tmp_path=two_files)


def test_cells_of_the_corpus_are_refused(bench, two_files):
    """Some of the evaluated cells, in another order and under other names, are in the corpus."""
    shared = make_cells(seed=0)[[3, 1, 2]].copy()
    import anndata

    both = anndata.concat([make_cells(seed=1), shared])
    both.obs_names = [f"renamed {i}" for i in range(both.n_obs)]
    both.write_h5ad(two_files / "both.h5ad")
    ask = (
        "run",
        "model=cellfm",
        "track=scratch",
        f"corpus.path={two_files}/corpus.h5ad",
        "corpus.tokens=500",
        *NOWHERE,
    )
    code, _, err = bench(*ask, f"dataset.path={two_files}/both.h5ad")
    assert code == 2
    assert "3 of the 63 cells" in err and "corpus.allow_overlap=true" in err
    assert not list((two_files / "cache").glob("pretrained/*")), "nothing was pretrained for it"
    allowed = planned(*ask[1:], f"dataset.path={two_files}/both.h5ad", "corpus.allow_overlap=true", tmp_path=two_files)
    assert Subject(allowed.source, allowed.data, allowed.cache).flags() == ["cells-seen"]


def test_pbmc3k_and_the_stimulated_cells_share_none(shared_data, tmp_path, monkeypatch):
    """Nothing is pretrained: the overlap is known from the hashes of the cells."""
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(shared_data))
    for file in sorted(shared_data.glob("kang18_*.h5ad")):
        found = planned("model=cellfm", "track=scratch", "corpus=real_small", f"dataset.path={file}", tmp_path=tmp_path)
        assert found.source.corpus["cells"] == 2638 and found.source.corpus["genes"] == 13714
        assert found.source.overlap(found.data) == 0, file.name
    itself = load_dataset(shared_data / "pbmc3k_annotated.h5ad")
    assert found.source.overlap(itself) == itself.n_obs


TABLE = GeneTable(
    np.array(["a", "b", "c"]), np.array(["A1", "B1", "C1"]), np.array(["ENSG00000000001", "", "ENSG00000000003"])
)


def test_a_vocabulary_keeps_what_the_corpus_knows_of_a_gene():
    assert vocabulary(None, TABLE) is TABLE
    found = vocabulary(["C1", "NEW", "ENSG00000000001.7", "c", "C1"], TABLE)
    assert found.names.tolist() == ["c", "NEW", "a"]
    assert found.symbols.tolist() == ["C1", "NEW", "A1"]
    assert found.ensembl.tolist() == ["ENSG00000000003", "", "ENSG00000000001"]


def test_a_vocabulary_from_a_file(tmp_path):
    (tmp_path / "genes.txt").write_text("# mine\nB1\n\n  A1  # best\n", encoding="utf-8")
    assert vocabulary(str(tmp_path / "genes.txt"), TABLE).names.tolist() == ["b", "a"]


@pytest.mark.parametrize("genes", [[], ["nobody", "knows"], "absent.txt", "."])
def test_a_vocabulary_of_nothing_is_wrong_input(genes):
    with pytest.raises(InputError) as caught:
        vocabulary(genes, TABLE)
    assert "corpus.genes" in str(caught.value) and "\n" not in str(caught.value)


def test_binary_file_is_no_list(tmp_path):
    (tmp_path / "genes.txt").write_bytes(b"\xff\xfe\x00A")
    with pytest.raises(InputError, match="no text file"):
        vocabulary(str(tmp_path / "genes.txt"), TABLE)


def test_the_vocabulary_is_part_of_the_identity(two_files):
    ask = (
        "model=cellfm",
        "track=untrained",
        f"corpus.path={two_files}/corpus.h5ad",
        f"dataset.path={two_files}/cells.h5ad",
    )
    names = [f"GENE{i}" for i in range(80)]
    ids = set()
    for genes in (None, names[:70], names[5:75], names[:70][::-1]):
        more = [] if genes is None else [f"corpus.genes=[{','.join(genes)}]"]
        ids.add(planned(*ask, *more, tmp_path=two_files).run_id)
    assert len(ids) == 4
    config = compose(complete([*NOWHERE, *ask, f"corpus.genes=[{','.join(names[:70])}]", "device=cpu"]))
    source = resolve(config, Cache(two_files / "cache"), lambda: open_corpus(config))
    assert len(source.model.vocabulary) == 70 and source.corpus["genes"] == 70


@pytest.mark.parametrize("model", ["cellfm", "scgpt", "geneformer", "scfoundation", "uce"])
def test_every_architecture_takes_a_vocabulary(two_files, model):
    (two_files / "genes.txt").write_text("\n".join(f"GENE{i}" for i in range(0, 80, 2)) + "\nABSENT\n")
    ask = (f"corpus.path={two_files}/corpus.h5ad", f"corpus.genes={two_files}/genes.txt", "corpus.tokens=300")
    found = planned(f"model={model}", "track=scratch", *ask, f"dataset.path={two_files}/cells.h5ad", tmp_path=two_files)
    subject = Subject(found.source, found.data, found.cache)
    assert np.isfinite(subject.cells()).all() and subject.flags() == []
    assert found.source.corpus["genes"] == 41
    assert set(found.source.model.vocabulary) <= {f"GENE{i}" for i in range(0, 80, 2)} | {"ABSENT"}
