"""The folder of a run of CellOT's own code: what is read, what is refused, and going on from it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from harness.errors import InputError
from tasks.drug_response.cellot import train
from tasks.drug_response.cellot_files import read_cellot
from tasks.drug_response.cellot_settings import CellOTSettings
from tasks.drug_response.problem import Populations
from tests.tasks.drug_response.autoencoder_case import GOLDEN, arrays, expression

GENE, LATENT = GOLDEN / "model-cellot-gene", GOLDEN / "model-cellot-latent"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GENE, tmp_path / "model-cellot-gene")


def change_config(folder, **sections):
    """Put keys into sections of `config.yaml`; None takes one out."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        for key, value in values.items():
            if value is None:
                config[section].pop(key, None)
            else:
                config[section][key] = value
    path.write_text(yaml.safe_dump(config))


def change_weights(folder, change, file="model.pt"):
    path = folder / "cache" / file
    saved = torch.load(path, weights_only=True)
    torch.save(change(saved) or saved, path)


def test_weights_and_optimisers_are_those_of_the_file():
    saved, official = read_cellot(GENE), torch.load(GENE / "cache/model.pt", weights_only=True)
    networks = saved.potentials
    assert networks.step == 20 and saved.fitted.kept_step == 20 and saved.autoencoder is None
    for name, network, adam, steps in (
        ("g", networks.g, networks.g_adam, 200),
        ("f", networks.f, networks.f_adam, 20),
    ):
        state, optimiser = official[f"{name}_state"], official[f"opt_{name}_state"]["state"]
        assert network.state_dict().keys() == state.keys()
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[key])
        assert adam.step == steps
        # Rows of A lie one below the other in ours; in the file, state 4 + 2 i is that of A.i.weight.
        rows = torch.cat([optimiser[place]["exp_avg"] for place in (4, 6, 8, 10)])
        assert torch.equal(adam.mean[: rows.numel()], rows.flatten())


def test_settings_are_those_of_the_file():
    expected = CellOTSettings(
        hidden=(16,) * 4,
        init=(0.0, 0.1),
        fnorm_penalty=1.0,
        learning_rate=1e-4,
        batch=64,
        steps=20,
        scale=False,
        identity_start=False,
    )
    assert read_cellot(GENE).settings == expected
    assert read_cellot(LATENT).settings == expected


def test_the_autoencoder_is_found_beside_the_run(tmp_path):
    assert read_cellot(LATENT).autoencoder == GOLDEN / "model-scgen"
    moved = shutil.copytree(LATENT, tmp_path / "run")
    change_config(moved, data={"ae_emb": {"path": "/cluster/results/model-scgen"}})
    assert read_cellot(moved).autoencoder == tmp_path / "model-scgen"
    elsewhere = tmp_path / "far" / "coder"
    elsewhere.mkdir(parents=True)
    change_config(moved, data={"ae_emb": {"path": str(elsewhere)}})
    assert read_cellot(moved).autoencoder == elsewhere
    change_config(moved, data={"ae_emb": "model-scgen"})
    with pytest.raises(InputError, match=r"data.ae_emb.path is expected"):
        read_cellot(moved)


def test_the_chosen_state_goes_before_the_last(folder):
    shutil.copy(folder / "cache/init.pt", folder / "cache/last.pt")
    assert read_cellot(folder).potentials.step == 20
    assert read_cellot(folder, "last").potentials.step == 0
    (folder / "cache/model.pt").unlink()
    assert read_cellot(folder).potentials.step == 0


def test_training_goes_on_from_there():
    cells = Populations(*(expression(arrays()[f"train_{kind}_cells"]) for kind in ("source", "target")))
    settings = replace(read_cellot(GENE).settings, steps=26, check_every=3)

    def went_on(prepare=lambda networks: None):
        networks = read_cellot(GENE).potentials
        prepare(networks)
        fitted = train(cells, cells, settings, 3, start=networks)
        assert [at.step for at in fitted.curve] == [21, 24, 26] and fitted.steps == 26
        assert fitted.kept_step == min(fitted.curve, key=lambda at: at.mmd).step
        return fitted.transport(cells.control)

    moved = went_on()
    np.testing.assert_array_equal(moved, went_on())
    # What the optimisers remember counts.
    assert not np.allclose(moved, went_on(lambda networks: networks.g_adam.mean.zero_()), atol=1e-6)


def test_a_run_that_is_over_stays_as_it_is():
    saved = read_cellot(GENE)
    cells = Populations(*(expression(arrays()[f"train_{kind}_cells"]) for kind in ("source", "target")))
    fitted = train(cells, cells, saved.settings, 0, start=saved.potentials)
    assert fitted.steps == fitted.kept_step == 20 and fitted.curve == ()
    np.testing.assert_array_equal(fitted.transport(cells.control), read_cellot(GENE).fitted.transport(cells.control))


def test_a_file_without_optimisers_is_read(folder):
    change_weights(folder, lambda saved: {key: saved[key] for key in ("f_state", "g_state")})
    networks = read_cellot(folder).potentials
    assert networks.step == networks.g_adam.step == 0 and not networks.g_adam.mean.any()


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"model": {"name": "scgen"}}, "model.name=scgen: cellot is expected"),
        ({"model": {"softplus_W_kernels": True}}, "softplus_W_kernels is true"),
        ({"model": {"g": {"softplus_W_kernels": True}}}, "softplus_W_kernels is true"),
        ({"model": {"activation": "relu"}}, "model.activation=relu: LeakyReLU"),
        ({"model": {"f": {"hidden_units": [8]}}}, "model.hidden_units of f and g differ"),
        ({"model": {"f": 3}}, "model.f is no section"),
        ({"model": {"kernel_init_fxn": {"name": "normal", "std": 0.1}}}, "kernel_init_fxn=normal"),
        ({"model": {"width": 3}}, "model.width is not known"),
        ({"model": {"hidden_units": 16}}, "cellot.hidden=16"),
        ({"model": {"hidden_units": [16, 16, 16, 8]}}, r"does not fit.*of another shape: W.2.weight is \(16, 16\)"),
        ({"model": {"hidden_units": [16, 16, 16]}}, r"does not fit.*unexpected: W.3.weight"),
        ({"optim": {"g": {"lr": 1e-3}}}, "optim.lr of f and g differ"),
        ({"optim": {"optimizer": "SGD"}}, "optim.optimizer=SGD: Adam"),
        ({"optim": {"lr": "fast"}}, "cellot.learning_rate=fast"),
    ],
)
def test_configurations_that_are_refused(folder, sections, expected):
    change_config(folder, **sections)
    with pytest.raises(InputError, match=expected):
        read_cellot(folder)


def test_what_a_configuration_does_not_say_is_as_the_official_code_takes_it(folder):
    change_config(
        folder,
        optim={"lr": None, "beta1": None, "beta2": None, "optimizer": None},
        model={"g": None, "name": None, "activation": "Leaky_ReLU"},
        training={"n_iters": None},
    )
    settings = read_cellot(folder).settings
    assert (settings.learning_rate, settings.beta1, settings.beta2) == (1e-3, 0.9, 0.999)
    assert settings.fnorm_penalty == 0 and settings.steps == 100_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda saved: saved["f_state"].__delitem__("A.1.bias"), r"does not fit.*1 missing: A.1.bias"),
        (lambda saved: saved["g_state"].update({"A.9.bias": torch.zeros(1)}), r"does not fit.*unexpected: A.9.bias"),
        (lambda saved: saved.__delitem__("f_state"), "holds no CellOT"),
        (lambda saved: {"model_state": {}}, "holds no CellOT"),
        (lambda saved: [1, 2], "holds no CellOT"),
        (lambda saved: saved.update(opt_g_state=[1]), "opt_g_state: the state of torch's Adam is expected"),
        (
            lambda saved: saved["opt_g_state"]["state"].update({99: saved["opt_g_state"]["state"][0]}),
            "opt_g_state: state of parameter 99; there are 14: W.0.weight",
        ),
        (
            lambda saved: saved["opt_f_state"]["state"][0].update(exp_avg=torch.zeros(2, 2)),
            r"opt_f_state: exp_avg of W.0.weight is \(2, 2\), expected \(16, 16\)",
        ),
    ],
)
def test_weights_that_do_not_fit(folder, change, expected):
    change_weights(folder, change)
    with pytest.raises(InputError, match=expected):
        read_cellot(folder)


def test_damaged_and_missing_files(folder):
    (folder / "cache/model.pt").write_bytes((folder / "cache/model.pt").read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_cellot(folder)
    (folder / "cache/model.pt").unlink()
    with pytest.raises(InputError, match=r"model.pt or .*last.pt is expected"):
        read_cellot(folder)
    (folder / "config.yaml").write_text("model: [1\n")
    with pytest.raises(InputError, match="is no YAML"):
        read_cellot(folder)
    (folder / "config.yaml").write_text("- model\n")
    with pytest.raises(InputError, match="sections such as model and optim are expected"):
        read_cellot(folder)
    (folder / "config.yaml").write_text("model: cellot\n")
    with pytest.raises(InputError, match="model is no section: cellot"):
        read_cellot(folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config.yaml does not exist"):
        read_cellot(folder)
