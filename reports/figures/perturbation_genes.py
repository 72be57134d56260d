"""Predicted against observed change of the strongest genes of some conditions (CellFM paper, Fig. 3d)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Entry
from reports.figures.best import LEGEND_ROW, Rows, row_legend, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.svg import Scale, line, marker, picture, scale_around, shorten, tag, text, tick_label
from reports.wording import score

if TYPE_CHECKING:
    import pandas as pd

KIND = "perturbation_genes"
BOX = ("low", "q1", "median", "q3", "high")
COLUMNS = ("condition", "gene", "observed_delta", "predicted_delta", *BOX)
#: Conditions drawn, those whose genes change most.
MOST_CONDITIONS = 4
WIDTH, LEFT, PLOT, NAMES = 560.0, 44.0, 200.0, 58.0


def gene_boxes(rows: Rows, tables: Tables) -> list[Figure]:
    """A figure per condition: the cells as boxes, the mean they have, and the mean each row predicted."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    if not found:
        return []
    observed = next(iter(found.values()))
    sizes = observed.assign(size=observed["observed_delta"] ** 2).groupby("condition")["size"].sum()
    order = sorted(sizes.index, key=lambda condition: (-sizes[condition], condition))
    shown = [(entry, column) for entry, column in rows if entry in found]
    caption = (
        "Change from the mean of the control cells. Boxes: the cells of the condition (quartiles, and 5 to 95 %); "
        f"thick line: their mean, which is what is predicted. Seed {seed}."
    )
    if len(order) > MOST_CONDITIONS:
        caption += f" {MOST_CONDITIONS} of {len(order)} stored conditions, those that change most."
    return [
        Figure(f"Predicted and observed change: {condition}", _draw(condition, shown, found), caption)
        for condition in order[:MOST_CONDITIONS]
    ]


def _draw(condition: str, rows: Rows, found: dict[Entry, pd.DataFrame]) -> Markup:
    own = {entry: table[table["condition"] == condition].set_index("gene") for entry, table in found.items()}
    first = next(iter(own.values()))
    guesses = {entry: table["predicted_delta"].to_dict() for entry, table in own.items()}
    values = [float(v) for column in ("observed_delta", *BOX) for v in first[column]]
    values += [float(v) for guess in guesses.values() for v in guess.values()]
    top = LEGEND_ROW * len(rows) + 10
    bottom = top + PLOT
    known = [value for value in values if value == value]
    y = Scale(*scale_around([0.0, *known], None, None), bottom, top)
    ticks = y.ticks()
    parts = row_legend(rows, WIDTH)
    for tick in ticks:
        parts.append(line(LEFT, y(tick), WIDTH, y(tick), "zero" if abs(tick) < 1e-9 else "grid"))
        parts.append(text(LEFT - 6, y(tick) + 4, tick_label(tick, ticks), anchor="end", class_="tick"))
    slot = (WIDTH - LEFT) / len(first)
    titles = row_titles(rows)
    for place, (gene, observed) in enumerate(first.to_dict("index").items()):
        x = LEFT + slot * (place + 0.5)
        said = {titles[entry]: guess.get(gene, float("nan")) for entry, guess in guesses.items()}
        hint = f"{gene}: observed {_signed(observed['observed_delta'])}"
        hint += "".join(f"; {name} {_signed(value)}" for name, value in said.items())
        marks = [
            marker(entry.track, x + 3.5 * (2 * i - len(guesses) + 1), y(guesses[entry][gene]), 3.2)
            for i, entry in enumerate(guesses)
            if guesses[entry].get(gene, float("nan")) == guesses[entry].get(gene)
        ]
        parts.append(tag("g", tag("title", hint), *_box(observed, x, min(8.0, 0.36 * slot), y), *marks))
        parts.append(_name(str(gene), x, bottom + 12))
    return picture(WIDTH, bottom + NAMES, *parts, label=f"Change of the strongest genes of {condition}")


def _box(observed: dict[str, Any], x: float, half: float, y: Scale) -> list[Markup]:
    """Whisker, quartiles, median and mean; only the mean where the cells are too few for the others."""
    parts = []
    if all(observed[name] == observed[name] for name in BOX):
        low, q1, median, q3, high = (y(observed[name]) for name in BOX)
        parts.append(line(x, low, x, high, "spread"))
        parts.append(tag("rect", x=x - half, y=q3, width=2 * half, height=max(q1 - q3, 0.6), class_="box"))
        parts.append(line(x - half, median, x + half, median, "spread"))
    if observed["observed_delta"] == observed["observed_delta"]:
        mean = y(observed["observed_delta"])
        parts.append(line(x - half - 1, mean, x + half + 1, mean, "mean"))
    return parts


def _name(gene: str, x: float, y: float) -> Markup:
    place = f"translate({x + 3:.0f} {y:.0f}) rotate(-45)"
    words = shorten(gene, 66, 11)
    return tag("text", tag("title", gene), words, transform=place, text_anchor="end", class_="axis")


def _signed(value: float) -> str:
    return score(value) if value == value else "missing"
