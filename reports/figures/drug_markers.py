"""Marker genes of a drug: how the cells spread before and after treatment, and how a method says they would."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Entry
from reports.figures.best import LEGEND_ROW, Rows, row_legend, shared_tables
from reports.figures.drug_pairs import HUES, left_out, of_pair, pair_title, pairs
from reports.figures.figure import Figure, short_names
from reports.figures.svg import Scale, line, marker, picture, shorten, tag, text, tick_label
from reports.wording import score

if TYPE_CHECKING:
    import pandas as pd

KIND = "drug_markers"
BINS = tuple(f"b{i}" for i in range(20))
COLUMNS = ("drug", "held_out", "gene", "rank", "population", "mean", "low", "high", *BINS)
#: Drugs (times held-out groups) drawn, and genes of each.
MOST_PAIRS, MOST_GENES, ACROSS = 4, 6, 3
WIDTH, LEFT, GAP = 560.0, 94.0, 26.0
#: Of a panel: the gene's name, one ridge, and the ticks under the last.
NAME, RIDGE, TICKS = 22.0, 42.0, 26.0


@dataclass(frozen=True)
class Spread:
    """The cells of a population in one gene: their mean, and shares of them in equal bins."""

    mean: float
    low: float
    high: float
    shares: list[float]

    @property
    def edges(self) -> list[float]:
        """Ends of the bins; where all cells have one value, around it."""
        low, high = (self.low, self.high) if self.high > self.low else (self.low - 0.5, self.low + 0.5)
        return [low + (high - low) * i / len(self.shares) for i in range(len(self.shares) + 1)]

    @property
    def heights(self) -> list[float]:
        """Square roots of the densities: few cells show beside the many that are zero."""
        width = self.edges[1] - self.edges[0]
        return [math.sqrt(share / width) for share in self.shares]


#: Population -> its cells, of one gene of one table.
Gene = dict[str, Spread]


def marker_genes(rows: Rows, tables: Tables) -> list[Figure]:
    """A figure per drug: a panel per gene, a ridge for the control cells and one for what each row predicts."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    shown = [(entry, column) for entry, column in rows if entry in found]
    every = pairs(found.values())
    figures: list[Figure] = []
    for pair in every[:MOST_PAIRS]:
        genes = {entry: _genes(of_pair(found[entry], pair)) for entry, _ in shown}
        if any(genes.values()):
            title = f"Marker genes: {pair_title(pair)}"
            caption = "" if figures else _READING + left_out(MOST_PAIRS, every, "the first stored")
            figures.append(Figure(title, _draw(shown, genes, title), f"{caption}Seed {seed}."))
    return figures


_READING = (
    "Filled: the cells named at the left; outline: the measured treated cells. A prediction is good where it fills the "
    "outline, and its dot, the mean, lies in that of the treated. Across: expression; up: square root of the share of "
    "cells. "
)


def _genes(table: pd.DataFrame) -> dict[str, Gene]:
    """Gene -> its populations, the strongest marker first; what is not known is left out."""
    found: dict[str, Gene] = {}
    for one in table.sort_values("rank", kind="stable").to_dict("records"):
        values = [float(one[name]) for name in ("low", "high", *BINS)]
        if all(map(math.isfinite, values)):
            spread = Spread(float(one["mean"]), values[0], values[1], values[2:])
            found.setdefault(str(one["gene"]), {})[one["population"]] = spread
    return found


def _draw(rows: Rows, genes: dict[Entry, dict[str, Gene]], label: str) -> Markup:
    names = list(dict.fromkeys(gene for found in genes.values() for gene in found))[:MOST_GENES]
    entries = [entry for entry, _ in rows]
    high = NAME + RIDGE * (1 + len(entries)) + TICKS
    width = (WIDTH - LEFT - GAP * (ACROSS - 1)) / ACROSS
    top = LEGEND_ROW * (len(rows) + 1) + 6
    parts = [*row_legend(rows, WIDTH), *_legend(LEGEND_ROW * len(rows))]
    for place, gene in enumerate(names):
        down, across = divmod(place, ACROSS)
        y = top + high * down
        if not across:
            parts += _names(entries, y + NAME)
        own = {entry: found.get(gene, {}) for entry, found in genes.items()}
        parts.append(_panel(gene, own, LEFT + (width + GAP) * across, y, width, short_names(entries)))
    return picture(WIDTH, top + high * math.ceil(len(names) / ACROSS), *parts, label=label)


def _legend(y: float) -> list[Markup]:
    """Samples of the three populations, in one line."""
    parts: list[Markup] = []
    for x, words, style in (
        (0.0, "control", f"hued {HUES['control']}"),
        (92.0, "treated, measured", f"curve {HUES['treated']}"),
        (240.0, "predicted", f"hued {HUES['predicted']}"),
    ):
        parts.append(tag("path", d=f"M{x:.0f} {y + 14:.0f}v-9h12v9z", class_=style))
        parts.append(text(x + 18, y + 13, words, class_="name"))
    return parts


def _names(entries: list[Entry], y: float) -> list[Markup]:
    """What the ridges of a line of panels are."""
    names = short_names(entries)
    parts = [text(14, y + RIDGE - 8, "control", class_="name")]
    for place, entry in enumerate(entries, start=1):
        at = y + RIDGE * (place + 1) - 8
        parts.append(marker(entry.track, 5, at - 4, 3.8))
        name = tag("title", entry.label)
        parts.append(tag("text", name, shorten(names[entry], LEFT - 20), x=14, y=at, class_="name"))
    return parts


def _panel(
    gene: str, found: dict[Entry, Gene], left: float, top: float, width: float, names: dict[Entry, str]
) -> Markup:
    """A gene: the control cells and each prediction, filled, under the outline of the treated cells."""
    spreads = [spread for one in found.values() for spread in one.values()]
    first = next((one for one in found.values() if "control" in one), {})
    ridges = [("control", first.get("control"), first.get("treated"))]
    ridges += [("predicted", one.get("predicted"), one.get("treated")) for one in found.values()]
    words = ["control", *(f"predicted by {names[entry]}" for entry in found)]
    title = tag("tspan", shorten(gene, width))
    parts: list[Markup] = [tag("text", tag("title", gene), title, x=left, y=top + 14, class_="name")]
    ends = [edge for spread in spreads for edge in spread.edges]
    x = Scale(min(ends), max(ends), left, left + width)
    most = max((height for spread in spreads for height in spread.heights), default=0.0) or 1.0
    ticks = x.ticks(3)
    bottom = top + NAME + RIDGE * len(ridges)
    for tick in ticks:
        parts.append(line(x(tick), top + NAME, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 14, tick_label(tick, ticks), anchor="middle", class_="tick"))
    for place, (population, filled, outline) in enumerate(ridges, start=1):
        base = top + NAME + RIDGE * place
        up = Scale(0.0, most, base, base - RIDGE + 6)
        marks: list[Markup] = [line(left, base, left + width, base, "zero")]
        if filled:
            marks.append(tag("path", d=_steps(filled, x, up) + "z", class_=f"hued {HUES[population]}"))
        else:
            marks.append(text(left + 4, base - 6, "missing", class_="missing"))
        if outline:
            marks.append(tag("path", d=_steps(outline, x, up), class_=f"curve {HUES['treated']}"))
        for spread, whose, size in ((outline, "treated", 4.4), (filled, population, 2.8)):
            if spread and spread.mean == spread.mean:
                marks.append(tag("circle", cx=x(spread.mean), cy=base, r=size, class_=f"node {HUES[whose]}"))
        hint = f"{gene}, {words[place - 1]}: mean {_said(filled)}; treated: mean {_said(outline)}"
        parts.append(tag("g", tag("title", hint), *marks))
    return tag("g", *parts)


def _steps(spread: Spread, x: Scale, up: Scale) -> str:
    """The upper edge of a histogram, from base to base."""
    edges = [x(edge) for edge in spread.edges]
    tops = [up(height) for height in spread.heights]
    steps = "".join(f"V{y:.1f}H{right:.1f}" for y, right in zip(tops, edges[1:], strict=True))
    return f"M{edges[0]:.1f} {up(0.0):.1f}{steps}V{up(0.0):.1f}"


def _said(spread: Spread | None) -> str:
    return score(spread.mean) if spread and spread.mean == spread.mean else "missing"
