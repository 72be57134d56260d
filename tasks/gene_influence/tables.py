"""Tables that a run is given: known targets of regulators (as those of ChIP-Atlas), and kinds of genes."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.errors import InputError
from harness.places import file_at


@dataclass(frozen=True)
class Targets:
    """Regulator -> its targets, without itself.

    Parameters
    ----------
    of
        Gene symbol -> symbols.
    name
        Of the file, for notes.
    """

    of: Mapping[str, frozenset[str]]
    name: str = "targets"
    #: sha256 of the file, part of what can change a number.
    content: str = field(default="", compare=False)


@dataclass(frozen=True)
class Biotypes:
    """Gene symbol -> what kind of gene it is (`protein_coding`, `lncRNA`); of several lines of a symbol the first."""

    of: Mapping[str, str]
    name: str = "biotypes"
    content: str = field(default="", compare=False)


def read_targets(path: str | Path, setting: str = "task.targets") -> Targets:
    """The pairs of a table with the columns `regulator` and `target`; commas or tabs, gzipped or not.

    Parameters
    ----------
    path
        `data://FILE` is a file under `CELLFM_BENCH_DATA`.
    setting
        What names it, for messages.

    Raises
    ------
    InputError
        The file is missing, lacks a column, or holds no pair.
    """
    found = file_at(path, setting)
    pairs, content = _pairs(found, found.stat().st_mtime_ns, setting, ("regulator", "target"))
    targets: dict[str, set[str]] = {}
    for regulator, target in pairs:
        if regulator != target:
            targets.setdefault(regulator, set()).add(target)
    if not targets:
        raise InputError(f"{setting}={path}: the file holds no pair of a regulator and another gene")
    return Targets({gene: frozenset(own) for gene, own in targets.items()}, found.name, content)


def read_biotypes(path: str | Path, setting: str = "task.biotypes") -> Biotypes:
    """The kinds of genes of a table with the columns `symbol` and `biotype`, such as one of GENCODE's.

    Raises
    ------
    InputError
        As `read_targets`.
    """
    found = file_at(path, setting)
    pairs, content = _pairs(found, found.stat().st_mtime_ns, setting, ("symbol", "biotype"))
    if not pairs:
        raise InputError(f"{setting}={path}: the file holds no gene")
    return Biotypes(dict(reversed(pairs)), found.name, content)


@cache
def _pairs(found: Path, changed: int, setting: str, columns: tuple[str, str]) -> tuple[list[tuple[str, str]], str]:
    """Two columns of a file without their empty lines, and its sha256; read once for all runs of a grid."""
    import pandas as pd

    from harness.checkpoints import sha256_of

    opener = gzip.open if found.suffix == ".gz" else open
    try:
        with opener(found, "rt", encoding="utf-8-sig") as lines:
            separator = "\t" if "\t" in lines.readline() else ","
        table = pd.read_csv(found, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{setting}={found}: it cannot be read as a table ({str(error).splitlines()[0]})") from None
    table.columns = [str(column).strip().casefold() for column in table.columns]
    missing = [column for column in columns if list(table.columns).count(column) != 1]
    if missing:
        raise InputError(
            f"{setting}={found}: one column {' and one '.join(missing)} is expected; the columns are: "
            f"{', '.join(table.columns)}"
        )
    both = (table[column].str.strip().tolist() for column in columns)
    return [(a, b) for a, b in zip(*both, strict=True) if a and b], sha256_of([found])
