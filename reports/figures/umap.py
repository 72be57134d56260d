"""Small multiples of the models' UMAPs: a panel per model, coloured by cell type and, beside it, by batch.

Of genes (a column `class`) there are others, coloured by class.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Entry, Section, by_track
from reports.figures.figure import short_names
from reports.figures.svg import picture, tag
from reports.wording import CONTROL

if TYPE_CHECKING:
    import pandas as pd

#: Points drawn in the whole file; panels of larger data sets show a sample, and say so.
POINT_BUDGET = 120_000
MOST_POINTS = 5_000
SIZE = 180.0
#: Colours in the style sheet.
COLOURS = 16


@dataclass(frozen=True)
class Colouring:
    """What the points are coloured by: a column of the artifact; `legend` is (colour, name, points)."""

    column: str
    title: str
    legend: list[tuple[int, str, int]]


@dataclass(frozen=True)
class Panel:
    """One embedding: the same points once per colouring of its atlas."""

    name: str
    label: str
    track: str
    pictures: list[Markup]
    note: str = ""


@dataclass(frozen=True)
class Atlas:
    """The embeddings of one data set. Two colourings stand side by side in each panel."""

    dataset: str
    colourings: list[Colouring]
    panels: list[Panel]


def atlases(sections: list[Section], tables: Tables) -> dict[str, Atlas]:
    """Data set -> its panels, coloured by cell type, and by batch where there are several.

    The genes of a data set and split, which have classes, are an atlas of their own, named after both.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], tuple[Entry, pd.DataFrame]]] = {}
    for section in sections:
        for entry in (e for e in section.entries if e.track != CONTROL):
            if (table := _table(entry, tables)) is not None:
                genes = (section.split or section.task) if "class" in table else ""
                drawn = found.setdefault((section.dataset, genes), {})
                drawn.setdefault((entry.track, entry.label), (entry, table))
    panels = sum(map(len, found.values()))
    most = max(200, min(MOST_POINTS, POINT_BUDGET // max(1, 2 * panels)))
    made = {}
    for dataset, genes in sorted(found, key=lambda place: [s.dataset for s in sections].index(place[0])):
        drawn = found[dataset, genes]
        entries = [entry for _, members in by_track(entry for entry, _ in drawn.values()) for entry in members]
        members = [drawn[entry.track, entry.label] for entry in entries]
        made[" · ".join(filter(None, (dataset, genes)))] = _atlas(dataset, members, most, genes=bool(genes))
    return made


def type_colours(atlas: Atlas | None) -> dict[str, int]:
    """Cell type -> its colour in the UMAPs of a data set, for other figures of the same cells."""
    return {name: colour for colour, name, _ in atlas.colourings[0].legend} if atlas else {}


def _table(entry: Entry, tables: Tables) -> pd.DataFrame | None:
    """Coordinates of the run of the lowest seed that has any."""
    for run in entry.runs:
        table = tables.get(run, "umap", ("x", "y"))
        if table is not None and len(table := table[table["x"].notna() & table["y"].notna()]):
            return table
    return None


def _atlas(dataset: str, members: list[tuple[Entry, pd.DataFrame]], most: int, *, genes: bool) -> Atlas:
    column, title, noun = ("class", "class", "genes") if genes else ("cell_type", "cell type", "cells")
    types, batches = (_sizes(members, each) for each in (column, "batch"))
    colourings = [_colouring(column, title, types, 0)]
    if len(batches) > 1:
        # On from the types: in pictures side by side no colour stands for two things, while there are enough.
        colourings.append(_colouring("batch", "batch", batches, len(types)))
    names = short_names([entry for entry, _ in members])
    panels = []
    for entry, table in members:
        shown = _sample(table, most)
        note = f"{len(shown):,} of {len(table):,} {noun} drawn" if len(shown) < len(table) else ""
        pictures = [_points(shown, each, entry.label) for each in colourings]
        panels.append(Panel(names[entry], entry.label, entry.track, pictures, note))
    return Atlas(dataset, colourings, panels)


def _sizes(members: list[tuple[Entry, pd.DataFrame]], column: str) -> dict[str, int]:
    """Value of a column -> its cells in the table that has the most of it."""
    sizes: dict[str, int] = {}
    for _, table in members:
        for value, n in (table[column].value_counts() if column in table else {}).items():
            sizes[value] = max(sizes.get(value, 0), int(n))
    return sizes


def _colouring(column: str, title: str, sizes: dict[str, int], first: int) -> Colouring:
    """Colours from `first` on, the largest group first."""
    values = sorted(sizes, key=lambda value: (-sizes[value], value))
    return Colouring(column, title, [((first + i) % COLOURS, v, sizes[v]) for i, v in enumerate(values)])


def _sample(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """The same points in every panel: those with the smallest hash of their name."""
    if len(table) <= most:
        return table
    keys = table["name"] if "name" in table else table.index.astype(str)
    order = sorted(range(len(table)), key=lambda i: zlib.crc32(str(keys.iloc[i]).encode()))
    return table.iloc[sorted(order[:most])]


def _points(table: pd.DataFrame, by: Colouring, label: str) -> Markup:
    """Dots as zero-length strokes with round ends, one path per group, in tenths of a percent of the panel."""
    x, y = (_spread(table[axis].to_numpy(dtype=float)) for axis in ("x", "y"))
    colours = {name: colour for colour, name, _ in by.legend} or {"": 0}
    groups = table[by.column].to_numpy() if by.column in table else [""] * len(table)
    by_group: dict[str, list[str]] = {}
    for i, group in enumerate(groups):
        by_group.setdefault(group, []).append(f"M{x[i]} {1000 - y[i]}h0")
    wide = 26 if len(table) < 1200 else 17 if len(table) < 3500 else 12
    paths = [
        tag("path", tag("title", group), d="".join(by_group[group]), class_=f"c{colour}")
        for group, colour in colours.items()
        if group in by_group
    ]
    inner = tag("g", *paths, transform=f"scale({SIZE / 1000:g})", stroke_width=wide)
    return picture(SIZE, SIZE, inner, label=f"UMAP of {label} by {by.title}", class_="umap")


def _spread(values):
    """Integers from 20 to 980 over the range of the values."""
    low, high = values.min(), values.max()
    return ((values - low) / ((high - low) or 1.0) * 960 + 20).round().astype(int)
