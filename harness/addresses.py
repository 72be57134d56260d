"""From a source as cards write it to the addresses a file can be carried from.

Two libraries know the repositories: `huggingface_hub` the hub's endpoints, mirrors (HF_ENDPOINT), tokens and
checksums, and `pooch` where a DOI of Zenodo, figshare or Dataverse keeps a file, with its checksum. The bytes are
carried by `harness.download`: pooch starts from zero after a break and keeps an error page that says 200.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.errors import InputError


class Unreachable(Exception):
    """An address gives no file: why, in one line. The next one is tried."""


class NoConnection(Unreachable):
    """Its host is not to be found: there may be no network at all."""


def _unreachable(what: str, error: Exception) -> Unreachable:
    said = str(error)
    if any(sign in said for sign in UNKNOWN_HOST):
        return NoConnection(f"{what}: no connection")
    return Unreachable(f"{what}: {type(error).__name__}: {said.splitlines()[0] if said else ''}")


#: How libraries word that a host's name is not known.
UNKNOWN_HOST = ("Name or service not known", "Failed to resolve", "nodename nor servname", "getaddrinfo failed")


@dataclass(frozen=True)
class Address:
    """A URL, and what its repository says of the file.

    Parameters
    ----------
    headers
        Sent to this host only (a token of the hub).
    bytes, checksum
        None where the repository does not say; `sha256:…` or `md5:…`.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    bytes: int | None = None
    checksum: str | None = None


def _web(rest: str, scheme: str) -> list[Address]:
    return [Address(f"{scheme}:{rest}")]


def _zenodo(rest: str) -> list[Address]:
    record, _, name = rest.partition("/")
    base = f"https://zenodo.org/api/records/{record}/files/{name}/content"
    return [Address(f"https://zenodo.org/records/{record}/files/{name}?download=1"), Address(base)]


def _figshare(rest: str) -> list[Address]:
    # The first answers programs with an empty page since 2026; the second is the documented interface.
    return [
        Address(f"https://api.figshare.com/v2/file/download/{rest}"),
        Address(f"https://figshare.com/ndownloader/files/{rest}"),
        Address(f"https://ndownloader.figshare.com/files/{rest}"),
    ]


def _dataverse(rest: str) -> list[Address]:
    return [Address(f"https://dataverse.harvard.edu/api/access/datafile/{rest}")]


def _drive(rest: str) -> list[Address]:
    return [Address(f"https://drive.usercontent.google.com/download?id={rest}&export=download&confirm=t")]


def _hub_parts(rest: str) -> tuple[str, str, str]:
    owner, repository, path = rest.split("/", 2)
    repository, _, revision = repository.partition("@")
    return f"{owner}/{repository}", revision or "main", path


def _hub(rest: str) -> list[Address]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    repository, revision, path = _hub_parts(rest)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hf_hub_url(repository, path, revision=revision, endpoint=endpoint)
    try:
        said = get_hf_file_metadata(url)
    except Exception as error:
        raise _unreachable(url, error) from error
    # A file under LFS has its sha256 for an ETag; a small one has its git hash, which is of no use here.
    checksum = f"sha256:{said.etag}" if re.fullmatch(r"[0-9a-f]{64}", said.etag or "") else None
    token = build_hf_headers().get("authorization")
    return [Address(url, {"authorization": token} if token else {}, said.size, checksum)]


def _doi(rest: str) -> list[Address]:
    from pooch.downloaders import doi_to_repository

    class Registry:
        registry: dict[str, str] = {}  # noqa: RUF012  (what pooch fills in; one object per call)

    doi, _, name = rest.rpartition("/")
    try:
        repository = doi_to_repository(doi, timeout=30)
        url, book = repository.download_url(name), Registry()
        book.registry = {}
        repository.populate_registry(book)
    except Exception as error:
        raise _unreachable(f"doi:{doi}", error) from error
    checksum = book.registry.get(name)
    return [Address(url, checksum=checksum if checksum and ":" in checksum else None)]


SCHEMES: dict[str, Callable[[str], list[Address]]] = {
    "http": lambda rest: _web(rest, "http"),
    "https": lambda rest: _web(rest, "https"),
    "hf": _hub,
    "doi": _doi,
    "zenodo": _zenodo,
    "figshare": _figshare,
    "dataverse": _dataverse,
    "gdrive": _drive,
}


def resolve(source: str) -> list[Address]:
    """The addresses of a source, in the order they are tried.

    Parameters
    ----------
    source
        `https://…`, `hf:OWNER/REPO[@REVISION]/PATH`, `doi:DOI/FILE`, `zenodo:RECORD/FILE`, `figshare:FILE_ID`,
        `dataverse:FILE_ID` or `gdrive:FILE_ID`.

    Raises
    ------
    Unreachable
        The repository does not answer, or has no such file.
    InputError
        No such kind of source.
    """
    scheme, _, rest = source.partition(":")
    if scheme not in SCHEMES or not rest:
        raise InputError(f"{source}: a source begins with one of {', '.join(SCHEMES)}, then a colon")
    return SCHEMES[scheme](rest)


def web_page(source: str) -> str:
    """The address a person opens in a browser; nothing is looked up."""
    scheme, _, rest = source.partition(":")
    if scheme == "hf":
        repository, revision, path = _hub_parts(rest)
        return f"https://huggingface.co/{repository}/resolve/{revision}/{path}"
    if scheme == "doi":
        doi, _, name = rest.rpartition("/")
        return f"https://doi.org/{doi} ({name})"
    if scheme == "figshare":
        return f"https://figshare.com/ndownloader/files/{rest}"
    if scheme == "gdrive":
        return f"https://drive.google.com/file/d/{rest}/view"
    found: Any = resolve(source)
    return str(found[0].url)
