"""UCE's files: other sizes than the golden case, what must be refused, other species, fresh networks."""

import json
import pickle
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from harness.errors import InputError
from harness.genes import GeneTable
from harness.loading import load_dataset
from harness.tokens import TokenBatch
from models.uce.adapter import UCE
from models.uce.config import Sizes
from models.uce.genome import GeneTables, Places
from models.uce.network import Network

GOLDEN = Path(__file__).parents[1] / "golden" / "uce"
N_HUMAN, N_MOUSE, FIRST = 57, 11, 9


def other_model(seed=0, learned=False, **options):
    """Sizes, heads, species, gaps and order of the tables all unlike the golden case."""
    rng = np.random.default_rng(seed)
    human, mouse = [f"C{i}orf{i}" for i in range(N_HUMAN)], [f"Gene{i}" for i in range(N_MOUSE)]
    shuffled = rng.permutation(N_HUMAN)
    places = Places(
        np.array([human[i].upper() for i in shuffled] + [name.upper() for name in mouse], object),
        np.array([f"chr{i % 5}" for i in range(N_HUMAN)] + ["X"] * N_MOUSE, object),
        rng.permutation(N_HUMAN + N_MOUSE) * 1000,
        np.array(["human"] * N_HUMAN + ["mouse"] * N_MOUSE, object),
    )
    offsets = {"human": FIRST, "mouse": FIRST + N_HUMAN}
    tables = GeneTables("human", tuple(human), offsets, places, FIRST + N_HUMAN + N_MOUSE + 6)
    sizes = Sizes(
        rows=tables.rows,
        token_dim=20,
        width=48,
        heads=6,
        feed_forward=30,
        layers=3,
        positions=90,
        decoder=(50, 34, 38, 36),
        binary_decoder=(24, 18, 10, 1),
        learned_table=learned,
    )
    torch.manual_seed(seed)
    network = Network(sizes)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return UCE(network, tables, sample_size=60, **options)


def some_cells(seed=1, n=12, names=None):
    names = [f"C{i}ORF{i}" for i in range(N_HUMAN)] if names is None else names
    rng = np.random.default_rng(seed)
    dense = rng.geometric(0.4, (n, len(names))) * (rng.random((n, len(names))) < rng.uniform(0.2, 1, (n, 1)))
    dense[0] = 0
    dense[1] = 0
    dense[1, 5] = 3
    dense[2] = 1
    return anndata.AnnData(sp.csr_matrix(dense.astype(np.float32)), var=pd.DataFrame(index=names))


@pytest.fixture
def released(tmp_path):
    """A copy of the golden release, to be spoilt."""
    folder = tmp_path / "model_files"
    shutil.copytree(GOLDEN / "checkpoint", folder)
    return folder


def refused(folder, *words, **options):
    with pytest.raises(InputError) as caught:
        UCE.from_checkpoint(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "\t" not in message
    for word in words:
        assert word in message


def tensors(path):
    return torch.load(path, weights_only=True)


# -- other sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learned", [False, True])
def test_second_checkpoint_saves_and_loads_as_itself(tmp_path, learned):
    first = other_model(learned=learned, pad_length=75)
    first.save(tmp_path / "one")
    second = UCE.from_checkpoint(tmp_path / "one", pad_length=75)
    second.save(tmp_path / "two")
    assert second.network.sizes == first.network.sizes
    assert (second.embedding_size, second.context_length, second.sample_size) == (36, 75, 60)
    assert second.variant == "3layer_model"
    assert second.n_params == first.n_params
    np.testing.assert_array_equal(first.token_names, second.token_names)
    np.testing.assert_array_equal(first.genome.rank, second.genome.rank)
    np.testing.assert_array_equal(first.genome.chromosome, second.genome.chromosome)
    cells = some_cells()
    for readout in UCE.spec.readouts:
        first.readout = second.readout = readout
        a, b = first.embed_cells(cells), second.embed_cells(cells)
        np.testing.assert_array_equal(a, b)
        assert np.isnan(a[0]).all()
        assert np.isfinite(a[1:]).all()
    np.testing.assert_array_equal(first.gene_table()[1], second.gene_table()[1])
    state = tensors(tmp_path / "one" / "3layer_model.torch")
    assert "transformer_encoder.layers.2.self_attn.in_proj_weight" in state
    assert set(state) == set(tensors(tmp_path / "two" / "3layer_model.torch"))
    assert len(list(UCE.checkpoint_files(tmp_path / "one"))) == 6


def test_our_network_is_pytorchs_encoder_for_other_sizes():
    """Independent of the golden case: torch.nn's own post-norm encoder over the same weights."""
    model, cells = other_model(readout="cls-raw"), some_cells()
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(48, 6, 30, batch_first=True), 3, enable_nested_tensor=False
    )
    state = model.network.transformer_encoder.state_dict()
    theirs.load_state_dict({key.replace("in_proj.", "in_proj_"): value for key, value in state.items()})
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12)).tensors()
    with torch.inference_mode():
        hidden = theirs.eval()(model.network.embed(batch.gene_ids), src_key_padding_mask=~batch.mask)
        cell = model.network.decoder(hidden[:, 0])
        np.testing.assert_allclose(model.forward(batch).cell, cell, atol=1e-5, rtol=1e-4)


def test_heads_are_twenty_unless_said(released):
    state = tensors(released / "4layer_model.torch")
    assert UCE.from_checkpoint(released).network.sizes.heads == 20
    assert UCE.from_checkpoint(released, heads=12).network.sizes.heads == 12
    refused(released, "model.heads=7", "60", heads=7)
    (released / "config.json").write_text(json.dumps({"heads": 15, "variant": "mine", "other": [1]}))
    model = UCE.from_checkpoint(released)
    assert (model.network.sizes.heads, model.variant) == (15, "mine")
    assert set(model.network.state_dict()) == {key.replace("in_proj_", "in_proj.") for key in state}
    for content in ("{", "[1]", '{"heads": "20"}', '{"sample_size": true}'):
        (released / "config.json").write_text(content)
        refused(released, "config.json")


# -- which file -----------------------------------------------------------------------------------------------


def test_a_file_wins_and_its_tables_lie_beside_or_above(released):
    model = UCE.from_checkpoint(released / "4layer_model.torch")
    assert (model.variant, model.context_length, model.sample_size) == ("4layer", 1536, 1024)
    assert model.load_report.full
    deeper = released / "weights" / "mine"
    deeper.mkdir(parents=True)
    (released / "4layer_model.torch").rename(deeper / "finetuned.pth")
    assert UCE.from_checkpoint(deeper / "finetuned.pth").variant == "finetuned"
    assert UCE.from_checkpoint(deeper).variant == "finetuned"
    (deeper / "finetuned.pth").rename(released.parent / "4layer_model.torch")
    assert UCE.from_checkpoint(released.parent / "4layer_model.torch").variant == "4layer"  # tables in model_files/
    assert UCE.checkpoint_files(released.parent)[0] == released.parent / "4layer_model.torch"


def test_several_models(released):
    state = tensors(released / "4layer_model.torch")
    small = {key: value for key, value in state.items() if ".layers.3." not in key}
    torch.save({f"module.{key}": value for key, value in small.items()}, released / "33l_8ep_1024t_1280.torch")
    refused(released, "2 models", "4layer_model.torch (4layer)", "33l_8ep_1024t_1280.torch (33layer)", "model.variant=")
    # The number of layers is that of the weights, whatever the file is called.
    assert UCE.from_checkpoint(released, variant="33layer").variant == "3layer"
    assert UCE.from_checkpoint(released, variant="uce-33layer").network.sizes.layers == 3
    for variant in ("4layer", "4layer_model", "4layer_model.torch"):
        assert UCE.from_checkpoint(released, variant=variant).network.sizes.layers == 4
    refused(released, "model.variant=8layer", "4layer_model.torch (4layer)", variant="8layer")
    refused(released / "4layer_model.torch", "model.variant=33layer", variant="33layer")


# -- bad input ------------------------------------------------------------------------------------------------


def test_missing_and_wrong_files(released, tmp_path):
    refused(tmp_path / "nowhere", "does not exist", "4layer_model.torch")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no UCE weights", "it is empty")
    refused(released / "all_tokens.torch", "no bare state dict")
    (released.parent / "scgpt").mkdir()
    torch.save({"encoder.embedding.weight": torch.zeros(2, 2)}, tmp_path / "scgpt" / "best_model.pt")
    shutil.move(released, tmp_path / "scgpt" / "above")
    refused(tmp_path / "scgpt" / "best_model.pt", "species_chrom.csv not found")


@pytest.mark.parametrize(
    "name",
    ["species_chrom.csv", "species_offsets.pkl", "all_tokens.torch", "protein_embeddings", "4layer_model.torch"],
)
def test_every_file_is_needed(released, name):
    (released / name).rename(released.parent / "gone")
    refused(released, name)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["4layer_model.torch", "all_tokens.torch", "species_offsets.pkl", "protein"])
def test_truncated_files(released, name, share):
    path = next((released / "protein_embeddings").glob("Homo*")) if name == "protein" else released / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(released, path.name)


def test_pickles_that_run_code(released, tmp_path):
    class Run:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    good = {path: path.read_bytes() for path in released.rglob("*") if path.suffix in (".torch", ".pkl", ".pt")}
    for path in good:
        if "Mus" in path.name:
            continue
        path.write_bytes(pickle.dumps({"human": Run()}, protocol=2))
        refused(released, path.name)
        if path.suffix != ".pkl":
            torch.save({"human": Run()}, path)
            refused(released, "refused", path.name)
        path.write_bytes(good[path])
    assert not (tmp_path / "ran").exists()
    UCE.from_checkpoint(released)


def test_partial_weights(released):
    path, report = released / "4layer_model.torch", "does not fit the network"
    whole = tensors(path)
    for gone in ("transformer_encoder.layers.1.norm2.bias", "encoder.2.weight", "binary_decoder.3.bias"):
        torch.save({key: value for key, value in whole.items() if key != gone}, path)
        refused(released, report, f"1 missing: {gone}")
    torch.save({key: value for key, value in whole.items() if ".layers.1." not in key}, path)
    refused(released, report, "12 missing: transformer_encoder.layers.1.")
    torch.save(whole | {"cls_decoder.weight": torch.zeros(3)}, path)
    refused(released, report, "1 unexpected: cls_decoder.weight")
    torch.save(whole | {"decoder.1.0.weight": torch.zeros(60, 8)}, path)
    refused(released, report, "decoder.1.0.weight is (60, 8), expected (60, 112)")
    for gone in ("pe_embedding.weight", "encoder.0.weight", "decoder.3.weight"):
        torch.save({key: value for key, value in whole.items() if key != gone}, path)
        refused(released, "no UCE checkpoint", gone)
    torch.save(whole | {"encoder.0.weight": torch.zeros(60)}, path)
    refused(released, "no UCE checkpoint", "encoder.0.weight is of shape (60,)")
    torch.save(whole | {"decoder.3.bias": torch.full((60,), float("nan"))}, path)
    refused(released, "NaN", "decoder.3.bias")
    torch.save({"model": whole}, path)
    refused(released, "bare state dict")


def test_tables_of_another_release(released):
    table = released / "species_chrom.csv"
    whole = pd.read_csv(table)
    whole[whole["species"] != "human"].to_csv(table, index=False)
    refused(released, "no gene of human")
    whole[whole["species"] == "human"].to_csv(table, index=False)  # else the chromosomes' tokens would be wrong
    refused(released, "no gene of frog, macaca_fascicularis")
    whole[(whole["species"] != "human") | (whole.index % 2 == 0)].to_csv(table, index=False)
    refused(released, "place of only 4", "of the 800 genes of human")
    whole.drop(columns="start").to_csv(table, index=False)
    refused(released, "species_chrom.csv has the columns", "gene_symbol, chromosome, start, species")
    whole.assign(start="x").to_csv(table, index=False)
    refused(released, "start to be a number")
    table.write_text("")
    refused(released, "species_chrom.csv cannot be read")
    whole.to_csv(table, index=False)
    for offsets, words in (
        ([4], "no dictionary"),
        ({"human": "4"}, "no dictionary"),
        ({"mouse": 4}, "species_offsets.pkl knows mouse"),
        ({"human": -3}, "the rows -3 to 1032 of 1205"),
        ({"human": 600}, "the rows 600 to 1032 of 1205"),
        ({"human": 4, "mouse": 20}, "the rows 4 to 20 of 1205"),
    ):
        (released / "species_offsets.pkl").write_bytes(pickle.dumps(offsets))
        refused(released, words)
    (released / "species_offsets.pkl").write_bytes((GOLDEN / "checkpoint" / "species_offsets.pkl").read_bytes())
    proteins = next((released / "protein_embeddings").glob("Homo*"))
    vectors = tensors(proteins)
    torch.save(dict(list(vectors.items())[:400]), proteins)
    refused(released, "the 400 genes of human do not fit into the token table", "35 to 835")
    torch.save([1, 2], proteins)
    refused(released, "Homo_sapiens", "gene symbols")
    torch.save(vectors, proteins)
    torch.save(torch.zeros(1205, 40), released / "all_tokens.torch")
    refused(released, "all_tokens.torch", "(1205, 40)", "vectors of length 48")


def test_options(released):
    refused(released, "model.readout=avg", "cls, cls-raw, mean", readout="avg")
    refused(released, "model.gene_vectors=esm2", "encoder, protein, query", gene_vectors="esm2")
    refused(released, "model.species=cat", "human, mouse", species="cat")
    refused(released, "model.species=pig", "Sus_scrofa", "human, mouse", species="pig")
    refused(released, "model.sample_size=1534", sample_size=1534)
    refused(released, "model.sample_size=0", sample_size=0)
    refused(released, "model.heads=0", heads=0)
    refused(released, "model.pad_length=2000", "1536 positions", pad_length=2000)
    with pytest.raises(InputError, match=r"model\.size=huge: UCE has tiny, 4layer, 33layer"):
        UCE.from_scratch(GeneTable.from_names(["A"]), size="huge")
    for options in ({"sample_size": 0}, {"sample_size": 10, "pad_length": 12}, {"pad_length": 0}, {"heads": 7}):
        with pytest.raises(InputError, match=rf"model\.{next(iter(options))}="):
            UCE.from_scratch(GeneTable.from_names(["A"]), **options)
    with pytest.raises(InputError, match="gene symbols"):
        UCE.from_scratch(GeneTable.from_names(["ENSG00000000003", "ENSG00000000005"]))
    with pytest.raises(InputError, match=r"TokenBatch\.extra"):
        other_model().pretraining_loss(TokenBatch(np.full((1, 2), 9), None, np.ones((1, 2), bool)), None)


# -- token tables and species ---------------------------------------------------------------------------------


def test_the_authors_rule_for_all_tokens(released):
    """A table of the checkpoint's length, or without chromosomes, is ignored; another one replaces it."""
    path = released / "all_tokens.torch"
    own = tensors(released / "4layer_model.torch")["pe_embedding.weight"]
    for ignored in (torch.randn(1205, 48), torch.randn(1032, 48)):
        torch.save(ignored, path)
        assert torch.equal(UCE.from_checkpoint(released).network.pe_embedding.weight, own)
    # A new species: 4 special rows, 30 genes, 2 chromosomes.
    table, names = torch.randn(36, 48), [f"cat{i}" for i in range(30)]
    torch.save(table, path)
    place = {"gene_symbol": [name.upper() for name in names], "chromosome": ["A1", "B2"] * 15, "start": range(30)}
    pd.DataFrame(place).assign(species="cat").to_csv(released / "species_chrom.csv", index=False)
    (released / "species_offsets.pkl").write_bytes(pickle.dumps({"cat": 4}))
    (released / "cats").mkdir()
    torch.save(dict(zip(names, table[4:34].clone(), strict=True)), released / "cats" / "cat.pt")
    refused(released, "model.species=cat", "human, mouse", species="cat")
    (released / "new_species_protein_embeddings.csv").write_text("species,path\ncat,cats/cat.pt\n")
    model = UCE.from_checkpoint(released, species="cat")
    assert torch.equal(model.network.pe_embedding.weight, table)
    assert model.gene_tables.chromosome_offset == 34
    cells = some_cells(names=names)
    batch = model.tokenize(cells.X, names)
    assert set(np.unique(batch.gene_ids)) <= {0, 2, 3, *range(4, 36)}
    assert np.isfinite(model.embed_cells(cells)[1:]).all()
    (released / "new_species_protein_embeddings.csv").write_text("species,path\ncat,nowhere.pt\n")
    refused(released / "4layer_model.torch", "nowhere.pt", species="cat")


def test_mouse():
    mouse = UCE.from_checkpoint(GOLDEN / "checkpoint", species="mouse", sample_size=50)
    human = UCE.from_checkpoint(GOLDEN / "checkpoint", sample_size=50)
    names = [name for name in mouse.token_names.tolist() if name]
    assert "Lamb4" in names
    assert (len(names), mouse.vocabulary["Lamb4"]) == (33, 898)
    cells = some_cells(names=names)
    found = mouse.embed_cells(cells)
    assert np.isfinite(found[1:]).all()
    assert mouse.spec.species == ("mouse",)
    assert {"human", "mouse"} < set(UCE.spec.species)
    # Without case they would pass as human genes.
    assert (human.match_genes(names).ids > 0).any()
    with pytest.raises(InputError, match="genes of mouse"):
        human.embed_cells(cells)


# -- gene ids -------------------------------------------------------------------------------------------------


def test_ensembl_ids_symbols_and_aliases_give_the_same(tmp_path):
    """Draws depend on resolved genes and counts, so the order and names of columns do not matter."""
    model = UCE.from_checkpoint(GOLDEN / "checkpoint", sample_size=40)
    cells = anndata.read_h5ad(GOLDEN / "cells.h5ad")[:12].copy()
    cells = cells[:, cells.var["has_protein_embedding"]].copy()
    symbols, ensembl = cells.var_names.tolist(), cells.var["ensembl_id"].tolist()
    old = {symbol: f"OLDNAME{i}" for i, symbol in enumerate(symbols[::20])}
    rows = [[s, old.get(s, ""), "", e, "Approved"] for s, e in zip(symbols, ensembl, strict=True)]
    table = pd.DataFrame(rows, columns=["symbol", "alias_symbol", "prev_symbol", "ensembl_gene_id", "status"])
    table.to_csv(tmp_path / "hgnc.tsv", sep="\t", index=False)
    reference = model.embed_cells(cells)
    shuffled = np.random.default_rng(0).permutation(len(symbols))
    for name, index in (
        ("symbols", symbols),
        ("ensembl", ensembl),
        ("aliases", [old.get(symbol, symbol) for symbol in symbols]),
    ):
        part = anndata.AnnData(cells.X, var=pd.DataFrame(index=index))[:, shuffled]
        part.write_h5ad(tmp_path / f"{name}.h5ad")
        data = load_dataset(tmp_path / f"{name}.h5ad", gene_aliases=str(tmp_path / "hgnc.tsv"))
        np.testing.assert_allclose(model.embed_cells(data), reference, atol=1e-5, rtol=1e-4)


# -- fresh networks -------------------------------------------------------------------------------------------


def test_from_scratch_depends_on_the_seed_alone(tmp_path):
    genes = GeneTable.from_names([f"C{i}orf{i}" for i in range(N_HUMAN)])
    state = torch.get_rng_state()
    first = UCE.from_scratch(genes, seed=4)
    UCE.from_checkpoint(GOLDEN / "checkpoint")
    assert (torch.get_rng_state() == state).all()
    torch.rand(3)
    again, other = UCE.from_scratch(genes, seed=4), UCE.from_scratch(genes, seed=5)
    cells = some_cells()
    np.testing.assert_array_equal(first.embed_cells(cells), again.embed_cells(cells))
    assert not np.allclose(first.embed_cells(cells)[1:], other.embed_cells(cells)[1:])
    assert (first.variant, first.sample_size, first.context_length) == ("tiny, learned gene table", 128, 192)
    assert "pe_embedding.weight" in dict(first.network.named_parameters())
    first.save(tmp_path)
    loaded = UCE.from_checkpoint(tmp_path)
    assert (loaded.variant, loaded.sample_size, loaded.context_length) == ("tiny, learned gene table", 128, 192)
    np.testing.assert_array_equal(first.embed_cells(cells), loaded.embed_cells(cells))


def test_from_scratch_over_protein_embeddings(tmp_path):
    names = pd.read_csv(GOLDEN / "checkpoint" / "species_chrom.csv").query("species == 'human'")["gene_symbol"]
    genes = GeneTable.from_names([*names[:50], "NOT-A-GENE"])
    model = UCE.from_scratch(genes, esm2=GOLDEN / "checkpoint", sample_size=30, gene_vectors="protein")
    assert model.variant == "tiny"
    assert "pe_embedding.weight" not in dict(model.network.named_parameters())
    released = UCE.from_checkpoint(GOLDEN / "checkpoint", gene_vectors="protein")
    ours, theirs = model.embed_genes(genes), released.embed_genes(genes)
    np.testing.assert_array_equal(ours.matrix, theirs.matrix)
    assert ours.missing.tolist() == ["NOT-A-GENE"]
    shared = [name for name in model.token_names.tolist() if name]
    rank = [source.genome.rank[source.match_genes(shared).ids] for source in (model, released)]
    np.testing.assert_array_equal(np.argsort(rank[0]), np.argsort(rank[1]))
    model.save(tmp_path)
    assert not UCE.from_checkpoint(tmp_path, esm2="ignored").network.sizes.learned_table
    with pytest.raises(InputError, match="none of these genes has a protein embedding"):
        UCE.from_scratch(GeneTable.from_names(["NOT-A-GENE"]), esm2=GOLDEN / "checkpoint")
