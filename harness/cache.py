"""The content-addressed cache: a key says everything that can change the bytes behind it, never a file name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.results import atomic_path, content_id


class Cache:
    """Arrays with a JSON description beside each, under `<directory>/<kind>/<key>.npy`."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    def array(
        self, kind: str, identity: Any, compute: Callable[[], tuple[np.ndarray, dict[str, Any]]]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The array of an identity and its description; computed and stored on the first call.

        Parameters
        ----------
        kind
            Sub-folder (`embeddings`, `umap`).
        identity
            JSON-able; everything that can change the array.
        compute
            Gives the array and a description (seconds, number of parameters).
        """
        path = self.directory / kind / f"{content_id(identity, 32)}.npy"
        about = path.with_suffix(".json")
        if path.is_file() and about.is_file():
            return np.load(path, mmap_mode="r", allow_pickle=False), json.loads(about.read_text())
        array, description = compute()
        # The description goes first: an array is only ever found together with it.
        with atomic_path(about) as temporary:
            temporary.write_text(json.dumps({**description, "identity": identity}, indent=1, default=str))
        with atomic_path(path) as temporary:
            np.save(temporary, array, allow_pickle=False)
        return array, description

    def folder(self, kind: str, identity: Any) -> Path:
        """The folder of an identity; it exists only once it is complete (see `place`)."""
        return self.directory / kind / content_id(identity, 32)

    def place(self, folder: Path, write: Callable[[Path], None]) -> None:
        """Fill a folder atomically: written beside its place, then renamed."""
        import shutil
        import tempfile

        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            write(temporary)
            temporary.chmod(0o755)
            if not folder.exists():
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def file_digest(path: Path, cache: Cache | None = None) -> str:
    """sha256 of a file, remembered by size and time of change."""
    import hashlib

    stat = path.stat()
    memo = None
    if cache is not None:
        key = content_id([str(path.resolve()), stat.st_size, stat.st_mtime_ns], 32)
        memo = cache.directory / "digests" / key
        if memo.is_file():
            return memo.read_text()
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if memo is not None:
        with atomic_path(memo) as temporary:
            temporary.write_text(digest)
    return digest
