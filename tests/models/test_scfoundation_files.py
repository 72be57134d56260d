"""scFoundation's files: other sizes than the golden case, sub-models, and what must be refused."""

import copy
import shutil

import numpy as np
import pytest
import torch

from harness.errors import InputError
from harness.genes import GeneTable
from models.scfoundation.adapter import ScFoundation
from models.scfoundation.options import Options
from tests.golden.scfoundation import case
from tests.golden.scfoundation.other_sizes import (
    GENES,
    PERFORMER,
    TRANSFORMER,
    other_model,
    other_network,
    some_cells,
)

TABLE = f"OS_scRNA_gene_index.{len(GENES)}.tsv"


def submodel(model):
    """What `save` writes of a model, in memory."""
    return {
        "config": copy.deepcopy(model.config),
        "state_dict": {
            "model." + key.replace("self_attn.in_proj.", "self_attn.in_proj_"): value.clone()
            for key, value in model.network.state_dict().items()
        },
    }


@pytest.fixture
def release(tmp_path):
    """A release with three different sub-models, a key that is none, and the gene table one folder above."""
    folder = tmp_path / "release" / "models"
    folder.mkdir(parents=True)
    other_model().save(tmp_path / "one")
    (tmp_path / "one" / TABLE).rename(folder.parent / TABLE)
    content = {key: submodel(other_model(seed=seed)) for seed, key in enumerate(("gene", "cell", "rde"))}
    torch.save({**content, "epoch": 5}, folder / "models.ckpt")
    return folder


def edit(folder, change, key="cell"):
    content = torch.load(folder / "models.ckpt", weights_only=True)
    change(content[key])
    torch.save(content, folder / "models.ckpt")


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        ScFoundation.from_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message and "\t" not in message
    for word in words:
        assert word in message


# -- other sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", [PERFORMER, TRANSFORMER], ids=["performer", "transformer"])
def test_second_checkpoint_saves_and_loads_as_itself(tmp_path, decoder):
    first = other_model(decoder)
    first.save(tmp_path / "one")
    second = ScFoundation.from_checkpoint(tmp_path / "one")
    second.save(tmp_path / "two")
    assert (second.embedding_size, second.context_length, second.submodel) == (96, 63, "cell")
    assert second.network.sizes == first.network.sizes
    assert second.load_report.full
    np.testing.assert_array_equal(first.token_names, second.token_names)
    cells = some_cells()
    for readout in ScFoundation.spec.readouts:
        first.readout = second.readout = readout
        before, after = first.embed_cells(cells), second.embed_cells(cells)
        np.testing.assert_array_equal(before, after)
        assert np.isnan(before[0]).all()
        assert np.isfinite(before[1:]).all()
    np.testing.assert_array_equal(first.gene_table()[1], second.gene_table()[1])
    vectors = [model.contextual_genes(cells.X[1:4], GENES, GENES[::7]) for model in (first, second)]
    np.testing.assert_array_equal(*vectors)
    assert vectors[0].shape == (3, 9, 20)
    assert (tmp_path / "one" / TABLE).read_bytes() == (tmp_path / "two" / TABLE).read_bytes()


def test_encoder_is_pytorchs_own():
    """Independent of the golden case: stock layers over the same weights, with padding."""
    model = other_model(readout="max")
    batch = model.tokenize(some_cells().X, GENES).take(np.arange(1, 12)).tensors()
    stock = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(24, 3, 96, batch_first=True),
        2,
        torch.nn.LayerNorm(24),
        enable_nested_tensor=False,
    ).eval()
    state = model.network.encoder.state_dict()
    renamed = {
        key.replace("transformer_encoder.", "layers.").replace("in_proj.", "in_proj_"): state[key] for key in state
    }
    stock.load_state_dict(renamed)
    with torch.inference_mode():
        embedded = model.network.token_emb(batch.values) + model.network.pos_emb(batch.gene_ids)
        theirs = stock(embedded, src_key_padding_mask=~batch.mask)
        ours = model.forward(batch)
    np.testing.assert_allclose(ours.tokens[batch.mask], theirs[batch.mask], **case.CLOSE)
    largest = theirs.masked_fill(~batch.mask.unsqueeze(-1), -np.inf).amax(dim=1)
    np.testing.assert_allclose(ours.cell, largest, **case.CLOSE)


def test_decoder_reads_every_value_as_the_authors_write_it():
    """All values embedded, zeros included; the encoder's vectors put in place of the read ones; positions added."""
    network = other_network()
    batch = other_model().tokenize(some_cells().X[2:3], GENES).tensors()
    ids = batch.gene_ids[0]
    with torch.inference_mode():
        encoded = network.encode(batch.gene_ids, batch.values, batch.mask)
        dense = torch.zeros(len(GENES) + 2)
        dense[ids] = batch.values[0]
        x = network.token_emb(dense)
        x[ids] = encoded[0]
        x = network.decoder_embed(x + network.pos_emb.weight[:-1])
        literal = network.norm(network.decoder(x[None]))
        ours = network.decode(encoded, batch.gene_ids, batch.mask)
    np.testing.assert_allclose(ours, literal, **case.CLOSE)


def test_performer_approximates_softmax_attention():
    from models.scfoundation.performer import FastAttention

    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 40, 8) * scale for scale in (0.5, 0.5, 1))
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    found = torch.stack([FastAttention(512, 8)(q, k, v) for _ in range(8)]).mean(0)
    assert (found - exact).abs().max() < 0.05


def test_performer_reads_a_cell_as_if_it_were_alone():
    from models.scfoundation.performer import FastAttention

    torch.manual_seed(0)
    attention = FastAttention(16, 8)
    q, k, v = torch.randn(3, 2, 3, 40, 8)
    k[1] *= 4  # the authors' maximum over the batch would leave nothing but the floor of the first cell
    np.testing.assert_allclose(attention(q, k, v)[:1], attention(q[:1], k[:1], v[:1]), **case.CLOSE)


# -- finding what is asked for --------------------------------------------------------------------------------


def test_file_folder_and_the_folder_above(release):
    for path in (release / "models.ckpt", release, release.parent):
        model = ScFoundation.from_checkpoint(path)
        assert model.variant == model.submodel == "cell"
        assert ScFoundation.checkpoint_files(path) == [release / "models.ckpt", release.parent / TABLE]
    renamed = release / "mine.pt"
    (release / "models.ckpt").rename(renamed)
    assert ScFoundation.from_checkpoint(renamed).variant == "cell"


def test_submodels(release):
    cells, weights = some_cells(), release / "models.ckpt"
    for seed, key in enumerate(("gene", "cell", "rde")):
        model, same = ScFoundation.from_checkpoint(weights, variant=key), other_model(seed=seed)
        np.testing.assert_array_equal(model.embed_cells(cells), same.embed_cells(cells))
        np.testing.assert_array_equal(model.gene_table()[1], same.gene_table()[1])
    # None named: cell vectors of `cell`, gene vectors of `gene`, as the authors read them.
    model = ScFoundation.from_checkpoint(weights)
    np.testing.assert_array_equal(model.embed_cells(cells), other_model(seed=1).embed_cells(cells))
    np.testing.assert_array_equal(model.gene_table()[1], other_model(seed=0).gene_table()[1])
    assert ScFoundation.from_checkpoint(weights, context="decoder").variant == "gene"
    refused(weights, "model.variant=ce", "gene, cell, rde", variant="ce")
    refused(weights, "no such sub-model", variant="epoch")


def test_the_only_submodel_is_taken_and_of_others_one_must_be_named(release, tmp_path):
    other_model(submodel="rde").save(tmp_path / "only")
    assert ScFoundation.from_checkpoint(tmp_path / "only").variant == "rde"
    content = torch.load(release / "models.ckpt", weights_only=True)
    del content["cell"]
    torch.save(content, release / "models.ckpt")
    refused(release, "no sub-model cell", "model.variant=", "gene, rde")


def test_static_genes_that_are_not_there_are_not_replaced(release):
    edit(release, lambda part: part["state_dict"].pop("model.pos_emb.weight"), "gene")
    refused(release, "[gene]", "pos_emb.weight", "model.variant=cell")
    assert ScFoundation.from_checkpoint(release, variant="cell").variant == "cell"


# -- refused --------------------------------------------------------------------------------------------------


def test_wrong_places(tmp_path, release):
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "models.ckpt", "it is empty")
    refused(release.parent / TABLE, "no weights file")
    shutil.copytree(release, release.parent / "again")
    refused(release.parent, "several models.ckpt", "again, models")
    (release.parent / TABLE).rename(tmp_path / "elsewhere.tsv")
    refused(release, "not found beside", "OS_scRNA_gene_index")


def test_several_gene_tables(release):
    shutil.copyfile(release.parent / TABLE, release.parent / "OS_scRNA_gene_index.19264.tsv")
    refused(release, "several gene tables")


def test_damaged_files(release):
    whole = (release / "models.ckpt").read_bytes()
    (release / "models.ckpt").write_bytes(whole[: len(whole) // 2])
    refused(release, "Is the download complete?")
    torch.save([1, 2], release / "models.ckpt")
    refused(release, "no sub-model", "list")
    torch.save({"model": {"weight": torch.zeros(3)}}, release / "models.ckpt")
    refused(release, "no sub-model", "model")
    torch.save({"cell": Options()}, release / "models.ckpt")
    refused(release, "not a plain file of tensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:-1], ("lists 60 genes", "is of 61")),
        (lambda rows: [rows[0], *rows[2:]], ("line 61", "'60'", "60 indices from 0")),
        (lambda rows: [*rows[:5], rows[4].replace("\t3", "\t4"), *rows[6:]], ("GENE3", "unique")),
        (lambda rows: [row.replace("\t", ",") for row in rows], ("line 2", "tab-separated")),
        (lambda rows: rows[:1], ("holds no gene",)),
    ],
    ids=["short", "gap", "duplicate", "commas", "empty"],
)
def test_damaged_gene_table(release, change, words):
    table = release.parent / TABLE
    table.write_text("\n".join(change(table.read_text().splitlines())) + "\n")
    refused(release, TABLE, *words)


def test_rows_of_the_gene_table_may_stand_in_any_order(release):
    table = release.parent / TABLE
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows[::-1]]) + "\n")
    assert ScFoundation.from_checkpoint(release).symbols.tolist() == GENES


def architecture(part):
    return part["config"]["model_config"]["mae_autobin"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a["encoder"].update(heads=5), ("cannot be divided",)),
        (lambda a: a["encoder"].update(hidden_dim=48), ("encoder.hidden_dim is 48", "has 24")),
        (lambda a: a["encoder"].update(depth=3), ("encoder.depth is 3", "2 layers")),
        (lambda a: a["encoder"].update(module_type="performer"), ("encoder.module_type", "'transformer'")),
        (lambda a: a["decoder"].update(module_type="mamba"), ("decoder.module_type is 'mamba'",)),
        (lambda a: a["decoder"].update(hidden_dim=24), ("decoder.hidden_dim is 24", "has 20")),
        (lambda a: a["decoder"].update(heads=3), ("heads x dim_head is 18", "has 12")),
        (lambda a: a["decoder"].update(depth=2), ("decoder.depth is 2", "3 layers")),
        (lambda a: a["decoder"].pop("dim_head"), ("decoder.dim_head is None",)),
        (lambda a: a["decoder"].update(module_type="transformer", heads=2), ("missing", "unexpected")),
        (lambda a: a.pop("bin_alpha"), ("bin_alpha is None", "expected a number")),
        (lambda a: a.update(seq_len=19266), ("seq_len + 1 is 19267", "has 64")),
        (lambda a: a.pop("encoder"), ("no sizes of the encoder",)),
    ],
)
def test_config_at_odds_with_the_weights(release, change, words):
    edit(release, lambda part: change(architecture(part)))
    refused(release, "models.ckpt [cell]", *words)


def test_config_of_another_kind(release):
    edit(release, lambda part: part["config"]["dataset_config"]["rnaseq"].update(bin_num=18))
    refused(release, "bin_num is 18", "has 17")  # the recipe's keys win, as with the authors
    edit(release, lambda part: part["config"]["dataset_config"]["rnaseq"].update(bin_type="no_bin"))
    refused(release, "bin_type is 'no_bin'")
    edit(release, lambda part: part["config"].pop("dataset_config"))
    refused(release, "not that of a scFoundation model", "dataset_config")
    edit(release, lambda part: part["config"].update(model="mae"))
    refused(release, "model 'mae'")


def test_partial_weights(release):
    edit(release, lambda part: part["state_dict"].pop("model.decoder.norm.weight"))
    refused(release, "1 missing: decoder.norm.weight")
    edit(release, lambda part: part["state_dict"].update({"head.weight": torch.zeros(2)}))
    refused(release, "1 unexpected: head.weight")
    edit(release, lambda part: part["state_dict"].update({"model.to_final.weight": torch.zeros(1, 21)}))
    refused(release, "1 of another shape: to_final.weight is (1, 21), expected (1, 20)")
    edit(release, lambda part: part["state_dict"]["model.norm.bias"].fill_(float("nan")))
    refused(release, "NaN or infinite weights in norm.bias")


# -- fresh networks -------------------------------------------------------------------------------------------


def test_from_scratch():
    genes = GeneTable.from_names(["B", "A", "B", "C"])
    model = ScFoundation.from_scratch(genes, seed=3, readout="max", target="a1")
    assert model.token_names.tolist() == ["B", "A", "C", "", "", ""]
    assert (model.embedding_size, model.readout, model.options.target) == (64, "max", "a1")
    projection = model.network.decoder.performer["net"]["layers"][0][0].fn.fast_attention.projection_matrix
    assert projection.shape == (16, 8)
    directions = projection / projection.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(directions[:8] @ directions[:8].T, np.eye(8), atol=1e-5)
    with pytest.raises(InputError, match=r"model\.size=huge: scFoundation has tiny, 100m"):
        ScFoundation.from_scratch(genes, size="huge")
    with pytest.raises(InputError, match="have none"):
        ScFoundation.from_scratch(GeneTable.from_names(["ENSG00000141510", "ENSG00000141511"]))


def test_released_size():
    from models.scfoundation.adapter import SIZES
    from models.scfoundation.config import Sizes, Stack, performer_features
    from models.scfoundation.network import Network

    encoder, decoder = SIZES["100m"]
    sizes = Sizes(19264, 100, 1.0, Stack("transformer", *encoder), Stack("performer", *decoder, performer_features(64)))
    with torch.device("meta"):
        network = Network(sizes)
    assert sizes.decoder.features == 266
    assert network.pos_emb.weight.shape == (19267, 768)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(119e6, rel=0.02)
