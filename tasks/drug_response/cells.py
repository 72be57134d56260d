"""From a data set to control and treated cells: which take part, and the genes of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.errors import InputError
from harness.results import content_id
from tasks.drug_response.markers import marker_genes
from tasks.drug_response.problem import Populations, Problem
from tasks.gene_names import gene_names, some

if TYPE_CHECKING:
    import scipy.sparse as sp

    from harness.data import CellData
    from tasks.drug_response.splits import DrugFold


@dataclass(frozen=True)
class Prepared:
    """The cells that take part.

    Parameters
    ----------
    values
        log1p of counts per 10,000 over all genes, float32 CSR (n, all genes); rows are those of `rows`.
    rows
        Rows of the data set, int64 (n,), ascending.
    condition
        Of every cell of the data set, Unicode (n_obs,); "" for cells that take no part.
    control
        The label of the control cells.
    drugs
        The other labels.
    genes
        Names, Unicode (all genes,).
    excluded
        Counts of what was left out, by reason.
    """

    values: sp.csr_matrix
    rows: np.ndarray
    condition: np.ndarray
    control: str
    drugs: tuple[str, ...]
    genes: np.ndarray
    excluded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def of(self, rows: np.ndarray) -> sp.csr_matrix:
        """Expression over all genes of rows of the data set, in their order."""
        return self.values[np.searchsorted(self.rows, rows)]


_LAST: dict[str, Prepared] = {}


def prepare(data: CellData, drugs: Sequence[str] | None, cells_per_condition: int | None) -> Prepared:
    """The control and treated cells of a data set; kept for the next run on the same cells.

    Parameters
    ----------
    drugs
        Some of the conditions; None: all but the control.
    cells_per_condition
        At most so many cells of a drug, four times as many controls, always the same; None: all.

    Raises
    ------
    InputError
        No control label, no control or no treated cell, or a drug that is not there.
    """
    key = content_id([data.content_hash, data.labels_hash(), data.control, drugs, cells_per_condition], 32)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = _prepare(data, drugs, cells_per_condition)
    return _LAST[key]


def _prepare(data: CellData, drugs: Sequence[str] | None, most: int | None) -> Prepared:
    labels, control = data.labels("condition"), data.control
    found = sorted(set(labels.tolist()) - {"", control or ""})
    if control is None or not (labels == control).any():
        raise InputError(
            f"{data.name}: dataset.control={control}: no cell is labelled so. Name the condition of the untreated "
            f"cells; the column holds {some(found)}"
        )
    if not found:
        raise InputError(f"{data.name}: no treated cell: every cell with a condition is {control}")
    missing = [drug for drug in drugs or () if drug not in found]
    if missing:
        raise InputError(f"task.drugs: no cell of {data.name} is labelled {some(missing)}; it holds {some(found)}")
    chosen = tuple(found if drugs is None else sorted(set(drugs)))
    counts = data.counts()
    takes_part = np.isin(labels, [control, *chosen])
    empty = takes_part & (np.diff(counts.indptr) == 0)
    takes_part &= ~empty
    excluded = {
        "cells without a condition": int((labels == "").sum()),
        "cells of drugs that are not asked for": int((~np.isin(labels, ["", control, *chosen])).sum()),
        "cells without a count": int(empty.sum()),
    }
    if most is not None:
        kept, rng = np.zeros(len(labels), bool), np.random.default_rng(0)
        for condition in (control, *chosen):
            rows = np.flatnonzero(takes_part & (labels == condition))
            kept[rng.permutation(rows)[: most * (4 if condition == control else 1)]] = True
        excluded["cells beyond task.cells_per_condition"] = int((takes_part & ~kept).sum())
        takes_part = kept
    rows = np.flatnonzero(takes_part)
    return Prepared(
        log_normalise(counts[rows]) if data.values == "counts" else counts[rows],
        rows,
        np.where(takes_part, labels, ""),
        control,
        chosen,
        gene_names(data.genes),
        {why: n for why, n in excluded.items() if n},
        {"cells": f"{int((labels[rows] == control).sum())} control, {int((labels[rows] != control).sum())} treated"},
    )


@dataclass(frozen=True)
class FoldCells:
    """The cells of one fold: a drug and what is held out.

    Parameters
    ----------
    columns
        Genes that are predicted: the most variable of the fold's training cells, int64 (g,).
    published
        CellFM's released way: decoders and encoders learn from treated cells alone, and what was learned is chosen by
        the test cells.
    """

    fold: DrugFold
    prepared: Prepared
    columns: np.ndarray
    published: bool = False

    def expression(self, rows: np.ndarray) -> np.ndarray:
        """Log-normalised expression of rows of the data set, float32 (n, g)."""
        return self.prepared.of(rows)[:, self.columns].toarray()

    @cached_property
    def markers(self) -> np.ndarray:
        """The fold's genes by how well they tell treated from control cells, int64 (g,); for metrics alone."""
        prepared, fold = self.prepared, self.fold
        own = np.flatnonzero(np.isin(prepared.condition, [prepared.control, fold.drug]))
        return marker_genes(prepared.of(own)[:, self.columns], prepared.condition[own] == fold.drug)

    @cached_property
    def decoding(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that a decoder learns from, and those its step is chosen by."""
        train, val = self.fold.train, self.fold.val
        if self.published:
            return train.treated, val.treated
        return np.concatenate([train.control, train.treated]), np.concatenate([val.control, val.treated])

    def problem(self, seed: int, progress: bool) -> Problem:
        """What a method that reads expression is given."""
        fold = self.fold
        train, val = (
            Populations(self.expression(side.control), self.expression(side.treated)) for side in (fold.train, fold.val)
        )
        names = self.prepared.genes[self.columns]
        return Problem(fold.drug, names, train, val, self.expression(fold.test.control), seed, progress)


def cells_of(fold: DrugFold, prepared: Prepared, n_top_genes: int | None, published: bool) -> FoldCells:
    """The cells of a fold; genes are chosen on its training cells (CellOT: `hvg-top1k-train-only`)."""
    learned = prepared.of(np.sort(np.concatenate([fold.train.control, fold.train.treated])))
    first = np.zeros(len(prepared.genes), bool)  # the first of several columns of one name
    first[np.unique(prepared.genes, return_index=True)[1]] = True
    first &= np.asarray((learned > 0).sum(axis=0)).ravel() > 0
    columns = np.flatnonzero(first)
    if n_top_genes is not None:
        columns = columns[highly_variable(learned[:, columns], n_top_genes)]
    if published:  # as released: the step is chosen by the cells that are tested
        fold = replace(fold, val=fold.test)
    return FoldCells(fold, prepared, columns, published)
