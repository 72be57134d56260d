"""Which cells train and which test: within a data set, across batches or donors, or as a column says.

CellFM paper, section "Cell type annotation with CellFM": intra-dataset is a stratified 70/30 split, inter-dataset
leaves a batch out. A cell type with too few training cells cannot be learned; it is left out of both sides, and
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.task import Split

if TYPE_CHECKING:
    from harness.data import CellData

#: Roles of a data set by which groups of cells can be left out.
GROUPS = ("batch", "donor", "condition", "label")
#: Values of the column `dataset.split`, in any case.
TRAIN, TEST = ("train", "training", "reference"), ("test", "query")


def n_groups(data: CellData, role: str) -> int:
    """Groups of a role; 0 where no column is named for it."""
    return len(set(data.labels(role).tolist()) - {""}) if data.has(role) else 0


def stratified(data: CellData, labels: np.ndarray, seed: int, *, test_size: float, min_train_cells: int) -> Split:
    """A random share of every type tests.

    Parameters
    ----------
    labels
        Of all cells, "" where unknown.
    test_size
        Share of the cells of each type.
    min_train_cells
        Types with fewer training cells are left out.

    Raises
    ------
    InputError
        Fewer than two types are left.
    """
    from sklearn.model_selection import train_test_split

    types, sizes = np.unique(labels[labels != ""], return_counts=True)
    rows = np.flatnonzero(np.isin(labels, types[sizes > 1]))  # one cell cannot be on both sides
    try:
        _, chosen = train_test_split(rows, test_size=test_size, random_state=seed, stratify=labels[rows])
    except ValueError as error:
        raise InputError(
            f"{data.name}: {len(rows)} cells of {int((sizes > 1).sum())} types cannot be split "
            f"{1 - test_size:.0%}/{test_size:.0%} ({error}); name another column: dataset.cell_type=COLUMN"
        ) from None
    test = np.isin(np.arange(len(labels)), chosen)
    known = labels != ""
    name = f"stratified-{round(100 * (1 - test_size))}/{round(100 * test_size)}"
    return _said(_learnable(data, labels, known & ~test, test, name, min_train_cells), ~known)


def leave_out(
    data: CellData, labels: np.ndarray, role: str, *, min_train_cells: int, only: Sequence[str] | None = None
) -> Split:
    """Each batch (donor, …) in turn tests, the others train: one fold for each.

    Parameters
    ----------
    role
        Of `GROUPS`.
    only
        Some of the groups; all by default.

    Raises
    ------
    InputError
        There is one group only, `only` names one that is not there, or no fold has two types to learn.
    """
    groups = data.labels(role)
    names = sorted(set(groups.tolist()) - {""})
    if len(names) < 2:
        raise InputError(
            f"{data.name}: task.split={role} leaves one {role} out at a time, and there is "
            f"{'only ' + names[0] if names else 'none'}; use task.split=stratified"
        )
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise InputError(f"task.folds={', '.join(unknown)}: the {role}s of {data.name} are {', '.join(names[:20])}")
    known = (labels != "") & (groups != "")
    folds, impossible = [], []
    for name in only or names:
        try:
            folds.append(
                _learnable(data, labels, known & (groups != name), known & (groups == name), name, min_train_cells)
            )
        except InputError as error:
            impossible.append((name, error))
    if not folds:
        raise impossible[0][1]
    excluded: Counter[str] = Counter()
    for fold in folds:
        excluded.update(fold.excluded)
    excluded[f"{role} groups that cannot be tested"] = len(impossible)
    name = f"leave-{role}-out" + (f":{','.join(only)}" if only else "")
    rows = np.flatnonzero(known)
    return _said(Split(name, rows, rows, excluded, tuple(folds)), ~known)


def by_column(data: CellData, labels: np.ndarray, *, min_train_cells: int) -> Split:
    """The split that the column `dataset.split` gives: train and test.

    Raises
    ------
    InputError
        The column has neither, or fewer than two types can be learned.
    """
    sides = np.char.lower(data.labels("split"))
    train, test = np.isin(sides, TRAIN), np.isin(sides, TEST)
    if not train.any() or not test.any():
        found = ", ".join(sorted(set(sides.tolist()))[:8])
        raise InputError(f"{data.name}: dataset.split needs cells called train and test; found {found}")
    known = (labels != "") & (train | test)
    return _said(_learnable(data, labels, train & known, test & known, "given", min_train_cells), ~known)


def _said(split: Split, unknown: np.ndarray) -> Split:
    """The split with what it leaves out: cells of no label (or no group), and what there is nothing of not said."""
    excluded = {"cells without a label": int(unknown.sum()), **split.excluded}
    return replace(split, excluded={why: n for why, n in excluded.items() if n})


def _learnable(
    data: CellData, labels: np.ndarray, train: np.ndarray, test: np.ndarray, name: str, min_train_cells: int
) -> Split:
    """The split without the types that cannot be learned from its training cells."""
    types, sizes = np.unique(labels[train], return_counts=True)
    learnable = types[sizes >= max(1, min_train_cells)]
    tested = np.unique(labels[test])
    if len(learnable) < 2 or not np.isin(tested, learnable).any():
        found = ", ".join(f"{t} ({n})" for t, n in zip(types[:5], sizes[:5], strict=True)) or "no label at all"
        raise InputError(
            f"{data.name}, split {name}: {len(learnable)} cell types have at least {min_train_cells} training cells, "
            f"and two are needed, one of them to test; found {found}. Name another column (dataset.cell_type=COLUMN), "
            "or lower task.min_train_cells"
        )
    keep = np.isin(labels, learnable)
    small = types[sizes < max(1, min_train_cells)]
    absent = np.setdiff1d(tested, types)
    excluded = {
        f"types with fewer than {min_train_cells} training cells": len(small),
        "their cells": int(np.isin(labels[train | test], small).sum()),
        "types that are only tested": len(absent),
        "cells of types that are only tested": int(np.isin(labels[test], absent).sum()),
    }
    return Split(name, np.flatnonzero(train & keep), np.flatnonzero(test & keep), excluded)
