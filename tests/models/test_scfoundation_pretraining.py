"""scFoundation's pretraining and its gene level: what is drawn, what the loss reaches, whom a cell depends on."""

import numpy as np
import pytest
import torch

from harness.errors import InputError
from harness.training import pretrain
from models.scfoundation import objective
from models.scfoundation.adapter import ScFoundation
from tests.golden.scfoundation.other_sizes import GENES, PERFORMER, TRANSFORMER, other_model, some_cells

N = len(GENES)


def tokens(model, rows=slice(1, None)):
    return model.tokenize(some_cells().X[rows], GENES).tensors()


def draw(batch, seed=0, **config):
    return objective.draw(batch, N, config, torch.Generator().manual_seed(seed))


def test_what_is_hidden_is_not_shown_and_the_rest_is():
    batch = tokens(other_model(), slice(4, None))  # below 1000 counts: nothing is down-sampled
    masked = draw(batch)
    for row in range(len(batch)):
        genes = dict(zip(batch.gene_ids[row].tolist(), batch.values[row].tolist(), strict=True))
        shown = masked.ids[row][masked.mask[row]].tolist()
        values = dict(zip(masked.ids[row].tolist(), masked.values[row].tolist(), strict=True))
        hidden = set(masked.hidden[row].nonzero().flatten().tolist())
        expressed = set(batch.gene_ids[row][batch.mask[row]].tolist()) - {N, N + 1}
        assert shown == [*sorted(expressed - hidden), N, N + 1]
        assert not hidden & {N, N + 1}
        assert values[N] == pytest.approx(values[N + 1])  # T = S = the cell's own depth
        assert values[N + 1] == pytest.approx(genes[N + 1], rel=1e-5)
        for gene in expressed:
            assert masked.targets[row, gene] == genes[gene]
            if gene not in hidden:
                assert values[gene] == pytest.approx(genes[gene], rel=1e-5)
        for gene in hidden - expressed:
            assert masked.targets[row, gene] == 0


def test_shares_of_hidden_genes():
    model = other_model()
    batch = tokens(model).take(np.arange(3, 11))
    for config, shares in (({}, (0.3, 0.03)), ({"value_mask_prob": 0.5, "zero_mask_prob": 0.2}, (0.5, 0.2))):
        draws = [draw(batch, seed, **config) for seed in range(200)]
        expressed = torch.cat([(masked.targets > 0)[:, :N] for masked in draws])
        hidden = torch.cat([masked.hidden[:, :N] for masked in draws])
        assert float(hidden[expressed].float().mean()) == pytest.approx(shares[0], abs=0.01)
        assert float(hidden[~expressed].float().mean()) == pytest.approx(shares[1], abs=0.01)


def test_down_sampling():
    """Half of the cells above 1000 counts: binomial with a rate of mean one half; the target stays the whole cell."""
    model = other_model()
    batch = tokens(model).take(np.array([2]))  # the deep cell
    total = float(some_cells().X[3].sum())
    assert total > 1000
    draws = [draw(batch, seed, value_mask_prob=0.0) for seed in range(3000)]
    masked = objective.MaskedCells(*(_stacked(parts) for parts in zip(*(vars(d).values() for d in draws), strict=True)))
    depths = [masked.values.gather(1, (masked.ids == token).int().argmax(1, keepdim=True)) for token in (N, N + 1)]
    target, source = (10 ** depth.double() for depth in depths)
    np.testing.assert_allclose(target, total, rtol=1e-4)
    fewer = source < total - 0.5
    assert float(fewer.double().mean()) == pytest.approx(0.5, abs=0.03)
    rate = (source[fewer] / total).numpy()
    assert rate.mean() == pytest.approx(0.5, abs=0.02)
    assert rate.std() == pytest.approx(np.sqrt(0.05), abs=0.02)  # Beta(2, 2), and little binomial noise
    genes = masked.mask & (masked.ids < N)
    counts = (masked.values.double().expm1() * source / 1e4)[genes]
    np.testing.assert_allclose(counts, counts.round(), atol=2e-3)
    np.testing.assert_array_equal(masked.targets[0], masked.targets[-1])


def _stacked(parts):
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def test_draws_come_from_the_generator_alone():
    batch = tokens(other_model())
    first, again, other = draw(batch), draw(batch), draw(batch, seed=1)
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert (first.hidden != other.hidden).any()


@pytest.mark.parametrize("decoder", [PERFORMER, TRANSFORMER], ids=["performer", "transformer"])
@pytest.mark.parametrize("positions", [1, 10**6])
def test_gradients_reach_every_parameter(decoder, positions, monkeypatch):
    monkeypatch.setattr("models.scfoundation.network.DECODER_POSITIONS", positions)
    model = other_model(decoder)
    model.network.requires_grad_(True)
    loss = model.pretraining_loss(tokens(model), torch.Generator().manual_seed(0)).total
    loss.backward()
    gradients = {name: p.grad for name, p in model.network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    if positions == 1:
        return
    monkeypatch.setattr("models.scfoundation.network.DECODER_POSITIONS", 1)
    model.network.zero_grad()
    model.pretraining_loss(tokens(model), torch.Generator().manual_seed(0)).total.backward()
    for name, parameter in model.network.named_parameters():
        np.testing.assert_allclose(parameter.grad, gradients[name], atol=1e-4, rtol=1e-3)


def test_pretraining_learns():
    cells = some_cells(n=64)
    model = ScFoundation.from_scratch(other_model().match_genes(GENES).table, seed=0)
    log = pretrain(model, _data(cells), tokens=60_000, batch_cells=16)
    assert np.mean(log.losses[-10:]) < 0.75 * np.mean(log.losses[:3])
    assert not any(p.requires_grad for p in model.network.parameters())


def _data(cells):
    from harness.data import CellData

    return CellData(cells)


# -- gene level -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", [PERFORMER, TRANSFORMER], ids=["performer", "transformer"])
def test_contextual_genes_depend_on_the_cell_alone(decoder):
    model, counts, keep = other_model(decoder), some_cells().X, ["GENE7", "GENE0", "GENE60"]
    vectors = model.contextual_genes(counts, GENES, keep)
    assert vectors.shape == (12, 3, 20)
    assert np.isnan(vectors[0]).all()
    assert np.isfinite(vectors[1:]).all()
    for rows in ([5], [9, 2, 0, 5], list(range(11, -1, -1))):
        np.testing.assert_allclose(model.contextual_genes(counts[rows], GENES, keep), vectors[rows], atol=1e-5)
    np.testing.assert_allclose(model.contextual_genes(counts, GENES, keep[1:2]), vectors[:, 1:2], atol=1e-5)
    values = model.contextual_genes(counts, GENES, keep, expression=True)
    assert values.shape == (12, 3)
    with pytest.raises(InputError, match="keep=gene7: not in the vocabulary"):
        model.contextual_genes(counts, GENES, ["gene7"])


def test_token_level_of_encoder_and_decoder():
    cells = some_cells()
    encoder = other_model().embed_tokens(cells)
    decoder = other_model(context="decoder").embed_tokens(cells)
    assert (encoder.matrix.shape[1], decoder.matrix.shape[1]) == (24, 20)
    np.testing.assert_array_equal(encoder.genes, decoder.genes)
    np.testing.assert_array_equal(np.diff(encoder.indptr), np.diff(cells.X.indptr))
    wanted = other_model().contextual_genes(cells.X[4:5], GENES, GENES)[0]
    first, last = decoder.indptr[4:6]
    rows = [GENES.index(gene) for gene in decoder.genes[first:last]]
    np.testing.assert_allclose(decoder.matrix[first:last], wanted[rows], atol=1e-5)
    np.testing.assert_array_equal(
        other_model().embed_cells(cells), other_model(context="decoder").embed_cells(cells)
    )  # a cell vector never comes from the decoder


def test_batches_without_values_are_refused():
    model = other_model()
    with pytest.raises(InputError, match=r"TokenBatch\.values is missing"):
        model.forward(tokens(model).replace(values=None))
