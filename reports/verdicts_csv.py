"""verdicts.csv: one line per compared pair."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO

from reports.ranking import Ranked
from reports.verdicts import pairs_of

COLUMNS = (
    "track",
    "task",
    "dataset",
    "split",
    "metric",
    "head",
    "model_a",
    "model_b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "n_units",
    "n_seeds",
    "test",
    "covers",
)


def to_csv(ranked: Iterable[Ranked]) -> str:
    """The table as text.

    Every pair of rows of a board under each headline column, then what pretraining is worth (track `scratch -
    untrained`), then the pairs over all data sets of a task (data set `all`). The difference is a - b, in the
    metric's own direction. The intervals of one board and column hold together at 95 %.
    """
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for track, task, (dataset, split), family, pairs in pairs_of(ranked):
        for pair in pairs:
            a, b, found = pair.a, pair.b, pair.difference
            column = family.column if family else a.column
            own = [m for m in (a, b) if m.column != column]
            note = "".join(f"; {m.entry.label} by its own head, {m.column.head}" for m in own)
            writer.writerow(
                {
                    "track": track,
                    "task": task,
                    "dataset": dataset,
                    "split": split,
                    "metric": column.metric,
                    "head": column.head,
                    "model_a": a.entry.label,
                    "model_b": b.entry.label,
                    "difference": _number(found.estimate),
                    "ci_low": _number(found.low),
                    "ci_high": _number(found.high),
                    "p": _number(found.p),
                    "p_holm": _number(pair.p_holm),
                    "n_units": pair.n_units,
                    "n_seeds": pair.n_seeds,
                    "test": found.test or ("Student's t interval over seeds, no test" if found.low is not None else ""),
                    "covers": pair.covers + note,
                }
            )
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
