"""The rows that are looked at closely: the best model and the best baseline of a section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Column, Entry
from reports.figures.figure import short_names
from reports.figures.svg import marker, shorten, text
from reports.ranking import Ranked
from reports.wording import head_title

if TYPE_CHECKING:
    import pandas as pd

#: Height of a line of a legend.
LEGEND_ROW = 20.0

Rows = list[tuple[Entry, Column]]


def best_rows(ranked: Ranked) -> Rows:
    """The best model and the best baseline of the first board, the better first, each with the column it reports.

    By the number the board is ranked by; a baseline that is a method of its own has it in a column of its own.
    """
    family = ranked.boards[0].families.get(ranked.headline[0]) if ranked.boards and ranked.headline else None
    if family is None:
        return []
    found = [member for baselines in (False, True) if (member := family.best(baselines=baselines))]
    return [(member.entry, member.column) for member in family.order(found)]


def row_titles(rows: Rows) -> dict[Entry, str]:
    """`cellfm · scratch · Linear`: a row by its short name, its track and the head it is looked at under."""
    names = short_names([entry for entry, _ in rows])
    return {
        entry: " · ".join(filter(None, (names[entry], entry.track, head_title(column.head)))) for entry, column in rows
    }


def row_legend(rows: Rows, width: float) -> list[Markup]:
    """A line for each row from the top of a figure, its sign before its name; each is `LEGEND_ROW` high."""
    titles, parts = row_titles(rows), []
    for place, (entry, _) in enumerate(rows):
        parts.append(marker(entry.track, 6, 9 + LEGEND_ROW * place, 3.8))
        parts.append(text(18, 13 + LEGEND_ROW * place, shorten(titles[entry], width - 30), class_="name"))
    return parts


def shared_tables(
    rows: Rows, tables: Tables, kind: str, columns: tuple[str, ...], *, by: str = "head", free: tuple[str, ...] = ()
) -> tuple[int, dict[Entry, pd.DataFrame]]:
    """Artifacts of one kind, each under the head its row reports, of the lowest seed that most of the rows have.

    Rows of one seed were asked the same: a seed may draw the split. `by` is the column that holds the head, `free` are
    its values in lines that belong to every head; where a kind has such lines, a table without that column has only
    them.
    """
    best: tuple[int, dict[Entry, pd.DataFrame]] = (0, {})
    for seed in sorted({run.seed for entry, _ in rows for run in entry.runs}):
        found = {}
        for entry, column in rows:
            for run in (run for run in entry.runs if run.seed == seed):
                table = tables.get(run, kind, columns if free else (by, *columns))
                if table is not None and by in table:
                    table = table[table[by].isin((column.head, *free))]
                if table is not None and len(table):
                    found[entry] = table
        if len(found) > len(best[1]):
            best = seed, found
    return best
