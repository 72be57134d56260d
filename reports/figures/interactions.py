"""Genetic interactions (Ahlmann-Eltze et al. 2025, Fig. 2): who foresees them, and as what they are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.curves import Axis, Curve, line_plot
from reports.figures.figure import Figure
from reports.figures.heatmap import Cell, HeatRow, heat_map

if TYPE_CHECKING:
    import pandas as pd

CURVE, KINDS = "interaction_curve", "interaction_kinds"
POINT = ("false_discovery_proportion", "true_positive_rate")
#: Labels of the lines that need no model, the same in every run of a split.
REFERENCES = ("no change", "additive")


def interactions_found(rows: Rows, tables: Tables) -> list[Figure]:
    """Interactions found against the share of false ones among what is called, a line per row and per reference."""
    seed, found = shared_tables(rows, tables, CURVE, ("label", *POINT), by="label", free=REFERENCES)
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    curves = []
    for entry, column in rows:
        if entry in found and (points := _points(found[entry], column.head)):
            curves.append(Curve(titles[entry], points, entry.track))
    if not curves:
        return []
    first = next(iter(found.values()))
    curves += [Curve(name, points) for name in REFERENCES if (points := _points(first, name))]
    svg = line_plot(curves, Axis("false discoveries", 0.0, 1.0), Axis("interactions found", 0.0, 1.0), label=_TITLE)
    return [Figure(_TITLE, svg, f"{_FOUND} Seed {seed}.")]


def interaction_kinds(rows: Rows, tables: Tables) -> list[Figure]:
    """Observed against predicted kind of interaction, a map per row."""
    seed, found = shared_tables(rows, tables, KINDS, ("label", "true", "predicted", "n"), by="label")
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, table in found.items():
        kinds = list(dict.fromkeys([*table["true"], *table["predicted"]]))
        counts = {(true, said): int(n) for true, said, n in table[["true", "predicted", "n"]].values}
        title = f"Kinds of interaction: {titles[entry]}"
        heads = [*((kind, "") for kind in kinds), ("genes of pairs", "")]
        svg = heat_map(
            [_row(kind, kinds, counts) for kind in kinds], heads, label=title, corner="observed \\ predicted"
        )
        figures.append(Figure(title, svg, f"{_KINDS} Seed {seed}."))
    return figures


_TITLE = "Genetic interactions found"
_FOUND = (
    "Genes of tested pairs, called by the size of the predicted difference to the sum of the single effects, the "
    "largest first. Further up and to the left is better. References: nothing changes, and the sum itself."
)
_KINDS = (
    "A row is an observed kind, in per cent of its genes, a column what was predicted: right answers on the diagonal."
)


def _points(table: pd.DataFrame, label: str) -> list[tuple[float, float]]:
    own = table.loc[table["label"] == label, list(POINT)].dropna()
    return [(float(false), float(true)) for false, true in own.values]


def _row(kind: str, kinds: list[str], counts: dict[tuple[str, str], int]) -> HeatRow:
    total = sum(counts.get((kind, said), 0) for said in kinds)
    cells: list[Cell | None] = []
    for said in kinds:
        n = counts.get((kind, said), 0)
        hint = f"observed {kind}, predicted {said}: {n:,} of {total:,}"
        cells.append(Cell(f"{100 * n / total:.0f}", n / total, hint) if total else None)
    return HeatRow(kind, [*cells, Cell(_short(total), 0.0, f"{kind}: {total:,}")])


def _short(n: int) -> str:
    """A count that fits a cell."""
    return f"{n}" if n < 10_000 else f"{n / 1e3:.0f}k" if n < 1e6 else f"{n / 1e6:.1f}M"
