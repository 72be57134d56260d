"""Heat map of a reverse search (CellFM paper, Fig. 3e): places with the perturbation, or one that shares a gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.heatmap import Cell, HeatRow, heat_map
from reports.wording import plural

if TYPE_CHECKING:
    import pandas as pd

KIND = "reverse_ranking"
COLUMNS = ("condition", "fold", "place", "label", "shared", "rank")
#: Queries of one figure.
MOST_QUERIES = 40
EXACT, SHARES, NEITHER = ("✓", 1.0), ("½", 0.5), ("", 0.0)


def reverse_hits(rows: Rows, tables: Tables) -> list[Figure]:
    """Queries x places for each row: the perturbation itself, one that shares a gene with it, or neither.

    Of one split, the same queries in the same order for each: those first that the first row ranks best.
    """
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    if not found:
        return []
    first = next(iter(found.values()))
    folds = list(dict.fromkeys(first["fold"]))
    ranks = first[first["fold"] == folds[0]].groupby("condition")["rank"].first()
    queries = sorted(ranks.index, key=lambda query: (ranks[query], query))
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    caption = (
        "A row is a tested condition, a column a place of the list of candidates. ✓: the condition itself; "
        f"½: shares a gene with it; blank: neither. Seed {seed}"
    )
    caption += f", the first of {plural(len(folds), 'split')} ({folds[0]})." if len(folds) > 1 else "."
    if len(queries) > MOST_QUERIES:
        caption += f" {MOST_QUERIES} of {len(queries)} conditions, evenly over the ranks of the first row."
        queries = [queries[i * len(queries) // MOST_QUERIES] for i in range(MOST_QUERIES)]
    figures = []
    for entry, table in found.items():
        own = table[table["fold"] == folds[0]]
        title = f"Reverse search: {titles[entry]}"
        places = sorted({int(place) for place in own["place"]})
        heads = [*((str(place), "") for place in places), ("rank of the truth", "")]
        svg = heat_map([_row(query, own, places) for query in queries], heads, label=title, corner="place")
        figures.append(Figure(title, svg, caption))
    return figures


def _row(query: str, table: pd.DataFrame, places: list[int]) -> HeatRow:
    own = table[table["condition"] == query]
    listed = {int(place): (str(label), shared) for place, label, shared in own[["place", "label", "shared"]].values}
    cells: list[Cell | None] = []
    for place in places:
        if place not in listed:
            cells.append(None)
            continue
        label, shared = listed[place]
        words, share = EXACT if label == query else SHARES if shared > 0 else NEITHER
        cells.append(Cell(words, share, f"{query}, place {place}: {label}"))
    rank = own["rank"].iloc[0] if len(own) else float("nan")
    cells.append(Cell(f"{rank:g}", 0.0, f"{query}: place {rank:g}") if rank == rank else None)
    return HeatRow(query, cells)
