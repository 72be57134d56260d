"""scBERT's files: other sizes than the golden case, fresh networks, and what must be refused."""

import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.networks import empty
from models.scbert.adapter import SIZES, ScBert
from models.scbert.config import Sizes, performer_features
from models.scbert.network import Network
from tests.golden.scbert import case
from tests.golden.scbert.other_sizes import GENES, other_model, some_cells

HEAD = (9, 7, 4)


@pytest.fixture
def release(tmp_path):
    """A release of other sizes, the panel one folder above the weights."""
    folder = tmp_path / "release" / "ckpts"
    other_model().save(folder)
    (folder / "panglao_10000.h5ad").rename(folder.parent / "panglao_10000.h5ad")
    return folder


def edit(folder, change, file="panglao_pretrain.pth"):
    content = torch.load(folder / file, weights_only=True)
    change(content["model_state_dict"])
    torch.save(content, folder / file)


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        ScBert.from_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# -- other sizes ------------------------------------------------------------------------------------------------


def test_saved_and_read_again(release):
    model, same = other_model(), ScBert.from_checkpoint(release)
    assert same.network.sizes == model.network.sizes
    np.testing.assert_array_equal(same.embed_cells(some_cells()), model.embed_cells(some_cells()))
    np.testing.assert_array_equal(same.gene_table()[1], model.gene_table()[1])


def test_fine_tuned_network_of_other_sizes(tmp_path):
    model = other_model(readout="annotation", head=HEAD)
    model.save(tmp_path)
    (tmp_path / "panglao_pretrain.pth").rename(tmp_path / "finetune_best.pth")
    refused(tmp_path, "has no panglao_pretrain*.pth", f"model.checkpoint={tmp_path}/finetune_best.pth")
    for found in (
        ScBert.from_checkpoint(tmp_path / "finetune_best.pth", readout="annotation"),
        ScBert.from_checkpoint(tmp_path, variant="finetune_best", readout="annotation"),
    ):
        assert found.network.sizes == model.network.sizes and found.embedding_size == 7
        np.testing.assert_array_equal(found.embed_cells(some_cells()), model.embed_cells(some_cells()))
    with pytest.raises(NotApplicableError, match="no head to pretrain with"):
        model.pretraining_loss(model.tokenize(some_cells().X[3:], GENES), torch.Generator())


def test_released_size():
    width, depth, heads, dim_head = SIZES["8m"]
    sizes = Sizes(16906, width, depth, heads, dim_head, performer_features(dim_head), 4 * width)
    assert sizes.features == 266
    network = empty(lambda: Network(sizes))
    trained = sum(p.numel() for p in network.parameters())
    assert trained == 5_007_207
    assert trained + network.pos_emb.weight.numel() == 8_388_607


# -- finding what is asked for ------------------------------------------------------------------------------------


def test_file_folder_and_names(release):
    weights, panel = release / "panglao_pretrain.pth", release.parent / "panglao_10000.h5ad"
    for path, variant in ((weights, None), (release, None), (release, "panglao"), (release, "panglao_pretrain")):
        assert ScBert.from_checkpoint(path, variant=variant).variant == "other"  # it was saved here, and says so
        assert ScBert.checkpoint_files(path, variant) == [weights, panel]
    shutil.copyfile(weights, release / "panglao_pretrain_7.pth")
    refused(release, "panglao_pretrain.pth, panglao_pretrain_7.pth", "Say which")
    assert ScBert.checkpoint_files(release, "panglao_pretrain_7")[0].name == "panglao_pretrain_7.pth"
    refused(release, "model.variant=other is not in", variant="other")
    weights.unlink()
    (release / "panglao_pretrain_7.pth").rename(release / "panglao_pretrained.pth")  # the authors' other spelling
    assert ScBert.checkpoint_files(release)[0].name == "panglao_pretrained.pth"
    assert case.model().variant == "panglao"


def test_panel_as_a_list_of_names(release):
    (release.parent / "panglao_10000.h5ad").unlink()
    refused(release, "neither panglao_10000.h5ad nor panglao_genes.txt", "do not say which genes")
    (release / "panglao_genes.txt").write_text("\n".join(GENES) + "\n")
    assert ScBert.from_checkpoint(release).symbols.tolist() == GENES


def test_prefix_of_a_parallel_network(release):
    def prefixed(state):
        renamed = {f"module.{key}": value for key, value in state.items()}
        state.clear()
        state.update(renamed)

    edit(release, prefixed)
    assert ScBert.from_checkpoint(release).load_report.full


# -- refused ------------------------------------------------------------------------------------------------------


def test_wrong_places(tmp_path, release):
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no panglao_pretrain*.pth", "no weights file")
    refused(release.parent / "panglao_10000.h5ad", "no weights file")


def test_damaged_files(release):
    weights = release / "panglao_pretrain.pth"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(release, "Is the download complete?")
    torch.save({"weight": torch.zeros(3)}, weights)
    refused(release, "holds no model_state_dict", "weight")
    torch.save({"model_state_dict": case.model}, weights)
    refused(release, "not a plain file of tensors")
    weights.write_bytes(whole)
    (release.parent / "panglao_10000.h5ad").write_text("symbol\n")
    refused(release, "panglao_10000.h5ad", "cannot be read as an h5ad")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (GENES[:-1], ("lists 60 genes", "positions for 61")),
        ([*GENES, "MORE"], ("lists 62 genes",)),
        ([*GENES[:60], GENES[3]], ("GENE3 stands at 3 and 60",)),
        ([*GENES[:5], "", *GENES[6:]], ("number 5 is empty",)),
        ([], ("holds no gene",)),
    ],
    ids=["short", "long", "twice", "empty", "none"],
)
@pytest.mark.parametrize("kind", ["h5ad", "text"])
def test_panel_at_odds_with_the_weights(release, names, words, kind):
    if kind == "h5ad":
        panel = anndata.AnnData(
            np.zeros((2, len(names)), np.float32), var=pd.DataFrame(index=pd.Index(names, dtype=object))
        )
        panel.write_h5ad(release.parent / "panglao_10000.h5ad")
    else:
        (release.parent / "panglao_10000.h5ad").unlink()
        (release / "panglao_genes.txt").write_text("".join(f"{name}\n" for name in names))
    refused(release, *words)


def test_partial_weights(release):
    edit(release, lambda state: state.pop("norm.weight"))
    refused(release, "1 missing: norm.weight", "tensors match")
    edit(release, lambda state: state.update({"head.weight": torch.zeros(2)}))
    refused(release, "1 unexpected: head.weight")
    edit(release, lambda state: state.update({"norm.bias": torch.zeros(21)}))
    refused(release, "1 of another shape: norm.bias is (21,), expected (20,)")
    edit(release, lambda state: state["norm.bias"].fill_(float("nan")))
    refused(release, "NaN or infinite weights in norm.bias")


def test_weights_that_do_not_show_their_sizes(release):
    whole = torch.load(release / "panglao_pretrain.pth", weights_only=True)["model_state_dict"]
    to_q, tokens = "performer.net.layers.0.0.fn.to_q.weight", "token_emb.weight"
    edit(release, lambda state: state.pop(to_q))
    refused(release, "1 tables that show its sizes are missing", to_q)
    edit(release, lambda state: state.update({to_q: torch.zeros(17, 20)}))
    refused(release, "has 17 rows, which heads of 6 do not divide")
    edit(release, lambda state: state.update({to_q: whole[to_q], tokens: torch.zeros(9, 20)}))
    refused(release, "token_emb.weight has 9 rows")  # another bin_num


def test_gene2vec_is_held_against_the_table(release):
    vectors = other_model().gene_table()[1].astype(np.float64)
    path = release.parent / "gene2vec_16906.npy"  # beside the panel
    np.save(path, vectors)
    assert ScBert.from_checkpoint(release).load_report.full
    np.save(path, vectors + 1e-3)
    refused(release, "gene2vec_16906.npy", "is not the table")
    np.save(path, vectors[:-1])
    refused(release, "is not the table")
    np.save(path, np.asarray(GENES))
    refused(release, "expected finite numbers")


def test_options_that_do_not_fit():
    refused(case.CHECKPOINT, "model.readout=cls: scBERT has mean-genes", readout="cls")
    refused(case.CHECKPOINT, "annotation head of a fine-tuned network", readout="annotation")


# -- fresh networks -----------------------------------------------------------------------------------------------


def test_from_scratch():
    genes = GeneTable.from_names(["B", "A", "B", "C"])
    model = ScBert.from_scratch(genes, seed=3, readout="attention")
    assert model.token_names.tolist() == ["B", "A", "C", ""]
    assert (model.embedding_size, model.readout, model.variant) == (4, "attention", "tiny, learned gene vectors")
    assert not model.network.pos_emb.weight[-1].any()
    projection = model.network.layers[0][0].fn.fast_attention.projection_matrix
    assert projection.shape == (44, 16)
    directions = projection / projection.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(directions[:16] @ directions[:16].T, np.eye(16), atol=1e-5)
    with pytest.raises(InputError, match=r"model\.size=huge: scBERT has tiny, 8m"):
        ScBert.from_scratch(genes, size="huge")
    with pytest.raises(InputError, match="have none"):
        ScBert.from_scratch(GeneTable.from_names(["ENSG00000141510", "ENSG00000141511"]))


def test_from_scratch_over_gene2vec(tmp_path):
    """Frozen vectors of the genes that have one, in the order of the vocabulary; the network is as wide as they are."""
    other_model().save(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(61, 12))
    genes = GeneTable.from_names([GENES[8], "STRANGER", GENES[2]])
    with pytest.raises(InputError, match=r"gene2vec_16906\.npy is not there"):
        ScBert.from_scratch(genes, gene2vec=tmp_path)
    np.save(tmp_path / "gene2vec_16906.npy", vectors)
    model = ScBert.from_scratch(genes, gene2vec=tmp_path)
    assert model.variant == "tiny" and model.embedding_size == 12
    names, table = model.gene_table()
    assert names == [GENES[8], GENES[2]]
    np.testing.assert_array_equal(table, vectors[[8, 2]].astype(np.float32))
    assert "pos_emb.emb.weight" not in dict(model.network.named_parameters())
    model.save(tmp_path / "again")
    again = ScBert.from_checkpoint(tmp_path / "again")
    assert again.n_params == model.n_params and again.variant == "tiny"
    with pytest.raises(InputError, match="none of these genes has a vector"):
        ScBert.from_scratch(GeneTable.from_names(["STRANGER"]), gene2vec=tmp_path)
    np.save(tmp_path / "gene2vec_16906.npy", vectors[1:])
    with pytest.raises(InputError, match="60 vectors for 61 genes"):
        ScBert.from_scratch(genes, gene2vec=tmp_path)


def test_learned_vectors_stay_so_when_read_again(tmp_path):
    model = ScBert.from_scratch(GeneTable.from_names(GENES))
    model.save(tmp_path)
    again = ScBert.from_checkpoint(tmp_path)
    assert again.network.sizes.learned_positions and again.variant == model.variant
    assert "pos_emb.emb.weight" in dict(again.network.named_parameters())
