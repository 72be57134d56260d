"""From a data set to cells by condition: which cells and genes take part, and what was left out, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.errors import InputError
from harness.results import content_id
from tasks.gene_names import gene_names, some
from tasks.perturbation.cells import PerturbedCells
from tasks.perturbation.conditions import CONTROL, Condition, name_of, read_conditions

if TYPE_CHECKING:
    from harness.data import CellData

#: Genes perturbed together; more are left out, since no published method or split here knows them.
MOST_GENES = 2


@dataclass(frozen=True)
class Prepared:
    """What takes part.

    Parameters
    ----------
    cells
        The cells by condition, log-normalised over all genes, columns of the chosen ones.
    rows
        Row of the data set of each cell, int64.
    columns
        Column of the data set of each gene, int64.
    written
        How the file spells each pair.
    excluded
        Counts of what was left out, by reason.
    notes
        What a reader must know.
    """

    cells: PerturbedCells
    rows: np.ndarray
    columns: np.ndarray
    written: dict[Condition, str]
    excluded: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


_LAST: dict[str, Prepared] = {}


def prepare(
    data: CellData, *, separator: str | None, min_cells: int, cells_per_condition: int | None, n_top_genes: int | None
) -> Prepared:
    """The cells of a data set by condition; kept for the next run on the same cells.

    Parameters
    ----------
    separator
        Between the genes of a pair, None: found out.
    min_cells
        Conditions with fewer are left out, and counted.
    cells_per_condition
        At most so many cells of a condition, always the same; None: all.
    n_top_genes
        The most variable genes (over all cells, without labels) and the perturbed ones; None: all.

    Raises
    ------
    InputError
        No control cells, or fewer than two perturbed conditions with enough cells.
    """
    settings = [separator, min_cells, cells_per_condition, n_top_genes]
    key = content_id([data.content_hash, data.labels_hash(), data.control, settings], 32)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = _prepare(data, separator, min_cells, cells_per_condition, n_top_genes)
    return _LAST[key]


def _prepare(
    data: CellData, separator: str | None, min_cells: int, cells_per_condition: int | None, n_top_genes: int | None
) -> Prepared:
    conditions, of_cell, written = read_conditions(data.labels("condition"), data.control, separator, data.name)
    excluded: dict[str, int] = {"cells without a condition": int((of_cell < 0).sum())}
    counts = data.counts()
    empty = np.diff(counts.indptr) == 0
    excluded["cells without a count"] = int((empty & (of_cell >= 0)).sum())
    of_cell = np.where(empty, -1, of_cell)
    sizes = np.bincount(of_cell[of_cell >= 0], minlength=len(conditions))
    if not sizes[0]:
        raise InputError(f"{data.name}: no control cell has a count")
    many = [c for c in conditions if len(c) > MOST_GENES]
    small = [c for c, n in zip(conditions, sizes.tolist(), strict=True) if c and c not in many and n < min_cells]
    notes: dict[str, Any] = {}
    for found, reason in (
        (many, f"conditions of more than {MOST_GENES} genes"),
        (small, "conditions of too few cells"),
    ):
        if found:
            excluded[reason] = len(found)
            notes[f"{reason}, by name"] = some(map(name_of, found))
    kept = [c for c in conditions if c not in {*many, *small}]
    if len(kept) < 3:
        raise InputError(
            f"{data.name}: {len(kept) - 1} perturbed conditions of one or two genes have at least {min_cells} cells "
            "(task.min_cells), and two are needed, one to learn from and one to predict"
        )
    rows = _sample(conditions, of_cell, kept, cells_per_condition)
    left = int(np.isin(of_cell, [i for i, c in enumerate(conditions) if c in set(kept)]).sum()) - len(rows)
    excluded["cells beyond task.cells_per_condition"] = left
    values = log_normalise(counts[rows])
    names = gene_names(data.genes)
    targets = sorted({gene for condition in kept for gene in condition})
    columns = _columns(values, names, targets, n_top_genes)
    place = np.full(len(conditions), -1)
    place[[conditions.index(c) for c in kept]] = np.arange(len(kept))
    cells = PerturbedCells(values[:, columns].tocsr(), names[columns], tuple(kept), place[of_cell[rows]])
    measured = np.isin(targets, names[columns])
    notes["targets measured"] = f"{int(measured.sum())} of {len(targets)}"
    if not measured.all():
        notes["targets not measured"] = some(np.array(targets)[~measured].tolist())
    notes["data"] = f"{cells.describe()}, {len(columns)} genes"
    return Prepared(cells, rows, columns, written, {why: n for why, n in excluded.items() if n}, notes)


def _sample(conditions: list[Condition], of_cell: np.ndarray, kept: list[Condition], most: int | None) -> np.ndarray:
    """Rows that take part; of a large condition a sample that is the same in every run."""
    rng, found = np.random.default_rng(0), []
    for condition in kept:
        rows = np.flatnonzero(of_cell == conditions.index(condition))
        limit = None if most is None else most * (4 if condition == CONTROL else 1)
        found.append(rows if limit is None else np.sort(rng.permutation(rows)[:limit]))
    return np.sort(np.concatenate(found))


def _columns(values: Any, names: np.ndarray, targets: list[str], n_top_genes: int | None) -> np.ndarray:
    """Columns that take part: the most variable genes and the perturbed ones, the first of several of one name."""
    first = np.zeros(len(names), bool)
    first[np.unique(names, return_index=True)[1]] = True
    if n_top_genes is None:
        return np.flatnonzero(first)
    chosen = np.isin(names, targets)
    chosen[highly_variable(values, n_top_genes)] = True
    return np.flatnonzero(chosen & first)


def control_cells(data: CellData, prepared: Prepared, cells: int) -> CellData:
    """At most `cells` of the control cells, which no split ever tests."""
    rows = prepared.rows[prepared.cells.rows(())]
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:cells])
    return data.subset(chosen, name=f"control cells of {data.name}")
