"""Control, treated and predicted cells in one UMAP: do the predicted cells cover the treated ones?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.drug_pairs import HUES, left_out, of_pair, pair_title, pairs
from reports.figures.figure import Figure
from reports.figures.svg import Scale, picture, shorten, tag, text
from reports.wording import HEADS

if TYPE_CHECKING:
    import pandas as pd

KIND = "drug_umap"
COLUMNS = ("drug", "held_out", "population", "cell_type", "x", "y")
#: Drugs (times held-out groups) drawn, and cells of each population.
MOST_PAIRS, MOST_CELLS = 4, 600
WIDTH, ACROSS, GAP, TOP, NAME = 560.0, 2, 24.0, 26.0, 22.0
#: Side of a panel that stands alone: as wide as a phone has room for.
ALONE = 336.0
#: Population -> width of its dots, in thousandths of a panel: what lies under a prediction shows around it.
DOTS = {"control": 20, "treated": 22, "predicted": 11}


def population_maps(rows: Rows, tables: Tables) -> list[Figure]:
    """A figure per row: a panel per drug, the predicted cells on top.

    A run may store the maps of one head alone. Then these are drawn, and the title says of which head they are.
    """
    seed, found = shared_tables(rows, tables, KIND, ("head", *COLUMNS), free=tuple(HEADS))
    heads = {e: c.head if c.head in set(found[e]["head"]) else found[e]["head"].iloc[0] for e, c in rows if e in found}
    titles = row_titles([(entry, column._replace(head=heads[entry])) for entry, column in rows if entry in found])
    figures = []
    for entry, table in ((entry, table[table["head"] == heads[entry]]) for entry, table in found.items()):
        known = table.dropna(subset=["x", "y"])
        every = pairs([known])
        if not every:
            continue
        title = f"Treated and predicted cells: {titles[entry]}"
        caption = (
            "Predicted cells should cover the treated ones, and leave no control cells behind. A UMAP shows what "
            "overlaps; its distances mean little. Control and treated cells are measured. "
        )
        caption += left_out(MOST_PAIRS, every, "the first stored") + f"Seed {seed}."
        panels = {pair_title(pair): of_pair(known, pair) for pair in every[:MOST_PAIRS]}
        figures.append(Figure(title, _draw(panels, title), caption))
    return figures


def _draw(panels: dict[str, pd.DataFrame], label: str) -> Markup:
    across = min(ACROSS, len(panels))
    size = (WIDTH - GAP * (ACROSS - 1)) / ACROSS if across > 1 else ALONE
    parts = _legend()
    for place, (name, table) in enumerate(panels.items()):
        down, right = divmod(place, across)
        x, y = (size + GAP) * right, TOP + (size + NAME + 14) * down
        parts.append(tag("text", tag("title", name), shorten(name, size), x=x, y=y + 14, class_="name"))
        frame = tag("rect", x=x, y=y + NAME, width=size, height=size, rx=6, fill="none", class_="zero", opacity="0.25")
        parts += [frame, _points(table, x, y + NAME, size)]
    lines = -(-len(panels) // across)
    width = WIDTH if across > 1 else ALONE
    return picture(width, TOP + (size + NAME + 14) * lines - 12, *parts, label=label, class_="figure umap")


def _legend() -> list[Markup]:
    parts: list[Markup] = []
    for x, (population, hue) in zip((6.0, 86.0, 166.0), HUES.items(), strict=True):
        parts.append(tag("circle", cx=x, cy=10, r=4.5, class_=f"hued {hue}"))
        parts.append(text(x + 12, 14, population, class_="name"))
    return parts


def _points(table: pd.DataFrame, left: float, top: float, size: float) -> Markup:
    """Dots as strokes of no length, in thousandths of the panel; one path per population and cell type."""
    x = Scale(float(table["x"].min()), float(table["x"].max()), 30.0, 970.0)
    y = Scale(float(table["y"].min()), float(table["y"].max()), 970.0, 30.0)
    groups = []
    for population, hue in HUES.items():
        cells = _thinned(table[table["population"] == population])
        paths = []
        for kind, own in cells.groupby("cell_type", sort=True):
            dots = [f"M{x(across):.0f} {y(up):.0f}h0" for across, up in zip(own["x"], own["y"], strict=True)]
            hint = tag("title", f"{population} · {kind}" if kind else population)
            paths.append(tag("path", hint, d="".join(dots), class_=hue or "others"))
        if paths:
            groups.append(tag("g", *paths, stroke_width=DOTS[population]))
    return tag("g", *groups, transform=f"translate({left:.1f} {top:.1f}) scale({size / 1000:g})")


def _thinned(cells: pd.DataFrame) -> pd.DataFrame:
    """As many cells as are drawn, evenly from the table."""
    return cells.iloc[:: -(-len(cells) // MOST_CELLS)] if len(cells) > MOST_CELLS else cells
