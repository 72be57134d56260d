"""Confusion of a row, over its seeds."""

from __future__ import annotations

from reports.artifacts import Tables
from reports.entries import Column, Entry
from reports.figures.figure import Figure
from reports.figures.heatmap import HALF_PAGE, Cell, HeatRow, heat_map
from reports.wording import head_title, plural

#: More classes than this make cells too small to read.
MOST_CLASSES = 30

Counts = dict[tuple[str, str], float]


def confusion_map(entry: Entry, column: Column, tables: Tables) -> list[Figure]:
    """True x predicted in per cent of each true class, from `confusion` or else `predictions` tables."""
    counts, seeds = confusion_counts(entry, column.head, tables)
    if not counts:
        return []
    sizes: dict[str, float] = {}
    for (true, _), n in counts.items():
        sizes[true] = sizes.get(true, 0) + n
    for _, predicted in counts:
        sizes.setdefault(predicted, 0)
    classes = sorted(sizes, key=lambda name: (-sizes[name], name))
    shown = classes[:MOST_CLASSES]
    rows = []
    for true in (name for name in shown if sizes[name]):
        cells = []
        for predicted in shown:
            n = counts.get((true, predicted), 0)
            share = n / sizes[true]
            words = f"{100 * share:.0f}" if share >= 0.005 else ""
            cells.append(Cell(words, share, f"{n:,.0f} of {sizes[true]:,.0f} {true} called {predicted}"))
        rows.append(HeatRow(true, list(cells)))
    title = f"Confusion of {entry.label}" + (f" · {head_title(column.head)}" if head_title(column.head) else "")
    caption = f"Rows: true type; columns: called type; per cent of the row, over {plural(seeds, 'seed')}."
    if len(shown) < len(classes):
        caption += f" The {len(shown)} largest of {len(classes)} types are shown."
    heads = [(name, "") for name in shown]
    svg = heat_map(rows, heads, label=title, corner="true ↓  called →")
    return [Figure(title, svg, caption, wide=len(heads) > HALF_PAGE)]


def confusion_counts(entry: Entry, head: str, tables: Tables) -> tuple[Counts, int]:
    """(true, called) -> test cells over all seeds, and the seeds that stored them."""
    counts: Counts = {}
    seeds = 0
    for run in entry.runs:
        table = tables.get(run, "confusion", ("true", "predicted"))
        if table is None:
            table = tables.get(run, "predictions", ("true", "predicted"), keep=False)
        if table is None:
            continue
        if "head" in table:
            table = table[table["head"] == head]
        size = next((name for name in ("n", "count") if name in table), None)
        weights = table[size] if size else [1] * len(table)
        for true, predicted, n in zip(table["true"], table["predicted"], weights, strict=True):
            counts[true, predicted] = counts.get((true, predicted), 0) + float(n)
        seeds += 1
    return {pair: n for pair, n in counts.items() if n > 0}, seeds
