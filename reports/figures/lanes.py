"""A row for each entry under the name of its track, over a grid: the frame that several figures are drawn in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from reports.entries import Entry, by_track
from reports.figures.svg import Scale, line, text, tick_label


@dataclass(frozen=True)
class Lanes:
    """The grid with its ticks, the rows on it, and where both end."""

    grid: list[Markup]
    rows: list[Markup]
    bottom: float


def lanes(
    entries: Iterable[Entry], x: Scale, draw: Callable[[Entry, float], Markup], *, top: float, row: float, width: float
) -> Lanes:
    """Lay entries out by track; `draw` is given an entry and the upper edge of its row."""
    groups = by_track(entries)
    bottom = top + row * sum(1 + len(members) for _, members in groups)
    ticks = x.ticks()
    grid = [line(x(t), top, x(t), bottom, "grid") for t in ticks]
    grid += [text(x(t), bottom + 16, tick_label(t, ticks), anchor="middle", class_="tick") for t in ticks]
    rows, y = [], top
    for track, members in groups:
        rows += [text(0, y + 14, track, class_="group"), line(0, y + 19, width, y + 19, "rule")]
        for entry in members:
            y += row
            rows.append(draw(entry, y))
        y += row
    return Lanes(grid, rows, bottom)
