"""Floor and ceiling of a section: where a score lies between what nothing gives and what everything gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reports.entries import Column, Entry, Score, Section

FLOOR, CEILING = "floor", "ceiling"
#: A range shorter than this bounds nothing.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Bounds:
    """The floor and the ceiling of a column, and the rows they are of."""

    floor: float
    ceiling: float
    floor_by: str
    ceiling_by: str

    def scaled(self, value: float) -> float:
        """0 at the floor, 1 at the ceiling; beyond them where a score is."""
        return (value - self.floor) / (self.ceiling - self.floor)


def controls(section: Section, role: str) -> list[Entry]:
    """The rows of a role that gave numbers: the flag of their records, set by the task that declares them."""
    return [entry for entry in section.entries if role in entry.flags and entry.runs and not entry.unranked]


def under(entry: Entry, column: Column) -> Score | None:
    """What a control has under a column; where another head was asked, its best by any head of its own.

    So permuted labels are a floor for every head, and an embedding of the labels is a ceiling for a method that brings
    its own head.
    """
    if column in entry.scores:
        return entry.scores[column]
    same = [s for c, s in entry.scores.items() if (c.metric, c.version) == (column.metric, column.version)]
    there = [score for score in same if score.mean is not None]
    return max(there, key=lambda s: (s.mean or 0.0) * (1 if s.higher_is_better else -1), default=None)


def bounds(section: Section, column: Column) -> Bounds | None:
    """The worst of the floors and the best of the ceilings; None where one of them is missing or they do not differ."""
    low, high = (_means(controls(section, role), column) for role in (FLOOR, CEILING))
    if not low or not high:
        return None
    sign = 1 if low[0][2] else -1
    floor = min(low, key=lambda each: sign * each[0])
    ceiling = max(high, key=lambda each: sign * each[0])
    if sign * (ceiling[0] - floor[0]) <= _NOTHING:
        return None
    return Bounds(floor[0], ceiling[0], floor[1], ceiling[1])


def best_floor(section: Section, column: Column) -> tuple[float, str] | None:
    """The best of the floors and the row it is of; None where none was run."""
    found = _means(controls(section, FLOOR), column)
    if not found:
        return None
    sign = 1 if found[0][2] else -1
    mean, label, _ = max(found, key=lambda each: sign * each[0])
    return mean, label


def missing(section: Section, declared: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    """Why scores are not scaled: the roles that no row has, and what to run; nothing where both are there."""
    absent = [(role, names) for role, names in declared if not controls(section, role)]
    if not absent:
        return ""
    names = ",".join(dict.fromkeys(name for _, each in absent for name in each))
    return f"No {' and no '.join(role for role, _ in absent)} was run, so scores are not scaled: run model={names} too."


def _means(entries: list[Entry], column: Column) -> list[tuple[float, str, bool]]:
    found = [(score, entry.label) for entry in entries if (score := under(entry, column)) is not None]
    return [(score.mean, label, score.higher_is_better) for score, label in found if score.mean is not None]
