"""leaderboard.csv: one line per number, for people who do their own arithmetic."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import StringIO

from reports.entries import Column, Entry, Section
from reports.ranking import Board
from reports.wording import CONTROL

COLUMNS = (
    "track",
    "task",
    "dataset",
    "setting",
    "head",
    "readout",
    "split",
    "model",
    "variant",
    "metric",
    "metric_version",
    "mean",
    "ci_low",
    "ci_high",
    "n_units",
    "n_seeds",
    "rank",
    "tied_with_best",
    "beats_best_baseline",
)


def to_csv(ranked: Iterable[tuple[Section, list[Board], list[Column]]]) -> str:
    """The table as text.

    `track` names the board, so that a baseline has a line in each board it is ranked in; `rank` is the place on that
    board, also of a method that brings its own head. A number that is undefined for every seed has a line without mean
    and rank. What the statistics cannot say is empty. A control stands under the track `control`, without a rank.
    """
    out = StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section, boards, columns in ranked:
        bounding = Board(CONTROL, [entry for entry in section.entries if entry.track == CONTROL])
        for board in [*boards, bounding]:
            writer.writerows(_lines(section, board, columns))
    return out.getvalue()


def _lines(section: Section, board: Board, columns: list[Column]) -> Iterator[dict[str, object]]:
    variants = _variants(board.entries)
    for column in columns:
        entries = [entry for entry in board.entries if column in entry.scores]
        entries.sort(key=lambda entry: board.rank(entry, column) or len(entries) + 1)
        for entry in entries:
            score, about, family = entry.scores[column], entry.about, board.family(entry, column)
            yield {
                "track": board.track,
                "task": section.task,
                "dataset": section.dataset,
                "setting": about.setting,
                "head": column.head,
                "readout": about.readout,
                "split": section.split,
                "model": about.model,
                "variant": variants[entry],
                "metric": column.metric,
                "metric_version": column.version,
                "mean": _number(score.mean),
                "ci_low": _number(score.ci_low),
                "ci_high": _number(score.ci_high),
                "n_units": score.n_units,
                "n_seeds": score.n_seeds,
                "rank": board.rank(entry, column) or "",
                "tied_with_best": _truth(family.tied(entry) if family else None),
                "beats_best_baseline": _truth(family.beats(entry) if family else None),
            }


def _variants(entries: list[Entry]) -> dict[Entry, str]:
    """The variant of each entry; its full label where two lines would otherwise be the same."""
    seen: dict[tuple[str, ...], int] = {}
    keys = {}
    for entry in entries:
        about = entry.about
        keys[entry] = (about.track, about.model, about.variant, about.setting, about.readout)
        seen[keys[entry]] = seen.get(keys[entry], 0) + bool(entry.runs)
    return {entry: entry.about.variant if seen[key] < 2 else entry.label for entry, key in keys.items()}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _truth(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
