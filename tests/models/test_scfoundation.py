"""scFoundation against the numbers of the authors' code (tests/golden/scfoundation)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.scfoundation import objective, performer
from tests.golden.scfoundation import case
from tests.golden.scfoundation.case import CLOSE

CELLS = {
    "cell_ce_F_t4_all": {"variant": "cell"},
    "cell_ce_F_t4_max": {"readout": "max"},
    "cell_ce_F_f1_all": {"target": "f1"},
    "cell_ce_F_f2.5_all": {"target": "f2.5", "readout": "all"},
    "cell_rde_F_a1_all": {"variant": "rde", "target": "a1"},
    "cell_rde_F_t4.5_max": {"variant": "rde", "target": "t4.5", "readout": "max"},
}


@pytest.fixture(scope="module")
def expected():
    return case.expected()


@pytest.fixture
def whole_batch_maximum(monkeypatch):
    """The authors' stabiliser, which makes a cell depend on its companions; the product has the cell's own."""
    monkeypatch.setattr(performer, "key_maximum", lambda scores: scores.amax())


def forward(model, batch):
    with torch.inference_mode():
        return model.forward(batch)


# -- tokens ---------------------------------------------------------------------------------------------------


def test_tokens_of_counts(expected):
    batch = case.model().tokenize(case.counts(), case.genes())
    np.testing.assert_array_equal(batch.mask.sum(axis=1), expected["tok_len"])
    np.testing.assert_array_equal(np.where(batch.mask, batch.gene_ids, -1), expected["tok_ids"])
    np.testing.assert_array_equal(batch.values, expected["tok_values"])


@pytest.mark.parametrize("target", ["t4", "f1", "f2.5", "a1"])
def test_depth_tokens(expected, target):
    batch = case.model(target=target).tokenize(case.counts(), case.genes())
    np.testing.assert_array_equal(case.depth_tokens(batch), expected[f"tok_TS_{target}"])


#: numpy's float32 logarithm differs in the last bit between CPUs with AVX-512 (where this was recorded) and without.
LAST_BIT = {"rtol": 3e-7, "atol": 0}


def test_tokens_of_normalised_values(expected):
    batch = case.model().tokenize(case.log_normalised(case.cells().X), case.genes(), normalised=True)
    np.testing.assert_array_equal(np.where(batch.mask, batch.gene_ids, -1), expected["tok_ids"])
    np.testing.assert_allclose(batch.values, expected["tokT_values"], **LAST_BIT)
    np.testing.assert_allclose(case.depth_tokens(batch), expected["tokT_TS_t4"], **LAST_BIT)


def bulk(readout):
    depth = case.model().median_total(case.counts(), case.genes())
    return case.model(input_type="bulk", bulk_depth=depth, readout=readout)


def test_tokens_of_bulk(expected):
    batch = bulk("max").tokenize(case.counts(), case.genes())
    np.testing.assert_allclose(batch.values, expected["tokbF_values"], **LAST_BIT)
    np.testing.assert_allclose(case.depth_tokens(batch), expected["tokbF_TS"], **LAST_BIT)
    values = case.log_normalised(case.cells().X)
    batch = bulk("max").tokenize(values, case.genes(), normalised=True)
    np.testing.assert_allclose(case.depth_tokens(batch), expected["tokbT_TS"], **LAST_BIT)


# -- cell level -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_cell_vectors(expected, name):
    model = case.model(**CELLS[name])
    vectors = model.embed_cells(case.cells())
    assert vectors.shape == expected[name].shape == (32, model.embedding_size)
    np.testing.assert_allclose(vectors, expected[name], **CLOSE)


def test_cell_vectors_of_normalised_values(expected):
    values = case.log_normalised(case.cells().X)
    batch = case.model().tokenize(values, case.genes(), normalised=True)
    np.testing.assert_allclose(forward(case.model(), batch).cell, expected["cell_ce_T_t4_all"], **CLOSE)
    batch = bulk("all").tokenize(values, case.genes(), normalised=True)
    np.testing.assert_allclose(forward(bulk("all"), batch).cell, expected["bulk_ce_T_all"], **CLOSE)


def test_bulk_vectors(expected):
    np.testing.assert_allclose(bulk("max").embed_cells(case.cells()), expected["bulk_ce_F_max"], **CLOSE)


def test_recorded_tokens_give_the_recorded_outputs(expected):
    batch = case.recorded_tokens()  # -1 where there is no token
    for readout in ("all", "max"):
        output = forward(case.model(readout=readout), batch)
        np.testing.assert_allclose(output.cell, expected[f"cell_ce_F_t4_{readout}"], **CLOSE)
    for row in (3, 12):
        tokens = expected[f"encoder_out_cell{row}"]
        np.testing.assert_allclose(output.tokens[row, : len(tokens)], tokens, **CLOSE)
        assert not output.tokens[row, len(tokens) :].any()
    bulk_tokens = case.recorded_tokens(values="tokbF_values")
    np.testing.assert_allclose(forward(bulk("max"), bulk_tokens).cell, expected["bulk_ce_F_max"], **CLOSE)


def test_value_encoder(expected):
    encoder, values = case.model().network.token_emb, torch.as_tensor(expected["tokemb_values"])
    with torch.inference_mode():
        found = encoder(values)
        # What the authors mark by the values 102 and 103.
        found = torch.where((values == 102).unsqueeze(-1), encoder.emb_mask.weight, found)
        found = torch.where((values == 103).unsqueeze(-1), encoder.emb_pad.weight, found)
        np.testing.assert_allclose(found, expected["tokemb_out"], **CLOSE)
        np.testing.assert_allclose(encoder.shares(values), expected["tokemb_binweight"], **CLOSE)


# -- gene level -----------------------------------------------------------------------------------------------


def test_static_genes(expected):
    model, rows = case.model(), expected["static_rows"]
    names, matrix = model.gene_table()
    assert names == model.symbols.tolist()
    assert matrix.shape == (19264, 32)
    np.testing.assert_array_equal(matrix[rows], expected["static_gene_emb"])
    known = [row for row in rows.tolist() if not names[row].startswith("NONE")][:3]
    found = model.embed_genes([names[known[2]], "not-a-gene", names[known[0]]])
    assert found.missing.tolist() == ["not-a-gene"]
    np.testing.assert_array_equal(found.matrix, matrix[[known[2], known[0]]])


@pytest.fixture(scope="module")
def gene_model():
    return case.model("gene", target="f1")


@pytest.fixture(scope="module")
def some(expected):
    return case.counts()[expected["gene_cells"]]


def test_contextual_genes(expected, gene_model, some):
    everything = gene_model.contextual_genes(some, case.genes(), gene_model.symbols.tolist())
    np.testing.assert_allclose(everything[:, expected["gene_rows"]], expected["gene_F_f1"], **CLOSE)
    stats = np.stack([everything.mean(axis=1), everything.std(axis=1)])
    np.testing.assert_allclose(stats, expected["gene_F_f1_stats"], **CLOSE)


def test_predicted_expression(expected, gene_model, some):
    names = gene_model.symbols[expected["gene_rows"]].tolist()
    found = gene_model.contextual_genes(some, case.genes(), names, expression=True)
    np.testing.assert_allclose(found, expected["gene_expression_F_f1"], **CLOSE)
    assert gene_model.contextual_genes(some[:1], case.genes(), names[3:5]).shape == (1, 2, 24)


def test_decoder_vectors_at_token_level(expected, gene_model, some):
    model = case.model(context="decoder", target="f1")
    assert model.submodel == "gene"
    batch = gene_model.tokenize(some, case.genes())
    tokens = forward(model, batch).tokens
    assert tokens.shape == (*batch.mask.shape, 24)
    row_of = {row: place for place, row in enumerate(expected["gene_rows"].tolist())}
    seen = 0
    for cell, column in np.argwhere(batch.mask):
        place = row_of.get(int(batch.gene_ids[cell, column]))
        if place is not None:
            np.testing.assert_allclose(tokens[cell, column], expected["gene_F_f1"][cell, place], **CLOSE)
            seen += 1
    assert seen > 100
    assert not tokens[~torch.as_tensor(batch.mask)].any()


def log_normalised_in_list(expected, model):
    """Mode A: log1p(CP10k) over the genes of the list, and the totals beside it."""
    known = model.match_genes(case.genes()).columns
    values = case.log_normalised(case.cells().X[:, known][expected["gene_cells"]])
    return values, [case.genes()[column] for column in known], {"normalised": True, "totals": expected["A_total"]}


def test_genes_of_a_whole_batch_depend_on_the_companions(expected, gene_model, whole_batch_maximum):
    values, genes, how = log_normalised_in_list(expected, gene_model)
    batch = gene_model.tokenize(values, genes, **how).tensors()
    with torch.inference_mode():
        encoded = gene_model.network.encode(batch.gene_ids, batch.values, batch.mask)
        decoded = gene_model.network.decode(encoded, batch.gene_ids, batch.mask)[:, :-2].numpy()
    np.testing.assert_allclose(decoded[:, expected["gene_rows"]], expected["gene_batch_A_f1"], **CLOSE)
    stats = np.stack([decoded.mean(axis=1), decoded.std(axis=1)])
    np.testing.assert_allclose(stats, expected["gene_batch_A_f1_stats"], **CLOSE)


def test_genes_of_a_cell_alone_do_not(expected, gene_model):
    values, genes, how = log_normalised_in_list(expected, gene_model)
    names = gene_model.symbols[expected["gene_rows"]].tolist()
    alone = gene_model.contextual_genes(values, genes, names, **how)
    np.testing.assert_allclose(alone, expected["gene_F_f1"], **CLOSE)  # the same cells, read in mode F
    difference = np.abs(alone - expected["gene_batch_A_f1"]).max()
    np.testing.assert_allclose(difference, expected["gene_batch_vs_gene_maxdiff"], rtol=1e-3)


# -- losses ---------------------------------------------------------------------------------------------------


def recorded_mask(expected, model, some):
    batch = model.tokenize(some, case.genes()).tensors()
    n_positions = model.network.sizes.n_positions
    hidden = torch.zeros(len(batch), n_positions, dtype=torch.bool)
    hidden[tuple(torch.as_tensor(expected["mask_rc"].T, dtype=torch.int64))] = True
    targets = torch.zeros(len(batch), n_positions + 1).scatter(1, batch.gene_ids, batch.values)[:, :-1]
    shown = batch.mask & ~F.pad(hidden, (0, 1)).gather(1, batch.gene_ids)
    return objective.MaskedCells(batch.gene_ids, batch.values, shown, hidden, targets)


def test_recorded_masks_give_the_recorded_loss(expected, gene_model, some, whole_batch_maximum):
    masked = recorded_mask(expected, gene_model, some)
    with torch.inference_mode():
        predicted = objective.predict(gene_model.network, masked)[masked.hidden].numpy()
    # Row by row, as the pairs are recorded.
    order = np.lexsort(expected["mask_rc"].T[::-1])
    np.testing.assert_allclose(predicted, expected["mask_pred"][order], **CLOSE)
    np.testing.assert_array_equal(masked.targets[masked.hidden].numpy(), expected["mask_true"][order])
    loss = np.square(predicted - expected["mask_true"][order]).mean()
    np.testing.assert_allclose(loss, expected["mask_mse"], **CLOSE)


def test_loss_adds_up_over_portions(expected, gene_model, some, monkeypatch):
    masked, network = recorded_mask(expected, gene_model, some), gene_model.network
    with torch.inference_mode():
        one_by_one = objective.squared_errors(network, masked)
        monkeypatch.setattr("models.scfoundation.network.DECODER_POSITIONS", 10**6)
        together = objective.squared_errors(network, masked)
    n = len(expected["mask_rc"])
    np.testing.assert_allclose(one_by_one, together, rtol=1e-6)
    # With each cell's own key maximum the loss moves by 1e-4.
    np.testing.assert_allclose(together / n, expected["mask_mse"], rtol=2e-4)


# -- companions -----------------------------------------------------------------------------------------------


def test_pooling_of_the_cell_type_example_reads_padding(expected):
    """Its features: no T and S, and a maximum over padding, whose position is the row of gene 103."""
    network, rows = case.model("gene").network, expected["gene_cells"]
    ids, lengths = expected["tok_ids"][rows], expected["tok_len"][rows] - 2
    mask = torch.arange(int(lengths.max())) < torch.as_tensor(lengths)[:, None]
    ids = torch.as_tensor(ids[:, : mask.shape[1]].astype(np.int64)).masked_fill(~mask, 103)
    values = torch.as_tensor(expected["tok_values"][rows][:, : mask.shape[1]])
    with torch.inference_mode():
        embedded = torch.where(mask.unsqueeze(-1), network.token_emb(values), network.token_emb.emb_pad.weight)
        tokens = network.encoder(embedded + network.pos_emb(ids), mask[:, None, None, :])
    np.testing.assert_allclose(tokens.amax(dim=1), expected["probe_pooled"], **CLOSE)


def test_parameters_have_the_official_names(expected, tmp_path):
    case.model("gene").save(tmp_path)
    ours, theirs = (
        torch.load(folder / "models.ckpt", weights_only=True)["gene"] for folder in (tmp_path, case.CHECKPOINT)
    )
    assert ours["config"] == theirs["config"]
    assert {key: tensor.shape for key, tensor in ours["state_dict"].items()} == {
        key: tensor.shape for key, tensor in theirs["state_dict"].items()
    }
    assert all((tensor == theirs["state_dict"][key]).all() for key, tensor in ours["state_dict"].items())
    assert {f"model.{name}" for name in expected["probe_unfrozen"].tolist()} <= set(ours["state_dict"])
