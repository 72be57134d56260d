"""River (Sankey) plot of true to called types, as in the CellFM paper: where the cells of each type go."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Column, Entry
from reports.figures.confusion import Counts, confusion_counts
from reports.figures.figure import Figure
from reports.figures.svg import line, picture, shorten, tag, text_width
from reports.wording import head_title, plural

#: More types than this are folded into one, or their names would not stand apart.
MOST_TYPES = 20
#: Colours in the style sheet.
COLOURS = 16
WIDTH, LEFT, RIGHT, BAR, TOP, GAP, LABEL = 630.0, 220.0, 410.0, 9.0, 8.0, 4.0, 14.0
#: The name of what is folded; no type is called so.
_REST = "\0rest"


@dataclass(frozen=True)
class _Node:
    """A type on one side: where its bar stands, and how many cells it has."""

    name: str
    y: float
    height: float
    n: float


def river(entry: Entry, column: Column, tables: Tables, colours: dict[str, int]) -> list[Figure]:
    """True types on the left, called ones on the right; nothing where a run stored no confusion.

    Parameters
    ----------
    colours
        Colour of each type, of the style sheet: those of the UMAPs.
    """
    counts, seeds = confusion_counts(entry, column.head, tables)
    if not counts:
        return []
    flows, order, folded = _folded({pair: n / seeds for pair, n in counts.items()})
    title = f"True to called: {entry.label}" + (f" · {head_title(column.head)}" if head_title(column.head) else "")
    caption = (
        "Left: true types; right: what they are called. Heights are test cells"
        + (f", the mean of {plural(seeds, 'seed')}" if seeds > 1 else "")
        + ". Pale: called right; strong: mistakes, in the colour of the true type."
    )
    if folded:
        caption += f" The {folded} smallest types are one."
    return [Figure(title, _draw(flows, order, _hues(flows, order, colours), folded, title), caption)]


def _folded(counts: Counts) -> tuple[Counts, list[str], int]:
    """Flows between the types that are shown, those types by size, and how many are one."""
    sizes, called = _sums(counts, 0), _sums(counts, 1)
    order = sorted({*sizes, *called}, key=lambda name: (-sizes.get(name, 0), -called.get(name, 0), name))
    largest = sorted(order, key=lambda name: -max(sizes.get(name, 0), called.get(name, 0)))[:MOST_TYPES]
    kept, rest = [name for name in order if name in largest], [name for name in order if name not in largest]
    if len(rest) < 2:  # one type takes no more room by its own name
        return counts, order, 0
    shown = {name: name if name in kept else _REST for name in order}
    flows: Counts = {}
    for (true, predicted), n in counts.items():
        pair = shown[true], shown[predicted]
        flows[pair] = flows.get(pair, 0) + n
    return flows, [*kept, _REST], len(rest)


def _sums(counts: Counts, side: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair, n in counts.items():
        found[pair[side]] = found.get(pair[side], 0) + n
    return found


def _hues(flows: Counts, order: list[str], colours: dict[str, int]) -> dict[str, str]:
    """CSS class of each type; none for what is no true type and has no colour elsewhere (`unassigned`)."""
    fresh = iter(range(len(colours), len(colours) + len(order)))
    true = _sums(flows, 0)
    found = {name: colours[name] if name in colours else next(fresh) for name in order if name in {**true, **colours}}
    return {name: "" if name not in found or name == _REST else f"c{found[name] % COLOURS}" for name in order}


def _draw(flows: Counts, order: list[str], hues: dict[str, str], folded: int, label: str) -> Markup:
    scale = max(200.0, (LABEL + 2) * len(order)) / sum(flows.values())
    sides = [_stack(order, _sums(flows, side), scale) for side in (0, 1)]
    titles = {name: f"{folded} other types" if name == _REST else name for name in order}
    parts: list[Markup] = []
    mistakes: list[Markup] = []
    ends = [{node.name: node.y for node in side} for side in sides]
    totals = _sums(flows, 0)
    for true, predicted in sorted(flows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        n = flows[true, predicted]
        height = n * scale
        y, to = ends[0][true] + height / 2, ends[1][predicted] + height / 2
        ends[0][true] += height
        ends[1][predicted] += height
        hint = f"{_cells(n)} of {_cells(totals[true])} {titles[true]} called {titles[predicted]}"
        wrong = true != predicted
        middle = (LEFT + RIGHT) / 2
        path = tag(
            "path",
            tag("title", f"{hint} ({100 * n / totals[true]:.0f} %)"),
            d=f"M{LEFT:.0f} {y:.1f}C{middle:.0f} {y:.1f} {middle:.0f} {to:.1f} {RIGHT:.0f} {to:.1f}",
            stroke_width=max(height, 0.5),
            class_=f"{hues[true]}{' wrong' * wrong}".strip() or None,
        )
        (mistakes if wrong else parts).append(path)
    parts += mistakes  # over the pale ones
    bottom = max(node.y + node.height for side in sides for node in side)
    for side, nodes in enumerate(sides):
        parts += _labels(nodes, side, hues, titles, bottom)
    return picture(WIDTH, bottom + TOP, *parts, label=label, class_="figure river")


def _stack(order: list[str], sizes: dict[str, float], scale: float) -> list[_Node]:
    nodes, y = [], TOP
    for name in order:
        if sizes.get(name):
            nodes.append(_Node(name, y, sizes[name] * scale, sizes[name]))
            y += sizes[name] * scale + GAP
    return nodes


def _labels(nodes: list[_Node], side: int, hues: dict[str, str], titles: dict[str, str], bottom: float) -> list[Markup]:
    """Bars with their names beside them, moved apart where bars are thin, with a line to its own."""
    parts = []
    bar = LEFT - BAR if side == 0 else RIGHT
    edge, tip, end = (bar - 14, bar - 12, bar - 2) if side == 0 else (bar + BAR + 14, bar + BAR + 12, bar + BAR + 2)
    for node, y in zip(nodes, spread_labels([n.y + n.height / 2 for n in nodes], LABEL, TOP + 5, bottom), strict=True):
        height = max(node.height, 1.0)
        name = f" {_cells(node.n)}"
        words = shorten(titles[node.name], LEFT - BAR - 24 - text_width(name, 11))
        noun = f"cell{'s' * (node.n > 1)}{' called so' * side}"
        hint = tag("title", f"{titles[node.name]}: {_cells(node.n)} {noun}")
        parts.append(tag("rect", x=bar, y=node.y, width=BAR, height=height, class_=hues[node.name] or None))
        parts.append(line(end, node.y + node.height / 2, tip, y, "leader"))
        number = tag("tspan", name, class_="tick")
        anchor = "end" if side == 0 else None
        parts.append(tag("text", hint, words, number, x=edge, y=y + 4, text_anchor=anchor, class_="name"))
    return parts


def spread_labels(wanted: list[float], least: float, low: float, high: float) -> list[float]:
    """Heights near the wanted ones, in their order, at least `least` apart and within [low, high] where they fit."""
    found: list[float] = []
    for y in wanted:
        found.append(max(y, low, found[-1] + least if found else low))
    for i in reversed(range(len(found))):
        found[i] = min(found[i], high - least * (len(found) - 1 - i))
    return found


def _cells(n: float) -> str:
    return "<1" if 0 < n < 1 else f"{n:,.0f}"
