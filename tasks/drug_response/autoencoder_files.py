"""The folder of an autoencoder trained by CellOT's own code: `config.yaml` and `cache/model.pt` or `cache/last.pt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import load_state, read_torch
from harness.errors import InputError
from harness.networks import empty
from tasks.drug_response.autoencoder import AutoEncoder, AutoEncoderSettings, FittedAutoEncoder
from tasks.drug_response.run_config import read_config

#: What a network is made of; the authors' code refuses other keys of `model` too.
MODEL_KEYS = {"name", "hidden_units", "latent_dim", "beta", "dropout", "input_dim"}
#: Setting -> where the file has it.
PLACES = {
    "hidden": ("model", "hidden_units"),
    "latent": ("model", "latent_dim"),
    "beta": ("model", "beta"),
    "dropout": ("model", "dropout"),
    "learning_rate": ("optim", "lr"),
    "weight_decay": ("optim", "weight_decay"),
    "decay": ("scheduler", "gamma"),
    "decay_every": ("scheduler", "step_size"),
    "batch": ("dataloader", "batch_size"),
    "steps": ("training", "n_iters"),
    "check_every": ("training", "eval_freq"),
}


@dataclass(frozen=True)
class SavedAutoEncoder:
    """What such a folder holds. The genes are those of the data it was trained on, in their order: no file names them.

    Parameters
    ----------
    autoencoder
        On the CPU.
    settings
        How it was trained.
    code_means
        Condition -> mean code of its training cells, float32 (latent,). The authors write it at the end of a training,
        into `last.pt`; empty where the file has none.
    config
        `config.yaml` as it is.
    """

    autoencoder: FittedAutoEncoder
    settings: AutoEncoderSettings
    code_means: dict[str, np.ndarray] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def read_autoencoder(folder: str | Path) -> SavedAutoEncoder:
    """The autoencoder of a folder; `cache/model.pt`, the state the authors chose, goes before `cache/last.pt`.

    Raises
    ------
    InputError
        A file is missing or damaged, the configuration is not that of an autoencoder, or the weights do not fit it
        (with the report key by key).
    """
    folder = Path(folder)
    config = _config_of(folder / "config.yaml")
    settings = _settings(config, folder / "config.yaml")
    file = next((file for file in _candidates(folder) if file.is_file()), None)
    if file is None:
        raise InputError(
            f"{folder}: expected the weights, {' or '.join(map(str, _candidates(Path())))}; there is neither"
        )
    saved = read_torch(file)
    state = saved.get("model_state") if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping) or "encoder_net.0.weight" not in state:
        raise InputError(f"{file} holds no autoencoder: model_state with encoder_net.0.weight is expected")
    n_genes = state["encoder_net.0.weight"].shape[-1]
    network = empty(lambda: AutoEncoder(n_genes, settings.latent, settings.hidden, settings.dropout, settings.beta))
    load_state(network, state, file)
    step = int(saved.get("step", 0))
    fitted = FittedAutoEncoder(network.eval().requires_grad_(False), step, step)
    return SavedAutoEncoder(fitted, settings, _code_means(saved, settings.latent, file), config)


def _candidates(folder: Path) -> list[Path]:
    return [folder / "cache" / name for name in ("model.pt", "last.pt")]


def _config_of(path: Path) -> dict[str, Any]:
    config = read_config(path)
    model = config.get("model") if isinstance(config, dict) else None
    name = model.get("name") if isinstance(model, dict) else None
    if name != "scgen":
        raise InputError(f"{path}: model.name={name}: the autoencoder of CellOT is called scgen")
    return config


def _settings(config: dict[str, Any], path: Path) -> AutoEncoderSettings:
    """What the file does not say is what torch's Adam and StepLR take."""
    model = config["model"]
    unknown, lacking = sorted(set(model) - MODEL_KEYS), sorted({"hidden_units", "latent_dim"} - set(model))
    if unknown or lacking:
        what = f"model.{unknown[0]} is not known" if unknown else f"model.{lacking[0]} is missing"
        raise InputError(f"{path}: {what}; the autoencoder has {', '.join(sorted(MODEL_KEYS))}")
    found: dict[str, Any] = {"weight_decay": 0.0, "decay": 0.1 if config.get("scheduler") else 1.0, "patience": None}
    for name, (section, key) in PLACES.items():
        if key in (config.get(section) or {}):
            found[name] = config[section][key]
    if isinstance(found["hidden"], int):
        found["hidden"] = [found["hidden"]]
    return AutoEncoderSettings.of(found, str(path))


def _code_means(saved: Mapping[str, Any], latent: int, file: Path) -> dict[str, np.ndarray]:
    means = {str(name): mean.detach().numpy() for name, mean in (saved.get("code_means") or {}).items()}
    for name, mean in means.items():
        if mean.shape != (latent,):
            raise InputError(f"{file}: the mean code of {name} is {mean.shape}, expected ({latent},)")
    return means
