"""Where fetched weights and data sets lie: the directories of the environment, or the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.errors import InputError

CHECKPOINTS, DATA = "CELLFM_BENCH_CHECKPOINTS", "CELLFM_BENCH_DATA"
#: `dataset.path` of what `fetch dataset` brings: `data://FOLDER/FILE`.
DATA_SCHEME = "data://"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/cellfm-bench`, or `~/.cache/cellfm-bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cellfm-bench"


def checkpoints_root(given: str | Path | None = None) -> Path:
    """One folder per model: `checkpoints=`, else `CELLFM_BENCH_CHECKPOINTS`, else the user's cache."""
    named = given or os.environ.get(CHECKPOINTS)
    return Path(named).expanduser() if named else cache_home() / "checkpoints"


def data_root() -> Path:
    """One folder per data set or collection: `CELLFM_BENCH_DATA`, else the user's cache."""
    named = os.environ.get(DATA)
    return Path(named).expanduser() if named else cache_home() / "data"


def file_at(said: str | Path, setting: str) -> Path:
    """The file that a setting names; `data://FILE` is one under the data root.

    Raises
    ------
    InputError
        There is none.
    """
    inside = str(said).removeprefix(DATA_SCHEME)
    path = data_root() / inside if inside != str(said) else Path(said).expanduser()
    if not path.is_file():
        raise InputError(f"{setting}={said}: no such file ({path})")
    return path


def variant_name(model: str, variant: str) -> str:
    """How a variant is called beside those of other models: `cellfm-80m`, `scgpt-brain`."""
    return variant if variant.casefold().startswith(model) else f"{model}-{variant}"


def checkpoint_folders(root: Path, model: str, variant: str | None, published: Iterable[str]) -> list[Path]:
    """The folders under `root` that may hold a model's weights, the surest alone where there is one.

    Named after the variant that is asked for, after the model, or after the model and one of its published variants
    (`cellfm-80m`): several of the last kind are all given.
    """
    asked = [variant, variant_name(model, variant)] if variant else []
    for name in (*asked, model):
        if (root / name).exists():
            return [root / name]
    if variant:
        return []
    names = {variant_name(model, key) for key in published}
    return sorted(root / name for name in names if (root / name).exists())
