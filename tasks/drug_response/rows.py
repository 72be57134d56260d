"""Scores of folds -> metric rows: each drug a unit, each group that is held out a unit, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics import row
from harness.results import MetricRow, Scope

#: Scores of a fold, or of the cells of one type in it: name -> number, NaN where undefined.
Scores = Mapping[str, float]


@dataclass(frozen=True)
class FoldScores:
    """What one head got in one fold.

    Parameters
    ----------
    drug, held_out
        Which fold; `held_out` "" where no group is.
    scores
        Of all its test cells.
    by_type
        Cell type -> scores of its cells, where types are not what is held out.
    n
        Test cells: control cells that were moved.
    """

    drug: str
    held_out: str
    scores: Scores
    by_type: Mapping[str, Scores]
    n: int


def metric_rows(head: str, folds: Sequence[FoldScores], scope: Scope | None) -> list[MetricRow]:
    """The rows of one head.

    The overall number is the mean over drugs of the mean over what was held out. Drugs are units where there are
    several, groups where there are several; cell types of an i.i.d. split have rows of their own, and are no parts of
    the overall number, which compares all cells.

    Parameters
    ----------
    scope
        Of the groups that are held out; None where none are.
    """
    found: list[MetricRow] = []
    drugs = sorted({fold.drug for fold in folds})
    for name in dict.fromkeys(name for fold in folds for name in fold.scores):
        of_drug = {drug: _mean(f.scores.get(name) for f in folds if f.drug == drug) for drug in drugs}
        total = sum(fold.n for fold in folds)
        found.append(row(name, _mean(of_drug.values()), head=head, n=total))
        if len(drugs) > 1:
            found += [
                row(name, value, head=head, scope="per-drug", key=drug, n=sum(f.n for f in folds if f.drug == drug))
                for drug, value in of_drug.items()
            ]
        groups = sorted({fold.held_out for fold in folds})
        if scope is not None and len(groups) > 1:
            for group in groups:
                own = [fold for fold in folds if fold.held_out == group]
                value = _mean(fold.scores.get(name) for fold in own)
                found.append(row(name, value, head=head, scope=scope, key=group, n=sum(f.n for f in own)))
        for kind in sorted({kind for fold in folds for kind in fold.by_type}):
            value = _mean(fold.by_type[kind].get(name) for fold in folds if kind in fold.by_type)
            found.append(row(name, value, head=head, scope="per-class", key=kind))
    return found


def _mean(values: Iterable[float | None]) -> float:
    """Mean of the numbers that are defined; NaN where none is."""
    known = [value for value in values if value is not None and value == value]
    return float(np.mean(known)) if known else float("nan")
