"""The most central genes of the largest programs as a network: who is near whom by the vectors of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.svg import Scale, line, picture, tag, text, text_width
from reports.wording import plural

if TYPE_CHECKING:
    import pandas as pd

NODES, EDGES = "gene_network", "gene_edges"
#: Genes of one drawing, those with the most edges.
MOST_NODES = 150
#: Colours in the style sheet.
COLOURS = 16
WIDTH, HEIGHT, PAD, R, SIZE, LINE = 1080.0, 620.0, 14.0, 4.0, 10.0, 20.0
MAP = WIDTH - 150.0


def gene_networks(rows: Rows, tables: Tables) -> list[Figure]:
    """A drawing per row: genes at the places that the run gave them, coloured by program, with their edges."""
    seed, found = shared_tables(rows, tables, NODES, ("name", "x", "y", "program"))
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, column in rows:
        known = found[entry].dropna(subset=["x", "y"]).drop_duplicates("name") if entry in found else ()
        if not len(known):
            continue
        edges = _edges(entry.runs, seed, column.head, tables)
        drawn, edges = _most_linked(known, edges)
        title = f"Gene programs: {titles[entry]}"
        svg, hidden = _draw(drawn, edges, title)
        caption = (
            f"{plural(len(drawn), 'gene')} of the largest programs, the most central ones, and who of them are nearest "
            f"neighbours. Colour: the program. Seed {seed}."
        )
        if len(drawn) < len(known):
            caption += f" {len(drawn)} of {len(known)} genes, those with the most neighbours."
        if hidden:
            caption += f" {plural(hidden, 'name')} did not fit; point at the gene."
        figures.append(Figure(title, svg, caption, wide=True))
    return figures


def _edges(runs: list, seed: int, head: str, tables: Tables) -> list[tuple[str, str]]:
    for run in (run for run in runs if run.seed == seed):
        table = tables.get(run, EDGES, ("head", "source", "target"))
        if table is not None:
            own = table[table["head"] == head]
            return list(zip(own["source"], own["target"], strict=True))
    return []


def _most_linked(nodes: pd.DataFrame, edges: list[tuple[str, str]]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The nodes to draw, those with the most edges first, and the edges among them."""
    degree = dict.fromkeys(nodes["name"], 0)
    for edge in edges:
        for name in edge:
            degree[name] = degree.get(name, 0) + 1
    order = sorted(range(len(nodes)), key=lambda i: (-degree[nodes["name"].iloc[i]], i))
    kept = nodes.iloc[order[:MOST_NODES]]
    names = set(kept["name"])
    return kept, [(a, b) for a, b in edges if a in names and b in names]


def _draw(nodes: pd.DataFrame, edges: list[tuple[str, str]], label: str) -> tuple[Markup, int]:
    """The picture, and how many names found no room."""
    low_x, high_x, low_y, high_y = (float(f(nodes[axis])) for axis in ("x", "y") for f in (min, max))
    x, y = Scale(low_x, high_x, 30.0, MAP - 50.0), Scale(low_y, high_y, HEIGHT - PAD, PAD)
    place = {n: (x(a), y(b)) for n, a, b in nodes[["name", "x", "y"]].itertuples(index=False)}
    parts = [line(*place[a], *place[b], "edge") for a, b in edges]
    programs = sorted({int(p) for p in nodes["program"]})
    hue = {program: f"c{i % COLOURS}" for i, program in enumerate(programs)}
    for name, program in nodes[["name", "program"]].itertuples(index=False):
        hint = tag("title", f"{name}, program {int(program) + 1}")
        parts.append(tag("circle", hint, cx=place[name][0], cy=place[name][1], r=R, class_=f"node {hue[int(program)]}"))
    names, hidden = _names(place)
    parts += names
    sizes = nodes["program"].astype(int).value_counts()
    for i, program in enumerate(programs):
        at = 16 + LINE * i
        parts.append(tag("circle", cx=MAP + 10, cy=at - 4, r=4.5, class_=f"node {hue[program]}"))
        n = tag("tspan", f" {plural(int(sizes[program]), 'gene')}", class_="tick")
        parts.append(tag("text", f"program {program + 1}", n, x=MAP + 22, y=at, class_="name"))
    return picture(WIDTH, max(HEIGHT, 16 + LINE * len(programs)), *parts, label=label), hidden


def _names(place: dict[str, tuple[float, float]]) -> tuple[list[Markup], int]:
    """A name beside each node where it covers no other name or node: right, left, over or under it."""
    taken = [(a - R, b - R, a + R, b + R) for a, b in place.values()]
    parts, hidden = [], 0
    for name, (a, b) in place.items():
        wide = text_width(name, SIZE)
        for left, base in (
            (a + R + 2, b + 3.5),
            (a - R - 2 - wide, b + 3.5),
            (a - wide / 2, b - 6),
            (a - wide / 2, b + 13),
        ):
            box = (left, base - 8, left + wide, base + 2)
            inside = left >= 0 and left + wide <= MAP and box[1] >= 0 and box[3] <= HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(text(left, base, name, class_="gene"))
                break
        else:
            hidden += 1
    return parts, hidden


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
