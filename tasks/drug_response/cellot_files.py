"""The folder of a run of CellOT's own code: `config.yaml` and `cache/model.pt` or `cache/last.pt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints import load_state, read_torch
from harness.errors import InputError
from tasks.drug_response.cellot import FittedCellOT, Scaling
from tasks.drug_response.cellot_gradients import Adam
from tasks.drug_response.cellot_potentials import Potentials
from tasks.drug_response.cellot_settings import PUBLISHED, CellOTSettings
from tasks.drug_response.icnn import ICNN
from tasks.drug_response.run_config import read_config

#: What a network is made of, in `model` and in `model.f` and `model.g`; the last four change nothing here.
MODEL_KEYS = ("hidden_units", "fnorm_penalty", "kernel_init_fxn", "softplus_W_kernels", "activation")
IDLE_KEYS = ("name", "latent_dim", "std", "softplus_beta")
#: Setting -> where the file has it, and what the authors' code takes where it has not.
PLACES: dict[str, tuple[str, str, Any]] = {
    "learning_rate": ("optim", "lr", 1e-3),
    "beta1": ("optim", "beta1", 0.9),
    "beta2": ("optim", "beta2", 0.999),
    "weight_decay": ("optim", "weight_decay", 0.0),
    "batch": ("dataloader", "batch_size", PUBLISHED.batch),
    "inner": ("training", "n_inner_iters", PUBLISHED.inner),
    "steps": ("training", "n_iters", PUBLISHED.steps),
    "check_every": ("training", "eval_freq", PUBLISHED.check_every),
}


@dataclass(frozen=True)
class SavedCellOT:
    """What such a folder holds. The genes are those of the data it was trained on, in their order: no file names them.

    Parameters
    ----------
    potentials
        Networks and optimisers: `tasks.drug_response.cellot.train` goes on from them with `start`.
    settings
        How they were trained.
    autoencoder
        Folder of the autoencoder whose codes they move (`data.ae_emb`); None: they move expression.
    config
        `config.yaml` as it is.
    """

    potentials: Potentials
    settings: CellOTSettings
    autoencoder: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def fitted(self) -> FittedCellOT:
        """What moves cells."""
        f, g, step = self.potentials.f, self.potentials.g, self.potentials.step
        return FittedCellOT(f, g, Scaling(torch.zeros(g.dim), 1.0), kept_step=step, steps=step)


def read_cellot(folder: str | Path, which: str | None = None) -> SavedCellOT:
    """The networks of a folder.

    Parameters
    ----------
    which
        `model`, the state the authors' code chose, or `last`; None: `model` where it is, else `last`.

    Raises
    ------
    InputError
        A file is missing or damaged, the configuration is not that of CellOT or has what is not supported, or the
        weights do not fit it (with the report key by key).
    """
    folder = Path(folder)
    config = _config_of(folder / "config.yaml")
    settings = _settings(config, folder / "config.yaml")
    names = ("model", "last") if which is None else (which,)
    files = [folder / "cache" / f"{name}.pt" for name in names]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(f"{' or '.join(map(str, files))} is expected, the weights of this run; there is neither")
    saved = read_torch(file)
    states: dict[str, Any] = {name: saved.get(f"{name}_state") for name in "fg"} if isinstance(saved, Mapping) else {}
    if not states or not all(isinstance(state, Mapping) and "A.0.weight" in state for state in states.values()):
        raise InputError(f"{file} holds no CellOT: f_state and g_state with A.0.weight are expected")
    potentials = Potentials(states["g"]["A.0.weight"].shape[-1], settings)
    for name, network, adam in (
        ("f", potentials.f, potentials.f_adam),
        ("g", potentials.g, potentials.g_adam),
    ):
        load_state(network, states[name], file)
        _read_adam(adam, saved.get(f"opt_{name}_state"), network, f"{file}: opt_{name}_state")
    potentials.step = int(saved.get("step", 0))
    return SavedCellOT(potentials, settings, _autoencoder(config, folder), config)


def _config_of(path: Path) -> dict[str, Any]:
    config = read_config(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: sections such as model and optim are expected, found {type(config).__name__}")
    for name in ("model", "optim", "training", "dataloader", "data"):
        if not isinstance(config.get(name) or {}, dict):
            raise InputError(f"{path}: {name} is no section: {config[name]}")
    if (config.get("model") or {}).get("name", "cellot") != "cellot":
        raise InputError(f"{path}: model.name={config['model']['name']}: cellot is expected")
    return config


def _settings(config: dict[str, Any], path: Path) -> CellOTSettings:
    model, optim = _both(config, "model", path), _both(config, "optim", path)
    for name in "fg":
        unknown = sorted(set(model[name]) - {*MODEL_KEYS, *IDLE_KEYS})
        if unknown:
            raise InputError(f"{path}: model.{unknown[0]} is not known; a network has {', '.join(MODEL_KEYS)}")
        if model[name].get("softplus_W_kernels"):
            raise InputError(f"{path}: softplus_W_kernels is true; only networks whose weights are clamped are read")
        activation = str(model[name].get("activation", "leakyrelu"))
        if activation.lower().replace("_", "") != "leakyrelu":
            raise InputError(f"{path}: model.activation={activation}: LeakyReLU is expected")
        for section, key, *_ in PLACES.values():
            if section == "optim" and optim["f"].get(key) != optim["g"].get(key):
                raise InputError(f"{path}: optim.{key} of f and g differ; one for both is expected")
    for key in ("hidden_units", "kernel_init_fxn"):
        if model["f"].get(key) != model["g"].get(key):
            raise InputError(f"{path}: model.{key} of f and g differ; one for both is expected")
    if optim["g"].get("optimizer", "Adam") != "Adam":
        raise InputError(f"{path}: optim.optimizer={optim['g']['optimizer']}: Adam is expected")
    kernel = model["g"].get("kernel_init_fxn") or {}
    if kernel.get("name", "uniform") != "uniform":
        raise InputError(f"{path}: kernel_init_fxn={kernel['name']}: uniform is expected")
    found: dict[str, Any] = {
        "hidden": model["g"].get("hidden_units", list(PUBLISHED.hidden)),
        "init": (kernel.get("a", 0.0), kernel.get("b", 1.0)),
        "fnorm_penalty": model["g"].get("fnorm_penalty", 0.0),
        "scale": False,
        "identity_start": False,
    }
    for name, (section, key, default) in PLACES.items():
        found[name] = (optim["g"] if section == "optim" else config.get(section) or {}).get(key, default)
    return CellOTSettings.of(found, str(path))


def _both(config: dict[str, Any], section: str, path: Path) -> dict[str, dict[str, Any]]:
    """What f and g have of a section: what stands there, and in a section of their own below it."""
    common = dict(config.get(section) or {})
    own = {name: common.pop(name, None) or {} for name in "fg"}
    for name, values in own.items():
        if not isinstance(values, dict):
            raise InputError(f"{path}: {section}.{name} is no section: {values}")
    return {name: common | values for name, values in own.items()}


def _read_adam(adam: Adam, state: Any, network: ICNN, where: str) -> None:
    """Copy the optimiser's state of a file; parameters that never had a gradient have none there."""
    if state is None:
        return
    moments = state.get("state") if isinstance(state, Mapping) else None
    if not isinstance(moments, Mapping):
        raise InputError(f"{where}: the state of torch's Adam is expected")
    names = [name for name, _ in network.named_parameters()]
    if odd := sorted(set(moments) - set(range(len(names))), key=str):
        raise InputError(f"{where}: state of parameter {odd[0]}; there are {len(names)}: {', '.join(names)}")
    for key, into in (("exp_avg", adam.mean), ("exp_avg_sq", adam.square)):
        shadow = ICNN(network.dim, network.parts.hidden)
        for place, (name, parameter) in enumerate(shadow.named_parameters()):
            found = moments.get(place, {}).get(key, torch.zeros_like(parameter))
            if found.shape != parameter.shape:
                raise InputError(f"{where}: {key} of {name} is {tuple(found.shape)}, expected {tuple(parameter.shape)}")
            parameter.copy_(found)
        into.copy_(shadow.parts.flat)
    adam.step = max((int(of_one["step"]) for of_one in moments.values()), default=0)


def _autoencoder(config: dict[str, Any], folder: Path) -> Path | None:
    """The folder that `data.ae_emb` names: as written, or of that name beside the run's own."""
    found = (config.get("data") or {}).get("ae_emb")
    if not found:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("path"), str):
        raise InputError(f"{folder / 'config.yaml'}: data.ae_emb.path is expected, the folder of an autoencoder")
    path = Path(found["path"])
    beside = folder.resolve().parent / path.name
    return path if path.is_absolute() and path.is_dir() else beside
