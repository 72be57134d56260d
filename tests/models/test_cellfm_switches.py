"""CellFM's architecture switches, the paper's ablations: each trains, is saved, and is refused where it cannot be."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from harness import GeneTable, InputError
from harness.lora import add_lora, merge_lora
from models.cellfm.config import SWITCHES
from tests.golden.cellfm.case import CELL, CHECKPOINT, WEIGHTS, CellFM, load

NAMES = [f"G{i}" for i in range(60)]
CHOICES = [{}, *({name: other} for name, (_, other) in SWITCHES.items())]
CHOICES.append({name: other for name, (_, other) in SWITCHES.items()})


def scratch(**options):
    return CellFM.from_scratch(GeneTable.from_names(NAMES), size="tiny", seed=1, **options)


def batch_of(model, n=12):
    rng = np.random.default_rng(0)
    import scipy.sparse as sp

    counts = rng.poisson(rng.gamma(0.5, 4, (1, len(NAMES))), (n, len(NAMES))) * (rng.random((n, len(NAMES))) < 0.7)
    return model.tokenize(sp.csr_matrix(counts.astype(np.float32)), NAMES)


@pytest.fixture(params=CHOICES, ids=lambda c: "+".join(c) or "own")
def switches(request):
    return request.param


def test_trains(switches):
    model = scratch(**switches)
    batch = batch_of(model)
    parameters = list(model.network.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    curve = []
    for _ in range(12):
        loss = model.pretraining_loss(batch, torch.Generator().manual_seed(0))
        assert set(loss.counts) == set(loss.sums()) == ({"gene", "cell"} if model.config.loss_cls else {"gene"})
        optimizer.zero_grad()
        loss.total.backward()
        for name, parameter in model.network.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        curve.append(loss.total.item())
        optimizer.step()
    assert np.mean(curve[-3:]) < 0.7 * np.mean(curve[:2])


def test_padding_and_companions_do_not_matter(switches):
    model = scratch(**switches)
    batch = batch_of(model)
    together = model.forward(batch)
    for row in range(len(batch)):
        alone = model.forward(batch.take(np.array([row])))
        assert_allclose(alone.cell[0], together.cell[row], atol=2e-5)
        n = alone.tokens.shape[1]
        assert_allclose(alone.tokens[0], together.tokens[row, :n], atol=1e-4)


def test_cls_alone(switches):
    """`embed_cls` leaves out what the cell vector does not need."""
    model = scratch(**switches)
    batch = batch_of(model).tensors()
    arguments = (batch.gene_ids, batch.values, batch.mask)
    assert_allclose(model.network.embed_cls(*arguments), model.network.embed(*arguments)[0], atol=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_cls_alone_of_the_official_architecture(name):
    case = load(name)
    batch = case.tokens().tensors()
    arguments = (batch.gene_ids, batch.values, batch.mask)
    found = case.network.embed_cls(*arguments)
    assert_allclose(found, case["backbone/cell_emb"], **CELL)
    assert_allclose(found, case.network.embed(*arguments)[0], atol=5e-6)


def test_lower_precision(switches):
    """bf16 autocast gives nearly the same cell, and casts for all projections of a layer at once."""
    model = scratch(**switches)
    exact = model.forward(batch_of(model)).cell
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.forward(batch_of(model)).cell
        model.network.requires_grad_(True)
        loss = model.pretraining_loss(batch_of(model), torch.Generator().manual_seed(0)).total
    loss.backward()
    assert torch.cosine_similarity(exact, rough.float()).min() > 0.999
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in model.network.parameters())


@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_saved_and_read_back(tmp_path, switches, form):
    model = scratch(**switches)
    model.save(tmp_path, form=form)
    entry = json.loads((tmp_path / "config.json").read_text())[f"model.{form}"]
    assert {name: entry[name] for name in SWITCHES if name in entry} == switches
    again = CellFM.from_checkpoint(tmp_path, **switches)  # said again, they agree
    assert again.config == model.config
    batch = batch_of(model)
    assert_array_equal(CellFM.from_checkpoint(tmp_path).forward(batch).cell, model.forward(batch).cell)
    for name, value in switches.items():
        with pytest.raises(InputError, match=rf"model.{name}=.*holds a network with {name}={value}"):
            CellFM.from_checkpoint(tmp_path, **{name: SWITCHES[name][0]})


@pytest.mark.parametrize("name", SWITCHES)
def test_official_weights_keep_their_architecture(name):
    own, other = SWITCHES[name]
    with pytest.raises(InputError, match=f"model.{name}={other}: .*base_weight.ckpt .*{name}={own}.*scratch"):
        CellFM.from_checkpoint(CHECKPOINT, variant="800m", **{name: other})
    assert CellFM.from_checkpoint(CHECKPOINT, variant="800m", **{name: own}).config == load("base").model.config


def test_weights_that_are_of_another_kind(tmp_path):
    """config.json lost or edited: the names of the weights say so."""
    for name in ("ffn", "norm", "loss_cls"):
        folder = tmp_path / name
        scratch(**{name: SWITCHES[name][1]}).save(folder)
        entry = json.loads((folder / "config.json").read_text())
        del entry["model.safetensors"][name]
        (folder / "config.json").write_text(json.dumps(entry))
        with pytest.raises(InputError, match="missing: "):
            CellFM.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"ffn": "mlp"}, "model.ffn=mlp: expected sglu or ffn"),
        ({"norm": ""}, "model.norm=: expected deepnorm or prenorm"),
        ({"attention": "flash"}, "model.attention=flash: expected linear or softmax"),
        ({"loss_cls": 0}, "model.loss_cls=0: expected true or false"),
        ({"loss_cls": "no"}, "model.loss_cls=no: expected true or false"),
    ],
)
def test_unknown_choices(option, message):
    with pytest.raises(InputError, match=message):
        scratch(**option)


def test_lora_finds_the_projections(switches):
    model = scratch(**switches)
    before = model.forward(batch_of(model)).cell
    names = add_lora(model.network, model.lora_targets, 2, torch.Generator().manual_seed(0))
    assert len(names) == model.config.layers * (7 if model.config.ffn == "ffn" else 8)
    merge_lora(model.network)
    assert_allclose(model.forward(batch_of(model)).cell, before, atol=1e-6)


def test_as_many_parameters():
    own = scratch().n_params
    assert scratch(ffn="ffn").n_params == own and scratch(attention="softmax").n_params == own
    assert scratch(norm="prenorm").n_params == own + 2 * 64  # one norm more, at the end
    assert scratch(loss_cls=False).n_params == own - 64 * 64


def test_softmax_counts_repeated_positions():
    """The fold of equal padding tokens holds for softmax too."""
    network = scratch(attention="softmax").network
    ids = torch.tensor([[3, 7, 0, 0, 0]])
    values, mask = torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0]]), ids > 0
    found, _ = network.encode_padded(ids[:, :2], values[:, :2], mask[:, :2], 5)
    x = torch.cat([network.cls_token, network.tokens(ids, values)[:, 1:] * mask[..., None]], 1)
    for index, layer in enumerate(network.encoder):
        x = layer(x, None if index < 1 else torch.tensor([[1.0, 1, 1, 0, 0, 0]]))
    assert_allclose(found, x[:, 0], atol=1e-5)


def test_mindspore_has_its_own_architecture_only():
    pytest.importorskip("mindspore")
    with pytest.raises(InputError, match=r"model.ffn=ffn: model\.backend=mindspore"):
        scratch(ffn="ffn", backend="mindspore")
