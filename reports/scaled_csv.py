"""scaled.csv: every number between its floor and its ceiling, where both were run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import StringIO

from reports.controls import bounds
from reports.ranking import Ranked, columns

COLUMNS = (
    "track",
    "task",
    "dataset",
    "split",
    "setting",
    "head",
    "model",
    "label",
    "metric",
    "metric_version",
    "mean",
    "floor",
    "floor_by",
    "ceiling",
    "ceiling_by",
    "scaled",
)


def to_csv(ranked: Iterable[Ranked]) -> str:
    """The table as text: a line for each row and number that has bounds; `track` is the row's own."""
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for each in ranked:
        writer.writerows(_lines(each))
    return out.getvalue()


def _lines(ranked: Ranked) -> Iterator[dict[str, object]]:
    section = ranked.section
    for column in columns(section):
        found = bounds(section, column)
        for entry in section.entries if found else []:
            mean = entry.scores[column].mean if column in entry.scores else None
            if found is None or mean is None:
                continue
            yield {
                "track": entry.track,
                "task": section.task,
                "dataset": section.dataset,
                "split": section.split,
                "setting": entry.about.setting,
                "head": column.head,
                "model": entry.about.model,
                "label": entry.label,
                "metric": column.metric,
                "metric_version": column.version,
                "mean": f"{mean:.10g}",
                "floor": f"{found.floor:.10g}",
                "floor_by": found.floor_by,
                "ceiling": f"{found.ceiling:.10g}",
                "ceiling_by": found.ceiling_by,
                "scaled": f"{found.scaled(mean):.10g}",
            }
