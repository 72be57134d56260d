"""CellFM's attention scores: what the network mixes with, by brute force; shares, genes, types, ranks."""

import anndata
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from harness import GeneTable, InputError
from models.cellfm.attention import attention, attention_by_type, cls_attention, head_attention
from tests.golden.cellfm.case import WEIGHTS, CellFM, cells, counts, load


def softmax_model():
    genes = GeneTable.from_names(load("base").model.symbols.tolist())
    return CellFM.from_scratch(genes, size="tiny", seed=2, attention="softmax", norm="prenorm")


@pytest.fixture(params=[*WEIGHTS, "softmax"])
def model(request):
    return softmax_model() if request.param == "softmax" else load(request.param).model


@pytest.fixture
def batch(model):
    rows = np.array([0, 2, 3, 5, 7])
    return model.tokenize(counts()[rows], cells().var_names.tolist())


def mixture(model, batch, layer):
    """What the network itself mixes in a layer, before the norm, and the values it mixes: (n, heads, 1 + L, dh)."""
    attn, seen = model.network.encoder[layer].attn, {}
    plain = attn.mix

    def mix(q, k, v, keys):
        seen["v"], seen["o"] = v, plain(q, k, v, keys)
        return seen["o"]

    attn.mix = mix
    try:
        model.forward(batch)
    finally:
        del attn.mix
    return seen["v"], seen["o"]


def test_scores_are_what_the_network_mixes_with(model, batch):
    n = batch.mask.sum(1)
    for layer in range(model.config.layers):
        v, o = mixture(model, batch, layer)
        found = model.attention(batch, layer)
        # Of CLS the scores tell what it reads of the genes; what it reads of itself is the rest.
        attn = model.network.encoder[layer].attn
        x, keys = model.network.layer_inputs(
            *(torch.as_tensor(a) for a in (batch.gene_ids, batch.values, batch.mask)), layer
        )
        x = model.network.encoder[layer].attended(x)
        whole = attn.scores(x, keys, x)
        assert_allclose(whole @ v, o, rtol=1e-3, atol=1e-3 * float(o.abs().max()))
        for i, genes in enumerate(n):
            assert_array_equal(found.gene_to_gene[i, :, :genes, :genes], whole[i, :, 1 : genes + 1, 1 : genes + 1])
            assert_array_equal(found.cls_to_gene[i, :, :genes], whole[i, :, 0, 1 : genes + 1])


def test_raw_scores_of_linear_attention(batch):
    """From the projections, position by position."""
    model = load("base").model
    batch = model.tokenize(counts()[[3]], cells().var_names.tolist())
    tensors = batch.tensors()
    x, _ = model.network.layer_inputs(tensors.gene_ids, tensors.values, tensors.mask, 2)
    attn, dh = model.network.encoder[2].attn, model.config.width // model.config.heads
    q, k = torch.relu(attn.q_proj(x))[0], torch.relu(attn.k_proj(x))[0]
    found = model.attention(batch, 2)
    for head in range(model.config.heads):
        own = slice(head * dh, (head + 1) * dh)
        for i, j in [(0, 0), (1, 5), (4, 2)]:
            expected = float(q[i + 1, own] @ k[j + 1, own])
            assert found.gene_to_gene[0, head, i, j] == pytest.approx(expected, rel=1e-4, abs=1e-5)
            assert found.cls_to_gene[0, head, j] == pytest.approx(float(q[0, own] @ k[j + 1, own]), rel=1e-4, abs=1e-5)


def test_shares(model, batch):
    raw, shares = (model.attention(batch, share=share) for share in (False, True))
    tensors = batch.tensors()
    x, keys = model.network.layer_inputs(tensors.gene_ids, tensors.values, tensors.mask, model.config.layers - 1)
    block = model.network.encoder[-1]
    whole = block.attn.scores(block.attended(x), keys, block.attended(x))
    to_cls = (whole[:, :, 1:, 0] / whole[:, :, 1:].sum(-1).clamp(min=1e-30)).numpy()
    real = np.broadcast_to(np.asarray(batch.mask)[:, None], to_cls.shape)
    read = real & (whole[:, :, 1:].sum(-1) > 0).numpy()
    assert read.any()
    assert_allclose((shares.gene_to_gene.sum(-1) + to_cls)[read], 1, atol=1e-5)
    assert (shares.gene_to_gene >= 0).all() and (shares.cls_to_gene.sum(-1) < 1 + 1e-5).all()
    assert_allclose(
        shares.gene_to_gene[0, 0, 0] * raw.gene_to_gene[0, 0, 0].sum(),
        raw.gene_to_gene[0, 0, 0] * shares.gene_to_gene[0, 0, 0].sum(),
        rtol=1e-4,
    )
    assert_allclose(cls_attention(model, batch), shares.cls_to_gene.mean(1), atol=1e-6)


def test_padding_gets_none(model, batch):
    for share in (False, True):
        found, mask = model.attention(batch, 0, share=share), np.asarray(batch.mask)
        assert not mask.all()
        assert (found.gene_to_gene.swapaxes(1, 3)[~mask] == 0).all()
        assert (found.gene_to_gene.swapaxes(1, 2)[~mask] == 0).all()
        assert (found.cls_to_gene.swapaxes(1, 2)[~mask] == 0).all()
        assert_array_equal(found.genes == "", ~mask)
    alone = model.attention(batch.take(np.array([1])), 0)
    n = int(batch.mask[1].sum())
    found = model.attention(batch, 0)
    assert_allclose(alone.gene_to_gene[0], found.gene_to_gene[1, :, :n, :n], rtol=1e-3, atol=1e-5)


def test_some_genes(model, batch):
    """The same numbers as among all; what a cell does not express is missing, not zero."""
    called = model.attention(batch, share=True)
    everywhere = set.intersection(*(set(row) for row in called.genes[1:3].tolist())) - {""}
    lone = next(name for name in called.genes[3].tolist() if name not in everywhere)  # of the cell of one gene
    wanted = [*sorted(everywhere)[:3], lone]
    found = model.attention(batch, genes=wanted, share=True)
    assert found.genes.tolist() == wanted and found.cls_to_gene.shape[::2] == (len(batch), len(wanted))
    for i in range(len(batch)):
        row = called.genes[i].tolist()
        for a, first in enumerate(wanted):
            if first not in row:
                assert np.isnan(found.cls_to_gene[i, :, a]).all() and np.isnan(found.gene_to_gene[i, :, a]).all()
                continue
            assert_allclose(found.cls_to_gene[i, :, a], called.cls_to_gene[i, :, row.index(first)], atol=1e-6)
            for b, second in enumerate(wanted):
                if second in row:
                    expected = called.gene_to_gene[i, :, row.index(first), row.index(second)]
                    assert_allclose(found.gene_to_gene[i, :, a, b], expected, atol=1e-6)
                else:
                    assert np.isnan(found.gene_to_gene[i, :, a, b]).all()


def test_refused(model, batch):
    depth = model.config.layers
    for layer in (depth, -depth - 1):
        with pytest.raises(InputError, match=f"layer={layer}: the network has {depth}"):
            attention(model, batch, layer)
    with pytest.raises(InputError, match="genes=nothing: CellFM's vocabulary"):
        attention(model, batch, genes=["nothing"])
    with pytest.raises(InputError, match="2 types were given for the 32 cells"):
        attention_by_type(model, cells(), ["T", "B"])


def test_by_type(model):
    few = cells()[[2, 3, 4, 6, 7, 5]].copy()
    types = ["b", "a", "b", "a", "a", "c"]
    found = attention_by_type(model, few, types)
    assert found.types.tolist() == ["a", "b", "c"]
    total, times = {}, {}
    for row, kind in enumerate(types):
        batch = model.tokenize(counts()[[[2, 3, 4, 6, 7, 5][row]]], few.var_names.tolist())
        for name, score in zip(model.token_names[batch.gene_ids[0]], cls_attention(model, batch)[0], strict=True):
            total[kind, name] = total.get((kind, name), 0) + score
            times[kind, name] = times.get((kind, name), 0) + 1
    assert set(found.genes.tolist()) == {name for _, name in total}
    for t, kind in enumerate(found.types.tolist()):
        for g, name in enumerate(found.genes.tolist()):
            assert found.cells[t, g] == times.get((kind, name), 0)
            if times.get((kind, name)):
                assert found.scores[t, g] == pytest.approx(total[kind, name] / times[kind, name], rel=1e-3, abs=1e-6)
            else:
                assert np.isnan(found.scores[t, g])
    best = found.top("a", 5, min_cells=2)
    row = np.where(found.cells[0] >= 2, found.scores[0], -1)
    assert best == found.genes[np.argsort(-row, kind="stable")[:5]].tolist()
    assert len(found.top("c", 100)) == 1  # a cell of one gene


def test_the_annotation_head_ranks_genes():
    case = load("m80")
    model = case.model
    head = model.classifier(3, torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    batch = model.tokenize(counts()[[0, 2, 5, 8]], cells().var_names.tolist())
    found, most = head_attention(model, head, batch), model.config.max_genes
    tensors = batch.tensors()
    scores = head.cell_scores(*model.network.embed(tensors.gene_ids, tensors.values, tensors.mask), tensors.mask)
    for i, n in enumerate(batch.mask.sum(1)):
        ours = scores[i, :, :n].numpy()
        # As many genes as are read less, and half of the equals, among all positions a cell can have.
        below, equal = (ours[:, None] < ours[:, :, None]).sum(-1), (ours[:, None] == ours[:, :, None]).sum(-1)
        expected = (most - n + below + (equal + 1) / 2).mean(0) / most
        assert_allclose(found[i, :n], expected, rtol=1e-5)
        assert (found[i, n:] == 0).all() and found[i].max() <= 1
    table = attention_by_type(model, cells()[:8], ["x"] * 8, head=head)
    assert table.scores.shape == (1, len(table.genes)) and np.nanmax(table.scores) <= 1


def test_odd_input():
    model = load("m80").model
    with pytest.raises(InputError):
        attention_by_type(model, anndata.AnnData(-np.ones((2, 3), np.float32)), ["a", "b"])
    nothing = model.tokenize(counts()[:0], cells().var_names.tolist())
    assert model.attention(nothing).gene_to_gene.shape == (0, model.config.heads, 0, 0)
    assert model.attention(nothing, genes=["RACK1"]).gene_to_gene.shape == (0, model.config.heads, 1, 1)
