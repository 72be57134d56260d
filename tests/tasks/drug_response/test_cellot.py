"""CellOT against the recorded case, and on cells whose true map is known."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from harness.errors import InputError, InternalError
from tasks.distances import mmd_rbf
from tasks.drug_response.cellot import CHECKED, FittedCellOT, Scaling, batches, train, wasserstein
from tasks.drug_response.cellot_files import read_cellot
from tasks.drug_response.cellot_gradients import FStep, GStep
from tasks.drug_response.cellot_potentials import Potentials
from tasks.drug_response.cellot_settings import PUBLISHED, CellOTSettings
from tasks.drug_response.problem import Populations
from tests.tasks.drug_response.autoencoder_case import GOLDEN, SCGEN, TOLERANCE, arrays, expression

SPACES = ("latent", "gene")


@cache
def recorded(space, part):
    """Control and treated cells of a part of the recorded split, as the networks of this space read them."""
    cells = [torch.from_numpy(expression(arrays()[f"{part}_{kind}_cells"])) for kind in ("source", "target")]
    if space == "gene":
        return cells
    state = torch.load(SCGEN / "cache/model.pt", weights_only=True)["model_state"]
    for layer in (0, 2, 4):
        cells = [linear(x, *(state[f"encoder_net.{layer}.{what}"] for what in ("weight", "bias"))) for x in cells]
        cells = [x.relu() if layer < 4 else x for x in cells]
    return cells


def saved(space, which="init"):
    return read_cellot(GOLDEN / f"model-cellot-{space}", which)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, **TOLERANCE)


@pytest.mark.parametrize("space", SPACES)
def test_potentials_transport_and_losses_are_the_recorded_ones(space):
    networks, (control, treated) = saved(space).potentials, recorded(space, "test")
    f, g = networks.f, networks.g

    def expected(name):
        return arrays()[f"cellot_{space}/init_{name}"]

    moved = g.transport(control)
    close(moved, expected("transport"))
    close(g(control), expected("g_of_x"))
    close(f(control), expected("f_of_x"))
    close(f(moved) - (control * moved).sum(1, keepdim=True), expected("loss_g_per_cell"))
    n = len(control)
    close(GStep(f, g, n)(control), expected("loss_g"))
    pairs = int(arrays()[f"cellot_{space}/pair_rows"])
    close(FStep(f, pairs, pairs)(moved[:pairs], treated[:pairs]), expected("loss_f"))
    close(g.penalty(), expected("penalty_g"))
    distance = wasserstein(f, g, control[:pairs], treated[:pairs])
    close(distance, expected("w2"))
    close(distance, expected("w2_explicit_transport"))


@pytest.mark.parametrize("space", SPACES)
def test_twenty_recorded_steps(space):
    run, (control, treated) = saved(space), recorded(space, "train")
    networks, rows = run.potentials, {k: arrays()[f"cellot_{space}/step_{k}_rows"] for k in ("source", "target")}
    losses = [
        networks.advance(iter(control[torch.from_numpy(of_control)]), treated[torch.from_numpy(of_treated)])
        for of_control, of_treated in zip(rows["source"], rows["target"], strict=True)
    ]
    for name, found in zip("gf", np.array(losses).T, strict=True):
        expected = arrays()[f"cellot_{space}/step_{name}loss"]
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
    control, treated = recorded(space, "test")
    moved = networks.g.transport(control)
    np.testing.assert_allclose(moved, arrays()[f"cellot_{space}/after20_transport"], atol=1e-4, rtol=1e-3)
    found = mmd_rbf(moved.numpy(), treated.numpy())
    np.testing.assert_allclose(found, arrays()[f"cellot_{space}/after20_scalar_mmd"], rtol=1e-3)
    trained = saved(space, "model").potentials
    for ours, official in ((networks.g_adam, trained.g_adam), (networks.f_adam, trained.f_adam)):
        assert ours.step == official.step
        np.testing.assert_allclose(ours.mean, official.mean, atol=1e-3 * float(official.mean.abs().max()))
        np.testing.assert_allclose(ours.square, official.square, atol=1e-3 * float(official.square.abs().max()))


@pytest.mark.parametrize("space", SPACES)
def test_trained_networks_are_the_recorded_ones(space):
    fitted, (control, treated) = saved(space, "model").fitted, recorded(space, "test")
    moved = fitted.transport(control.numpy())
    assert moved.dtype == np.float32
    close(moved, arrays()[f"cellot_{space}/after20_transport"])
    close(mmd_rbf(moved, treated.numpy()), arrays()[f"cellot_{space}/after20_scalar_mmd"])


def gaussian(shift, factor=1.0, n=2000, d=10, seed=0):
    """Populations of cells drawn apart, whose map is x -> factor · x + shift, control cells held out, and their spread.

    The shift is in units of the spread, the root mean squared distance of a cell from the mean.
    """
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.geomspace(3, 0.3, d)[:, None]
    spread = np.linalg.norm(axes)
    shift = shift * spread * np.eye(d)[0]

    def populations(n):
        control, treated = (rng.normal(size=(n, d)) @ axes for _ in range(2))
        return Populations(control.astype(np.float32), (factor * treated + shift).astype(np.float32))

    return populations(n), populations(n // 4), populations(n // 4).control, shift, spread
