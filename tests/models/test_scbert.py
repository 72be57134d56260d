"""scBERT against the numbers of the authors' code (tests/golden/scbert)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.tokens import TokenBatch
from models.scbert import objective, performer, tokenizer
from models.scbert.config import MASK, MIN_GENES
from models.scbert.performer import take
from tests.golden.scbert import case
from tests.golden.scbert.case import CLOSE

CELLS = {
    "mean-genes": "cell_mean_genes",
    "mean-all": "cell_mean_all",
    "last-token": "cell_last_token",
    "max-genes": "cell_max_genes",
    "mean-expressed": "cell_mean_expressed",
}


@pytest.fixture(scope="module")
def expected():
    return case.expected()


@pytest.fixture
def whole_batch_maximum(monkeypatch):
    """The authors' stabiliser, which makes a cell depend on its companions; the product has the cell's own."""
    monkeypatch.setattr(performer, "key_maximum", lambda maxima: maxima.amax().expand(len(maxima), 1, 1, 1, 1))


def encode(network, levels):
    """Contextual vectors of cells that are computed together."""
    with torch.inference_mode():
        return network.encode(levels)


def encode_all(model):
    """Contextual vectors of all cells, (36, 901, 40), a few at a time."""
    return torch.cat([encode(model.network, some) for some in case.levels(slice(None)).split(4)])


# -- tokens ---------------------------------------------------------------------------------------------------


def test_tokens_of_whole_panels(expected):
    batch = case.model().tokenize(case.counts(), case.genes(), whole_panel=True)
    np.testing.assert_array_equal(batch.values, expected["tokens"])
    np.testing.assert_array_equal(batch.gene_ids, np.tile(np.arange(901), (36, 1)))
    assert batch.mask.all() and batch.values.dtype == np.float32


def test_tokens_are_the_expressed_genes_and_the_appended_one(expected):
    model = case.model()
    batch = model.tokenize(case.counts(), case.genes())
    np.testing.assert_array_equal(model.symbols, expected["panel_genes"])
    filled = model.network.panel(*(torch.as_tensor(a) for a in (batch.gene_ids, batch.values.astype(int), batch.mask)))
    np.testing.assert_array_equal(filled, expected["tokens"])
    sizes = batch.mask.sum(1)
    assert sizes.tolist()[3:6] == [4, 2, 889]
    np.testing.assert_array_equal(batch.gene_ids[np.arange(36), sizes - 1], 900)
    panel = tokenizer.on_panel(case.counts(), model.match_genes(case.genes()).ids, 900)
    np.testing.assert_array_equal(np.diff(panel.indptr) >= MIN_GENES, expected["kept_min_genes_200"])


# -- cell level -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoded():
    return encode_all(case.model())


@pytest.mark.parametrize("readout", CELLS)
def test_cell_vectors(expected, encoded, readout):
    model, wanted = case.model(readout=readout), expected[CELLS[readout]]
    read = model.network.read_out(encoded, case.levels(slice(None)), readout)
    np.testing.assert_allclose(read, wanted, **CLOSE)
    some = [3, 4, 5, 9, 14]
    vectors = model.embed_cells(case.cells()[some].copy())
    assert vectors.shape == (5, model.embedding_size) == (5, 40)
    np.testing.assert_allclose(vectors, wanted[some], **CLOSE)
    # With the token vectors, and from the authors' array.
    batch = TokenBatch(np.tile(np.arange(901), (2, 1)), expected["tokens"][3:5].astype(np.float32))
    with torch.inference_mode():
        np.testing.assert_allclose(model.forward(batch).cell, wanted[3:5], **CLOSE)


def test_cells_of_a_file_and_one_at_a_time(expected):
    model = case.model()
    assert model.readout == "mean-genes"
    np.testing.assert_allclose(model.embed_cells(case.cells()), expected["cell_mean_genes"], **CLOSE)
    batch = model.tokenize(case.counts(), case.genes())
    with torch.inference_mode():
        alone = np.concatenate([model.forward_cells(batch.take(np.array([row]))) for row in range(0, 36, 3)])
    np.testing.assert_allclose(alone, expected["cell_mean_genes"][::3], **CLOSE)


def test_attention_sums(expected):
    model = case.model(readout="attention")
    vectors = model.embed_cells(case.cells()[expected["attn_cells"]].copy())
    assert vectors.shape == (7, 901)
    np.testing.assert_allclose(vectors, expected["attn_sum"], rtol=2e-3)
    np.testing.assert_allclose(vectors.sum(1), 1, rtol=1e-5)
    with torch.inference_mode():
        batch = model.tokenize(case.counts()[expected["attn_cells"][:2]], case.genes())
        np.testing.assert_allclose(model.forward(batch).cell, vectors[:2], rtol=1e-5)


# -- gene level -----------------------------------------------------------------------------------------------


def test_contextual_genes_and_predictions(expected):
    model, rows = case.model(), expected["gene_rows"]
    batch = model.tokenize(case.counts()[expected["gene_cells"]], case.genes(), whole_panel=True)
    with torch.inference_mode():
        tokens = model.forward(batch).tokens
        np.testing.assert_allclose(tokens[:, rows], expected["gene_context"], **CLOSE)
        np.testing.assert_allclose(model.network.to_out(tokens)[:, rows], expected["mlm_logits"], **CLOSE)


def test_token_level_is_of_the_expressed_genes(expected):
    model, cells = case.model(), case.cells()[expected["gene_cells"]].copy()
    found = model.embed_tokens(cells)
    vector = dict(
        zip(model.symbols[expected["gene_rows"][:-1]], np.moveaxis(expected["gene_context"], 1, 0), strict=False)
    )
    seen = 0
    for cell in range(cells.n_obs):
        place = slice(found.indptr[cell], found.indptr[cell + 1])
        expressed = cells.var_names[np.asarray(cells.X[cell].todense()).ravel() > 0]
        assert set(found.genes[place]) == set(expressed) & set(model.symbols)
        for gene, row in zip(found.genes[place], found.matrix[place], strict=True):
            if gene in vector:
                np.testing.assert_allclose(row, vector[gene][cell], **CLOSE)
                seen += 1
    assert seen > 50


def test_feed_forward_of_every_layer(expected):
    network, outputs = case.model().network, []
    hooks = [layer[1].fn.register_forward_hook(lambda _, __, out: outputs.append(out[0])) for layer in network.layers]
    encode(network, case.levels([0]))
    for hook in hooks:
        hook.remove()
    np.testing.assert_allclose(torch.stack(outputs)[:, expected["gene_rows"]], expected["ff_out_cell0"], **CLOSE)


def test_static_tables(expected):
    model = case.model()
    names, matrix = model.gene_table()
    assert names == expected["panel_genes"].tolist()
    np.testing.assert_array_equal(matrix, expected["static_gene_emb"])
    np.testing.assert_array_equal(model.network.token_emb.weight, expected["static_token_emb"])
    found = model.embed_genes([names[7], "not-a-gene", names[2]])
    assert found.missing.tolist() == ["not-a-gene"]
    np.testing.assert_array_equal(found.matrix, matrix[[7, 2]])


# -- companions, and the loss, which the authors take of whole batches ------------------------------------------


def test_a_batch_of_the_authors_depends_on_the_companions(expected, whole_batch_maximum):
    network = case.model().network
    together = encode(network, case.levels(range(8)))
    np.testing.assert_allclose(together.mean(1), expected["cell_mean_all_batch8"], **CLOSE)
    alone = torch.cat([encode(network, case.levels([row])) for row in range(8)])
    np.testing.assert_allclose((together - alone).abs().max(), expected["batch8_maxdiff"], rtol=1e-3)


def test_a_batch_of_ours_does_not(expected, encoded):
    together = encode(case.model().network, case.levels(range(8)))
    np.testing.assert_allclose(together, encoded[:8], **CLOSE)
    np.testing.assert_allclose(together.mean(1), expected["cell_mean_all"][:8], **CLOSE)


def masked(expected):
    """The recorded masks in our form: positions that are predicted, padded to a rectangle."""
    shown, labels = case.levels(slice(None), "mask_input"), case.levels(slice(None), "mask_labels")
    width = int((labels != MASK).sum(1).max())
    at = (labels == MASK).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    return objective.MaskedCells(shown, at, labels.gather(1, at))


def test_recorded_masks_give_the_recorded_loss(expected, whole_batch_maximum):
    network, cells = case.model().network, masked(expected)
    with torch.inference_mode():
        logits = network.to_out(network.encode(cells.levels))
        np.testing.assert_allclose(logits[:, expected["gene_rows"]], expected["mask_logits"], **CLOSE)
        predicted = logits[..., 1:-1].argmax(-1) + 1
        np.testing.assert_array_equal(predicted, expected["mask_pred"])
        loss = objective.cross_entropy(network, cells) / cells.count
    np.testing.assert_allclose(loss, expected["mask_loss"], atol=1e-5, rtol=1e-4)


def test_as_many_tokens_are_predicted_as_the_authors_choose(expected):
    model, rows = case.model(), expected["mask_cells"]
    batch = model.tokenize(case.counts()[rows], case.genes()).tensors()
    batch = TokenBatch(batch.gene_ids, batch.values.long(), batch.mask)
    ours = objective.draw(batch, model.network, torch.Generator().manual_seed(0))
    theirs = masked(expected)
    np.testing.assert_array_equal((ours.targets != MASK).sum(1), (theirs.targets != MASK).sum(1))
    loss = model.pretraining_loss(batch, torch.Generator().manual_seed(0))
    assert loss.counts == {"cross_entropy": theirs.count}
    with torch.inference_mode():
        assert 0.5 < float(loss.total) / float(expected["mask_loss"]) < 2


# -- the fine-tuned network -------------------------------------------------------------------------------------


def test_annotation_head(expected):
    model = case.model(case.TUNED, readout="annotation")
    vectors = model.embed_cells(case.cells()[:8].copy())
    assert vectors.shape == (8, model.embedding_size) == (8, 24)
    np.testing.assert_allclose(vectors, expected["ft_fc2_relu"][:8], **CLOSE)
    x, head = encode_all(model), model.network.to_out
    with torch.inference_mode():
        np.testing.assert_allclose(head.positions(x[:8]), expected["ft_conv_relu"], **CLOSE)
        np.testing.assert_allclose(head.hidden(x), expected["ft_fc1_relu"], **CLOSE)
        np.testing.assert_allclose(head.vector(x), expected["ft_fc2_relu"], **CLOSE)
        logits = head(x)
    np.testing.assert_allclose(logits, expected["ft_logits"], **CLOSE)
    probability = logits.softmax(1).numpy()
    np.testing.assert_allclose(probability, expected["ft_prob"], **CLOSE)
    np.testing.assert_array_equal(probability.argmax(1), expected["ft_argmax"])
    named = np.where(probability.max(1) < 0.5, "Unassigned", expected["ft_classes"][probability.argmax(1)])
    np.testing.assert_array_equal(named, expected["ft_pred"])
    np.testing.assert_array_equal(np.flatnonzero(named == "Unassigned"), expected["ft_novel"])


def test_encoder_of_the_fine_tuned_network(expected):
    model = case.model(case.TUNED, readout="mean-all")
    assert model.variant == "finetune_best"
    found = model.embed_cells(case.cells()[[0, 5]].copy())
    np.testing.assert_allclose(found, expected["ft_cell_mean_all_0_5"], **CLOSE)


def test_steps_of_the_authors_fine_tuning(expected, whole_batch_maximum):
    """Second-to-last layer, last norm and head, Adam, cells 0, 1, 2 as one batch: gradients are the authors'."""
    from models.scbert.adapter import ScBert

    network = ScBert.from_checkpoint(case.TUNED).network.train()
    trained = set(expected["ft_trainable"].tolist())
    parameters = dict(network.named_parameters())
    assert trained | set(expected["ft_frozen"].tolist()) == {*parameters, "pos_emb.emb.weight"}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    optimizer = torch.optim.Adam([parameters[name] for name in expected["ft_trainable"].tolist()], lr=1e-4)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(network.to_out(network.encode(case.levels([0, 1, 2]))), torch.arange(3))
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(losses[0], expected["ft_step_losses"][0], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(losses, expected["ft_step_losses"], rtol=1e-3)


# -- the files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["panglao_pretrain.pth", "finetune_best.pth"])
def test_parameters_have_the_official_names(expected, file, tmp_path):
    model = case.model(case.CHECKPOINT / file)
    model.save(tmp_path)
    ours = torch.load(tmp_path / "panglao_pretrain.pth", weights_only=True)["model_state_dict"]
    theirs = torch.load(case.CHECKPOINT / file, weights_only=True)["model_state_dict"]
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in ours.items()} == {
        key: (tensor.shape, tensor.dtype) for key, tensor in theirs.items()
    }
    assert model.load_report.full and len(model.load_report.matched) == len(theirs)
    for key, tensor in theirs.items():
        assert (ours[key].float() == tensor.float()).all(), key
    calls = dict(zip(("panglao_pretrain.pth", "finetune_best.pth"), expected["calls_since_last_redraw"], strict=True))
    assert int(model.network.performer.calls_since_last_redraw) == calls[file]


def test_last_layer_at_some_positions():
    network, at = case.model().network, torch.tensor([[3, 900, 3, 41]])
    some = case.levels([7])
    with torch.inference_mode():
        np.testing.assert_allclose(network.encode(some, at), take(network.encode(some), at), atol=1e-5)
