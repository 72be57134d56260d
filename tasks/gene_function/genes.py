"""Which of the labelled genes take part: those the reference cells express, in classes that are large enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.genes import ENSEMBL, GeneTable, strip_version
from tasks.gene_function.labels import GeneLabels
from tasks.gene_names import gene_names, some

if TYPE_CHECKING:
    from harness.data import CellData


@dataclass(frozen=True)
class LabelledGenes:
    """The genes that are asked.

    Parameters
    ----------
    labels
        Theirs.
    columns
        Where they are in the reference cells, int (n,).
    table
        What they are called there.
    notes
        What was left out, in words.
    """

    labels: GeneLabels
    columns: np.ndarray
    table: GeneTable
    notes: dict[str, Any]

    @property
    def symbols(self) -> np.ndarray:
        """Symbols where known, else names, Unicode (n,)."""
        return gene_names(self.table)

    def of(self, rows: np.ndarray) -> LabelledGenes:
        """Some of them, int (m,)."""
        t = self.table
        table = GeneTable(t.names[rows], t.symbols[rows], t.ensembl[rows])
        return LabelledGenes(self.labels.of(rows), self.columns[rows], table, self.notes)


def labelled_genes(
    labels: GeneLabels, data: CellData, *, least: int, n_functions: int, among: Sequence[GeneTable] = ()
) -> LabelledGenes:
    """Match labels to the genes that any of the reference cells expresses, by name, symbol or Ensembl id.

    Parameters
    ----------
    least
        Classes with fewer genes are left out: each fold needs one.
    n_functions
        Of functions, those that most of the genes have (ten in the paper); genes with none of them are left out.
    among
        Other lists of genes that each gene must be in, by symbol and by id, so that every compared model knows it.

    Raises
    ------
    InputError
        Fewer than two classes, or no function, are left.
    """
    notes = dict(labels.notes)
    labels, columns = _matched(labels, data.genes, notes)
    kept = data.expressed[columns]
    if not kept.all():
        notes["labelled genes that no cell expresses"] = f"{int((~kept).sum())}: {some(labels.genes[~kept])}"
    inside = np.array([_inside(data.genes, among, column) for column in columns.tolist()], bool)
    if among:
        notes["genes not in every list of task.among"] = int((kept & ~inside).sum())
        kept &= inside
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise InputError(
            f"none of the genes of {labels.name} is expressed in {data.name}"
            + (" and in every list of task.among" if among else "")
        )
    rows, classes = _large(labels, rows, least, n_functions, data.name, notes)
    part = replace(labels.of(rows), classes=tuple(labels.classes[c] for c in classes), notes={})
    part = replace(part, member=labels.member[np.ix_(rows, classes)])
    at = columns[rows]
    table = GeneTable(data.genes.names[at], data.genes.symbols[at], data.genes.ensembl[at])
    notes["genes asked"] = f"{len(rows)} of {len(labels.genes)}"
    sizes = part.member.sum(axis=0).tolist()
    notes["genes of each class" if part.exclusive else "genes of each function"] = ", ".join(
        f"{name} {n}" for name, n in zip(part.classes, sizes, strict=True)
    )
    return LabelledGenes(part, at, table, notes)


def _large(
    labels: GeneLabels, rows: np.ndarray, least: int, n_functions: int, where: str, notes: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Genes and classes that take part."""
    sizes = labels.member[rows].sum(axis=0)
    large = np.flatnonzero(sizes >= least)
    if labels.exclusive:
        if len(large) < len(labels.classes):
            small = [f"{labels.classes[c]} ({sizes[c]})" for c in range(len(labels.classes)) if sizes[c] < least]
            notes["classes with too few genes"] = f"{some(small)}: left out, {least} are needed"
        if len(large) < 2:
            raise InputError(
                f"{labels.name} in {where}: two classes with {least} expressed genes are needed, found "
                + some([f"{name} ({n})" for name, n in zip(labels.classes, sizes, strict=True)])
            )
    else:
        if not len(large):
            raise InputError(
                f"{labels.name} in {where}: no function has {least} expressed genes, one in each fold; the largest "
                f"has {sizes.max(initial=0)}"
            )
        # The most frequent first; of equally frequent ones those first by name.
        large = np.sort(large[np.argsort(-sizes[large], kind="stable")][:n_functions])
    return rows[labels.member[np.ix_(rows, large)].any(axis=1)], large


def _matched(labels: GeneLabels, genes: GeneTable, notes: dict[str, Any]) -> tuple[GeneLabels, np.ndarray]:
    """Labels of the genes that are measured, each once, and their columns, int (m,).

    Two names of one gene (a symbol and an id, or an old id) are one: it has the functions of both, and is left out
    where their classes differ.
    """
    place = _places(genes)

    def column(names: Sequence[str]) -> int:
        spelled = [s for name in names if name for s in (name, *([strip_version(name)] * bool(ENSEMBL.match(name))))]
        return next((place[name] for name in spelled if name in place), -1)

    others = [""] * len(labels.genes) if labels.ensembl is None else labels.ensembl.tolist()
    at = np.array([column(names) for names in zip(labels.genes.tolist(), others, strict=True)], np.int64)
    absent = labels.genes[at < 0]
    if len(absent):
        notes["labelled genes not measured"] = f"{len(absent)} of {len(labels.genes)}: {some(absent)}"
    if len(absent) == len(labels.genes):
        raise InputError(
            f"none of the {len(labels.genes)} genes of {labels.name} ({some(labels.genes[:3])} …) is measured; the "
            f"cells' genes are called {some(genes.names[:3])} …"
        )
    columns, first, slot = np.unique(at[at >= 0], return_index=True, return_inverse=True)
    rows = np.flatnonzero(at >= 0)
    member = np.zeros((len(columns), len(labels.classes)), bool)
    np.logical_or.at(member, slot, labels.member[rows])
    labels = replace(labels.of(rows[first]), member=member)
    if len(columns) < len(rows):
        notes["names of a gene that has another"] = len(rows) - len(columns)
    torn = member.sum(axis=1) > 1 if labels.exclusive else np.zeros(len(columns), bool)
    if torn.any():
        notes["genes in several classes under several names"] = f"{some(labels.genes[torn])}: left out"
    return labels.of(np.flatnonzero(~torn)), columns[~torn]


def _inside(genes: GeneTable, lists: Sequence[GeneTable], column: int) -> bool:
    """Whether every list has a gene, under each kind of name that both it and the list have: models read either."""
    symbol, ensembl = genes.symbols[column] or genes.names[column], genes.ensembl[column]
    for table in lists:
        symbols, ids = _known(table)
        asked = [*([symbol in symbols] if symbols else []), *([ensembl in ids] if ids and ensembl else [])]
        if not asked or not all(asked):
            return False
    return True


@lru_cache(maxsize=16)
def _known(table: GeneTable) -> tuple[frozenset[str], frozenset[str]]:
    """Symbols (and names that are no ids), and Ensembl ids."""
    names = [*table.symbols.tolist(), *(name for name in table.names.tolist() if not ENSEMBL.match(name))]
    return frozenset(names) - {""}, frozenset(table.ensembl.tolist()) - {""}


def _places(genes: GeneTable) -> dict[str, int]:
    """Any name of a gene -> its column, the first that has it; a name before a symbol before an Ensembl id."""
    found: dict[str, int] = {}
    for names in (genes.names, genes.symbols, genes.ensembl):
        for column, name in enumerate(names.tolist()):
            if name:
                found.setdefault(name, column)
    return found
