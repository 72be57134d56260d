"""LoRA on CellFM's eight projections: the recorded outputs, merging, and the recorded training steps."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from harness.lora import LowRank, add_lora, merge_lora
from tests.golden.cellfm.case import CELL, LOSS, TOKEN, WEIGHTS, CellFM, adam_curve, load
from tests.models.test_cellfm_pretraining import Recorded, total

RANK = 4


def official_name(name):
    """`encoder.0.attn.q_proj.A.weight` as the authors' files have it."""
    layer, part, matrix, weight = name.rsplit(".", 3)
    return f"{layer}.lora_{part[0]}.{matrix}.{weight}"


def with_lora(network):
    """The network with LoRA in it; official name -> tensor."""
    add_lora(network, CellFM.lora_targets, RANK, torch.Generator().manual_seed(0))
    return {
        official_name(name): tensor
        for name, tensor in network.state_dict(keep_vars=True).items()
        if name.endswith((".A.weight", ".B.weight"))
    }


@pytest.fixture(params=list(WEIGHTS))
def recorded(request):
    """The recorded training batch, and a network with the recorded A and B."""
    recorded = Recorded(load(request.param), "pt")
    recorded.added = with_lora(recorded.network)
    with torch.no_grad():
        for name, tensor in recorded.added.items():
            tensor.copy_(recorded.case.tensor(f"lora/param/{name}"))
    return recorded


def embedded(recorded):
    batch = recorded.case.tokens().tensors()
    with torch.no_grad():
        return recorded.network.embed(batch.gene_ids, batch.values, batch.mask)[0].numpy()


def test_what_is_trained(recorded):
    assert set(recorded.added) == set(recorded.case["lora/trainable"].tolist())
    assert set(recorded.added) == set(recorded.case.names("lora/param"))


@torch.no_grad()
def test_outputs(recorded):
    case, mask = recorded.case, recorded.mask.numpy()
    cell, genes = recorded.network.encode(recorded.ids, recorded.values, recorded.mask, recorded.visible)
    assert_allclose(cell, case["lora/cell_emb"], **CELL)
    assert_allclose(genes.numpy()[mask], case["lora/gene_ctx"][mask], **TOKEN)
    for found, key in zip(recorded.network.decode(cell, genes, recorded.ids), ("gw_pred", "cw_pred"), strict=True):
        assert_allclose(found.numpy()[mask], case[f"lora/{key}"][mask], **TOKEN)


def test_merged_is_unmerged(recorded):
    before = embedded(recorded)
    assert_allclose(before, recorded.case["lora/backbone_cell_emb"], **CELL)
    merge_lora(recorded.network)
    assert not any(isinstance(module, LowRank) for module in recorded.network.modules())
    assert set(recorded.network.state_dict()) == set(recorded.case.network.state_dict())
    after = embedded(recorded)
    assert_allclose(after, before, atol=5e-5)
    assert_allclose(after, recorded.case["lora/merged_backbone_cell_emb"], **CELL)
    assert np.abs(after - recorded.case["backbone/cell_emb"]).max() > 0.1  # it does something


def test_ten_steps(recorded):
    for tensor in recorded.added.values():
        tensor.requires_grad_(True)
    curve = adam_curve(lambda: total(recorded.losses()), recorded.added)
    assert_allclose(curve[0], recorded.case["lora/adam_losses"][0], **LOSS)
    assert_allclose(curve, recorded.case["lora/adam_losses"], rtol=1e-3)


def test_begins_as_the_network_was():
    recorded = Recorded(load("m80"), "pt")
    state = torch.get_rng_state()
    added = with_lora(recorded.network)
    assert torch.equal(state, torch.get_rng_state())
    assert_allclose(embedded(recorded), recorded.case["backbone/cell_emb"], **CELL)
    spread = torch.cat([tensor.ravel() for name, tensor in added.items() if ".A." in name]).detach().std()
    assert float(spread) == pytest.approx(0.01, rel=0.1)
    assert all((tensor == 0).all() for name, tensor in added.items() if ".B." in name)
