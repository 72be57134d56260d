"""Vectors that were computed elsewhere: what the engine knows of them before a file is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.cache import Cache, file_digest
from harness.genes import GeneTable
from harness.model import Embedder
from harness.registry import MODELS
from harness.results import content_id


class PrecomputedVectors(Embedder):
    """Gives vectors that it reads from files (`spec.kind` is `precomputed`).

    Its rows stand on the track `published`, beside the released models whose vectors such files hold, identified by the
    sha256 of the files and flagged `precomputed`: which program made them, nothing here can prove.
    """

    track = "published"
    #: What a reader must know of what was read last, for the record.
    last_notes: dict[str, Any]

    @classmethod
    @abstractmethod
    def files(cls, options: Mapping[str, Any], cells: Callable[[], Path]) -> dict[str, Path]:
        """Option -> the file it is read from.

        Parameters
        ----------
        cells
            Gives the file of the data set, for vectors that lie in it.

        Raises
        ------
        InputError
            No file is named, or there is none.
        """

    @classmethod
    @abstractmethod
    def named(cls, options: Mapping[str, Any]) -> tuple[str, str]:
        """What its row is called, and the variant that tells it from others of that name; no file is read."""

    @classmethod
    @abstractmethod
    def on_trial(cls, options: Mapping[str, Any], genes: GeneTable, folder: Path) -> dict[str, Any]:
        """Options, and the files in `folder` they name, with which `check` makes it over made genes."""

    @property
    def n_params(self) -> int | None:
        """Not known here."""
        return None


def called(node: Mapping[str, Any]) -> tuple[str, str]:
    """Title and variant of a model that names its row by its options, known before any file is; else nothing."""
    try:
        cls = MODELS.get(node["name"])
        return cls.named(node) if cls.spec.kind == "precomputed" else ("", "")
    except Exception:  # a model that cannot be imported: that is what its run fails of
        return "", ""


def contents(files: Mapping[str, Path], cache: Cache) -> dict[str, str]:
    """Option -> sha256 of its file; of a folder (zarr) that of all its files."""
    return {option: _digest(path, cache) for option, path in files.items()}


def _digest(path: Path, cache: Cache) -> str:
    if path.is_file():
        return file_digest(path, cache)
    inside = sorted(each for each in path.rglob("*") if each.is_file())
    return content_id([[str(each.relative_to(path)), file_digest(each, cache)] for each in inside], 64)
