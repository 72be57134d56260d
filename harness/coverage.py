"""How much of a data set a model can read: genes, and the share of the counts that lies in them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError
from harness.genes import GeneMatch, date_mangled

log = logging.getLogger(__name__)

#: Shares of the counts: below the first a warning, below the second a refusal.
WARN, REFUSE = 0.8, 0.1
#: Cells that are looked at before a run.
SAMPLE_CELLS = 512
N_EXAMPLES = 8


@dataclass(frozen=True)
class Coverage:
    """What a model's vocabulary knows of a data set.

    Parameters
    ----------
    model
        Name of the model.
    n_genes, matched
        Columns of the data set, and how many of them the vocabulary knows.
    n_cells
        Cells the counts were taken over.
    counts, matched_counts
        Sum of all counts, and of those in matched columns.
    unmatched
        Examples of unmatched columns, those with most counts first.
    odd_case
        Examples of unmatched columns as (name, gene of the vocabulary) that differ in case alone.
    date_mangled
        Examples of unmatched columns that look like dates.
    n_duplicates
        Matched columns whose token an earlier column has already.
    """

    model: str
    n_genes: int
    matched: int
    n_cells: int
    counts: float
    matched_counts: float
    unmatched: tuple[str, ...] = ()
    odd_case: tuple[tuple[str, str], ...] = ()
    date_mangled: tuple[str, ...] = ()
    n_duplicates: int = 0

    @property
    def share_of_counts(self) -> float:
        """Matched counts over all counts, in [0, 1]; the share of columns where there is no count at all."""
        if self.counts:
            return self.matched_counts / self.counts
        return self.matched / self.n_genes if self.n_genes else 0.0

    def describe(self) -> str:
        """One line for the log and the record."""
        share = f"{100 * self.share_of_counts:.1f} % of the counts"
        parts = [f"{self.model} knows {self.matched} of {self.n_genes} genes, {share}"]
        if self.unmatched:
            more = self.n_genes - self.matched - len(self.unmatched)
            parts.append("unknown: " + ", ".join(self.unmatched) + (f", … {more} more" if more else ""))
        if self.odd_case:
            parts.append("other case: " + ", ".join(f"{name} for {gene}" for name, gene in self.odd_case))
        if self.date_mangled:
            parts.append("look like dates: " + ", ".join(self.date_mangled))
        if self.n_duplicates:
            parts.append(f"{self.n_duplicates} columns repeat a gene")
        return "; ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for the record."""
        return {
            "n_genes": self.n_genes,
            "matched": self.matched,
            "share_of_counts": round(self.share_of_counts, 6),
            "unmatched": list(self.unmatched),
            "odd_case": [list(pair) for pair in self.odd_case],
            "date_mangled": list(self.date_mangled),
            "n_duplicates": self.n_duplicates,
            "n_cells": self.n_cells,
        }

    def enforce(self, *, source: str = "the data", refuse: float = REFUSE, warn: float = WARN) -> None:
        """Warn below `warn`, refuse below `refuse` (shares of the counts).

        Raises
        ------
        InputError
            The vocabulary knows no gene, or too small a share of the counts lies in genes it knows.
        """
        if not self.matched or self.share_of_counts < refuse:
            raise InputError(
                f"{source}: {self.describe()}. At least {100 * refuse:g} % of the counts are expected "
                "(dataset.min_coverage). Name the var column that holds the model's ids "
                "(dataset.gene_ids=COLUMN), or bring old symbols up to date: dataset.gene_aliases=HGNC_TABLE"
            )
        if self.share_of_counts < warn:
            log.warning("%s: %s", source, self.describe())


class CoverageMeter:
    """Adds up coverage while the blocks of a data set pass by.

    Parameters
    ----------
    model
        Name of the model.
    match
        The data set's columns in the model's vocabulary.
    vocabulary
        Gene names of the model, for saying which unmatched names differ from one in case alone.
    """

    def __init__(self, model: str, match: GeneMatch, vocabulary: Iterable[str] = ()):
        self.model, self.match, self.vocabulary = model, match, vocabulary
        self.per_gene = np.zeros(len(match.table), np.float64)
        self.n_cells = 0

    def add(self, counts: sp.csr_matrix) -> None:
        """A block of cells: counts CSR (n, n_genes)."""
        self.per_gene += np.bincount(counts.indices, weights=counts.data, minlength=len(self.per_gene))
        self.n_cells += counts.shape[0]

    def result(self) -> Coverage:
        """Coverage over the cells added so far."""
        return coverage(self.model, self.match, self.per_gene, n_cells=self.n_cells, vocabulary=self.vocabulary)


def coverage(
    model: str,
    match: GeneMatch,
    counts_per_gene: np.ndarray,
    *,
    n_cells: int = 0,
    vocabulary: Iterable[str] = (),
) -> Coverage:
    """Coverage from the total count of each column, (n_genes,)."""
    known = match.ids >= 0
    unknown = np.flatnonzero(~known)
    unknown = unknown[np.argsort(-counts_per_gene[unknown], kind="stable")]
    names = match.table.names[unknown].tolist()
    folded = {gene.casefold(): gene for gene in vocabulary} if names else {}
    odd = [(name, folded[name.casefold()]) for name in names if name.casefold() in folded]
    return Coverage(
        model=model,
        n_genes=len(match.table),
        matched=int(known.sum()),
        n_cells=n_cells,
        counts=float(counts_per_gene.sum()),
        matched_counts=float(counts_per_gene[known].sum()),
        unmatched=tuple(names[:N_EXAMPLES]),
        odd_case=tuple(odd[:N_EXAMPLES]),
        date_mangled=tuple(date_mangled(names)[:N_EXAMPLES]),
        n_duplicates=int(known.sum()) - len(np.unique(match.ids[known])),
    )


def sample_coverage(
    model: str,
    match: GeneMatch,
    blocks: Iterable[tuple[slice, sp.csr_matrix]],
    *,
    cells: int = SAMPLE_CELLS,
    vocabulary: Iterable[str] = (),
) -> Coverage:
    """Coverage over the first cells of a data set, for refusing before anything is computed.

    Parameters
    ----------
    blocks
        `data.blocks(max_nnz)` with a small `max_nnz`; read until `cells` cells have been seen.
    """
    meter = CoverageMeter(model, match, vocabulary)
    for _, counts in blocks:
        meter.add(counts)
        if meter.n_cells >= cells:
            break
    return meter.result()
