"""Families of genes: those that are told apart from others by their name alone must not be on both sides of a fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.places import file_at

_LETTERS = re.compile(r"[A-Z]+(?=\d)")
#: A prefix of fewer letters says nothing (C1orf43).
_LEAST = 2
#: From so many letters on the last one counts subfamilies: HOXA11 and HOXB2.
_SUBFAMILY = 4


def stem(symbol: str) -> str:
    """The family that a symbol names, by its letters before the first digit or hyphen.

    `KRT18` -> `KRT`, `HOXA11` -> `HOX`, `MT-ND1` -> `MT`, `HLA-DRA` -> `HLA`, `NKX2-5` -> `NKX`. A symbol with neither
    is a family of its own. It puts together more than paralogues (`CD4` and `CD8A`), and misses some (`MYC`, `MYCN`).
    """
    whole = symbol.upper()
    head, hyphen, _ = whole.partition("-")
    letters = _LETTERS.match(head)
    if letters is None:
        return head if hyphen and len(head) >= _LEAST else whole
    found = letters[0][:-1] if len(letters[0]) >= _SUBFAMILY else letters[0]
    return found if len(found) >= _LEAST else whole


def families(genes: Sequence[str], path: str | Path | None = None) -> np.ndarray:
    """Number of the family of each gene, int64 (n,).

    Parameters
    ----------
    genes
        Symbols.
    path
        A table (`.csv`, `.tsv`) with columns `gene` and `family`; a gene that it lacks goes by the stem of its symbol.
        None: all do.

    Raises
    ------
    InputError
        There is no such file, or it lacks a column.
    """
    said = {} if path is None else _read(path)
    names = [said.get(gene, stem(gene)) for gene in genes]
    return np.unique(np.array(names, np.str_), return_inverse=True)[1].astype(np.int64)


def _read(path: str | Path) -> dict[str, str]:
    import pandas as pd

    found = file_at(path, "task.families")
    table = pd.read_csv(found, sep="," if ".csv" in found.name else "\t", dtype=str, keep_default_na=False)
    if not {"gene", "family"} <= set(table.columns):
        raise InputError(
            f"task.families={found.name}: columns gene and family are expected; it has {', '.join(table.columns)}"
        )
    return {gene: family for gene, family in zip(table["gene"], table["family"], strict=True) if family}
