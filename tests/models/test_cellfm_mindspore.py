"""CellFM in MindSpore, GRAPH mode: equal to the recorded numbers and to the torch network; training steps; files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from harness import GeneTable, InputError, TokenBatch
from harness.checks import run_checks
from harness.devices import device_for, processes_for
from harness.errors import NotApplicableError
from models.cellfm import mindspore_backend, release
from models.cellfm.config import CellFMConfig
from models.cellfm.mindspore_backend import MindSporeNetwork, select_device
from models.cellfm.objective import draw_masks
from models.cellfm.torch_network import CellFMNetwork
from tests.golden.cellfm.case import CELL, CHECKPOINT, LOSS, TOKEN, WEIGHTS, CellFM, cells, load
from tests.models import mindspore_parts as parts
from tests.models.test_cellfm_pretraining import Recorded

pytestmark = parts.needs_mindspore
NAMES = [f"G{i}" for i in range(40)]


@pytest.fixture(autouse=True)
def graph_mode():
    select_device("cpu")
    assert parts.ms.get_context("mode") == parts.ms.GRAPH_MODE


def in_mindspore(network):
    """The same network, from the same state."""
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return parts.network.CellFMNetwork.of_state(network.config, state)


def arrays(*tensors):
    return [parts.ms.Tensor((t.int() if t.dtype == torch.int64 else t).numpy()) for t in tensors]


@pytest.fixture(scope="module", params=list(WEIGHTS))
def golden(request):
    """One of the two checkpoints, with MindSpore chosen as a user does."""
    case = load(request.param)
    return case, CellFM.from_checkpoint(CHECKPOINT / WEIGHTS[request.param], backend="mindspore")


# -- embedding ----------------------------------------------------------------------------------------


def test_embedding(golden):
    case, model = golden
    output = model.forward(case.tokens())
    assert_allclose(output.cell, case["backbone/cell_emb"], **CELL)
    assert_allclose(output.tokens.numpy()[case.mask], case["backbone/gene_ctx"][case.mask], **TOKEN)
    assert (output.tokens.numpy()[~case.mask] == 0).all()


def test_embed_cells(golden):
    """The whole way, as a user goes it: buckets of several shapes through one graph."""
    case, model = golden
    found = model.embed_cells(cells())
    sure = case.deterministic
    assert_allclose(found[sure], case["backbone/cell_emb"][sure], **CELL)
    assert_allclose(found, case.model.embed_cells(cells()), atol=2e-5)
    ours, theirs = model.embed_tokens(cells()[:6]), case.model.embed_tokens(cells()[:6])
    assert_array_equal(ours.genes, theirs.genes)
    assert_allclose(ours.matrix, theirs.matrix, atol=1e-4)
    assert_array_equal(model.gene_table()[1], case.model.gene_table()[1])
    assert model.n_params == case.model.n_params


def test_other_shapes_and_empty_rows():
    """One gene, one cell, no real token at all, no column: nothing crashes, and the others do not notice."""
    genes = GeneTable.from_names(NAMES)
    ours, theirs = (CellFM.from_scratch(genes, size="tiny", seed=1, backend=b) for b in ("mindspore", "torch"))
    rng = np.random.default_rng(0)
    for n, length in [(1, 1), (3, 17), (5, 40)]:
        sizes = rng.integers(1, length + 1, n)
        sizes[-1] = 0 if n > 1 else 1
        mask = np.arange(length) < sizes[:, None]
        batch = TokenBatch(
            np.where(mask, rng.integers(1, 41, mask.shape), 0), np.where(mask, rng.random(mask.shape), 0), mask
        )
        found, expected = ours.forward(batch), theirs.forward(batch)
        assert_allclose(found.cell, expected.cell, atol=2e-5)
        assert_allclose(found.tokens, expected.tokens, atol=1e-4)
    nothing = TokenBatch(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32), np.zeros((2, 0), bool))
    assert_allclose(ours.forward(nothing).cell, theirs.forward(nothing).cell, atol=2e-5)


def test_contract():
    """The engine's own checks of a model; those that train have nothing to check."""
    without = {"forward", "gradients", "lora-targets"}
    checks = ["shape", "row-order", "batch-size", "companions", "padding", "masked-rows", "empty-cells"]
    checks += ["global-generators", "draws", "tokens", "frozen", "seeds", "save-load", *without]
    found = {r.name: r.status for r in run_checks(CellFM, options={"backend": "mindspore"}, only=checks)}
    assert found == {name: "not-applicable" if name in without else "pass" for name in checks}


# -- pretraining --------------------------------------------------------------------------------------


# `pf`, sequences filled with unexpressed genes, is part of `pf_addzero`; each graph costs seconds to compile.
@pytest.fixture(params=[("base", "pt"), ("m80", "pt"), ("m80", "pf_addzero")], ids="-".join)
def recorded(request):
    return Recorded(load(request.param[0]), request.param[1])


def batch_of(recorded):
    return arrays(recorded.ids, recorded.values, recorded.mask, recorded.visible, recorded.counted, recorded.targets)


def test_outputs_and_losses(recorded):
    case, part = recorded.case, recorded.part
    shared = part.removesuffix("_addzero")
    network = in_mindspore(recorded.network)
    batch = batch_of(recorded)
    real = recorded.mask.numpy() if recorded.pad_zero else np.ones(recorded.ids.shape, bool)
    cell, *rest = parts.objective.Predictions(network, recorded.pad_zero)(*batch[:4])
    assert_allclose(cell.asnumpy(), case[f"{shared}/cell_emb"], **CELL)
    for found, key in zip(rest, ("gene_ctx", "gw_pred", "cw_pred"), strict=True):
        assert_allclose(found.asnumpy()[real], case[f"{shared}/{key}"][real], **TOKEN)
    total, terms = parts.objective.MaskedLoss(network, recorded.pad_zero)(*batch)
    keys = ("loss_mse_gene", "loss_mse_cell", "loss_bce_gene", "loss_bce_cell")
    for found, key in zip(terms, keys[: len(terms)], strict=True):
        assert_allclose(float(found), case[f"{part if 'bce' in key else shared}/{key}"], **LOSS)
    assert len(terms) == (4 if part == "pf_addzero" else 2)
    assert_allclose(float(total), case[f"{part}/loss0"], **LOSS)


def test_ten_steps(recorded):
    """Gradients of every parameter, then the recorded curve, with MindSpore's own Adam."""
    case, part = recorded.case, recorded.part
    network = in_mindspore(recorded.network)
    network.zero_emb.requires_grad = True  # as recorded
    loss = parts.objective.MaskedLoss(network, recorded.pad_zero)
    weights = network.trainable_params()
    batch = batch_of(recorded)
    _, gradients = parts.ms.value_and_grad(loss, None, parts.ms.ParameterTuple(weights), has_aux=True)(*batch)
    found = {weight.name: gradient.asnumpy() for weight, gradient in zip(weights, gradients, strict=True)}
    names = case[f"{part}/grad_names"].tolist()
    assert set(names) == set(found)
    norms = [np.linalg.norm(found[name]) for name in names]
    assert_allclose(norms, case[f"{part}/grad_norms"], rtol=1e-3, atol=1e-4)
    for name in case.names(f"{part}/grad"):
        assert_allclose(found[name], case[f"{part}/grad/{name}"], rtol=1e-3, atol=1e-3, err_msg=name)

    step = parts.objective.TrainingStep(loss, parts.ms.nn.Adam(weights, learning_rate=1e-3))
    curve = [float(step(*batch)) for _ in range(10)]
    assert_allclose(curve, case[f"{part}/adam_losses"], rtol=1e-3)
    assert [weight.name for weight in weights] == list(found)  # an optimiser renames nothing


@pytest.mark.parametrize(
    "config",
    [
        CellFMConfig(n_genes=40, width=24, layers=3, heads=3, value_bins=12),
        CellFMConfig(n_genes=40, width=16, layers=1, heads=4, value_bins=8, add_zero=True, pad_zero=False),
    ],
    ids=["three-layers", "one-layer"],
)
def test_random_batches(config):
    """Embedding, pretraining outputs and both losses are torch's, at other sizes and with other masks."""
    generator = torch.Generator().manual_seed(5)
    network = CellFMNetwork.allocate(config).initialise(generator)
    for tensor in network.state_dict().values():
        tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    mask = torch.arange(30) < torch.tensor([[1], [4], [17], [30]])
    ids = torch.randint(1, 41, mask.shape, generator=generator) * mask
    values = torch.rand(mask.shape, generator=generator) * 4 * mask
    visible, counted = draw_masks(TokenBatch(ids, values, mask), generator)
    ours = in_mindspore(network)
    batch = arrays(ids, values, mask, visible)
    found = parts.network.Embedding(ours)(*batch[:3])
    cell, genes = network.embed(ids, values, mask)
    assert_allclose(found[0].asnumpy(), cell, atol=1e-4)
    assert_allclose(found[1].asnumpy()[mask], genes[mask], atol=1e-4)
    cell, genes = network.encode(ids, values, mask, visible)
    expected = cell, genes, *network.decode(cell, genes, ids)
    found = parts.objective.Predictions(ours)(*batch)
    assert_allclose(found[0].asnumpy(), expected[0], atol=1e-4)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert_allclose(mine.asnumpy()[mask], theirs[mask], atol=2e-4)
    total, _ = parts.objective.MaskedLoss(ours)(*batch, *arrays(counted, values))
    by_hand = sum((((p - values) ** 2) * counted).sum() / counted.sum() for p in expected[2:])
    assert_allclose(float(total), by_hand, rtol=1e-5)


# -- files --------------------------------------------------------------------------------------------


def test_reads_the_release_by_itself(golden):
    """MindSpore's own loader finds every parameter by its name in the published file."""
    case, _ = golden
    network = parts.network.CellFMNetwork(case.model.config)
    stored = parts.ms.load_checkpoint(str(CHECKPOINT / WEIGHTS[case.name]))
    missing, _ = parts.ms.load_param_into_net(network, stored)
    assert not missing
    for name, tensor in case.network.state_dict().items():
        assert_array_equal(network.parameters_dict()[name].asnumpy(), tensor)


def test_checkpoints_go_both_ways(golden, tmp_path):
    case, model = golden
    for form in ("ckpt", "safetensors"):
        model.save(tmp_path / form, form=form)
        back = CellFM.from_checkpoint(tmp_path / form)
        assert all(torch.equal(t, back.network.state_dict()[n]) for n, t in case.network.state_dict().items())
    stored = parts.ms.load_checkpoint(str(tmp_path / "ckpt" / "model.ckpt"))
    assert_array_equal(stored["gene_emb"].asnumpy(), case["static_gene_emb"])
    parts.ms.save_checkpoint(in_mindspore(case.network), str(tmp_path / "theirs.ckpt"))
    written = release.read_weights(tmp_path / "theirs.ckpt")
    assert all(torch.equal(written[n], t) for n, t in case.network.state_dict().items())


def test_another_state_is_refused(golden):
    case, _ = golden
    state = {name: tensor.numpy() for name, tensor in case.network.state_dict().items()}
    with pytest.raises(KeyError, match="cls_token"):
        parts.network.CellFMNetwork.of_state(case.model.config, {**state, "cls_token2": state.pop("cls_token")})
    other = replace(case.model.config, n_genes=case.model.config.n_genes + 8)
    with pytest.raises(ValueError, match="gene_emb"):
        parts.network.CellFMNetwork.of_state(other, {n: t.numpy() for n, t in case.network.state_dict().items()})


# -- what the backend refuses -------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "npu:1", "tpu", "cpu:x"])
def test_devices_that_are_not_there(device):
    if device.partition(":")[0] in ("cuda", "npu") and parts.ms.hal.is_available(
        {"c": "GPU", "n": "Ascend"}[device[0]]
    ):
        pytest.skip(f"{device} is there")
    model = CellFM.from_scratch(GeneTable.from_names(NAMES), backend="mindspore")
    with pytest.raises(InputError, match=f"device={device}: "):
        model.to(device)


def test_the_engine_asks_mindspore(monkeypatch):
    """Which device there is, and which processes: nothing of it was ever run on an Ascend or a GPU."""
    ours = {"backend": "mindspore"}
    with pytest.raises(InputError, match=r"tpu: model\.backend=mindspore"):
        device_for(CellFM, ours, "tpu")
    monkeypatch.setattr(parts.ms.hal, "is_available", lambda target: target == "Ascend")
    assert device_for(CellFM, ours, "auto") == "npu"
    assert device_for(CellFM, ours, "npu:3") == "npu:3"
    with pytest.raises(InputError, match="device=cuda: MindSpore"):
        device_for(CellFM, ours, "cuda")
    assert device_for(CellFM, {}, "cpu") == device_for(object, ours, "cpu") == "cpu"

    chosen = []
    monkeypatch.setattr(parts.ms, "set_device", lambda *device: chosen.append(device))
    monkeypatch.setattr(mindspore_backend, "_selected", [])
    for name, result in {"init": None, "get_rank": 5, "get_group_size": 8, "release": None}.items():
        monkeypatch.setattr(f"mindspore.communication.{name}", lambda result=result: result)
    with processes_for(CellFM, ours, "npu") as alone:
        assert (alone.rank, alone.world) == (0, 1) and not chosen
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("DEVICE_ID", "1")
    with processes_for(CellFM, ours, "npu") as ranks:
        assert (ranks.rank, ranks.world, ranks.local) == (5, 8, 1)
        assert isinstance(ranks, mindspore_backend.MindSporeRanks) and chosen == [("Ascend", 1)]
    with processes_for(CellFM, {}, "cpu") as ranks:
        assert ranks.world == 1 and not isinstance(ranks, mindspore_backend.MindSporeRanks)
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    with pytest.raises(SystemExit), processes_for(CellFM, ours, "npu"):
        pass


def test_runs_on_what_there_is():
    model = CellFM.from_scratch(GeneTable.from_names(NAMES), backend="mindspore").to("auto")
    batch = TokenBatch(np.array([[1, 2]]), np.ones((1, 2), np.float32), np.ones((1, 2), bool))
    assert np.isfinite(model.forward(batch).cell.numpy()).all()


def test_what_is_torch_only():
    model = CellFM.from_scratch(GeneTable.from_names(NAMES), backend="mindspore")
    batch = TokenBatch(np.array([[1, 2]]), np.ones((1, 2), np.float32), np.ones((1, 2), bool))
    for call in (model.network.train, model.network.requires_grad_, lambda: model.pretraining_loss(batch, None)):
        with pytest.raises(NotApplicableError, match=r"model\.backend=torch"):
            call()
    next(model.network.parameters()).requires_grad_(True)
    with pytest.raises(NotApplicableError, match=r"model\.backend=torch"):
        model.forward(batch)
    with torch.inference_mode():
        model.forward(batch)
    with pytest.raises(InputError, match="precision=bf16"):
        model.to("cpu", "bf16")
    assert isinstance(model.network.eval(), MindSporeNetwork) and not model.lora_targets
