"""Which of the labelled genes take part: those the reference cells express, in classes that are large enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.genes import GeneTable
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
        Other lists of genes that each gene must be in, so that every compared model knows it.

    Raises
    ------
    InputError
        Fewer than two classes, or no function, are left.
    """
    notes = dict(labels.notes)
    place = _places(data.genes)
    columns = np.array([place.get(gene, -1) for gene in labels.genes.tolist()], np.int64)
    _, first = np.unique(columns, return_index=True)  # two names of one gene
    alone = np.zeros(len(columns), bool)
    alone[first] = True
    absent = labels.genes[columns < 0].tolist()
    expressed = np.asarray((data.counts() > 0).sum(axis=0)).ravel() > 0
    kept = (columns >= 0) & alone
    silent = kept & ~expressed[columns]
    kept &= expressed[columns]
    if absent:
        notes["labelled genes not measured"] = f"{len(absent)} of {len(labels.genes)}: {some(absent)}"
    if silent.any():
        notes["labelled genes that no cell expresses"] = f"{int(silent.sum())}: {some(labels.genes[silent])}"
    lost = 0
    for table in among:
        known = set(_places(table))
        own = [{data.genes.names[c], data.genes.symbols[c], data.genes.ensembl[c]} - {""} for c in columns]
        lacking = kept & ~np.array([bool(names & known) for names in own])
        kept &= ~lacking
        lost += int(lacking.sum())
    if among:
        notes["genes not in every list of task.among"] = lost
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise InputError(
            f"none of the {len(labels.genes)} genes of {labels.name} ({some(labels.genes[:3])} …) is expressed in "
            f"{data.name}, whose genes are called {some(data.genes.names[:3])} …"
        )
    rows, classes = _large(labels, rows, least, n_functions, data.name, notes)
    part = GeneLabels(
        labels.genes[rows],
        tuple(labels.classes[c] for c in classes),
        labels.member[np.ix_(rows, classes)],
        labels.exclusive,
        labels.name,
    )
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


def _places(genes: GeneTable) -> dict[str, int]:
    """Any name of a gene -> its column, the first that has it; a name before a symbol before an Ensembl id."""
    found: dict[str, int] = {}
    for names in (genes.names, genes.symbols, genes.ensembl):
        for column, name in enumerate(names.tolist()):
            if name:
                found.setdefault(name, column)
    return found
