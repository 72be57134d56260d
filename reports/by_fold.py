"""F1 of each class with one fold left out, from stored predictions: how it hangs on the donor, batch or technology."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.results import RunRecord
from reports.artifacts import Tables
from reports.entries import Entry
from reports.statistics import Interval, jackknife

#: A record and its predictions tell the same if their F1 are closer than this.
_SAME = 1e-3


def fold_intervals(entry: Entry, head: str, means: dict[str, float], tables: Tables) -> dict[str, Interval]:
    """Class -> jackknife interval over the folds of its F1, which is of the test cells of all folds together.

    Parameters
    ----------
    means
        F1 of each class as the records have it, the mean over seeds. A class whose predictions give another number has
        no interval, nor has one that is in fewer than two folds.
    """
    counts = [each for run in entry.runs if (each := _counts(tables, run, head)) is not None]
    if not counts or len(counts) < len(entry.runs):
        return {}
    folds = sorted({fold for each in counts for fold, _ in each})
    found: dict[str, Interval] = {}
    for name, mean in means.items():
        inside = [fold for fold in folds if any(each.get((fold, name), _NONE)[1:].sum() for each in counts)]
        whole = _mean_f1(counts, inside, name)
        if len(folds) < 2 or whole is None or abs(whole - mean) > _SAME:
            continue
        left_out = [_mean_f1(counts, [f for f in inside if f != fold], name) for fold in inside]
        known = [value for value in left_out if value is not None]
        if len(known) == len(left_out):
            found[name] = jackknife(mean, np.array(known))
    return found


#: Hits, true cells and called cells of a fold and class that occur nowhere.
_NONE = np.zeros(3)
_Counts = dict[tuple[str, str], np.ndarray]


def _counts(tables: Tables, run: RunRecord, head: str) -> _Counts | None:
    """(fold, class) -> hits, true cells, called cells of one run."""
    table = tables.get(run, "predictions", ("true", "predicted", "head", "fold"), keep=False)
    if table is None:
        return None
    table = table[table["head"] == head]
    found: _Counts = {}
    hits = table[table["true"] == table["predicted"]]
    for place, (rows, column) in enumerate(((hits, "true"), (table, "true"), (table, "predicted"))):
        for key, n in rows.groupby(["fold", column]).size().items():
            found.setdefault(key, np.zeros(3))[place] = n
    return found


def _mean_f1(counts: list[_Counts], folds: Iterable[str], name: str) -> float | None:
    """Mean over runs of the F1 over some folds; None where a run has no such cell there."""
    folds = list(folds)
    values = []
    for each in counts:
        hits, true, called = sum((each.get((fold, name), _NONE) for fold in folds), _NONE)
        if true + called == 0:
            return None
        values.append(2 * hits / (true + called))
    return float(np.mean(values))
