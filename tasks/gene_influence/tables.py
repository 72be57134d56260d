"""Tables that a run is given: known targets of regulators (as those of ChIP-Atlas), and kinds of genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import InputError
from harness.places import file_at
from tasks.gene_tables import read_pairs


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
    pairs, content = read_pairs(found, found.stat().st_mtime_ns, setting, ("regulator", "target"))
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
    pairs, content = read_pairs(found, found.stat().st_mtime_ns, setting, ("symbol", "biotype"))
    if not pairs:
        raise InputError(f"{setting}={path}: the file holds no gene")
    return Biotypes(dict(reversed(pairs)), found.name, content)
