"""Families of genes: those that are told apart from others by their name alone must not be on both sides of a fold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.genes import ENSEMBL
from harness.places import file_at
from tasks.gene_tables import read_table

_LETTERS = re.compile(r"[A-Z]+(?=\d)")
#: Names like E2F1, whose family has a number of its own.
_NUMBERED = re.compile(r"([A-Z]\d[A-Z])\d")
#: A prefix of fewer letters says nothing (C1orf43).
_LEAST = 2
#: From so many letters on the last one counts subfamilies: HOXA11 and HOXB2.
_SUBFAMILY = 4


def stem(symbol: str) -> str:
    """The family that a symbol names, by its letters before the first digit or hyphen.

    `KRT18` -> `KRT`, `HOXA11` -> `HOX`, `E2F1` -> `E2F`, `MT-ND1` -> `MT`, `HLA-DRA` -> `HLA`, `NKX2-5` -> `NKX`. A
    symbol with neither, and an Ensembl id, is a family of its own. More than paralogues go together (`CD4`, `CD8A`).
    """
    whole = symbol.upper()
    if ENSEMBL.match(whole):
        return whole
    if numbered := _NUMBERED.match(whole):
        return numbered[1]
    head, hyphen, _ = whole.partition("-")
    letters = _LETTERS.match(head)
    if letters is None:
        return head if hyphen and len(head) >= _LEAST else whole
    found = letters[0][:-1] if len(letters[0]) >= _SUBFAMILY else letters[0]
    return found if len(found) >= _LEAST else whole


def families(genes: Sequence[str], said: Mapping[str, str] | None = None) -> np.ndarray:
    """Number of the family of each gene, int64 (n,).

    Names without a number that differ in their last letter, or lack it, go together: `RARA`, `RARB`; `MYC`, `MYCN`.

    Parameters
    ----------
    genes
        Symbols.
    said
        Gene -> family, see `read_families`; a gene that it lacks goes by its name.
    """
    said = said or {}
    names = [said.get(gene) or stem(gene) for gene in genes]
    plain = [
        gene.upper() if name == gene.upper() and name.isalpha() else "" for gene, name in zip(genes, names, strict=True)
    ]
    rests = Counter(name[:-1] for name in plain if len(name) >= _SUBFAMILY)
    rests.update(name for name in plain if len(name) == _SUBFAMILY - 1)
    for i, name in enumerate(plain):
        rest = name[:-1] if len(name) >= _SUBFAMILY else name
        if name and rests[rest] > 1:
            names[i] = rest
    return np.unique(np.array(names, np.str_), return_inverse=True)[1].astype(np.int64)


def read_families(path: str | Path) -> dict[str, str]:
    """Gene -> family, from a table (`.csv`, `.tsv`) with these columns.

    Raises
    ------
    InputError
        There is no such file, or it lacks a column.
    """
    table = read_table(file_at(path, "task.families"), "task.families", by_name=True)
    if not {"gene", "family"} <= set(table.columns):
        raise InputError(
            f"task.families={path}: columns gene and family are expected; it has {', '.join(table.columns)}"
        )
    return {gene: family for gene, family in zip(table["gene"], table["family"], strict=True) if gene and family}
