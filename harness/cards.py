"""What is known of published weights and data sets, as the YAML files of `conf/` say it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.addresses import SCHEMES
from harness.errors import InputError
from harness.places import variant_name
from harness.registry import CONF

Checksum = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{16,64}|md5:[0-9a-f]{32})$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(_Strict):
    """One file to download.

    Parameters
    ----------
    file
        Path in the folder it belongs to.
    sources
        Where it is, tried in order (see `harness.addresses`). Empty: no address a program can read is known.
    bytes, about_bytes
        Its exact size, which is checked, or a rough one for the plan; None if not known.
    checksum
        `sha256:…` (a beginning of at least 16 digits is enough) or `md5:…`; None: trust on first use.
    unpack
        An archive (.zip, .tar.gz): unpacked in the folder and removed.
    gives
        Paths that must be there after unpacking.
    by_hand
        How a person gets it.
    """

    file: str
    sources: tuple[str, ...] = ()
    bytes: int | None = Field(default=None, gt=0)
    about_bytes: int | None = Field(default=None, gt=0)
    checksum: Checksum | None = None
    unpack: bool = False
    gives: tuple[str, ...] = ()
    by_hand: str | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> RemoteFile:
        for path in (self.file, *self.gives):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{path}: a path inside the folder is expected")
        for source in self.sources:
            if source.partition(":")[0] not in SCHEMES:
                raise ValueError(f"{source}: no such kind of source")
        if not self.sources and not self.by_hand:
            raise ValueError(f"{self.file}: neither sources nor by_hand")
        if self.unpack != bool(self.gives):
            raise ValueError(f"{self.file}: unpack and gives belong together")
        return self


class DatasetFacts(_Strict):
    """The `card:` of a data set.

    Parameters
    ----------
    kind
        `cells`; `labels` (genes with labels, for a gene task); `semi-synthetic` (planted, in no aggregate).
    cells, genes
        None if not known.
    counts
        Where raw counts are, in words.
    subsampling
        What the paper takes of it; None: all.
    verified
        Whether address, columns and counts were seen in the file itself, not in descriptions of it.
    note
        What a user must know, and what could not be verified.
    """

    title: str
    kind: Literal["cells", "labels", "semi-synthetic"] = "cells"
    citation: str
    tasks: tuple[str, ...] = ()
    organism: str = "human"
    cells: int | None = None
    genes: int | None = None
    counts: str | None = None
    subsampling: str | None = None
    verified: bool = False
    note: str | None = None
    planted: dict[str, Any] | None = None
    folder: str | None = None


@dataclass(frozen=True)
class Card:
    """What `fetch` needs of weights or of a data set.

    Parameters
    ----------
    kind
        `model` or `dataset`.
    name
        As the user types it: a variant of a model, or a data set.
    owner
        The model; for a data set its own name.
    folder
        Folder under the root of checkpoints or of data.
    terms
        The line a user has to accept; None: nothing to accept.
    facts
        The rest of the card: a variant's node, or the data set's `DatasetFacts` as a dict.
    """

    kind: Literal["model", "dataset"]
    name: str
    owner: str
    folder: str
    files: tuple[RemoteFile, ...]
    licence: str | None
    terms: str | None
    facts: Mapping[str, Any]

    @property
    def bytes_known(self) -> int:
        """Size of the download as far as it is known, exactly or about."""
        return sum(file.bytes or file.about_bytes or 0 for file in self.files)

    @property
    def size_is(self) -> Literal["exact", "about", "over"]:
        """What the size is: exact, rough, or a lower bound."""
        if all(file.bytes for file in self.files):
            return "exact"
        return "about" if all(file.bytes or file.about_bytes for file in self.files) else "over"


@cache
def model_cards() -> dict[str, dict[str, Card]]:
    """Model -> variant -> card, of every model with published weights.

    Raises
    ------
    InputError
        A card that is not of the form; file and place are named.
    """
    found: dict[str, dict[str, Card]] = {}
    for path in sorted((CONF / "model").glob("*.yaml")):
        variants = _read(path).get("variants") or {}
        found[path.stem] = {
            name: Card(
                kind="model",
                name=name,
                owner=path.stem,
                folder=path.stem,
                files=_files(facts.get("download"), path, name),
                licence=facts.get("licence"),
                terms=facts.get("terms"),
                facts=facts,
            )
            for name, facts in variants.items()
        }
    return {model: cards for model, cards in found.items() if cards}


@cache
def dataset_cards() -> dict[str, Card]:
    """Name -> card of every registered data set that has one.

    Raises
    ------
    InputError
        A card that is not of the form; file and place are named.
    """
    found = {}
    for path in sorted((CONF / "dataset").glob("*.yaml")):
        node = _read(path)
        if path.stem.startswith("_") or not node.get("card"):
            continue
        facts = _checked(DatasetFacts, node["card"], f"{path.name}: card")
        found[path.stem] = Card(
            kind="dataset",
            name=path.stem,
            owner=path.stem,
            folder=facts.folder or path.stem,
            files=_files(node.get("download"), path, path.stem),
            licence=node.get("licence"),
            terms=node.get("terms"),
            facts={**facts.model_dump(), "path": node.get("path")},
        )
    return found


def find_card(kind: str, name: str) -> Card:
    """The card of a name: a variant, `MODEL-VARIANT`, or a model (its default variant); or a data set.

    Raises
    ------
    InputError
        Unknown, or a variant's name that several models use.
    """
    if kind == "dataset":
        cards = dataset_cards()
        if name in cards:
            return cards[name]
        raise InputError(_unknown(kind, name, list(cards)))
    owners = model_cards()
    if name in owners:
        variants = list(owners[name].values())
        chosen = [card for card in variants if card.facts.get("default")] or variants
        return chosen[0]
    every = [card for cards in owners.values() for card in cards.values()]
    spelled = {
        text: card for card in every for text in (variant_name(card.owner, card.name), f"{card.owner}/{card.name}")
    }
    exact = [card for card in every if card.name == name]
    if name in spelled or len(exact) == 1:
        return spelled.get(name) or exact[0]
    if exact:
        raise InputError(
            f"{name} is a variant of several models: {', '.join(variant_name(c.owner, c.name) for c in exact)}"
        )
    raise InputError(_unknown(kind, name, [*owners, *spelled]))


def _unknown(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"there is no card of a {kind} {name!r}; {hint}known: {', '.join(known)}"


def _read(path: Any) -> dict[str, Any]:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def _files(entries: Any, path: Any, name: str) -> tuple[RemoteFile, ...]:
    return tuple(_checked(RemoteFile, entry, f"{path.name}: {name}: download") for entry in entries or ())


def _checked(kind: Any, node: Any, where: str) -> Any:
    try:
        return kind(**node)
    except (ValidationError, TypeError) as error:
        raise InputError(f"{where}: {' '.join(str(error).split())}") from None
