"""Read official weight files safely, and hold them against a network key by key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError


@dataclass(frozen=True)
class LoadReport:
    """How a state dict fits a network, key by key.

    `missing` keys the network needs, `unexpected` keys it has no place for, `wrong_shape` as
    (key, found, expected); `ignored` keys are in the file and known not to be needed.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    ignored: tuple[str, ...]

    @property
    def full(self) -> bool:
        """Everything the network needs is there, and nothing is left over."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def describe(self, limit: int = 12) -> str:
        """One line: the counts, and up to `limit` keys of each kind."""

        def some(keys: Iterable[str]) -> str:
            keys = list(keys)
            return ", ".join(keys[:limit]) + (f", … {len(keys) - limit} more" if len(keys) > limit else "")

        parts = [f"{len(self.matched)} tensors match"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing: {some(self.missing)}")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected: {some(self.unexpected)}")
        if self.wrong_shape:
            shapes = some(f"{key} is {found}, expected {want}" for key, found, want in self.wrong_shape)
            parts.append(f"{len(self.wrong_shape)} of another shape: {shapes}")
        if self.ignored:
            parts.append(f"{len(self.ignored)} not needed")
        return "; ".join(parts)


def load_state(
    network: Any,
    state: Mapping[str, Any],
    source: Path,
    *,
    ignore: Callable[[str], bool] = lambda key: False,
    optional: Callable[[str], bool] = lambda key: False,
) -> LoadReport:
    """Copy `state` into `network`; anything but a full match is refused.

    Parameters
    ----------
    network
        torch module.
    state
        Key -> tensor, keys as the network names them.
    source
        File the state came from, for the message.
    ignore
        Says which keys of the file are known not to be needed (optimiser state, unused heads).
    optional
        Says which keys of the network the file may lack (heads a read-out does not need). The caller then
        removes or hides the part that stayed random.

    Raises
    ------
    InputError
        With the key-by-key report; the network is then unchanged.
    """
    target = network.state_dict()
    wanted = {key: value for key, value in state.items() if key in target}
    wrong = tuple(
        (key, tuple(value.shape), tuple(target[key].shape))
        for key, value in wanted.items()
        if tuple(value.shape) != tuple(target[key].shape)
    )
    others = [key for key in state if key not in target]
    report = LoadReport(
        matched=tuple(key for key in wanted if key not in {w[0] for w in wrong}),
        missing=tuple(key for key in target if key not in state and not optional(key)),
        unexpected=tuple(key for key in others if not ignore(key)),
        wrong_shape=wrong,
        ignored=tuple(key for key in others if ignore(key)),
    )
    if not report.full:
        raise InputError(f"{source} does not fit the network it should hold ({report.describe()})")
    network.load_state_dict({**target, **wanted})
    return report


def read_torch(path: Path, *, mmap: bool = False) -> Any:
    """`torch.load` with `weights_only=True` on the CPU; a clear refusal for anything else.

    `mmap` leaves the tensors on disk until they are looked at, for a large table of which little is needed.

    Raises
    ------
    InputError
        The file is missing, truncated, or is a pickle that wants to run code.
    """
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path} is refused: it is not a plain file of tensors ({reason}); nothing in it was run"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as weights: {reason}. Is the download complete?"
        ) from None


def read_safetensors(path: Path) -> dict[str, Any]:
    """Tensors of a safetensors file.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is not a whole safetensors file ({error}). Is the download complete?"
        ) from None


def strip_prefix(state: Mapping[str, Any], prefix: str = "module.") -> dict[str, Any]:
    """Drop `prefix` from keys when every key has it (weights saved under DataParallel)."""
    if state and all(key.startswith(prefix) for key in state):
        return {key[len(prefix) :]: value for key, value in state.items()}
    return dict(state)


def find_upwards(start: Path, relative: str | Path, levels: int = 4) -> Path | None:
    """`relative` beside `start` (a file or directory) or beside one of its parents; None if nowhere."""
    start = Path(start)
    # A link to a file is not followed: in a hub cache it leads away from the files beside it.
    folder = (start.parent if start.is_file() else start).resolve()
    for candidate in [folder, *folder.parents][: levels + 1]:
        if (candidate / relative).exists():
            return candidate / relative
    return None


def sha256_of(paths: Iterable[Path]) -> str:
    """sha256 over the contents of some files, in the order of their names (not of their folders)."""
    digest = hashlib.sha256()
    for path in sorted((Path(p) for p in paths), key=lambda p: p.name):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
