"""Bring the files of a card to their folder: verified, resumable, and either whole or not there at all.

A file that a person put in place is verified and recorded (`harness.checksums`) like one that came by itself.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.addresses import Address, NoConnection, Unreachable, resolve, web_page
from harness.cards import Card, RemoteFile
from harness.checksums import Unlike, read_book, record, verified
from harness.download import carry, discard
from harness.errors import InputError
from harness.places import variant_name


@dataclass(frozen=True)
class FileState:
    """One file of a card: `here`, `missing`, or `unpacked` (an archive whose content is here)."""

    file: RemoteFile
    state: str


def states(card: Card, folder: Path) -> list[FileState]:
    """What of a card is in its folder; nothing is read but names."""
    found = []
    for file in card.files:
        if file.unpack:
            state = "unpacked" if all((folder / path).exists() for path in file.gives) else "missing"
        else:
            state = "here" if (folder / file.file).exists() else "missing"
        found.append(FileState(file, state))
    return found


def is_here(card: Card, folder: Path) -> bool:
    """Whether nothing is missing."""
    return bool(card.files) and all(each.state != "missing" for each in states(card, folder))


def fetch(
    card: Card,
    folder: Path,
    *,
    accept_licence: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> None:
    """Bring all files of a card to `folder`; what is there already is verified and kept.

    Raises
    ------
    InputError
        The licence is not accepted, the disk is too small, a file that is there is another one, or no source
        gives a file: then the message says which file to put where by hand.
    """
    name = _typed(card)
    say(f"{name}: licence {card.licence or 'none stated by the authors'}")
    if card.terms and not accept_licence:
        raise InputError(
            f"{name} may be used only under its terms: {card.terms} To accept them: "
            f"cellfm-bench fetch {card.kind} {name} --accept-licence"
        )
    if not card.files:
        raise InputError(f"{name}: no download is known; {card.facts.get('address') or 'see its card'}")
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_small_disk(card, folder)
    failures: list[tuple[RemoteFile, str]] = []
    silent: set[str] = set()
    for file in card.files:
        try:
            _bring(file, folder, say, progress, silent)
        except Unreachable as error:
            failures.append((file, str(error)))
        except OSError as error:
            raise InputError(f"{folder / file.file} cannot be written: {error}") from error
    _remove_empty(card, folder, created)
    if failures:
        for line in recipe(folder, failures):
            say(line)
        file, why = failures[0]
        raise InputError(
            f"{name}: {len(failures)} of {len(card.files)} files did not come ({why}). By hand, on any machine: "
            f"{_by_hand(file)} to {folder / file.file}"
            f"{f', and so on for all {len(failures)}' if len(failures) > 1 else ''}; then the same command again "
            "verifies and records what you put there"
        )


def recipe(folder: Path, failures: list[tuple[RemoteFile, str]]) -> list[str]:
    """What to do by hand, line by line: each file, where it is, where to put it, and why it did not come."""
    lines = []
    for file, why in failures:
        lines += [
            f"  {file.file}: did not come",
            f"    {_by_hand(file)}",
            f"    to {folder / file.file}",
            f"    why: {why}",
        ]
    return lines


def _by_hand(file: RemoteFile) -> str:
    return file.by_hand or "download " + " or ".join(web_page(source) for source in file.sources)


def _typed(card: Card) -> str:
    return card.name if card.kind == "dataset" else variant_name(card.owner, card.name)


def _refuse_small_disk(card: Card, folder: Path) -> None:
    missing = [each.file for each in states(card, folder) if each.state == "missing"]
    # An archive and what is in it lie side by side for a moment.
    wanted = sum((file.bytes or file.about_bytes or 0) * (2 if file.unpack else 1) for file in missing)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise InputError(
            f"{card.name} needs {wanted / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB free; "
            "another place: --to DIR"
        )


def _bring(file: RemoteFile, folder: Path, say: Callable[[str], None], progress: bool, silent: set[str]) -> None:
    target, book = folder / file.file, read_book(folder)
    # An archive that is still there was not unpacked to the end.
    if file.unpack and not target.exists() and all((folder / path).exists() for path in file.gives):
        say(f"  {file.file}: here, unpacked")
        return
    if target.exists():
        known = book.get(file.file)
        _verify_present(target, file, known, folder)
        say(f"  {file.file}: here, {'verified' if known or file.checksum else 'recorded as it is'}")
    else:
        _download(file, folder, say, progress, silent)
    if file.unpack:
        unpack(target, folder, file)
        target.unlink()
        say(f"  {file.file}: unpacked")


def _verify_present(target: Path, file: RemoteFile, known: dict[str, Any] | None, folder: Path) -> None:
    try:
        digest = verified(target, file, Address(""), known)
    except Unlike as error:
        raise InputError(
            f"{target} is there but is not the expected file: {error}. Move it away, then the same command again"
        ) from None
    if known is None:
        record(folder, file, digest, source="found in place")


def _download(file: RemoteFile, folder: Path, say: Callable[[str], None], progress: bool, silent: set[str]) -> None:
    """The first address that gives the file; Unreachable with the reason of each otherwise.

    `silent` collects hosts that are not to be found, so that they are not waited for file by file.
    """
    target, known = folder / file.file, read_book(folder).get(file.file)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    reasons = [] if file.sources else ["no address that a program can read is known"]
    with _alone(part):
        for source, address in _addresses(file, silent, reasons):
            host = urlsplit(address.url).netloc
            if host in silent:
                reasons.append(f"{host}: no connection")
                continue
            try:
                digest = _from(address, part, file, known, progress)
            except (Unreachable, Unlike) as error:
                reasons.append(str(error))
                if isinstance(error, NoConnection):
                    silent.add(host)
                continue
            part.replace(target)
            discard(part)
            trust = record(folder, file, digest, source=address.url, address=address)
            say(f"  {file.file}: {target.stat().st_size:,} bytes from {source}, {trust}")
            return
    raise Unreachable("; ".join(reasons))


def _addresses(file: RemoteFile, silent: set[str], reasons: list[str]) -> Iterator[tuple[str, Address]]:
    """The addresses of all sources, in order; of a source that gives none the reason is added to `reasons`."""
    for source in file.sources:
        repository = source.partition(":")[0]
        if repository in silent:
            reasons.append(f"{source}: no connection")
            continue
        try:
            found = resolve(source)
        except Unreachable as error:
            reasons.append(str(error))
            if isinstance(error, NoConnection):
                silent.add(repository)
            continue
        yield from ((source, address) for address in found)


def _from(address: Address, part: Path, file: RemoteFile, known: Any, progress: bool) -> str:
    """Fill `part` from one address; its sha256. What proves wrong is removed."""
    provable = bool(file.checksum or address.checksum or known)
    whole = Address(address.url, address.headers, file.bytes or address.bytes, address.checksum)
    for _ in range(2):
        continued = carry(whole, part, name=file.file, provable=provable, progress=progress)
        try:
            return verified(part, file, address, known)
        except Unlike as error:
            discard(part)
            # What was continued may have been the beginning of another version: once more, from the first byte.
            if not continued:
                raise Unlike(f"{address.url}: {error}; nothing of it is kept") from None
    raise Unlike(f"{address.url}: not the expected file, twice; nothing of it is kept")


class _alone:
    """One process at a time writes a partial file; the lock goes with the process, however it ends."""

    def __init__(self, part: Path):
        self.path = part.with_name(part.name + ".lock")

    def __enter__(self) -> None:
        self.stream = self.path.open("w")
        try:
            import fcntl

            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: two at once would only spoil each other's partial file
            pass
        except OSError:
            self.stream.close()
            raise InputError(f"another process is downloading {self.path.parent}; wait for it") from None

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        self.stream.close()


def unpack(archive: Path, folder: Path, file: RemoteFile) -> None:
    """Unpack an archive beside its place, then move what is in it there.

    Raises
    ------
    InputError
        It is no archive, holds paths that lead outside, or lacks what it should give.
    """
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unpack-"))
    try:
        try:
            if archive.name.endswith((".tar.gz", ".tgz", ".tar")):
                import tarfile

                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")
            else:
                import zipfile

                with zipfile.ZipFile(archive) as zipped:
                    zipped.extractall(temporary)
        except Exception as error:
            raise InputError(f"{archive} cannot be unpacked: {type(error).__name__}: {error}") from None
        absent = [path for path in file.gives if not (temporary / path).exists() and not (folder / path).exists()]
        if absent:
            inside = ", ".join(sorted(p.relative_to(temporary).as_posix() for p in temporary.rglob("*"))[:8])
            raise InputError(f"{archive} lacks {', '.join(absent)}; it holds {inside or 'nothing'}")
        for source in sorted(p for p in temporary.rglob("*") if p.is_file()):
            target = folder / source.relative_to(temporary)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_empty(card: Card, folder: Path, created: bool) -> None:
    """Folders that were made for files which then did not come."""
    inner = {folder / path.parent for path in (Path(file.file) for file in card.files)} - {folder}
    for path in [*sorted(inner, reverse=True), *([folder] if created else [])]:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
