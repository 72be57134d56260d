"""Leakage inside a split: test cells that were trained on, and donors that stand on both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.draws import cell_keys

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.task import Split

#: Flags of a record whose split leaks.
IDENTICAL_CELLS, SAME_DONORS = "identical-cells", "same-donors"
#: Hash of a cell without any count.
_EMPTY = cell_keys(np.array([0, 0]), np.zeros(0, np.int64), np.zeros(0))[0]


@dataclass(frozen=True)
class Leakage:
    """What the two sides of a split share: counts for a reader, and flags where it is not nothing."""

    notes: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def leakage(data: CellData, split: Split) -> Leakage:
    """Count what the training and the test cells of a split share; of several folds, each by itself.

    Cells are identical if they have the same counts in the same genes (`CellData.cell_hashes`); cells without any
    count are alike by nature and are left out. Donors are compared where `dataset.donor` names a column; cells of no
    known donor are left out. Nothing is trained on in a split of one side, and nothing leaks.
    """
    folds = [fold for fold in split.each() if len(fold.train) and len(fold.test)]
    if not folds:
        return Leakage()
    hashes = data.cell_hashes
    n_same = sum(_n_known(hashes[fold.test], hashes[fold.train]) for fold in folds)
    notes: dict[str, Any] = {"test cells identical to a training cell": n_same}
    flags = [IDENTICAL_CELLS] if n_same else []
    if data.has("donor"):
        donors = data.labels("donor")
        shared = {donor for fold in folds for donor in np.intersect1d(donors[fold.train], donors[fold.test]).tolist()}
        n_shared = len(shared - {""})
        notes["donors on both sides of the split"] = f"{n_shared} of {len(set(donors.tolist()) - {''})}"
        flags += [SAME_DONORS] if n_shared else []
    return Leakage(notes, flags)


def _n_known(test: np.ndarray, train: np.ndarray) -> int:
    return int((np.isin(test, train) & (test != _EMPTY)).sum())
