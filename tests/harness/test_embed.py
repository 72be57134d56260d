"""`cellfm-bench embed`, as a user types it, on the golden release folders; and what it refuses."""

import json
import pickle
import shutil

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
#: model -> (release folder, cells, further arguments)
RELEASES = {
    "cellfm": ("cellfm/checkpoint", "cellfm/cells.h5ad", ["model.variant=80m"]),
    "scgpt": ("scgpt/checkpoint", "scgpt/cells.h5ad", []),
    "geneformer": ("geneformer/v2/checkpoint", "geneformer/v2/cells.h5ad", []),
    "scfoundation": ("scfoundation/checkpoint", "scfoundation/cells.h5ad", []),
    "uce": ("uce/checkpoint", "uce/cells.h5ad", ["model.sample_size=32"]),
}


def release(model):
    folder, cells, more = RELEASES[model]
    return GOLDEN / folder, GOLDEN / cells, more


@pytest.fixture
def embed(bench, tmp_path):
    def run(model, *more, checkpoint=None, cells=None, out="x.npz"):
        folder, own_cells, arguments = release(model)
        given = [a for a in arguments if not any(a.split("=")[0] == m.split("=")[0] for m in more)]
        target = tmp_path / out
        code, _, err = bench(
            "embed",
            f"model={model}",
            f"model.checkpoint={checkpoint or folder}",
            f"dataset.path={cells or own_cells}",
            f"out={target}",
            f"cache={tmp_path}/cache",
            *given,
            *more,
        )
        return code, err, target

    return run


@pytest.mark.parametrize("model", RELEASES)
def test_levels(embed, model):
    cells = anndata.read_h5ad(release(model)[1])
    names = cells.obs_names.tolist()
    code, err, path = embed(model)
    assert code == 0, err
    with np.load(path, allow_pickle=False) as found:
        assert found["names"].tolist() == names and found["embeddings"].dtype == np.float32
        assert found["embeddings"].shape[0] == cells.n_obs
        first = found["embeddings"]
    code, err, path = embed(model, "level=gene")
    assert code == 0, err
    with np.load(path, allow_pickle=False) as found:
        assert len(found["names"]) == len(found["embeddings"]) > 0
        assert sorted([*found["names"], *found["missing"]]) == sorted(cells.var_names)
    code, err, path = embed(model, "level=token")
    assert code == 0, err
    with np.load(path, allow_pickle=False) as found:
        assert found["names"].tolist() == names and len(found["indptr"]) == cells.n_obs + 1
        assert found["indptr"][-1] == len(found["genes"]) == len(found["embeddings"])
        expressed = {g: set(np.flatnonzero(cells.X[i].toarray().ravel())) for i, g in enumerate(names)}
        for i, name in enumerate(names[:5]):
            genes = found["genes"][found["indptr"][i] : found["indptr"][i + 1]]
            assert len(set(genes)) == len(genes)
            assert set(genes) <= {cells.var_names[j] for j in expressed[name]}
        one = str(found["genes"][0])
    code, err, path = embed(model, "level=token", f"genes={one}")
    assert code == 0, err
    with np.load(path) as found:
        assert set(found["genes"]) == {one}
    code, err, path = embed(model, out="x.h5ad")
    assert code == 0, err
    written = anndata.read_h5ad(path)
    np.testing.assert_allclose(written.obsm[f"X_{model}"], first, atol=1e-5)
    assert written.obs_names.tolist() == names


def refused(embed, *arguments, says, **options):
    code, err, target = embed(*arguments, **options)
    assert code == 2, (code, err)
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err, err
    assert any(text in err for text in says), err
    assert not target.exists() and not list(target.parent.glob(".*.tmp*"))


@pytest.mark.parametrize("model", RELEASES)
def test_a_truncated_checkpoint_is_refused(embed, tmp_path, model):
    copy = tmp_path / "release"
    shutil.copytree(release(model)[0], copy)
    for path in copy.rglob("*"):
        if path.suffix in (".pt", ".bin", ".safetensors", ".ckpt", ".torch") and "protein" not in str(path):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(embed, model, checkpoint=copy, says=["complete", "truncated", "damaged", "cannot be read", "whole"])


@pytest.mark.parametrize("model", RELEASES)
def test_a_wrong_directory_is_refused(embed, tmp_path, model):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "notes.txt").write_text("hello")
    refused(embed, model, checkpoint=tmp_path / "release", says=[str(tmp_path)])
    other = "scgpt" if model != "scgpt" else "geneformer"
    refused(embed, model, checkpoint=release(other)[0], says=[str(release(other)[0])])


def test_args_that_disagree_with_the_weights(embed, tmp_path):
    copy = tmp_path / "release"
    shutil.copytree(release("scgpt")[0], copy)
    args = json.loads((copy / "args.json").read_text())
    (copy / "args.json").write_text(json.dumps({**args, "embsize": args["embsize"] * 2}))
    refused(embed, "scgpt", checkpoint=copy, says=["embsize", "args.json"])


def test_a_vocabulary_with_duplicate_ids(embed, tmp_path):
    copy = tmp_path / "release"
    shutil.copytree(release("scgpt")[0], copy)
    vocabulary = json.loads((copy / "vocab.json").read_text())
    first, second = list(vocabulary)[:2]
    (copy / "vocab.json").write_text(json.dumps({**vocabulary, first: vocabulary[second]}))
    refused(embed, "scgpt", checkpoint=copy, says=["vocab.json"])


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (open, (self.marker, "w"))


def test_a_pickle_that_tries_to_run_code(embed, tmp_path):
    copy, marker = tmp_path / "release", tmp_path / "ran"
    shutil.copytree(release("geneformer")[0], copy)
    [tokens] = copy.rglob("token_dictionary*.pkl")
    tokens.write_bytes(pickle.dumps({"ENSG00000000003": Bomb(marker)}))
    refused(embed, "geneformer", checkpoint=copy, says=["refused"])
    assert not marker.exists()


@pytest.mark.parametrize("model", RELEASES)
def test_mouse_genes_are_refused(embed, tmp_path, model):
    cells = anndata.read_h5ad(release(model)[1])
    cells.var_names = [name.capitalize() for name in cells.var_names]
    cells.var = cells.var[[]]
    cells.write_h5ad(tmp_path / "mouse.h5ad")
    refused(embed, model, cells=tmp_path / "mouse.h5ad", says=["mouse"])


@pytest.mark.parametrize("model", RELEASES)
def test_nan_is_refused_with_its_place(embed, tmp_path, model):
    cells = anndata.read_h5ad(release(model)[1])
    values = cells.X.toarray()
    values[7, 3] = np.nan
    cells.X = sp.csr_matrix(values)
    cells.write_h5ad(tmp_path / "nan.h5ad")
    refused(embed, model, cells=tmp_path / "nan.h5ad", says=["row 7, column 3"])


def test_several_models_in_one_directory_need_a_choice(embed):
    refused(embed, "cellfm", "model.variant=null", says=["base_weight"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["level=cells"], "cell, gene, token"),
        (["level=token", "genes=NOTAGENE"], "NOTAGENE"),
        (["model.readout=avg"], "cls"),
        (["model.variant=nothing"], "nothing"),
    ],
)
def test_wrong_arguments(embed, more, says):
    refused(embed, "cellfm", *more, says=[says])


def test_published_weights_on_a_board(bench, tmp_path):
    """A grid finds each model's weights under checkpoints=ROOT; one that is missing fails alone."""
    from harness import ResultStore

    root = tmp_path / "weights"
    root.mkdir()
    for model in ("scgpt", "geneformer"):
        (root / model).symlink_to(release(model)[0])
    cells = anndata.read_h5ad(release("scgpt")[1])
    cells.obs["cell_type"] = np.resize(["a", "b"], cells.n_obs)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code, out, _ = bench(
        "run",
        "-m",
        "model=scgpt,cellfm",
        f"checkpoints={root}",
        "task=annotation",
        "task.heads=[knn]",
        "task.min_train_cells=2",
        f"dataset.path={tmp_path}/cells.h5ad",
        "dataset.cell_type=cell_type",
    )
    assert code == 1 and "no cellfm under checkpoints=" in out
    records = {r.model: r for r in ResultStore(tmp_path / "results").records()}
    assert records["scgpt"].status == "ok", records["scgpt"].error
    assert records["scgpt"].track == "published" and len(records["scgpt"].provenance.checkpoint_sha256) == 64
    assert records["cellfm"].status == "failed"
