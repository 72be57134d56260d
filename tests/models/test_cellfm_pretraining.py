"""CellFM's pretraining objective: recorded losses, gradients and training steps; masks; gradients everywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from harness import GeneTable, TokenBatch
from models.cellfm.objective import draw_masks, masked_losses
from models.cellfm.torch_network import CellFMNetwork
from tests.golden.cellfm.case import CELL, LOSS, TOKEN, WEIGHTS, CellFM, cells, counts, load

PARTS = ("pt", "pf", "pf_addzero")


class Recorded:
    """One of the recorded training batches, and a network to train on it."""

    def __init__(self, case, part):
        self.case, self.part = case, part
        data, rows = part.removesuffix("_addzero"), case["train_cells"]
        self.pad_zero = data == "pt"  # a matter of the computation: m80/pt has it true
        masked = case.tensor(f"{data}/masked")[rows]
        expressed = case.tensor(f"{data}/zero_idx")[rows].bool()
        self.ids, self.values, self.visible = (
            case.tensor(f"{data}/gene_ids")[rows],
            masked[..., 1],
            masked[..., 0].bool(),
        )
        self.mask = expressed[:, 1:] if self.pad_zero else expressed
        self.targets = case.tensor(f"{data}/raw")[rows]
        self.counted = case.tensor(f"{data}/mask_gene")[rows].bool()
        extra = {name: case.tensor(f"{part}/extra/{name}") for name in case.names(f"{part}/extra")}
        self.network = CellFMNetwork.allocate(replace(case.model.config, add_zero=bool(extra)))
        self.network.load_state_dict(case.network.state_dict() | extra)

    def losses(self):
        return masked_losses(
            self.network,
            self.ids,
            self.values,
            self.mask,
            self.visible,
            self.counted,
            targets=self.targets,
            pad_zero=self.pad_zero,
        )

    def train(self):
        """Everything recorded as trained, `zero_emb` included."""
        tensors = dict(self.network.state_dict(keep_vars=True))
        for tensor in tensors.values():
            tensor.requires_grad_(True)
        return tensors


@pytest.fixture(params=[(name, part) for name in WEIGHTS for part in PARTS], ids=lambda p: "-".join(p))
def recorded(request):
    return Recorded(load(request.param[0]), request.param[1])


def total(losses):
    return sum(s / n for s, n in losses.values())


def test_outputs_and_losses(recorded):
    case, part = recorded.case, recorded.part
    shared = part.removesuffix("_addzero")  # the encoder's outputs are the same with the further heads
    real = recorded.mask.numpy() if recorded.pad_zero else np.ones(recorded.ids.shape, bool)
    cell, genes = recorded.network.encode(
        recorded.ids, recorded.values, recorded.mask, recorded.visible, pad_zero=recorded.pad_zero
    )
    assert_allclose(cell, case[f"{shared}/cell_emb"], **CELL)
    assert_allclose(genes.numpy()[real], case[f"{shared}/gene_ctx"][real], **TOKEN)
    for found, key in zip(recorded.network.decode(cell, genes, recorded.ids), ("gw_pred", "cw_pred"), strict=True):
        assert_allclose(found.numpy()[real], case[f"{shared}/{key}"][real], **TOKEN)
    losses = recorded.losses()
    assert_allclose(losses["gene"][0] / losses["gene"][1], case[f"{shared}/loss_mse_gene"], **LOSS)
    assert_allclose(losses["cell"][0] / losses["cell"][1], case[f"{shared}/loss_mse_cell"], **LOSS)
    assert_allclose(total(losses), case[f"{part}/loss0"], **LOSS)
    if part == "pf_addzero":
        chances = recorded.network.decode_expressed(cell, genes, recorded.ids)
        for found, key in zip(chances, ("z_prob1", "z_prob2"), strict=True):
            assert_allclose(found, case[f"{part}/{key}"], **TOKEN)
        for name, key in (("zero_gene", "loss_bce_gene"), ("zero_cell", "loss_bce_cell")):
            assert_allclose(losses[name][0] / losses[name][1], case[f"{part}/{key}"], **LOSS)


def test_gradients(recorded):
    case, part = recorded.case, recorded.part
    tensors = recorded.train()
    total(recorded.losses()).backward()
    names, norms = case[f"{part}/grad_names"].tolist(), case[f"{part}/grad_norms"]
    assert set(names) == set(tensors)
    found = [0.0 if tensors[n].grad is None else float(tensors[n].grad.norm()) for n in names]
    assert_allclose(found, norms, rtol=1e-3, atol=1e-4)
    for name in case.names(f"{part}/grad"):
        gradient = tensors[name].grad
        gradient = torch.zeros_like(tensors[name]) if gradient is None else gradient
        assert_allclose(gradient, case[f"{part}/grad/{name}"], rtol=1e-3, atol=1e-3, err_msg=name)


def test_ten_steps(recorded):
    """MindSpore's Adam: epsilon is added to the square root of the second moment before its bias correction."""
    tensors = list(recorded.train().values())
    first, second = ([torch.zeros_like(t) for t in tensors] for _ in range(2))
    curve = []
    for step in range(1, 11):
        loss = total(recorded.losses())
        curve.append(loss.item())
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
        rate = 1e-3 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        with torch.no_grad():
            for tensor, gradient, m, v in zip(tensors, gradients, first, second, strict=True):
                if gradient is not None:
                    m.lerp_(gradient, 0.1)
                    v.lerp_(gradient**2, 0.001)
                    tensor -= rate * m / (v.sqrt() + 1e-8)
    assert_allclose(curve, recorded.case[f"{recorded.part}/adam_losses"], rtol=1e-3)


def test_masks_follow_the_official_rule():
    sizes = torch.tensor([1, 4, 5, 9, 10, 37, 56])
    mask = torch.arange(60) < sizes[:, None]
    batch = TokenBatch(torch.arange(1, 61).expand(7, -1), torch.ones(7, 60), mask)
    visible, counted = draw_masks(batch, torch.Generator().manual_seed(1))
    in_loss = [int(0.2 * n) or n for n in sizes.tolist()]
    hidden = [int(0.8 * int(0.2 * n)) for n in sizes.tolist()]
    assert counted.sum(1).tolist() == in_loss
    assert (mask & ~visible).sum(1).tolist() == hidden
    assert not (counted & ~mask).any() and not (visible & ~mask).any()
    assert not (mask & ~visible & ~counted).any()  # what is hidden counts
    again = draw_masks(batch, torch.Generator().manual_seed(1))
    assert torch.equal(again[0], visible) and torch.equal(again[1], counted)
    alone = draw_masks(batch.take(np.array([3])), torch.Generator().manual_seed(1))  # without its padding
    assert torch.equal(alone[0], visible[3:4, :9]) and torch.equal(alone[1], counted[3:4, :9])


def test_masks_are_uniform():
    values = torch.rand(4000, 10, generator=torch.Generator().manual_seed(2))  # cells that differ
    batch = TokenBatch(torch.arange(1, 11).expand(4000, -1), values, torch.ones(4000, 10, dtype=torch.bool))
    visible, counted = draw_masks(batch, torch.Generator().manual_seed(0))
    assert_allclose(counted.float().mean(0), 0.2, atol=0.03)
    assert_allclose((~visible).float().mean(0), 0.1, atol=0.025)


def test_loss_reaches_every_parameter_and_leaves_the_global_generator():
    model = CellFM.from_scratch(GeneTable.from_names(cells().var_names.tolist()), size="tiny", seed=3)
    batch = model.tokenize(counts(), cells().var_names.tolist())
    for parameter in model.network.parameters():
        assert not parameter.requires_grad
        parameter.requires_grad_(True)
    state = torch.get_rng_state()
    loss = model.pretraining_loss(batch, torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())
    assert set(loss.counts) == {"gene", "cell"}
    loss.total.backward()
    for name, parameter in model.network.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0, name


def test_loss_is_a_sum_over_cells():
    """Sums and counts add up, whatever the padding a batch brings."""
    case = load("base")
    batch = case.tokens().tensors()
    visible, counted = draw_masks(batch, torch.Generator().manual_seed(0))
    arguments = (batch.gene_ids, batch.values, batch.mask, visible, counted)
    whole = masked_losses(case.network, *arguments)
    sizes = batch.mask.sum(1).tolist()
    parts = [masked_losses(case.network, *(a[i : i + 1, :n] for a in arguments)) for i, n in enumerate(sizes)]
    for name in whole:
        for position in (0, 1):
            assert_allclose(sum(float(part[name][position]) for part in parts), whole[name][position], rtol=1e-4)


def case_rows():
    """Cells of moderate length."""
    return np.flatnonzero(load("base")["embed/n_expressed"] < 60)


def test_training_lowers_the_loss():
    names = cells().var_names.tolist()
    model = CellFM.from_scratch(names, size="tiny", seed=0)
    batch = model.tokenize(counts()[case_rows()], names)
    generator = torch.Generator().manual_seed(0)
    model.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = model.pretraining_loss(batch, generator).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:2])


def test_a_head_that_reads_nothing_has_a_finite_gradient():
    """Values of a single gene, all hidden keys, zero inputs: the RMS norm has no epsilon to lean on."""
    network = load("base").network
    fresh = CellFMNetwork.allocate(network.config)
    fresh.load_state_dict(network.state_dict())
    for layer in fresh.encoder:
        layer.attn.q_proj.weight.zero_()
    fresh.requires_grad_(True)
    ids = torch.tensor([[3, 0, 0]])
    cell, genes = fresh.embed(ids, torch.tensor([[2.0, 0.0, 0.0]]), ids > 0)
    (cell.sum() + genes.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in fresh.parameters() if p.grad is not None)


def test_batches_of_numpy_and_tensors_give_the_same():
    case = load("m80")
    batch = case.tokens()
    tensors = TokenBatch(*(torch.as_tensor(a) for a in (batch.gene_ids, batch.values, batch.mask)))
    losses = [case.model.pretraining_loss(b, torch.Generator().manual_seed(5)).total for b in (batch, tensors)]
    assert losses[0] == losses[1]
