"""Carry a file over HTTP, and never take anything else for it.

What has arrived lies in a partial file; the next attempt, in this process or after a kill, goes on from there as long
as the server still has the same file. Nothing is a file before its length, its form and its checksum agree.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

from harness.addresses import UNKNOWN_HOST, Address, NoConnection, Unreachable
from harness.progress import track

#: Attempts at one address, and the first pause between them (seconds); pauses double up to a minute.
TRIES, PAUSE, LONGEST_PAUSE = 6, 1.0, 60.0
#: Seconds without a connection, and without a byte, after which an attempt is given up.
TIMEOUT = (15.0, 60.0)
CHUNK = 1 << 16
#: Answers that may be another one in a minute.
PASSING = {408, 425, 429, 500, 502, 503, 504}


class _Again(Exception):
    """A passing failure: the same address may do better."""


def memo_of(part: Path) -> Path:
    """What is known of the file a partial file is the beginning of."""
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Forget a partial file."""
    part.unlink(missing_ok=True)
    memo_of(part).unlink(missing_ok=True)


def carry(address: Address, part: Path, *, name: str, provable: bool = False, progress: bool = True) -> bool:
    """Fill `part` with the whole file behind an address.

    Parameters
    ----------
    part
        Partial file; what an earlier attempt left there is gone on from.
    name
        The file's name: what its first bytes must look like.
    provable
        A checksum will prove the whole: then a partial file is continued also where the server names no version.

    Returns
    -------
    Whether some of the file came from an earlier attempt.

    Raises
    ------
    Unreachable
        The address answers, but not with this file; or does not answer after several attempts.
    """
    import requests

    session = requests.Session()
    session.headers.update({"User-Agent": "cellfm-bench", "Accept-Encoding": "identity"})
    continued, failures, reason = _size(part) > 0, 0, ""
    while failures < TRIES:
        before = _size(part)
        try:
            _attempt(session, address, part, name, provable, progress)
            return continued
        except _Again as error:
            reason = str(error)
        except requests.exceptions.ChunkedEncodingError:
            reason = "the connection broke"
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            reason = f"no connection ({type(error).__name__})"
            if failures and any(sign in str(error) for sign in UNKNOWN_HOST):
                raise NoConnection(f"{address.url}: no connection") from None
        except requests.exceptions.RequestException as error:
            raise Unreachable(f"{address.url}: {type(error).__name__}: {error}") from error
        # A server that gives a little more each time is followed to the end.
        failures = 0 if _size(part) > before else failures + 1
        continued = continued or _size(part) > 0
        if failures < TRIES:
            time.sleep(min(PAUSE * 2 ** max(failures - 1, 0), LONGEST_PAUSE))
    kept = f"; the {_size(part):,} bytes that came are kept for the next attempt" if _size(part) else ""
    raise Unreachable(f"{address.url}: {reason}, tried {TRIES} times{kept}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _attempt(session: Any, address: Address, part: Path, name: str, provable: bool, progress: bool) -> None:
    known = _read_memo(part)
    have = _size(part) if known.get("version") or provable else 0
    headers = dict(address.headers)
    if have:
        headers["Range"] = f"bytes={have}-"
        if not provable:
            headers["If-Range"] = known["version"]
    with session.get(address.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and have and have == _total(answer, 0):
            return  # all of it was here already
        if answer.status_code == 416 or (answer.status_code == 206 and not _continues(answer, have, known)):
            discard(part)
            raise _Again("the server has another version of the file")
        if answer.status_code in PASSING:
            raise _Again(f"the server answers {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise Unreachable(f"{address.url}: {_answer(answer)}")
        start = have if answer.status_code == 206 else 0
        total = _total(answer, start)
        expected = address.bytes
        if total == 0:
            raise Unreachable(f"{address.url}: an empty answer; the server may want a browser")
        if total is not None and expected is not None and total != expected:
            raise Unreachable(f"{address.url}: a file of {total:,} bytes, {expected:,} are expected")
        if "html" in answer.headers.get("Content-Type", "") and not name.endswith((".html", ".htm")):
            raise Unreachable(f"{address.url}: a web page instead of the file ({_title(answer.raw.read(4096))})")
        chunks = answer.iter_content(CHUNK)
        first = next(chunks, b"")
        # Looked at before anything is written: a mirror's error page must not cost what is here already.
        if not start and (wrong := wrong_head(first, name)):
            raise Unreachable(f"{address.url}: {wrong}")
        memo_of(part).write_text(json.dumps({"version": _version(answer), "bytes": total, "url": address.url}))
        label = f"{name}{f' (from {start / 1e6:,.0f} MB on)' if start else ''}, bytes"
        with part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            rest = itertools.chain([first], chunks)
            for chunk in track(rest, total=(total or 0) - start, label=label, step=len, on=progress):
                stream.write(chunk)
        if total is not None and _size(part) < total:
            raise _Again(f"the connection ended after {_size(part):,} of {total:,} bytes")
        if total is not None and _size(part) > total:
            discard(part)
            raise _Again("the server sent more than it said")


def _continues(answer: Any, have: int, known: dict[str, Any]) -> bool:
    """Whether a partial answer is the rest of what is here."""
    first = answer.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    same_length = known.get("bytes") in (None, _total(answer, have))
    return first == str(have) and same_length


def _total(answer: Any, start: int) -> int | None:
    stated = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if answer.status_code in (206, 416) and stated.isdigit():
        return int(stated)
    length = answer.headers.get("Content-Length", "")
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    return start + int(length) if length.isdigit() and plain else None


def _version(answer: Any) -> str | None:
    tag = answer.headers.get("ETag", "")
    return (None if tag.startswith("W/") else tag) or answer.headers.get("Last-Modified")


def _read_memo(part: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(memo_of(part).read_text()))
    except (OSError, ValueError):
        return {}


def _answer(answer: Any) -> str:
    meaning = {
        202: "the server wants a browser (202, no file)",
        401: "the server wants a login (401); for a gated model on the hub: hf auth login",
        403: "the server refuses (403)",
        404: "there is no such file (404)",
        410: "the file is gone (410)",
    }
    return meaning.get(answer.status_code, f"the server answers {answer.status_code}")


def _title(page: bytes) -> str:
    import re

    found = re.search(rb"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    return " ".join(found[1].decode("utf-8", "replace").split())[:80] if found else "no title"


#: How files of a kind begin.
HEADS = {
    ".h5ad": (b"\x89HDF",),
    ".h5": (b"\x89HDF",),
    ".zip": (b"PK",),
    ".npz": (b"PK",),
    ".gz": (b"\x1f\x8b",),
    ".npy": (b"\x93NUMPY",),
    ".pt": (b"PK", b"\x80"),
    ".torch": (b"PK", b"\x80"),
    ".bin": (b"PK", b"\x80"),
    ".json": (b"{", b"["),
}


def wrong_head(head: bytes, name: str) -> str | None:
    """Why these first bytes are not of a file of this name; None where they may be."""
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")) and not name.endswith((".html", ".htm", ".xml")):
        return f"a web page instead of the file ({_title(head[:4096])})"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer instead of the file"
    wanted = HEADS.get(Path(name).suffix)
    if wanted and not head.lstrip().startswith(wanted) and not head.startswith(wanted):
        return f"no {Path(name).suffix} file (it begins with {bytes(head[:8])!r})"
    return None


def wrong_form(path: Path, name: str) -> str | None:
    """Why a file is not whole, seen from its own structure; None where that does not tell."""
    import struct
    import zipfile

    if not path.stat().st_size:
        return "it is empty"
    with path.open("rb") as stream:
        head = stream.read(4096)
    if wrong := wrong_head(head, name):
        return wrong
    if head.startswith(b"\x89HDF"):
        import h5py

        try:
            h5py.File(path).close()
        except OSError as error:
            return f"it is cut off ({error})"
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "it is cut off (no end of the archive)"
    if name.endswith(".safetensors"):
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
        if not 2 <= length <= path.stat().st_size - 8:
            return "it is no safetensors file, or cut off"
    if name.endswith(".json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"it is not JSON ({error})"
    return None
