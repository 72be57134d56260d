"""The autoencoder: the recorded numbers of CellOT's own, its files, and our training."""

import shutil

import numpy as np
import pytest
import torch
import yaml

from harness.errors import InputError, InternalError
from tasks.drug_response.autoencoder import (
    AutoEncoder,
    AutoEncoderSettings,
    FittedAutoEncoder,
    make_optimizer,
    train_autoencoder,
    train_step,
)
from tasks.drug_response.autoencoder_files import read_autoencoder
from tasks.drug_response.shifts import encoded, shifted
from tests.tasks.drug_response.autoencoder_case import SCGEN, TOLERANCE, arrays, cells, expression, recorded_problem

SMALL = {"hidden": [16], "latent": 3, "batch": 32, "check_every": 10}


def same(found, recorded):
    np.testing.assert_allclose(found, recorded, **TOLERANCE)


def folder_of(state, tmp_path, **changes):
    """An official folder with a recorded state (`init`, `model`) as model.pt; section__key=value changes the config."""
    (tmp_path / "cache").mkdir(parents=True)
    shutil.copy(SCGEN / "cache" / f"{state}.pt", tmp_path / "cache" / "model.pt")
    config = yaml.safe_load((SCGEN / "config.yaml").read_text())
    for place, value in changes.items():
        section, key = place.split("__")
        config[section][key] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.fixture
def initial(tmp_path):
    """The recorded network before training, in training mode, and the cells of the first step."""
    saved = read_autoencoder(folder_of("init", tmp_path))
    train = torch.from_numpy(expression(arrays()["ae_train_cells"]))
    return saved.autoencoder.network.train().requires_grad_(True), saved.settings, train


# -- recorded --------------------------------------------------------------------------------------


def test_forward_and_loss_are_as_recorded(initial):
    network, _, train = initial
    batch = train[arrays()["ae_step_rows"][0]]
    with torch.no_grad():
        reconstruction, codes = network(batch)
        same(codes.numpy(), arrays()["ae_init_code"])
        same(reconstruction.numpy(), arrays()["ae_init_recon"])
        same(network.loss(batch).mean(), arrays()["ae_init_loss"])
        reg = codes.square().sum(dim=-1).mean()
        same(reg, arrays()["ae_init_reg"])
        network.beta = 0.5
        same(network.loss(batch).mean(), arrays()["ae_init_loss"] + 0.5 * arrays()["ae_init_reg"])


def test_twenty_steps_are_as_recorded(initial):
    network, settings, train = initial
    optimizer = make_optimizer(network, settings)
    losses = [float(train_step(network, optimizer, train[rows])) for rows in arrays()["ae_step_rows"]]
    same(losses, arrays()["ae_step_loss"])


def test_codes_and_prediction_of_the_trained_model_are_as_recorded():
    saved, problem = read_autoencoder(SCGEN), recorded_problem()
    assert saved.autoencoder.kept_step == 420
    train, labels = expression(arrays()["ae_train_cells"]), cells().obs["drug"][arrays()["ae_train_cells"]].to_numpy()
    for name in ("control", "trametinib"):
        same(saved.code_means[name], arrays()[f"ae_code_mean_{name}"])
        same(saved.autoencoder.encode(train[labels == name]).mean(axis=0), arrays()[f"ae_code_mean_{name}"])
    assert np.array_equal(
        np.sort(arrays()["ae_train_cells"][labels == "control"]), np.sort(arrays()["train_source_cells"])
    )
    same(saved.autoencoder.encode(problem.test), arrays()["latent_test_source"])
    same(saved.autoencoder.encode(expression(arrays()["test_target_cells"])), arrays()["latent_test_target"])
    moved = saved.autoencoder.encode(problem.test) + encoded(saved.autoencoder, problem.train).shift
    same(moved, arrays()["scgen_pred_latent"])
    predicted = shifted(saved.autoencoder, problem.train, problem.test)
    assert predicted.dtype == np.float32
    same(predicted, arrays()["scgen_pred"])
    same(predicted, arrays()["eval_pred/scgen"])


def test_learning_rate_falls_as_that_of_torchs_step_lr():
    settings = AutoEncoderSettings.of({**SMALL, "steps": 7, "decay_every": 3, "batch": 6, "check_every": 7}, "model")
    rng = np.random.default_rng(0)
    x, val = rng.random((6, 5), np.float32), rng.random((4, 5), np.float32)
    found = train_autoencoder(x, val, settings, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = AutoEncoder(5, 3, [16])
    optimizer = make_optimizer(network, settings)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    for _ in range(7):  # every batch is all six cells
        train_step(network, optimizer, torch.from_numpy(x))
        schedule.step()
    np.testing.assert_allclose(found.encode(x), FittedAutoEncoder(network).encode(x), rtol=1e-4, atol=1e-6)


# -- files -----------------------------------------------------------------------------------------


def test_settings_are_read_from_the_folder():
    settings = read_autoencoder(SCGEN).settings
    assert (settings.hidden, settings.latent, settings.learning_rate, settings.weight_decay) == (
        [32, 32],
        8,
        1e-3,
        1e-5,
    )
    assert (settings.decay, settings.decay_every, settings.batch, settings.check_every) == (0.5, 100_000, 64, 2500)
    assert settings.patience is None  # theirs never ends early


def test_a_state_without_code_means_is_read(tmp_path):
    assert read_autoencoder(folder_of("init", tmp_path)).code_means == {}


def test_last_is_read_where_there_is_no_model(tmp_path):
    folder = folder_of("model", tmp_path)
    (folder / "cache/model.pt").rename(folder / "cache/last.pt")
    assert read_autoencoder(folder).autoencoder.kept_step == 420
    (folder / "cache/last.pt").unlink()
    with pytest.raises(InputError, match=r"cache/model\.pt or cache/last\.pt"):
        read_autoencoder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__name": "cellot"}, r"model\.name=cellot"),
        ({"model__hidden_units": [32]}, r"decoder_net\.4\.weight.*of another shape|unexpected: encoder_net\.4\.weight"),
        ({"model__latent_dim": 9}, r"encoder_net\.4\.weight is \(8, 32\), expected \(9, 32\)"),
        ({"model__dropout": 0.1}, r"missing: encoder_net\.3\.weight"),
        ({"model__softmax": True}, r"model\.softmax is not known"),
        ({"optim__lr": "fast"}, r"learning_rate=fast"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_autoencoder(folder_of("model", tmp_path, **change))


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.yaml does not exist"):
        read_autoencoder(tmp_path)
    (tmp_path / "config.yaml").write_text("- just a list")
    with pytest.raises(InputError, match=r"model\.name=None"):
        read_autoencoder(tmp_path)
    (tmp_path / "config.yaml").write_text("model: {")
    with pytest.raises(InputError, match="no YAML"):
        read_autoencoder(tmp_path)
    folder = folder_of("model", tmp_path / "other")
    torch.save({"g_state": {}}, folder / "cache/model.pt")
    with pytest.raises(InputError, match="holds no autoencoder"):
        read_autoencoder(folder)
    saved = torch.load(SCGEN / "cache/model.pt", weights_only=True)
    saved["code_means"]["control"] = torch.zeros(3)
    torch.save(saved, folder / "cache/model.pt")
    with pytest.raises(InputError, match=r"mean code of control is \(3,\)"):
        read_autoencoder(folder)


def test_one_width_is_one_layer_and_dropout_shifts_the_names():
    assert list(AutoEncoder(5, 2, [4]).state_dict()) == [
        *(f"encoder_net.{i}.{what}" for i in (0, 2) for what in ("weight", "bias")),
        *(f"decoder_net.{i}.{what}" for i in (0, 2) for what in ("weight", "bias")),
    ]
    assert "encoder_net.3.weight" in AutoEncoder(5, 2, [4], dropout=0.1).state_dict()
    assert AutoEncoder(5, 2, [7, 4]).decoder_net[0].out_features == 4  # the way back is the other way round


# -- training --------------------------------------------------------------------------------------


def plane(n=120, g=12, seed=0):
    """Cells on a plane in gene space, with little noise."""
    rng = np.random.default_rng(seed)
    axes = np.random.default_rng(9).normal(0, 1, (2, g))
    return (1 + rng.normal(0, 1, (n, 2)) @ axes + rng.normal(0, 0.05, (n, g))).astype(np.float32)


def test_cells_are_reconstructed():
    x, val, test = plane(), plane(40, seed=1), plane(40, seed=2)
    fitted = train_autoencoder(x, val, AutoEncoderSettings.of({**SMALL, "steps": 400, "learning_rate": 0.01}, "model"))
    back = fitted.decode(fitted.encode(test))
    assert back.dtype == np.float32
    assert ((back - test) ** 2).mean() < 0.05 * test.var(axis=0).mean()
    assert not fitted.network.training


def test_training_depends_on_the_seed_alone_and_leaves_generators_alone():
    settings = AutoEncoderSettings.of({**SMALL, "steps": 12, "dropout": 0.2}, "model")
    x, val = plane(), plane(40, seed=1)
    torch.manual_seed(5)
    before, np_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = train_autoencoder(x, val, settings, 1).encode(x)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(np_before, np.random.get_state()[1])
    torch.manual_seed(6)
    assert np.array_equal(first, train_autoencoder(x, val, settings, 1).encode(x))
    assert not np.allclose(first, train_autoencoder(x, val, settings, 2).encode(x))


def test_the_state_with_the_lowest_validation_loss_is_kept():
    # Validation cells that are nothing like the others: the more is learned, the worse.
    x = plane()
    settings = AutoEncoderSettings.of(
        {**SMALL, "steps": 200, "learning_rate": 0.01, "check_every": 5, "patience": 3}, "model"
    )
    fitted = train_autoencoder(x, np.zeros((10, 12), np.float32), settings)
    assert (fitted.kept_step, fitted.steps) == (5, 20)
    short = AutoEncoderSettings.of({**SMALL, "steps": 5, "learning_rate": 0.01, "check_every": 5}, "model")
    np.testing.assert_array_equal(fitted.encode(x), train_autoencoder(x, x[:3], short).encode(x))


def test_without_validation_cells_the_last_state_is_kept():
    fitted = train_autoencoder(plane(), plane()[:0], AutoEncoderSettings.of({**SMALL, "steps": 15}, "model"))
    assert (fitted.kept_step, fitted.steps) == (15, 15)


def test_few_cells_and_constant_genes():
    x = np.zeros((1, 4), np.float32)
    fitted = train_autoencoder(x, x, AutoEncoderSettings.of({**SMALL, "steps": 3, "check_every": 100}, "model"))
    assert fitted.kept_step == 3  # the last step is checked too
    assert np.isfinite(fitted.decode(fitted.encode(x))).all()
    assert fitted.encode(x[:0]).shape == (0, 3)
    with pytest.raises(InputError, match="cannot learn"):
        train_autoencoder(x[:0], x, AutoEncoderSettings())
    with pytest.raises(InputError, match="cannot learn"):
        train_autoencoder(x, x[:, :2], AutoEncoderSettings())


def test_a_loss_that_explodes_is_said():
    settings = AutoEncoderSettings.of({**SMALL, "steps": 30}, "model")
    with pytest.raises(InternalError, match="learning_rate"):
        train_autoencoder(np.full((8, 4), 1e30, np.float32), np.ones((2, 4), np.float32) * 1e30, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1}, r"model\.lr: the autoencoder has hidden"),
        ({"steps": 0}, r"model\.steps=0"),
        ({"steps": 10.5}, r"model\.steps=10\.5"),
        ({"batch": True}, r"model\.batch=True"),
        ({"hidden": []}, r"model\.hidden=\[\]"),
        ({"hidden": "512"}, r"model\.hidden=512"),
        ({"hidden": 512}, r"model\.hidden=512"),
        ({"patience": 0}, r"model\.patience=0"),
        ({"dropout": 1}, r"model\.dropout=1"),
        ({"learning_rate": float("nan")}, r"model\.learning_rate=nan"),
        ({"weight_decay": None}, r"model\.weight_decay=None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        AutoEncoderSettings.of(settings, "model")
