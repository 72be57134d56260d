"""Hydra configuration: overrides in, plain dictionaries out, every mistake as one clear line."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.errors import InputError
from harness.registry import CONF, MODELS, TASKS
from harness.tuning import SETTINGS, Tuning

#: Groups in which `<group>.path=FILE` implies `<group>=file`.
FILE_GROUPS = ("dataset", "corpus")
#: Sweeps over these are outermost, so that weights and data load once for many tasks.
SWEEP_ORDER = ("experiment", "model", "model.", "track", "seed", "dataset", "dataset.")


@dataclass(frozen=True)
class RunConfig:
    """One run, as composed.

    `model`, `task`, `dataset` and `corpus` are the nodes of their groups as plain dictionaries.
    """

    model: dict[str, Any]
    task: dict[str, Any]
    dataset: dict[str, Any]
    corpus: dict[str, Any]
    training: dict[str, Any]
    finetune: dict[str, Any]
    track: str
    setting: str
    seed: int
    device: str
    precision: str
    timeout_s: float | None
    checkpoints: str | None
    results: str
    cache: str

    def as_dict(self) -> dict[str, Any]:
        """For the record; the cards of weights and of the data set are left out."""
        from dataclasses import asdict

        config = asdict(self)
        config["model"].pop("variants", None)
        for key in ("card", "download", "terms"):
            config["dataset"].pop(key, None)
        if self.tuning is None:
            config.pop("finetune")
        return config

    @property
    def tuning(self) -> Tuning | None:
        """How the network is fine-tuned; None for `setting=frozen`."""
        return None if self.setting == "frozen" else Tuning.of(self.finetune, self.setting)

    def where_free(self) -> dict[str, Any]:
        """What names this run without saying where files lie: the identity of a failed cell of a grid."""
        config = self.as_dict()
        for key in ("checkpoints", "results", "cache", "device", "timeout_s"):
            config.pop(key)
        config["model"].pop("checkpoint", None)
        return config


def key_of(override: str) -> str:
    """`+model.size=tiny` -> `model.size`."""
    return override.split("=", 1)[0].lstrip("+~")


def complete(overrides: Sequence[str]) -> list[str]:
    """Overrides with what they imply added, sweeps over models outermost.

    Raises
    ------
    InputError
        Something that is not `key=value`, or a name that no registry and no config group knows.
    """
    result = list(overrides)
    for text in result:
        if "=" not in text and not text.startswith("~"):
            raise InputError(f"{text!r} is not key=value; for example: model=pca task=annotation")
    keys = {key_of(text) for text in result}
    for group in FILE_GROUPS:
        if f"{group}.path" in keys and group not in keys:
            result.insert(0, f"{group}=file")
    for text in result:
        _check_names(key_of(text), text.partition("=")[2])
    return sorted(result, key=_rank)


def _rank(override: str) -> int:
    key = key_of(override)
    for rank, prefix in enumerate(SWEEP_ORDER):
        if key == prefix or (prefix.endswith(".") and key.startswith(prefix)):
            return rank
    return len(SWEEP_ORDER)


def _check_names(key: str, value: str) -> None:
    """Unknown names are wrong input before anything runs, with a suggestion."""
    registries = {"model": MODELS, "task": TASKS}
    if key not in (*registries, "dataset", "corpus", "training", "finetune", "experiment"):
        return
    for name in value.split(","):
        name = name.strip().strip("'\"")
        if not name or any(c in name for c in "()[]${}"):
            continue
        if key in registries:
            registries[key].check(name)
        elif name not in options(key):
            close = difflib.get_close_matches(name, options(key), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            known = ", ".join(options(key))
            raise InputError(f"unknown {key} {name!r}; {hint}known: {known}")


def options(group: str) -> list[str]:
    """Choices of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def _store_plugins(overrides: Sequence[str]) -> None:
    """Give models and tasks of other packages a config node of their own; only what is asked for is imported."""
    from hydra.core.config_store import ConfigStore

    from harness.options import node_of

    asked = {key_of(text): text.partition("=")[2].strip("'\"") for text in overrides}
    for group, registry in (("model", MODELS), ("task", TASKS)):
        for name in registry.names():
            if name in registry.builtin():
                continue
            known = name == asked.get(group) or registry.loaded(name)
            try:
                node = node_of(name, registry.get(name)) if known else {"name": name}
            except InputError:  # what its own run fails of; the others of a grid go on
                node = {"name": name}
            ConfigStore.instance().store(name=name, group=group, node=node)


def compose(overrides: Sequence[str]) -> RunConfig:
    """One run from overrides without sweeps.

    Raises
    ------
    InputError
        Unknown key, missing model or task, or a value of the wrong kind.
    """
    # A grid asks for the same run with several seeds, and Hydra reads some twenty files each time.
    seeds = [text for text in overrides if re.fullmatch(r"seed=(0|[1-9][0-9]*)", text)]
    with clear_messages():
        cfg = copy.deepcopy(_composed(tuple(text for text in overrides if text not in seeds)))
    if seeds:
        cfg.seed = int(seeds[-1].partition("=")[2])
    return from_omegaconf(cfg)


@lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    _store_plugins(overrides)
    previous = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("run", list(overrides))
    finally:
        GlobalHydra.instance().hydra = previous


def compose_without_task(overrides: Sequence[str]) -> RunConfig:
    """The configuration of a command that reads nothing of the task: any one stands in its place."""
    named = any(key_of(text) == "task" for text in overrides)
    return compose(complete([*overrides, *([] if named else [f"task={next(iter(TASKS.builtin()))}"])]))


def from_omegaconf(cfg: Any) -> RunConfig:
    """A `RunConfig` of a composed Hydra config, the data set's default corpus filled in."""
    from omegaconf import OmegaConf

    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    for key in ("hydra", "experiment", "grids", "sizes"):  # a grid's own
        plain.pop(key, None)
    for key, allowed in {
        "track": ("published", "scratch", "untrained"),
        "setting": SETTINGS,
        "device": ("auto", "cpu", "cuda", "npu"),
        "precision": ("fp32", "bf16"),
    }.items():
        value = str(plain[key])
        if value.split(":")[0] not in allowed:
            raise InputError(f"{key}={value}: expected one of {', '.join(allowed)}")
    if not isinstance(plain["seed"], int):
        raise InputError(f"seed={plain['seed']}: expected a whole number")
    limit = plain["timeout_s"]
    if limit is not None and (not isinstance(limit, int | float) or limit <= 0):
        raise InputError(f"timeout_s={limit}: expected a number of seconds, or null")
    if plain["corpus"]["name"] == "auto" and plain["dataset"].get("default_corpus"):
        auto = compose_group("corpus", "auto")
        asked = {key: value for key, value in plain["corpus"].items() if value != auto[key]}
        plain["corpus"] = {**compose_group("corpus", plain["dataset"]["default_corpus"]), **asked}
    plain["model"].pop("module", None)
    config = RunConfig(**plain)
    _ = config.tuning  # wrong settings are said before anything runs
    return config


def compose_group(group: str, name: str) -> dict[str, Any]:
    """One node of a config group, its `_base` underneath."""
    from omegaconf import OmegaConf

    if name != "_base" and name not in options(group):
        raise InputError(f"unknown {group} {name!r}; known: {', '.join(options(group))}")
    base = CONF / group / "_base.yaml"
    node = OmegaConf.merge(
        OmegaConf.load(base) if base.is_file() else {}, OmegaConf.load(CONF / group / f"{name}.yaml")
    )
    plain: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    plain.pop("defaults", None)
    return plain


class clear_messages:
    """Turn Hydra's and OmegaConf's exceptions into one line of ours."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, HydraException | OmegaConfBaseException):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            missing = [line for line in lines if line.startswith("You must specify")]
            cause = error.__cause__
            detail = f" ({str(cause).splitlines()[0]})" if cause is not None and str(cause) else ""
            message = missing[0] if missing else lines[0] + detail
            raise InputError(f"the configuration does not compose: {message}") from None
