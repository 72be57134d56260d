"""LoRA in MindSpore by the recorded numbers: forward, merged, ten training steps."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from models.cellfm.config import CellFMConfig
from models.cellfm.mindspore_backend import select_device
from models.cellfm.torch_network import CellFMNetwork
from tests.golden.cellfm.case import CELL, TOKEN, WEIGHTS, load
from tests.models import mindspore_parts as parts
from tests.models.mindspore_parts import made_batch, tensors
from tests.models.test_cellfm_pretraining import Recorded

pytestmark = parts.needs_mindspore


@pytest.fixture(autouse=True)
def graph_mode():
    select_device("cpu")


@pytest.fixture(params=list(WEIGHTS))
def adapted(request):
    """The recorded batch, and the network with the recorded additions."""
    recorded = Recorded(load(request.param), "pt")
    case = recorded.case
    state = {name: tensor.numpy() for name, tensor in recorded.network.state_dict().items()}
    network = parts.network.CellFMNetwork.of_state(recorded.network.config, state)
    names = case.names("lora/param")
    parts.lora.add_lora(network, {name: case[f"lora/param/{name}"] for name in names})
    return recorded, network


def test_lora(adapted):
    recorded, network = adapted
    case, real = recorded.case, recorded.mask.numpy()
    assert {p.name for p in network.trainable_params()} == set(case["lora/trainable"].tolist())
    batch = tensors(recorded.ids.int().numpy(), recorded.values, recorded.mask, recorded.visible)
    cell, *rest = parts.objective.Predictions(network)(*batch)
    assert_allclose(cell.asnumpy(), case["lora/cell_emb"], **CELL)
    for found, key in zip(rest, ("gene_ctx", "gw_pred", "cw_pred"), strict=True):
        assert_allclose(found.asnumpy()[real], case[f"lora/{key}"][real], **TOKEN)
    tokens = case.tokens()
    batch = tensors(tokens.gene_ids.astype(np.int32), tokens.values, tokens.mask)
    cell = parts.network.Embedding(network)(*batch)[0].asnumpy()
    assert_allclose(cell, case["lora/backbone_cell_emb"], **CELL)
    plain = parts.network.CellFMNetwork.of_state(network.config, parts.lora.merged(network))
    cell = parts.network.LayerwiseEmbedding(plain)(*batch)[0]
    assert_allclose(cell, case["lora/merged_backbone_cell_emb"], **CELL)


def test_ten_steps_of_lora(adapted):
    recorded, network = adapted
    arrays = recorded.ids.int(), recorded.values, recorded.mask, recorded.visible, recorded.counted, recorded.targets
    batch = tensors(*(array.numpy() for array in arrays))
    before = network.gene_emb.asnumpy()
    optimizer = parts.ms.nn.Adam(network.trainable_params(), learning_rate=1e-3)
    step = parts.objective.TrainingStep(parts.objective.MaskedLoss(network), optimizer)
    curve = [float(step(*batch)) for _ in range(10)]
    assert_allclose(curve, recorded.case["lora/adam_losses"], rtol=1e-3)
    assert_array_equal(network.gene_emb.asnumpy(), before)


def test_fresh_lora_changes_nothing():
    config = CellFMConfig(n_genes=40, width=16, layers=2, heads=2, value_bins=8)
    source = CellFMNetwork.allocate(config).initialise(torch.Generator().manual_seed(0))
    network, plain = (
        parts.network.CellFMNetwork.of_state(config, {n: t.numpy() for n, t in source.state_dict().items()})
        for _ in range(2)
    )
    additions = parts.lora.fresh_lora(network, rank=3)
    with pytest.raises(KeyError, match="lora_q"):
        parts.lora.add_lora(network, dict(list(additions.items())[1:]))
    parts.lora.add_lora(network, additions)
    batch = tensors(*made_batch(3, 9)[:3])
    found, expected = (parts.network.Embedding(n)(*batch)[0].asnumpy() for n in (network, plain))
    assert_allclose(found, expected, atol=1e-6)
    assert all(p.shape == ((3, 16) if ".A." in p.name else (16, 3)) for p in network.trainable_params())
