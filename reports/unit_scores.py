"""The scores that a metric is made of: what one entry got per unit and seed, as the statistics take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from harness.results import RunRecord
from reports.entries import Column, Entry, Section, defined
from reports.wording import plural

#: What a unit of a scope is called.
UNITS = {
    "per-class": ("class", "classes"),
    "per-batch": ("batch", "batches"),
    "per-fold": ("fold", "folds"),
    "per-resample": ("fold of repeated draws", "folds of repeated draws"),
    "per-perturbation": ("perturbation", "perturbations"),
    "per-drug": ("drug", "drugs"),
    "per-donor": ("donor", "donors"),
    "per-gene": ("gene", "genes"),
}

#: Folds of several draws, which share units.
REPEATED = "per-resample"

#: Units are the parts of a number if their mean is that number.
_PARTS = 1e-3

#: (data set, split, unit, seed); the unit is empty for an overall score.
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Scores:
    """The scores of one entry that a metric is made of: per unit, where it has units, and overall."""

    entry: Entry
    column: Column
    overall: dict[Key, float]
    units: dict[Key, float]
    scope: str = ""
    #: Tested by training units, where units are folds of repeated draws (`overlap`); 0: units share nothing.
    overlap: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the data sets' means over seeds."""
        found: dict[tuple[str, str], list[float]] = {}
        for key, value in self.overall.items():
            found.setdefault(key[:2], []).append(value)
        return fmean(map(fmean, found.values()))

    @property
    def best(self) -> dict[Key, float]:
        """The finest scores there are."""
        return self.units or self.overall


def scores(section: Section, entry: Entry, column: Column) -> Scores:
    """The scores of an entry under a column.

    The units of `macro_f1` are the rows `macro_f1`, or else `f1`, of one scope. They count as its parts only if, run
    by run, their mean is the overall number: an interval of the one would say nothing of the other.
    """
    overall: dict[Key, float] = {}
    for run in entry.runs:
        for row in run.metrics:
            same = (row.name, row.head, row.version, row.scope) == (*column, "overall")
            if same and (value := defined(row.value)) is not None:
                overall[section.dataset, section.split, "", run.seed] = value
    for name, scope in _scopes(entry.runs, column):
        units = _parts(section, entry, column, (name, scope), overall)
        if units:
            share = overlap(_sizes(entry.runs[0], name, column.head)) if scope == REPEATED else 0.0
            return Scores(entry, column, overall, units, scope, share)
    return Scores(entry, column, overall, {})


def _parts(
    section: Section, entry: Entry, column: Column, named: tuple[str, str], overall: dict[Key, float]
) -> dict[Key, float]:
    """The units of a name and scope; none where, in any run, their mean is not the overall number."""
    units: dict[Key, float] = {}
    for run in entry.runs:
        total = overall.get((section.dataset, section.split, "", run.seed))
        if total is None:
            continue
        parts = {
            row.key: value
            for row in run.metrics
            if (row.name, row.head, row.scope) == (named[0], column.head, named[1])
            and (value := defined(row.value)) is not None
        }
        if not parts or abs(fmean(parts.values()) - total) > _PARTS * abs(total) + 1e-9:
            return {}
        units |= {(section.dataset, section.split, key, run.seed): value for key, value in parts.items()}
    return units


def _sizes(run: RunRecord, metric: str, head: str) -> dict[str, int | None]:
    """Fold -> tested units, also of folds in which the number is not defined."""
    rows = [row for row in run.metrics if (row.name, row.head, row.scope) == (metric, head, REPEATED)]
    return {row.key: row.n for row in rows}


def _scopes(runs: list[RunRecord], column: Column) -> list[tuple[str, str]]:
    """Names and scopes of the per-unit rows of a column: folds of repeated draws first, then that of most units."""
    for name in dict.fromkeys((column.metric, column.metric.removeprefix("macro_"))):
        found: dict[str, set[str]] = {}
        for run in runs:
            for row in run.metrics:
                if row.scope != "overall" and (row.name, row.head) == (name, column.head):
                    found.setdefault(row.scope, set()).add(row.key)
        if found:
            order = sorted(sorted(found), key=lambda scope: (scope != REPEATED, -len(found[scope])))
            return [(name, scope) for scope in order]
    return []


def covers(cells: Iterable[Key], scope: str) -> str:
    """What an interval covers: `10 classes x 3 seeds of pbmc68k`."""
    keys = list(cells)
    datasets = sorted({key[0] for key in keys})
    splits, units = {key[:2] for key in keys}, {key[2] for key in keys}
    parts = [plural(len(datasets), "data set")] if len(datasets) > 1 else []
    parts += [plural(len(splits), "split")] if len(splits) > len(datasets) else []
    if scope:
        nouns = UNITS.get(scope, (scope.removeprefix("per-"), ""))
        parts.append(plural(len(units) if len(splits) < 2 else len({key[:3] for key in keys}), *nouns))
    seeds = plural(n_seeds(keys), "seed")
    where = f" of {datasets[0]}" if len(datasets) == 1 else ""
    if not parts:
        return f"{seeds} on the same cells{where}"
    return f"{' × '.join([*parts, seeds])}{where}"


def overlap(sizes: Mapping[str, int | None]) -> float:
    """Tested units by training units, the mean over folds of repeated draws (`2.5`: draw 2, fold 5).

    Parameters
    ----------
    sizes
        Tested units of each fold; where one is not said, folds are taken to be of one size.
    """
    of_draw: dict[str, list[int]] = {}
    for unit, size in sizes.items():
        of_draw.setdefault(unit.partition(".")[0], []).append(size or 1)
    ratios = [size / max(sum(every) - size, 1) for every in of_draw.values() for size in every]
    return fmean(ratios) if ratios else 0.0


def n_seeds(cells: Iterable[Key]) -> int:
    """Seeds of some cells."""
    return len({key[3] for key in cells})


def table(members: list[dict[Key, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Cells as a table (n_cells, n_models), or (n_cells,) for one, and their tree (n_cells, 4)."""
    keys = sorted({key for member in members for key in member})
    values = np.array([[member.get(key, np.nan) for member in members] for key in keys], dtype=float)
    tree = [np.unique([key[i] for key in keys], return_inverse=True)[1] for i in range(4)]
    levels = np.stack(tree, axis=1) if keys else np.zeros((0, 4), dtype=np.int64)
    return (values[:, 0] if len(members) == 1 and keys else values), levels
