"""Geneformer gives the numbers of its authors' code (tests/golden/geneformer/README.md maps the arrays)."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from harness.data import CellData
from harness.genes import GeneTable
from harness.tokens import TokenBatch
from models.geneformer.adapter import Geneformer
from models.geneformer.objective import masked_gene_loss
from models.geneformer.tokenizer import rank_tokens, token_counts

GOLDEN = Path(__file__).parents[1] / "golden" / "geneformer"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
V1_BIN = "v1/checkpoint/Geneformer-V1-10M/pytorch_model.bin"


class Case:
    """A recorded case: the release, its cells, what the authors' code gave."""

    def __init__(self, version: str):
        self.folder = GOLDEN / version
        self.release = self.folder / "checkpoint"
        self.adata = anndata.read_h5ad(self.folder / "cells.h5ad")
        self.data = CellData.of(self.adata)
        with np.load(self.folder / "expected.npz", allow_pickle=False) as arrays:
            self.expected = dict(arrays)
        self.version = version.upper()
        self.special = [] if version == "v1" else [2, 3]

    def model(self, **options) -> Geneformer:
        return Geneformer.from_checkpoint(self.release, **options)

    @property
    def recorded(self) -> TokenBatch:
        return TokenBatch(self.expected["input_ids"], None, self.expected["attention_mask"].astype(bool))


@pytest.fixture(scope="module", params=["v1", "v2"])
def case(request) -> Case:
    return Case(request.param)


@torch.inference_mode()
def run(model, batch):
    output = model.forward(batch)
    return output.cell.numpy(), output.tokens.numpy()


# -- loading ------------------------------------------------------------------------------------------


def test_what_the_release_says(case):
    model = case.model()
    expected = case.expected
    assert model.version == case.version
    assert model.variant == {"V1": "Geneformer-V1-10M", "V2": "Geneformer-V2-104M"}[case.version]
    assert model.readout == {"V1": "mean", "V2": "cls"}[case.version]
    assert model.context_length == expected["input_ids"].shape[1]
    assert model.embedding_size == expected["cell_emb_layer0"].shape[1]
    assert len(model.token_names) == expected["mlm_logits"].shape[1]
    special = np.flatnonzero(model.token_names == "").tolist()
    assert special == [0, 1, *case.special]
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_both_weight_formats_hold_the_same():
    release = GOLDEN / "v1" / "checkpoint"
    one = Geneformer.from_checkpoint(release).network.state_dict()
    other = Geneformer.from_checkpoint(GOLDEN / V1_BIN).network.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


# -- tokens -------------------------------------------------------------------------------------------


def assert_equal_up_to_ties(ids, expected, values):
    """Equal where values differ; the same set of tokens where they are equal."""
    for i, value in enumerate(values):
        same = values == value
        if same.sum() == 1:
            assert ids[i] == expected[i]
        else:
            assert set(ids[same].tolist()) == set(expected[same].tolist())


def test_tokens(case):
    expected = case.expected
    batch = case.model().tokenize(case.data.counts(), case.data.genes)
    rows, ties = expected["cell_index"], expected["has_ties"]
    assert batch.values is None
    assert batch.gene_ids.dtype == np.int64
    empty = np.setdiff1d(np.arange(case.data.n_obs), rows)
    assert len(empty) == (case.version == "V2")
    assert not batch.mask[empty].any()
    np.testing.assert_array_equal(batch.mask[rows], expected["attention_mask"])
    np.testing.assert_array_equal(batch.mask[rows].sum(axis=1), expected["length"])
    np.testing.assert_array_equal(batch.gene_ids[rows][~ties], expected["input_ids"][~ties])
    assert ties.any()
    start = len(case.special) // 2
    for i in np.flatnonzero(ties):
        n = min(int(expected["full_length"][i]), int(expected["length"][i]) - len(case.special))
        assert expected["full_length"][i] == n  # else a tie could straddle the cut
        found, wanted = batch.gene_ids[rows[i]][start : start + n], expected["input_ids"][i][start : start + n]
        assert_equal_up_to_ties(found, wanted, expected["full_values"][i][:n])


def test_ranking_before_truncation(case):
    expected, model = case.expected, case.model()
    by_token = token_counts(case.data.counts(), model.match_genes(case.data.genes).ids, len(model.token_names))
    batch = rank_tokens(by_token, model.dictionaries.medians, context_length=10**6, pad=0)
    ids = batch.gene_ids[expected["cell_index"]]
    for i, n in enumerate(expected["full_length"]):
        if expected["has_ties"][i]:
            assert_equal_up_to_ties(ids[i, :n], expected["full_ids"][i, :n], expected["full_values"][i, :n])
        else:
            np.testing.assert_array_equal(ids[i], expected["full_ids"][i])


def test_ties_go_by_token_id(case):
    """Not by the order of the file's columns, as a stable sort of them would."""
    expected = case.expected
    i = int(np.flatnonzero(expected["has_ties"])[0])
    n, row = int(expected["full_length"][i]), int(expected["cell_index"][i])
    ids = case.model().tokenize(case.data.counts()[row], case.data.genes).gene_ids[0]
    ids, values = ids[len(case.special) // 2 :][:n], expected["full_values"][i][:n]
    ties = np.flatnonzero(values[1:] == values[:-1])
    assert len(ties) == 2
    assert all(ids[tie] < ids[tie + 1] for tie in ties)


def test_symbols_alone(case):
    """Without Ensembl ids: V2's mapping knows symbols, V1's release has a table of them."""
    model = case.model()
    by_symbol = model.match_genes(case.data.genes.names.tolist())
    by_ensembl = model.match_genes(case.data.genes)
    both = (by_symbol.ids >= 0) & (by_ensembl.ids >= 0)
    assert both.sum() > 0.9 * (by_ensembl.ids >= 0).sum()
    assert (by_symbol.ids[both] == by_ensembl.ids[both]).mean() > 0.99


def test_official_mapping(case):
    """Upper-cased, versions stripped, unknown ids dropped and not tried again by symbol."""
    model = case.model()
    gene = str(model.token_names[10])
    known = next(key for key, token in model.dictionaries._token_of.items() if token == 10)  # V2: a symbol
    symbols, ensembl = np.array([known] * 4), np.array([gene, gene.lower(), "ENSG00000999999", ""])
    table = GeneTable(np.array(["a", "b", "c", "d"]), symbols, ensembl)
    assert model.match_genes(table).ids.tolist() == [10, 10, -1, 10]
    assert model.match_genes([gene + ".3", "ENSG00000999999"]).ids.tolist() == [10, -1]


# -- outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("emb_layer", [-1, 0])
@pytest.mark.parametrize("readout", ["mean", "cls"])
def test_cell_vectors_of_recorded_tokens(case, readout, emb_layer):
    if readout == "cls" and case.version == "V1":
        pytest.skip("V1 has no <cls>")
    cell, _ = run(case.model(readout=readout, emb_layer=emb_layer), case.recorded)
    key = {"mean": "cell", "cls": "cls"}[readout]
    np.testing.assert_allclose(cell, case.expected[f"{key}_emb_layer{emb_layer}"], **CLOSE)


def test_token_vectors_of_recorded_tokens(case):
    model, expected = case.model(), case.expected
    _, tokens = run(model, case.recorded)
    np.testing.assert_allclose(tokens[expected["context_cells"]], expected["context_emb_layer-1"], **CLOSE)
    mask = expected["attention_mask"].astype(bool)
    assert not tokens[~mask].any()
    ids = expected["input_ids"][mask]
    for name, vector in zip(expected["gene_mode_ids"], expected["gene_mode_emb_layer-1"], strict=True):
        where = ids == model.dictionaries.tokens[str(name)]
        np.testing.assert_allclose(tokens[mask][where].mean(axis=0, dtype=np.float64), vector, **CLOSE)


def test_embed_cells_as_a_user_would(case):
    """From the h5ad, rows in input order; the cell with ties is left to the recorded tokens."""
    expected = case.expected
    cells = case.model().embed_cells(case.adata)
    key = {"V1": "cell", "V2": "cls"}[case.version]
    rows, clear = expected["cell_index"], ~expected["has_ties"]
    np.testing.assert_allclose(cells[rows][clear], expected[f"{key}_emb_layer-1"][clear], **CLOSE)
    empty = np.setdiff1d(np.arange(len(cells)), rows)
    assert np.isnan(cells[empty]).all()
    assert np.isfinite(cells[rows]).all()


def test_static_gene_vectors(case):
    model, static = case.model(), case.expected["static_gene_emb"]
    names, matrix = model.gene_table()
    first = np.flatnonzero(model.token_names[: len(static)] != "")
    assert names[: len(first)] == model.token_names[first].tolist()
    np.testing.assert_array_equal(matrix[: len(first)], static[first])
    genes = model.embed_genes([names[5], "ENSG00000999999", names[2]])
    assert genes.names.tolist() == [names[5], names[2]]
    assert genes.missing.tolist() == ["ENSG00000999999"]
    np.testing.assert_array_equal(genes.matrix, matrix[[5, 2]])


@torch.inference_mode()
def test_every_layer_and_the_prediction_head(case):
    network, expected = case.model().network, case.expected
    cell = int(expected["hidden_states_cell"])
    ids = torch.as_tensor(expected["input_ids"][cell, : expected["length"][cell]]).long()[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    for n_layers, state in enumerate(expected["hidden_states"]):
        np.testing.assert_allclose(network(ids, mask, n_layers)[0].numpy(), state, **CLOSE)
    logits = network.logits(network(ids, mask))[0].numpy()
    np.testing.assert_allclose(logits, expected["mlm_logits"], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_pretraining_loss_under_the_recorded_mask(case):
    expected = case.expected
    ids, labels = (torch.as_tensor(expected[key]).long() for key in ("mlm_input_ids", "mlm_labels"))
    mask = torch.as_tensor(expected["mlm_attention_mask"]).bool()
    total = masked_gene_loss(case.model().network, ids, mask, labels)
    np.testing.assert_allclose(float(total / (labels != -100).sum()), expected["mlm_loss"], **CLOSE)
