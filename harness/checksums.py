"""What a fetched file is held against: its card, its repository, and what it was when it first came.

`checksums.json` beside the files remembers each: its checksum as stated, or trusted on first use; it is held to
that ever after.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.addresses import Address
from harness.cards import RemoteFile
from harness.download import wrong_form
from harness.errors import InputError
from harness.results import atomic_path

BOOK = "checksums.json"


class Unlike(Exception):
    """A file that is not the one that is expected: why."""


def verified(path: Path, file: RemoteFile, address: Address, known: dict[str, Any] | None) -> str:
    """The sha256 of a file that agrees with all that is known of it."""
    size = path.stat().st_size
    for expected in (file.bytes, address.bytes, (known or {}).get("bytes")):
        if expected and size != expected:
            raise Unlike(f"it has {size:,} bytes, {expected:,} are expected")
    if wrong := wrong_form(path, file.file):
        raise Unlike(wrong)
    stated = {
        "the card states": file.checksum,
        "the repository states": address.checksum,
        f"{BOOK} remembers": f"sha256:{known['sha256']}" if known else None,
    }
    kinds = {"sha256", *(checksum.partition(":")[0] for checksum in stated.values() if checksum)}
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            for digest in digests.values():
                digest.update(block)
    found = {kind: digest.hexdigest() for kind, digest in digests.items()}
    for who, checksum in stated.items():
        kind, _, digits = (checksum or "").partition(":")
        if kind and not found[kind].startswith(digits):
            raise Unlike(f"its {kind} is {found[kind][: max(16, len(digits))]}, {who} {digits[:64]}")
    return found["sha256"]


def read_book(folder: Path) -> dict[str, Any]:
    path = folder / BOOK
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and the files are recorded anew") from None


def record(folder: Path, file: RemoteFile, sha256: str, *, source: str, address: Address | None = None) -> str:
    """Remember a file; how it is trusted, in words."""
    from datetime import UTC, datetime

    trust = "trusted on first use"
    if file.checksum or (address and address.checksum):
        trust = f"checksum as {'the card' if file.checksum else 'the repository'} states"
    book = read_book(folder)
    if file.file in book:
        return f"as {BOOK} remembers"
    target = folder / file.file
    book[file.file] = {
        "sha256": sha256,
        "bytes": target.stat().st_size,
        "source": source,
        "trust": trust,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with atomic_path(folder / BOOK) as temporary:
        temporary.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")
    return trust
