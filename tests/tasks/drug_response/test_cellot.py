"""CellOT against the recorded case, and on cells whose true map is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from harness.errors import InputError, InternalError
from tasks.distances import mmd_rbf
from tasks.drug_response.cellot import CHECKED, batches, train, wasserstein
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
    np.testing.assert_allclose(np.asarray(found), expected, atol=TOLERANCE["atol"], rtol=TOLERANCE["rtol"])


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
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    control, treated = recorded(space, "test")
    moved = networks.g.transport(control)
    close(moved, arrays()[f"cellot_{space}/after20_transport"])
    close(mmd_rbf(moved.numpy(), treated.numpy()), arrays()[f"cellot_{space}/after20_scalar_mmd"])
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


#: Settings under which a training takes a few seconds.
QUICK = CellOTSettings(hidden=(32, 32), batch=128, learning_rate=1e-3, steps=500, check_every=100)


def gaussian(shift, factor=1.0, *, apart=False, n=1000, d=5, seed=0):
    """Training and validation cells whose map is x -> factor · x + shift, control cells held out, their treated state.

    Lengths are in units of the spread, the root mean squared distance of a cell from the mean. Treated cells are the
    control cells moved, in another order; `apart`: cells of their own.
    """
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.geomspace(3, 0.3, d)[:, None]
    axes /= np.linalg.norm(axes)
    direction = rng.normal(size=d)
    shift = shift * direction / np.linalg.norm(direction)

    def populations(n):
        control = rng.normal(size=(n, d)) @ axes
        treated = rng.normal(size=(n, d)) @ axes if apart else rng.permutation(control)
        return Populations(control.astype(np.float32), (factor * treated + shift).astype(np.float32))

    held_out = populations(n // 4).control
    return populations(n), populations(n // 4), held_out, (factor * held_out + shift).astype(np.float32)


def error(found, true):
    """Mean distance of a predicted cell from the true one, in units of the spread."""
    return np.linalg.norm(found - true, axis=1).mean()


def test_a_planted_shift_is_found():
    learn, check, held_out, true = gaussian(1.0)
    fitted = train(learn, check, QUICK, 0)
    assert error(held_out, true) == pytest.approx(1)
    assert error(fitted.transport(held_out), true) < 0.05
    assert [at.step for at in fitted.curve] == [100, 200, 300, 400, 500] and fitted.steps == 500
    best = min(fitted.curve, key=lambda at: at.mmd)
    assert fitted.kept_step == best.step and best.mmd < fitted.curve[0].mmd / 20


def test_cells_are_drawn_together():
    # No shift moves them there, nor a map whose quadratic term is held at the identity.
    learn, check, held_out, true = gaussian(0.5, factor=0.5)
    fitted = train(learn, check, QUICK, 0)
    found = fitted.transport(held_out)
    assert error(found, true) < 0.1
    np.testing.assert_allclose(found.var(axis=0).sum(), true.var(axis=0).sum(), rtol=0.15)


def test_where_nothing_changes_little_is_invented():
    learn, check, held_out, _ = gaussian(0.0, apart=True)
    fitted = train(learn, check, replace(QUICK, steps=200), 0)
    assert error(fitted.transport(held_out), held_out) < 0.05


@pytest.mark.parametrize("dim", [5, 50, 1000])
def test_the_default_start_is_near_the_identity(dim):
    x = torch.randn((200, dim), generator=torch.Generator().manual_seed(0))

    def moved_by(settings):
        g = Potentials(dim, settings, torch.Generator().manual_seed(1)).g
        return float((g.transport(x) - x).norm(dim=1).mean() / x.norm(dim=1).mean())

    assert moved_by(CellOTSettings()) < 0.05
    assert moved_by(PUBLISHED) > 0.5


TINY = CellOTSettings(hidden=(8, 8), batch=32, inner=2, steps=12, check_every=5)


def tiny_cells(n=64, d=3, unit=1.0, centre=0.0):
    rng = np.random.default_rng(0)
    return [
        Populations(*(((rng.normal(size=(n, d)) + by) * unit + centre).astype(np.float32) for by in (0, 1)))
        for _ in range(2)
    ]


def test_steps_checked_and_kept():
    learn, check = tiny_cells()
    fitted = train(learn, check, TINY, 0)
    assert [at.step for at in fitted.curve] == [5, 10, 12]
    assert fitted.kept_step == min(fitted.curve, key=lambda at: at.mmd).step
    x, treated = (fitted.scaling.apply(cells) for cells in (check.control, check.treated))
    shrink = (50 / x.shape[1]) ** 0.5
    again = mmd_rbf((shrink * fitted.g.transport(x)).numpy(), (shrink * treated).numpy())
    assert again == pytest.approx(min(at.mmd for at in fitted.curve))
    assert all(np.isfinite(at).all() for at in fitted.curve)


def test_it_depends_on_the_seed_alone():
    learn, check = tiny_cells()
    before = torch.get_rng_state()
    moved = [train(learn, check, TINY, seed).transport(check.control) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(moved[0], moved[1])
    assert not np.array_equal(moved[0], moved[2])


def test_patience_stops():
    learn, check = tiny_cells()
    settings = replace(TINY, learning_rate=1e-30, steps=60)  # nothing improves after the first look
    fitted = train(learn, check, settings, 0, patience=2)
    assert fitted.steps == 15 and fitted.kept_step == 5
    assert train(learn, check, settings, 0).steps == 60


def test_the_unit_and_the_origin_of_cells_do_not_matter():
    settings = replace(TINY, steps=30)
    (learn, check), (far, far_check) = tiny_cells(), tiny_cells(unit=1000, centre=500)
    near = train(learn, check, settings, 0).transport(check.control)
    np.testing.assert_allclose(
        train(far, far_check, settings, 0).transport(far_check.control), near * 1000 + 500, atol=3
    )
    plain = replace(settings, scale=False)
    fitted = train(learn, check, plain, 0)
    assert fitted.scaling.unit == 1 and not fitted.scaling.centre.any()


def test_a_check_compares_some_hundreds_of_cells(monkeypatch):
    learn, check = tiny_cells(n=CHECKED + 40)
    compared = []

    def look(x, y):
        compared.append((x.shape, y))
        return 0.0

    monkeypatch.setattr("tasks.drug_response.cellot.mmd_rbf", look)
    train(learn, check, TINY, 0)
    assert [shape for shape, _ in compared] == [(CHECKED, 3)] * 3
    assert all(np.array_equal(treated, compared[0][1]) for _, treated in compared)


def test_batches_are_epochs_of_shuffled_cells():
    cells = torch.arange(10.0)[:, None]
    stream = batches(cells, 4, torch.Generator().manual_seed(0))
    epochs = [torch.cat([next(stream), next(stream)]).flatten().tolist() for _ in range(20)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert {cell for epoch in epochs for cell in epoch} == set(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 20


def test_transport_of_many_cells_is_that_of_each(monkeypatch):
    learn, check = tiny_cells()
    fitted = train(learn, check, TINY, 0)
    whole = fitted.transport(check.control)
    monkeypatch.setattr("tasks.drug_response.cellot.BLOCK", 10)
    np.testing.assert_allclose(fitted.transport(check.control), whole, atol=1e-6)
    assert whole.dtype == np.float32 and fitted.transport(check.control[:0]).shape == (0, 3)
    np.testing.assert_allclose(fitted.transport(np.asfortranarray(check.control.astype(np.float64))), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "expected"),
    [
        (20, 64, "drug X: CellOT learns from 20 control and 64 treated cells, .* set task.cellot.batch=20 or less"),
        (64, 31, "64 control and 31 treated cells, .* set task.cellot.batch=31 or less"),
        (64, 0, "64 control and 0 treated cells, .* some of each are needed"),
    ],
)
def test_too_few_cells(n, m, expected):
    learn, check = tiny_cells()
    with pytest.raises(InputError, match=expected):
        train(Populations(learn.control[:n], learn.treated[:m]), check, TINY, 0, name="drug X")


def test_the_message_says_where_the_settings_are():
    learn, check = tiny_cells(n=10)
    with pytest.raises(InputError, match=r"set model.settings.batch=10"):
        train(learn, check, TINY, 0, where="model.settings")


def test_odd_cells():
    learn, check = tiny_cells()
    with pytest.raises(InputError, match="has 0 control and 64 treated"):
        train(learn, Populations(check.control[:0], check.treated), TINY, 0)
    learn.treated[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 64 treated cells for training have values that are no numbers"):
        train(learn, check, TINY, 0)


def test_constant_cells_are_left_where_they_are():
    same = Populations(np.ones((40, 3), np.float32), np.ones((40, 3), np.float32))
    moved = train(same, same, TINY, 0).transport(same.control)
    np.testing.assert_allclose(moved, same.control, atol=0.05)


def test_losses_that_are_no_numbers():
    learn, check = tiny_cells()
    with pytest.raises(InternalError, match="lower its learning rate"):
        train(learn, check, replace(TINY, learning_rate=1e30), 0)


def test_progress_is_shown_on_standard_error(capsys, monkeypatch):
    monkeypatch.setattr("harness.progress.LINE_EVERY", 0.0)
    learn, check = tiny_cells()
    train(learn, check, TINY, 0, progress=True)
    shown = capsys.readouterr()
    assert "cellot: 12 of 12 MMD" in shown.err and not shown.out


def test_settings():
    assert CellOTSettings.of({}, "task.cellot") == CellOTSettings()
    found = CellOTSettings.of({"hidden": [8, 4], "init": [0, 1]}, "task.cellot")
    assert found.hidden == (8, 4) and found.init == (0.0, 1.0)
    assert hash(found) != hash(CellOTSettings())
    with pytest.raises(InputError, match=r"task.cellot.widths: CellOT has hidden, init, .*"):
        CellOTSettings.of({"widths": [8]}, "task.cellot")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("hidden", value) for value in ([], 64, "64", [64, 0], [64.0], [True])),
        *(("init", value) for value in ([0.1], 0.1, [0.1, 0.0], [0, float("nan")], "ab")),
        *((name, value) for name in ("batch", "inner", "steps", "check_every") for value in (0, -1, 2.5, "many", True)),
        *(("learning_rate", value) for value in (-1e-4, "1e-4", float("inf"), None)),
        *((name, value) for name in ("beta1", "beta2") for value in (-0.1, 1.0, 1.5)),
        *((name, -1) for name in ("fnorm_penalty", "weight_decay")),
        *((name, value) for name in ("scale", "identity_start") for value in (1, "yes", None)),
    ],
)
def test_settings_that_mean_nothing(name, value):
    with pytest.raises(InputError, match=f"cellot.{name}="):
        CellOTSettings.of({name: value}, "task.cellot")
