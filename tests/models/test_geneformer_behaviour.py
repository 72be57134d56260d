"""What holds of Geneformer for any cells: independence, fresh networks, medians, the objective."""

from __future__ import annotations

import subprocess
import sys

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness.data import CellData
from harness.errors import InputError
from harness.genes import GeneTable
from harness.tokens import TokenBatch
from models.geneformer.adapter import Geneformer
from models.geneformer.medians import gene_medians
from models.geneformer.objective import draw_masks, masked_gene_loss
from models.geneformer.tokenizer import rank_tokens, token_counts

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
VERSIONS = pytest.mark.parametrize("version", ["V1", "V2"])


def cells(n=30, genes=60, seed=0, ids="symbol"):
    """AnnData of sparse counts; cell 3 is empty, cells 4 and 5 are equal."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.3, 3, (n, genes))).astype(np.float32)
    counts[3] = 0
    counts[5] = counts[4]
    adata = anndata.AnnData(sp.csr_matrix(counts))
    adata.var_names = [f"G{i}" for i in range(genes)] if ids == "symbol" else [f"ENSG{i:011d}" for i in range(genes)]
    return adata


def fresh(adata, version="V2", **options):
    model = Geneformer.from_scratch(CellData.of(adata).genes, seed=1, version=version, **options)
    model.calibrate(CellData.of(adata))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(5)  # far from the linear beginnings of a network
    return model


# -- independence -------------------------------------------------------------------------------------


@VERSIONS
def test_a_cell_depends_on_itself_alone(version):
    adata = cells()
    model = fresh(adata, version)
    together = model.embed_cells(adata)
    assert np.isnan(together[3]).all()
    assert np.isfinite(np.delete(together, 3, axis=0)).all()
    np.testing.assert_array_equal(together[4], together[5])
    alone = np.concatenate([model.embed_cells(adata[i : i + 1].copy()) for i in range(len(together))])
    np.testing.assert_allclose(alone, together, **CLOSE)
    order = np.random.default_rng(0).permutation(len(together))
    np.testing.assert_allclose(model.embed_cells(adata[order].copy()), together[order], **CLOSE)


@VERSIONS
def test_the_order_of_the_columns_and_unknown_genes_change_nothing(version):
    """Exactly: not even within ties, and unknown genes add to the total that a cell is divided by."""
    adata = cells()
    model = fresh(adata, version)
    tokens = model.tokenize(adata.X, adata.var_names.tolist()).gene_ids
    order = np.random.default_rng(0).permutation(adata.n_vars)
    shuffled = adata[:, order].copy()
    np.testing.assert_array_equal(model.tokenize(shuffled.X, shuffled.var_names.tolist()).gene_ids, tokens)
    unknown = sp.csr_matrix(np.full((adata.n_obs, 2), 37, np.float32))
    wider = sp.hstack([unknown, adata.X], format="csr")
    names = ["UNKNOWN1", "UNKNOWN2", *adata.var_names]
    np.testing.assert_array_equal(model.tokenize(wider, names).gene_ids, tokens)


@VERSIONS
def test_storage_changes_nothing_and_is_not_changed(version):
    adata = cells()
    model = fresh(adata, version)
    expected = model.embed_cells(adata)
    for kind in (sp.csr_matrix.toarray, sp.csc_matrix, lambda x: x.astype(np.int64)):
        other = anndata.AnnData(kind(adata.X), var=adata.var)
        before = other.X.copy()
        np.testing.assert_array_equal(model.embed_cells(other), expected)
        assert (before != other.X).sum() == 0


def test_padding_is_not_read():
    model = fresh(cells())
    batch = model.tokenize(cells().X, cells().var_names.tolist())
    wide = TokenBatch(
        np.pad(batch.gene_ids, ((0, 0), (0, 9)), constant_values=7), None, np.pad(batch.mask, ((0, 0), (0, 9)))
    )
    for readout in ("cls", "mean"):
        model.readout = readout
        with torch.inference_mode():
            one, other = model.forward(batch), model.forward(wide)
        np.testing.assert_allclose(other.cell.numpy(), one.cell.numpy(), **CLOSE)
        assert not other.tokens[:, batch.gene_ids.shape[1] :].any()


@VERSIONS
def test_rows_without_a_token_do_not_crash(version):
    model = fresh(cells(), version)
    for width in (0, 4):
        ids, mask = np.zeros((2, width), np.int64), np.zeros((2, width), bool)
        output = model.forward(TokenBatch(ids, None, mask))
        assert not output.cell.any()
        assert output.cell.shape == (2, model.embedding_size)
        assert output.tokens.shape == (2, width, model.embedding_size)
    empty = model.tokenize(sp.csr_matrix((3, 60), dtype=np.float32), cells().var_names.tolist())
    assert not empty.mask.any()


def test_longer_than_the_context_is_refused():
    model = fresh(cells())
    with pytest.raises(InputError, match="1025 tokens in a cell; this Geneformer reads 1024"):
        model.forward(TokenBatch(np.full((1, 1025), 5), None, None))


# -- tokens -------------------------------------------------------------------------------------------


def test_ranking_by_hand():
    """Counts 2, 6, 6, 3 with medians 1, 2, 3, 9: values 2, 3, 2, 1/3."""
    medians = np.array([1, 1, 1, 1, 1.0, 2.0, 3.0, 9.0])
    by_token = token_counts(sp.csr_matrix([[2, 6, 0, 6, 3.0], [0, 0, 5, 0, 0]]), np.array([4, 5, -1, 6, 7]), 8)
    v2 = rank_tokens(by_token, medians, context_length=5, pad=0, cls=2, eos=3)
    assert v2.gene_ids.tolist() == [[2, 5, 4, 6, 3], [0, 0, 0, 0, 0]]
    assert v2.mask.sum(axis=1).tolist() == [5, 0]
    v1 = rank_tokens(by_token, medians, context_length=3, pad=0)
    assert v1.gene_ids.tolist() == [[5, 4, 6], [0, 0, 0]]


def test_columns_of_one_gene_are_summed():
    """Also where the very same id is repeated, which the authors' code leaves twice in the cell."""
    model = fresh(cells())
    names = ["G1", "G2", "G1", "g1"]
    once = model.tokenize(sp.csr_matrix([[9, 1.0]]), ["G1", "G2"])
    twice = model.tokenize(sp.csr_matrix([[4, 1, 2, 3.0]]), names)
    np.testing.assert_array_equal(twice.gene_ids, once.gene_ids)
    assert twice.gene_ids.shape == (1, 4)


# -- fresh networks -----------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("ids", ["symbol", "ensembl", "both"])
def test_a_fresh_model_knows_its_genes_and_survives_saving(version, ids, tmp_path):
    adata = cells(ids="symbol" if ids == "both" else ids)
    adata.var_names = ["C1orf112", *adata.var_names[1:]]  # symbols are not all upper case
    if ids == "both":
        adata.var["ensembl_id"] = ["", "", *(f"ENSG{i:011d}" for i in range(2, adata.n_vars))]
    model = fresh(adata, version)
    data = CellData.of(adata)
    assert len(model.match_genes(data.genes).columns) == adata.n_vars
    if ids == "both":  # the same genes by symbol alone
        by_symbol = model.match_genes(adata.var_names.tolist())
        np.testing.assert_array_equal(by_symbol.ids, model.match_genes(data.genes).ids)
        assert model.token_names[by_symbol.ids[5]] == f"ENSG{5:011d}"
        assert model.token_names[by_symbol.ids[0]] == "C1orf112"
    model.save(tmp_path)
    loaded = Geneformer.from_checkpoint(tmp_path)
    assert loaded.version == version
    np.testing.assert_array_equal(loaded.match_genes(data.genes).ids, model.match_genes(data.genes).ids)
    np.testing.assert_array_equal(loaded.embed_cells(adata), model.embed_cells(adata))


def test_a_symbol_of_two_genes_says_nothing_about_either():
    table = GeneTable(*(np.array(x) for x in (["a", "b", "c"], ["S", "S", "T"], ["ENSG1", "ENSG2", "ENSG3"])))
    model = Geneformer.from_scratch(table)
    assert model.match_genes(["S", "T", "X"]).ids.tolist() == [-1, model.dictionaries.tokens["ENSG3"], -1]


def test_a_fresh_network_depends_on_its_seed_alone():
    genes = CellData.of(cells()).genes
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = Geneformer.from_scratch(genes, seed=7).network.state_dict()
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn from the global generator
    shuffled = GeneTable.from_names(genes.names[::-1].tolist())
    same, other = (Geneformer.from_scratch(shuffled, seed=s).network.state_dict() for s in (7, 8))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(
        one["bert.embeddings.word_embeddings.weight"], other["bert.embeddings.word_embeddings.weight"]
    )


def test_a_wrong_size_or_version():
    genes = CellData.of(cells()).genes
    with pytest.raises(InputError, match=r"size=huge: Geneformer has tiny, 10m, 38m, 104m, 151m, 316m"):
        Geneformer.from_scratch(genes, size="huge")
    with pytest.raises(InputError, match=r"version=3: expected V1 or V2"):
        Geneformer.from_scratch(genes, version="3")


# -- medians ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_values", [10**9, 40, 1])
def test_medians_are_those_of_the_corpus(max_values):
    adata = cells()
    expressed = np.arange(adata.n_vars) != 8
    adata.X = sp.csr_matrix(adata.X.toarray() * expressed)
    data = CellData.of(adata)
    columns = np.arange(adata.n_vars)[::-1] + 4
    columns[5], columns[6] = -1, columns[7]  # one unknown gene, two columns of one
    medians = gene_medians([(data, columns)], 70, max_values)
    dense = adata.X.toarray().astype(np.float64)
    with np.errstate(invalid="ignore"):
        dense = dense / dense.sum(axis=1, keepdims=True) * 1e4
    for token in range(70):
        values = dense[:, columns == token].sum(axis=1)
        values = values[values > 0]
        np.testing.assert_allclose(medians[token], np.median(values) if len(values) else 1.0, rtol=1e-12)
    assert medians[columns[8]] == 1.0
    assert (medians != 1.0).sum() == 57


# -- pretraining --------------------------------------------------------------------------------------


def test_masks_are_drawn_as_the_authors_collator_draws_them():
    ids = torch.full((200, 500), 9)
    ids[:, 100] = torch.arange(200) + 10  # cells that differ
    ids[:, :2] = torch.tensor([0, 1])  # <pad> and <mask> are never selected
    ids[:, 2] = 2  # <cls> can be
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, -50:] = False
    before = torch.get_rng_state()
    arguments = {"pad": 0, "mask_token": 1, "vocab_size": 1000}
    batch = TokenBatch(ids, None, mask)
    shown, labels = draw_masks(batch, **arguments, generator=torch.Generator().manual_seed(0))
    again, _ = draw_masks(batch, **arguments, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shown, again)
    assert torch.equal(torch.get_rng_state(), before)
    selected = labels != -100
    assert torch.equal(labels[selected], ids[selected])
    assert torch.equal(shown[~selected], ids[~selected])
    assert not selected[:, :2].any()
    assert not selected[:, -50:].any()
    assert selected[:, 2].any()
    inner = selected[:, 2:-50]
    assert inner.float().mean().item() == pytest.approx(0.15, abs=0.005)
    hidden, kept = (shown == 1) & selected, (shown == ids) & selected
    assert (hidden.sum() / selected.sum()).item() == pytest.approx(0.8, abs=0.02)
    assert (kept.sum() / selected.sum()).item() == pytest.approx(0.1, abs=0.02)
    assert shown[selected].max() > 900  # random tokens come from the whole vocabulary


@VERSIONS
def test_the_loss_trains_every_tensor(version):
    adata = cells()
    model = fresh(adata, version)
    network = model.network.requires_grad_(True)
    batch = model.tokenize(adata.X, adata.var_names.tolist())
    losses = []
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(30):
        loss = model.pretraining_loss(batch, torch.Generator().manual_seed(0))
        assert set(loss.counts) == {"mlm"}
        optimizer.zero_grad()
        loss.total.backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert all(p.grad.abs().sum() > 0 for name, p in network.named_parameters() if "key.bias" not in name)
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_loss_is_the_cross_entropy_of_the_full_logits():
    model = fresh(cells())
    batch = model.tokenize(cells().X, cells().var_names.tolist()).tensors()
    generator = torch.Generator().manual_seed(0)
    shown, labels = draw_masks(batch, pad=0, mask_token=1, vocab_size=64, generator=generator)
    total = masked_gene_loss(model.network, shown, batch.mask, labels)
    logits = model.network.logits(model.network(shown, batch.mask))
    whole = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
    torch.testing.assert_close(total / (labels != -100).sum(), whole)
    nothing = masked_gene_loss(model.network, shown, batch.mask, torch.full_like(labels, -100))
    assert float(nothing) == 0.0


def test_gradients_reach_the_input_of_a_read_out():
    model = fresh(cells())
    model.network.requires_grad_(True)
    batch = model.tokenize(cells().X, cells().var_names.tolist())
    model.forward(batch).cell.sum().backward()
    layers = model.network.bert["encoder"]["layer"]
    assert layers[1].output.dense.weight.grad is not None
    assert layers[2].output.dense.weight.grad is None  # above the second-to-last layer nothing is computed


def test_lora_targets_name_the_linear_maps_of_the_layers_only():
    model = fresh(cells())
    named = [n for n, m in model.network.named_modules() if n.endswith(model.lora_targets)]
    linear = [n for n, m in model.network.named_modules() if isinstance(m, torch.nn.Linear) and "layer." in n]
    assert sorted(named) == sorted(linear)
    assert len(named) == 3 * 6


def test_the_adapter_imports_without_torch():
    code = "import sys; import models.geneformer.adapter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
