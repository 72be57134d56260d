"""What a board is made of: a section is a task on a data set, an entry a row, a score a number over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any, NamedTuple

from harness.results import RunRecord
from reports.wording import BASELINE, UNRANKED, head_order, track_order


class Column(NamedTuple):
    """What a number is: two versions of a metric are two columns, and never share a rank."""

    metric: str
    head: str
    version: str


@dataclass
class Score:
    """One metric of one entry.

    Parameters
    ----------
    by_seed
        Value by seed; None where it is undefined (NaN).
    n_units
        Units (classes, batches, perturbations) whose mean this number is; where it has none, the seeds.
    ci_low, ci_high
        95 % interval of the mean, filled by `reports.compare.judge`; None where there is none.
    covers
        What was sampled to make the interval.
    """

    by_seed: dict[int, float | None]
    higher_is_better: bool
    n_units: int = 0
    ci_low: float | None = None
    ci_high: float | None = None
    covers: str = ""

    @property
    def values(self) -> list[float]:
        """The defined values, by seed."""
        return [value for _, value in sorted(self.by_seed.items()) if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None when no seed gave a number."""
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def n_seeds(self) -> int:
        """Seeds that gave a number."""
        return len(self.values)


@dataclass(eq=False)
class Entry:
    """One row of a board: the runs that differ in nothing but the seed."""

    runs: list[RunRecord] = field(default_factory=list)
    missing: list[RunRecord] = field(default_factory=list)
    #: Added to the name where two entries would read the same.
    suffix: str = ""
    scores: dict[Column, Score] = field(default_factory=dict)

    @property
    def about(self) -> RunRecord:
        """A record that says what this entry is: the run of the lowest seed."""
        return (self.runs or self.missing)[0]

    @property
    def track(self) -> str:
        return self.about.track

    @property
    def label(self) -> str:
        """The row's name."""
        return (self.about.label or plain_label(self.about)) + self.suffix

    @property
    def flags(self) -> list[str]:
        """Flags of any of its runs."""
        return sorted({flag for run in self.runs for flag in run.flags})

    @property
    def smoke(self) -> bool:
        """Too short a training to say anything."""
        return "smoke" in self.flags

    @property
    def unranked(self) -> bool:
        """Shown, not ranked: a smoke run, or one whose model had read the labels."""
        return bool(set(UNRANKED) & set(self.flags))

    @property
    def heads(self) -> list[str]:
        """Heads that read this entry's embedding."""
        return sorted({column.head for column in self.scores}, key=head_order)

    def cost(self, name: str) -> float | None:
        """A cost over the runs: the largest of a peak, the mean of anything else; None when never measured."""
        values = [value for run in self.runs if (value := getattr(run.cost, name)) is not None]
        if not values:
            return None
        return max(values) if name.startswith("peak") else fmean(values)

    def units(self, metric: str, head: str, scope: str) -> dict[str, tuple[float | None, int | None]]:
        """Key -> (mean over seeds, n) of the per-unit scores of one metric, head and scope."""
        values: dict[str, list[float]] = {}
        sizes: dict[str, int | None] = {}
        for run in self.runs:
            for row in run.metrics:
                if (row.name, row.head, row.scope) == (metric, head, scope):
                    sizes.setdefault(row.key, row.n)
                    values.setdefault(row.key, []).extend(
                        [row.value] if defined(row.value) is not None else []  # type: ignore[list-item]
                    )
        return {key: (fmean(found) if found else None, sizes[key]) for key, found in values.items()}


@dataclass
class Section:
    """One question of the board: a task on a data set under one split protocol."""

    task: str
    dataset: str
    split: str
    dataset_sha256: str
    entries: list[Entry] = field(default_factory=list)
    #: Runs replaced by a newer one of the same entry and seed.
    superseded: list[RunRecord] = field(default_factory=list)

    @cached_property
    def read_by(self) -> dict[str, dict[Entry, set[str]]]:
        """Metric (overall or of a unit) -> heads under which each entry reports it."""
        found: dict[str, dict[Entry, set[str]]] = {}
        for entry in self.entries:
            for metric, head in dict.fromkeys((row.name, row.head) for run in entry.runs for row in run.metrics):
                found.setdefault(metric, {}).setdefault(entry, set()).add(head)
        return found

    @property
    def missing(self) -> list[RunRecord]:
        """Every run without numbers."""
        return [record for entry in self.entries for record in entry.missing]

    @property
    def runs(self) -> list[RunRecord]:
        """Every run that counts."""
        return [record for entry in self.entries for record in entry.runs]


def defined(value: float | None) -> float | None:
    """The value, or None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def fine_tuning(record: RunRecord) -> dict[str, Any]:
    """The settings it was fine-tuned by (`conf/finetune`) that have a value; nothing for a frozen network."""
    said = {} if record.setting == "frozen" else record.provenance.config.get("finetune") or {}
    return {name: value for name, value in said.items() if value is not None}


def trained(record: RunRecord) -> str:
    """`lora mlp`: what of the network was trained, and the head with it; nothing for a frozen network."""
    return "" if record.setting == "frozen" else f"{record.setting} {fine_tuning(record).get('head', '')}".strip()


def plain_label(record: RunRecord) -> str:
    """A name for a record that has none (a run that failed before its model was loaded)."""
    name = "-".join(filter(None, (record.model, record.variant)))
    return name if record.track in ("published", BASELINE) else f"{name} · {record.track}"


def by_track(entries: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries grouped by track, in the board's order of tracks."""
    entries = list(entries)
    return [
        (track, [entry for entry in entries if entry.track == track])
        for track in track_order(entry.track for entry in entries)
    ]
