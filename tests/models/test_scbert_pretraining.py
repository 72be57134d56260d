"""scBERT's attention and pretraining: what is drawn, what the loss reaches, how the work is divided."""

import numpy as np
import pytest
import torch

from harness.data import CellData
from harness.embedding import embed_cells
from harness.genes import GeneTable
from harness.tokens import TokenBatch
from harness.torch_learner import layers_of, recomputing
from harness.training import pretrain
from models.scbert import network as network_module
from models.scbert import objective, performer
from models.scbert.adapter import ScBert
from models.scbert.config import MASK
from models.scbert.performer import FastAttention
from tests.golden.scbert import case
from tests.golden.scbert.other_sizes import GENES, other_model, other_network, some_cells

N = len(GENES)


def tokens(model, rows=slice(1, None)):
    batch = model.tokenize(some_cells().X[rows], GENES).tensors()
    return TokenBatch(batch.gene_ids, batch.values.long(), batch.mask)


def draw(model, batch, seed=0):
    return objective.draw(batch, model.network, torch.Generator().manual_seed(seed))


# -- attention ----------------------------------------------------------------------------------------------------


def some_heads(*shape):
    torch.manual_seed(0)
    return [torch.randn(*shape) for _ in range(3)]


def test_performer_approximates_softmax_attention():
    q, k, v = some_heads(2, 3, 40, 8)
    q, k = q / 2, k / 2
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    found = torch.stack([FastAttention(512, 8)(q, k, v) for _ in range(8)]).mean(0)
    assert (found - exact).abs().max() < 0.05


def literal(attention, x, maximum):
    """φ of all heads at once, as the formula stands in the paper and the authors' code."""
    x = x * x.shape[-1] ** -0.25
    scores = x @ attention.projection_matrix.T
    return torch.exp(scores - x.square().sum(-1, keepdim=True) / 2 - maximum(scores)) + 1e-4


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_pieces_give_the_whole(piece, monkeypatch):
    monkeypatch.setattr(performer, "PIECE", piece)
    q, k, v = (2 * x for x in some_heads(2, 3, 40, 8))
    k[1] *= 2
    attention = FastAttention(16, 8)
    asking = literal(attention, q, lambda scores: scores.amax(-1, keepdim=True))
    asked = literal(attention, k, lambda scores: scores.amax((1, 2, 3), keepdim=True))
    matrix = asking @ asked.transpose(-1, -2)
    matrix = matrix / matrix.sum(-1, keepdim=True)
    np.testing.assert_allclose(attention(q, k, v), matrix @ v, **case.CLOSE)
    np.testing.assert_allclose(attention.shares(q, k), matrix.mean(-2), **case.CLOSE)
    np.testing.assert_allclose(attention(q[:, :, :5], k, v), (matrix @ v)[:, :, :5], **case.CLOSE)


def test_performer_reads_a_cell_as_if_it_were_alone():
    attention = FastAttention(16, 8)
    q, k, v = some_heads(2, 3, 40, 8)
    k[1] *= 4  # the authors' maximum over the batch would leave nothing but the floor of the first cell
    np.testing.assert_allclose(attention(q, k, v)[:1], attention(q[:1], k[:1], v[:1]), **case.CLOSE)


def test_attention_is_computed_in_float32():
    model, cells = other_model(), CellData(some_cells())
    wanted = embed_cells(model, cells)
    found = embed_cells(model.to("cpu", "bf16"), cells)
    assert np.isnan(found[0]).all() and found.dtype == np.float32
    assert 1e-4 < np.nanmax(np.abs(found - wanted)) < 0.2
    for readout in ("attention", "last-token"):
        assert np.isfinite(embed_cells(other_model(readout=readout).to("cpu", "bf16"), cells)[1:]).all()


@pytest.mark.parametrize("readout", ["mean-genes", "attention", "last-token"])
def test_portions_give_the_whole(readout, monkeypatch):
    model, cells = other_model(readout=readout), some_cells()
    wanted = model.embed_cells(cells)
    for most in (1, 10**9):
        monkeypatch.setattr(network_module, "IN_CACHE", most)
        np.testing.assert_allclose(model.embed_cells(cells), wanted, atol=1e-5)


# -- what is drawn ------------------------------------------------------------------------------------------------


def test_what_is_predicted():
    model = other_model()
    batch = tokens(model)
    masked = draw(model, batch)
    whole = model.network.panel(batch.gene_ids, batch.values, batch.mask)
    for row in range(len(batch)):
        asked = masked.targets[row] != MASK
        positions = masked.at[row][asked].tolist()
        expressed = int((whole[row] > 0).sum())
        assert len(set(positions)) == len(positions) == np.ceil(np.float32(0.15) * np.float32(expressed))
        assert (whole[row, positions] > 0).all() and N not in positions
        assert masked.targets[row][asked].tolist() == whole[row, positions].tolist()
        changed = (masked.levels[row] != whole[row]).nonzero().flatten().tolist()
        assert set(changed) <= set(positions) and (masked.levels[row, changed] == MASK).all()


def test_shares():
    model = other_model()
    batch = tokens(model, slice(4, None))
    draws = [draw(model, batch, seed) for seed in range(300)]
    shown = torch.cat([m.levels.gather(1, m.at)[m.targets != MASK] for m in draws])
    assert float((shown == MASK).float().mean()) == pytest.approx(0.9, abs=0.02)
    times = torch.zeros(len(batch), N + 1)
    for m in draws:
        times += torch.zeros_like(times).scatter_add(1, m.at, (m.targets != MASK).float())
    whole = model.network.panel(batch.gene_ids, batch.values, batch.mask) > 0
    assert not times[~whole].any()
    for row in range(len(batch)):  # every gene is as likely
        share = times[row][whole[row]] / 300
        assert float(share.std()) < 0.04 + 2 * float(share.mean()) / 300**0.5


def test_draws_come_from_the_generator_alone():
    model = other_model()
    first, again, other = (draw(model, tokens(model), seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert (first.levels != other.levels).any()


def test_a_cell_of_level_0_throughout_has_nothing_to_predict():
    model = ScBert.from_scratch(GeneTable.from_names([f"G{i}" for i in range(20_000)]))
    batch = TokenBatch(np.arange(20_001)[None], np.zeros((1, 20_001), np.float32), np.ones((1, 20_001), bool))
    loss = model.pretraining_loss(batch.take(np.array([0])), torch.Generator().manual_seed(0))
    assert loss.counts == {"cross_entropy": 0}
    with torch.inference_mode():
        assert float(loss.total) == 0


# -- the loss -----------------------------------------------------------------------------------------------------


def gradients(model):
    model.network.requires_grad_(True).zero_grad()
    model.pretraining_loss(model.tokenize(some_cells().X[1:], GENES), torch.Generator().manual_seed(0)).total.backward()
    return {name: p.grad.clone() for name, p in model.network.named_parameters()}


@pytest.mark.parametrize("learned", [True, False])
def test_gradients_reach_every_parameter_also_in_portions(learned, monkeypatch):
    model = other_model(learned_positions=learned)
    assert ("pos_emb.emb.weight" in dict(model.network.named_parameters())) == learned
    whole = gradients(model)
    assert [name for name, gradient in whole.items() if not gradient.any()] == []
    monkeypatch.setattr(network_module, "FEATURES", 1)
    monkeypatch.setattr(performer, "PIECE", 9)
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(gradient, whole[name], atol=1e-5, rtol=1e-3, err_msg=name)


def test_recomputed_layers_give_the_same_gradients():
    model = other_model()
    whole = gradients(model)
    assert len(layers_of(model.network)) == model.network.sizes.depth
    with recomputing(model.network):
        again = gradients(model)
    for name, gradient in again.items():
        np.testing.assert_allclose(gradient, whole[name], atol=1e-6, rtol=1e-4, err_msg=name)


def test_token_vectors_carry_gradients_in_portions(monkeypatch):
    def gradient():
        model = other_model()
        model.network.requires_grad_(True)
        output = model.forward(model.tokenize(some_cells().X[3:], GENES))
        (output.cell.square().mean() + output.tokens.square().mean()).backward()
        return model.network.token_emb.weight.grad

    wanted = gradient()
    monkeypatch.setattr(network_module, "FEATURES", 1)
    np.testing.assert_allclose(gradient(), wanted, atol=1e-5, rtol=1e-3)


def test_pretraining_learns():
    cells = some_cells(n=64)
    model = ScBert.from_scratch(GeneTable.from_names(GENES))
    log = pretrain(model, CellData(cells), tokens=20_000, batch_cells=16)
    assert np.mean(log.losses[-5:]) < 0.9 * np.mean(log.losses[:5])
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())


def test_lora_wraps_the_layers_and_not_the_head():
    from harness.lora import add_lora, merge_lora

    network, model = other_network(), other_model()
    found = add_lora(network, ScBert.lora_targets, 2, torch.Generator().manual_seed(0))
    assert len(found) == 4 * model.network.sizes.depth and all(".0.fn." in name for name in found)
    merge_lora(network)
    levels = case.levels([0])[:, : N + 1]
    with torch.inference_mode():
        np.testing.assert_array_equal(network.encode(levels), model.network.encode(levels))
