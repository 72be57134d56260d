"""Which genes of a data set take part, and the cells that are read of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.errors import InputError
from harness.genes import GeneTable
from harness.subsample import subsample
from tasks.gene_names import gene_names

if TYPE_CHECKING:
    from harness.data import CellData


@dataclass(frozen=True)
class MeasuredGenes:
    """Genes that the reference cells express.

    Parameters
    ----------
    reference
        Cells that contextual vectors and co-expression are read off.
    expressed
        Symbols of all genes with a count in them, unicode, distinct: whether a gene is measured.
    table
        Those that take part; `names` are their symbols.
    """

    reference: CellData
    expressed: np.ndarray
    table: GeneTable

    def notes(self) -> dict[str, Any]:
        """How many genes take part, and in how many cells they were looked at."""
        return {
            "reference cells": self.reference.n_obs,
            "genes": f"{len(self.table)} of {len(self.expressed)} that the reference cells express",
        }


def measured_genes(data: CellData, cells: int, n_top_genes: int | None, kept: Collection[str]) -> MeasuredGenes:
    """The most variable genes in the reference cells, and those of `kept` that they express.

    A gene without a count in them has no co-expression and no contextual vector, so that it takes part for no model:
    all are asked for the same genes. Of several columns of one symbol the first that is expressed is taken.

    Parameters
    ----------
    cells
        At most so many reference cells, always the same ones (`harness.subsample`).
    n_top_genes
        None: all.

    Raises
    ------
    InputError
        No gene is expressed.
    """
    reference = subsample(data, cells)
    values = log_normalise(reference.counts())
    names = gene_names(reference.genes)
    columns = np.flatnonzero(np.bincount(values.indices, minlength=values.shape[1]))
    columns = np.sort(columns[np.unique(names[columns], return_index=True)[1]])
    if not len(columns):
        raise InputError(f"{data.name}: the {reference.n_obs} reference cells hold no count")
    chosen = np.isin(names[columns], sorted(kept))
    top = np.arange(len(columns)) if n_top_genes is None else highly_variable(values[:, columns], n_top_genes)
    chosen[top] = True
    at = columns[chosen]
    table = GeneTable(names[at], names[at], reference.genes.ensembl[at])
    return MeasuredGenes(reference, names[columns], table)
