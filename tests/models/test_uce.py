"""UCE against the numbers of the authors' code (tests/golden/uce)."""

from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.tokens import TokenBatch
from models.uce import objective
from models.uce.adapter import UCE
from models.uce.tokenizer import Pool, sentences, times_drawn

GOLDEN = Path(__file__).parents[1] / "golden" / "uce"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def cells():
    return anndata.read_h5ad(GOLDEN / "cells.h5ad")


@pytest.fixture(scope="module")
def model():
    return UCE.from_checkpoint(GOLDEN / "checkpoint")


@pytest.fixture(scope="module")
def alone(model, expected):
    """Run A's sentences through the product."""
    with torch.inference_mode():
        return model.forward(TokenBatch(expected["A_tokens"], None, expected["A_mask"]))


def pool_of(model, cells, expected, run):
    part = cells[expected[f"{run}_obs_names"], expected[f"{run}_var_names"]]
    ids = model.match_genes(part.var_names.tolist()).ids
    return Pool.of(part.X.tocsr(), ids, model.genome), ids


def official_outputs(model, tokens, mask):
    """The authors' forward on a recorded batch: padding has 1 added to its logits, and is not excluded.

    Transformer and decoder output (n, L, d).
    """
    padding = 1 - torch.as_tensor(mask).float()
    with torch.inference_mode():
        embedded = model.network.embed(torch.as_tensor(tokens).long())
        hidden = model.network.transformer_encoder(embedded, padding[:, None, None, :])
        return hidden.numpy(), model.network.decoder(hidden).numpy()


@pytest.mark.parametrize("run", ["A", "B"])
def test_gene_tables(model, cells, expected, run):
    _, ids = pool_of(model, cells, expected, run)
    offset = model.gene_tables.chromosome_offset
    np.testing.assert_array_equal(ids, expected[f"{run}_token_row"])
    np.testing.assert_array_equal(model.genome.chromosome[ids] - offset, expected[f"{run}_chrom_codes"])
    assert offset == expected["chrom_token_offset"]
    by_start = np.lexsort((expected[f"{run}_starts"], expected[f"{run}_chrom_codes"]))
    assert (np.diff(model.genome.rank[ids][by_start]) > 0).all()
    if run == "B":  # without the filter these are the genes we read
        match = model.match_genes(cells.var_names.tolist())
        np.testing.assert_array_equal(match.table.names[match.columns], expected["B_var_names"])
        np.testing.assert_array_equal(match.ids >= 0, cells.var["has_protein_embedding"])


@pytest.mark.parametrize("run", ["A", "B"])
def test_recorded_draws_give_the_recorded_sentences(model, cells, expected, run):
    pool, ids = pool_of(model, cells, expected, run)
    n, offset = pool.weights.shape[0], model.gene_tables.chromosome_offset
    drawn = np.zeros((n, len(model.token_names)), np.int64)
    np.add.at(drawn, (np.arange(n)[:, None], ids[expected[f"{run}_choice_idx"]]), 1)
    order = np.zeros((n, len(pool.chromosomes)))
    for cell, codes in enumerate(expected[f"{run}_chrom_order"]):
        codes = codes[codes >= 0]
        order[cell, np.searchsorted(pool.chromosomes, codes + offset)] = np.arange(len(codes))
    batch = sentences(pool, drawn[pool.cell, pool.genes[pool.weights.indices]], order, model.context_length)
    np.testing.assert_array_equal(batch.gene_ids, expected[f"{run}_tokens"])
    np.testing.assert_array_equal(batch.mask, expected[f"{run}_mask"].astype(bool))
    np.testing.assert_array_equal(batch.lengths(), expected[f"{run}_seq_len"])


def test_draws_follow_the_official_weights(model, cells, expected):
    """numpy's own choice, as the authors call it, on the same uniform numbers."""
    pool, _ = pool_of(model, cells, expected, "A")
    draws = np.random.default_rng(0).random((pool.weights.shape[0], 1024))
    times = times_drawn(pool, draws)
    counts = cells[expected["A_obs_names"], expected["A_var_names"]].X.tocsr()
    column = np.argsort(model.genome.rank[expected["A_token_row"]])
    for cell, u in enumerate(draws):
        weights = np.log1p(counts[cell].toarray().ravel()[column].astype(np.int64)).astype(np.float32)
        ends = np.cumsum((weights / weights.sum()).astype(np.float64))
        choice = np.searchsorted(ends / ends[-1], u, side="right")
        entries = slice(pool.indptr[cell], pool.indptr[cell + 1])
        ours = np.zeros(len(column), np.int64)
        ours[pool.weights.indices[entries]] = times[entries]
        # Their weights are float32: a draw next to an edge may fall to the neighbour.
        assert np.abs(ours - np.bincount(choice, minlength=len(column))).sum() <= 2


def test_cell_level(model, alone, expected):
    np.testing.assert_allclose(alone.cell, expected["A1_cell"], **CLOSE)
    offset = model.gene_tables.chromosome_offset
    np.testing.assert_allclose(F.normalize(alone.tokens[:, 0], dim=1), expected["A1_cell"], **CLOSE)
    few = slice(0, 3)
    tokens, genes = alone.tokens[few].numpy(), expected["A_tokens"][few]
    with torch.inference_mode():
        for readout, ours in (
            ("cls-raw", tokens[:, 0]),
            ("mean", [t[(ids > 3) & (ids < offset)].mean(axis=0) for t, ids in zip(tokens, genes, strict=True)]),
        ):
            model.readout = readout
            output = model.forward(TokenBatch(genes, None, expected["A_mask"][few]))
            np.testing.assert_allclose(output.cell, np.asarray(ours), **CLOSE)
    model.readout = "cls"


def test_official_padding_is_seen_and_ours_is_not(model, alone, expected):
    assert (expected["A_batch_padded_len"] == expected["A_tokens"].shape[1]).all()
    some = [0, expected["A_seq_len"].argmin()]
    _, outputs = official_outputs(model, expected["A_tokens"][some], expected["A_mask"][some])
    official = outputs[:, 0] / np.linalg.norm(outputs[:, 0], axis=1, keepdims=True)
    np.testing.assert_allclose(official, expected["A_cell"][some], **CLOSE)
    assert np.abs(expected["A_cell"] - expected["A1_cell"]).max() > 1e-4
    full = expected["A_mask"].all(axis=1)
    assert full.any()
    np.testing.assert_allclose(alone.cell[full], expected["A_cell"][full], **CLOSE)


def test_official_batches(model, expected):
    """Cell and token level of run B with the recorded companions; ours wherever a cell is as long as its batch."""
    with torch.inference_mode():
        ours = model.forward(TokenBatch(expected["B_tokens"], None, expected["B_mask"]))
    size, compared = int(expected["B_args"][2]), 0
    for i, width in enumerate(expected["B_batch_padded_len"]):
        rows = np.arange(i * size, min((i + 1) * size, 36))
        batch = (expected[f"B_{part}"][rows, :width] for part in ("tokens", "mask"))
        hidden, outputs = official_outputs(model, *batch)
        official = outputs[:, 0] / np.linalg.norm(outputs[:, 0], axis=1, keepdims=True)
        np.testing.assert_allclose(official, expected["B_cell"][rows], **CLOSE)
        for row in np.intersect1d(rows, expected["B_pick"]):
            np.testing.assert_allclose(hidden[row - rows[0]], expected[f"B_encoder_output_{row}"], **CLOSE)
            np.testing.assert_allclose(outputs[row - rows[0]], expected[f"B_gene_output_{row}"], **CLOSE)
            length = expected["B_seq_len"][row]
            assert not ours.tokens[row, length:].any()
            if length == width:
                np.testing.assert_allclose(ours.tokens[row, :length], expected[f"B_gene_output_{row}"], **CLOSE)
                compared += 1
    assert compared


@pytest.mark.parametrize(
    ("gene_vectors", "array"),
    [
        ("encoder", "static_encoder_of_normalized"),
        ("protein", "static_protein"),
        ("query", "static_gene_embedding_layer_normalized"),
    ],
)
def test_gene_level(model, cells, expected, gene_vectors, array):
    model.gene_vectors = gene_vectors
    names, matrix = model.gene_table()
    genes = model.embed_genes([*cells.var_names, "not-a-gene"])
    model.gene_vectors = "encoder"
    assert len(names) == 800
    tokens = np.flatnonzero(model.token_names != "")
    assert names == model.token_names[tokens].tolist()
    rows = np.searchsorted(tokens, expected["static_token_row"])
    np.testing.assert_allclose(matrix[rows], expected[array], **CLOSE)
    np.testing.assert_array_equal(genes.names, expected["B_var_names"])
    assert len(genes.missing) == 81


def test_binary_decoder_and_loss(model, expected):
    network, cells = model.network, torch.as_tensor(expected["A_cell"])
    rows = torch.as_tensor(expected["static_token_row"]).long()
    label = torch.as_tensor(expected["predict_label"]).float()
    with torch.inference_mode():
        for name, proteins in (("raw_pe", network.pe_embedding(rows)), ("normalized_pe", network.proteins(rows))):
            logits = network.expression_logits(cells, proteins.expand(len(cells), -1, -1))
            np.testing.assert_allclose(logits, expected[f"predict_{name}"], **CLOSE)
            loss = F.binary_cross_entropy_with_logits(logits, label)
            np.testing.assert_allclose(float(loss), expected[f"bce_{name}"], **CLOSE)


def test_loss_of_recorded_sentences(model, expected):
    """The objective itself on recorded sentences and genes: the loss of the cells as they are alone."""
    some = np.arange(4)
    tokens, mask = (torch.as_tensor(expected[f"A_{part}"][some]) for part in ("tokens", "mask"))
    questions = torch.as_tensor(expected["static_token_row"]).long().expand(len(some), -1)
    label = torch.as_tensor(expected["predict_label"][some])
    with torch.inference_mode():
        total = objective.losses(model.network, tokens.long(), mask.bool(), questions, label)
        logits = model.network.expression_logits(
            torch.as_tensor(expected["A1_cell"][some]), model.network.proteins(questions)
        )
        loss = F.binary_cross_entropy_with_logits(logits, label.float())
    np.testing.assert_allclose(float(total / (48 * len(some))), float(loss), **CLOSE)
    # A's own companions move a cell by 4e-4 at most, and the loss by less.
    logits = torch.as_tensor(expected["predict_normalized_pe"][some])
    official = F.binary_cross_entropy_with_logits(logits, label.float())
    np.testing.assert_allclose(float(loss), float(official), atol=1e-3)


def test_official_cells_with_our_own_draws_lie_next_to_the_official_ones(model, cells, expected):
    model.sample_size = 64
    ours = model.embed_cells(cells)
    batch = model.tokenize(cells.X.tocsr(), cells.var_names.tolist())
    model.sample_size = 1024
    assert ours.shape == (36, 60)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    own = (ours * expected["B_cell"]).sum(axis=1)
    assert own.min() > 0.9
    assert own.mean() > 0.98
    one_gene = batch.take(np.array([7])).gene_ids[0]  # nothing is left to chance
    np.testing.assert_array_equal(one_gene, expected["B_tokens"][7, : len(one_gene)])
    # The weights know no cell's length: three genes and 64 draws of them give the recorded ends of the sentence.
    assert set(batch.gene_ids[2]) - {0} == set(expected["B_tokens"][2]) - {0}
    assert batch.lengths()[2] == expected["B_seq_len"][2]
