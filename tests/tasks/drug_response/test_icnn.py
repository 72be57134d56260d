"""The network against autograd and the recorded case; the gradients of both losses against double backward."""

import itertools

import numpy as np
import pytest
import torch

from harness.errors import InternalError
from tasks.drug_response.cellot_gradients import Adam, FStep, GStep
from tasks.drug_response.icnn import ICNN
from tests.tasks.drug_response.plain_icnn import cells, gradients, leaves, network, plain, plain_g_loss, plain_transport

SIZES = [(1, (1,)), (3, (7,)), (4, (5, 9)), (6, (8, 3, 6, 4)), (2, (4, 4, 4))]


def by_name(parts, like):
    """A gradient as the parameters are named."""
    shadow = ICNN(like.dim, parts.hidden, quadratic=parts.quadratic is not None, dtype=parts.flat.dtype)
    shadow.parts.flat.copy_(parts.flat)
    return shadow.state_dict()


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(("dim", "hidden"), SIZES)
@pytest.mark.parametrize("quadratic", [False, True])
def test_potential_and_transport_are_those_of_autograd(dim, hidden, quadratic):
    made, x = network(dim, hidden, quadratic=quadratic), cells(11, dim)
    of = leaves(made)
    torch.testing.assert_close(made(x), plain(of, x).detach())
    torch.testing.assert_close(made.transport(x), plain_transport(of, x))
    assert made(x).shape == (11, 1)
    assert made(x[:0]).shape == (0, 1) and made.transport(x[:0]).shape == (0, dim)


@pytest.mark.parametrize(("dim", "hidden"), SIZES)
@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_gradient_of_g_is_that_of_double_backward(dim, hidden, quadratic, penalty):
    f, g = (network(dim, hidden, seed, quadratic) for seed in (1, 2))
    step = GStep(f, g, 13, penalty)
    for seed in (3, 4):  # the same memory twice: nothing is left of the first
        x = cells(13, dim, seed)
        of_g = leaves(g)
        expected = plain_g_loss(leaves(f), of_g, x, penalty)
        torch.testing.assert_close(step(x), expected.detach())
        same(by_name(step.gradient, g), gradients(expected, of_g))


@pytest.mark.parametrize(("dim", "hidden"), SIZES)
@pytest.mark.parametrize("quadratic", [False, True])
def test_gradient_of_f_is_that_of_backward(dim, hidden, quadratic):
    f = network(dim, hidden, 1, quadratic)
    step = FStep(f, 5, 9)
    for seed in (3, 4):
        moved, target = cells(5, dim, seed), cells(9, dim, seed + 10)
        of_f = leaves(f)
        expected = plain(of_f, target).mean() - plain(of_f, moved).mean()
        torch.testing.assert_close(step(moved, target), expected.detach())
        same(by_name(step.gradient, f), gradients(expected, of_f))


def test_a_layer_without_negative_weights_is_not_penalised():
    f, g = (network(3, (4, 5, 6), seed) for seed in (1, 2))
    g.parts.weights[1].abs_()
    x, of_g = cells(7, 3), leaves(g)
    step = GStep(f, g, 7, 2.0)
    expected = plain_g_loss(leaves(f), of_g, x, 2.0)
    torch.testing.assert_close(step(x), expected.detach())
    same(by_name(step.gradient, g), gradients(expected, of_g))
    g.clamp()
    assert g.penalty() == 0
    torch.testing.assert_close(step(x), plain_g_loss(leaves(f), leaves(g), x).detach())


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_torchs(weight_decay):
    draw = torch.Generator().manual_seed(0)
    ours = torch.randn(50, generator=draw, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    adam = Adam(ours, 0.01, (0.5, 0.9), weight_decay)
    official = torch.optim.Adam([theirs], lr=0.01, betas=(0.5, 0.9), weight_decay=weight_decay)
    for _ in range(20):
        gradient = torch.randn(50, generator=draw, dtype=torch.float64)
        kept = gradient.clone()
        adam.update(gradient)
        torch.testing.assert_close(gradient, kept)
        theirs.grad = gradient
        official.step()
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("quadratic", [False, True])
def test_a_clamped_network_is_convex(quadratic):
    made = network(3, (8, 8, 8), quadratic=quadratic)
    made.clamp()
    x, y = cells(300, 3, 1) * 3, cells(300, 3, 2) * 3
    for t in np.linspace(0, 1, 11):
        chord = t * made(x) + (1 - t) * made(y)
        assert (made(t * x + (1 - t) * y) <= chord + 1e-9).all()
    steps = (made.transport(x) - made.transport(y)) * (x - y)
    assert (steps.sum(1) >= -1e-9).all()  # the gradient of a convex function is monotone


def test_a_quadratic_term_alone_is_the_identity():
    made, x = ICNN(4, (3, 3), quadratic=True), cells(6, 4, dtype=torch.float32)
    torch.testing.assert_close(made.transport(x), x)
    torch.testing.assert_close(made(x), x.square().sum(1, keepdim=True) / 2)


def test_weights_are_drawn_from_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (
        ICNN(5, (6, 7), init=(-0.05, 0.05), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.parts.flat, again.parts.flat) and not torch.equal(first.parts.flat, other.parts.flat)
    for weight in itertools.chain(first.parts.weights, (first.parts.rows, first.parts.last)):
        assert weight.min() >= -0.05 and weight.max() <= 0.05 and weight.unique().numel() == weight.numel()
    assert not first.parts.bias.any() and not first.parts.last_bias.any()


def test_parameters_are_views_and_stay_so():
    made, other = ICNN(3, (4, 5)), network(3, (4, 5), dtype=torch.float32)
    assert list(made.state_dict()) == [
        *("W.0.weight", "W.1.weight"),
        *(f"A.{layer}.{what}" for layer in range(3) for what in ("weight", "bias")),
    ]
    made.load_state_dict(other.state_dict())
    assert torch.equal(made.parts.flat, other.parts.flat)
    made.parts.flat.zero_()
    assert not any(value.any() for value in made.state_dict().values())
    with pytest.raises(InternalError):
        made.double()
