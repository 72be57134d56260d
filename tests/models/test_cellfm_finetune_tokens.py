"""CellFM's tokens for library sizes: recorded outputs, every part of the loss, gradients, training steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from harness import InputError
from models.cellfm import st_tokens
from models.cellfm.st_tokens import SizeTokens, finetune_losses, size_features
from models.cellfm.torch_network import CellFMNetwork
from tests.golden.cellfm.case import CELL, CHECKPOINT, LOSS, TOKEN, WEIGHTS, adam_curve, load


class Recorded:
    """The recorded batch, with a network and tokens to train on it."""

    def __init__(self, part):
        case = self.case = load("m80")
        self.part, rows = part, case["train_cells"]
        self.pad_zero = part == "ft_padzero"
        data = "pt" if self.pad_zero else "pf"
        masked, expressed = case.tensor(f"{data}/masked")[rows], case.tensor(f"{data}/zero_idx")[rows].bool()
        self.features = case.tensor("pf/st_feat")[rows]
        self.ids, self.mask = case.tensor(f"{data}/gene_ids")[rows], expressed[:, 1:] if self.pad_zero else expressed
        self.values, self.visible = masked[..., 1], masked[..., 0].bool()
        self.counted, self.targets = case.tensor(f"{data}/mask_gene")[rows].bool(), case.tensor(f"{data}/raw")[rows]
        extra = {name: case.tensor(f"{part}/extra/{name}") for name in case.names(f"{part}/extra")}
        self.network = CellFMNetwork.allocate(replace(case.model.config, add_zero=bool(extra)))
        self.network.load_state_dict(case.network.state_dict() | extra)
        self.tokens = SizeTokens.from_checkpoint(CHECKPOINT / WEIGHTS["m80"])
        self.ecs = 0.8 if extra else None

    def encode(self):
        batch = (self.features, self.ids, self.values, self.mask, self.visible)
        return st_tokens.encode(self.network, self.tokens, *batch, pad_zero=self.pad_zero)

    def losses(self):
        batch = (self.features, self.ids, self.values, self.mask, self.visible, self.counted, self.targets)
        return finetune_losses(self.network, self.tokens, *batch, pad_zero=self.pad_zero, ecs=self.ecs)

    def total(self):
        return sum(s / n for s, n in self.losses().values())

    def train(self):
        tensors = self.network.state_dict(keep_vars=True) | self.tokens.state_dict(keep_vars=True)
        assert set(tensors) == set(self.case[f"{self.part}/grad_names"].tolist())
        for tensor in tensors.values():
            tensor.requires_grad_(True)
        return tensors


@pytest.fixture(params=["ft", "ft_padzero"])
def recorded(request):
    return Recorded(request.param)


def test_features():
    case = load("m80")
    found = size_features(case.tensor("pf/S"), case.tensor("pf/T"))
    assert_allclose(found, case["pf/st_feat"], rtol=1e-6)


@torch.no_grad()
def test_outputs_and_losses(recorded):
    case, part = recorded.case, recorded.part
    real = recorded.mask.numpy() if recorded.pad_zero else np.ones(recorded.ids.shape, bool)
    cell, genes = recorded.encode()
    assert_allclose(cell, case[f"{part}/cell_emb"], **CELL)
    assert_allclose(genes.numpy()[real], case[f"{part}/gene_ctx"][real], **TOKEN)
    predicted = dict(zip(("gw_pred", "cw_pred"), recorded.network.decode(cell, genes, recorded.ids), strict=True))
    if part == "ft":
        chances = recorded.network.decode_expressed(cell, genes, recorded.ids)
        predicted |= zip(("z_prob1", "z_prob2"), chances, strict=True)
    for key, found in predicted.items():
        assert_allclose(found.numpy()[real], case[f"{part}/{key}"][real], **TOKEN)
    losses = recorded.losses()
    keys = {"gene": "mse_gene", "cell": "mse_cell"}
    if part == "ft":
        keys |= {"zero_gene": "bce_gene", "zero_cell": "bce_cell", "ecs": "ecs"}
    assert set(losses) == set(keys)
    for name, key in keys.items():
        assert_allclose(losses[name][0] / losses[name][1], case[f"{part}/loss_{key}"], **LOSS)
    assert_allclose(recorded.total(), case[f"{part}/loss0"], **LOSS)
    assert_allclose(losses["cell"][0] / losses["cell"][1], case[f"{part}/eval_return"], **LOSS)


def test_gradients(recorded):
    case, part = recorded.case, recorded.part
    tensors = recorded.train()
    recorded.total().backward()
    names, norms = case[f"{part}/grad_names"].tolist(), case[f"{part}/grad_norms"]
    found = [0.0 if tensors[name].grad is None else float(tensors[name].grad.norm()) for name in names]
    assert_allclose(found, norms, rtol=1e-3, atol=1e-4)
    for name in case.names(f"{part}/grad"):
        gradient = tensors[name].grad
        gradient = torch.zeros_like(tensors[name]) if gradient is None else gradient
        assert_allclose(gradient, case[f"{part}/grad/{name}"], rtol=1e-3, atol=1e-3, err_msg=name)


def test_ten_steps(recorded):
    curve = adam_curve(recorded.total, recorded.train())
    assert_allclose(curve, recorded.case[f"{recorded.part}/adam_losses"], rtol=1e-3)


def test_the_tokens_are_read():
    recorded = Recorded("ft")
    before, _ = recorded.encode()
    recorded.features = recorded.features + 0.5
    after, _ = recorded.encode()
    plain, _ = recorded.network.encode(recorded.ids, recorded.values, recorded.mask, recorded.visible, pad_zero=False)
    assert not torch.allclose(before, after, atol=1e-3) and not torch.allclose(before, plain, atol=1e-3)


def test_weights_without_them():
    with pytest.raises(InputError, match=r"base_weight\.ckpt holds no ST tokens"):
        SizeTokens.from_checkpoint(CHECKPOINT, variant="800m")
    tokens = SizeTokens.from_checkpoint(CHECKPOINT, variant="80m")
    assert not tokens.training and not any(p.requires_grad for p in tokens.parameters())


def test_fresh_heads():
    network = load("m80").network
    state = torch.get_rng_state()
    made, again = (st_tokens.with_zero_heads(network, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert made.config.add_zero and made.config == replace(network.config, add_zero=True)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, network.state_dict().get(name, again.state_dict()[name])), name
    assert made.value_dec.zero_logit[0].weight.abs().sum() > 0
