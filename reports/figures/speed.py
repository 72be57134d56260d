"""Score against speed: what a number costs."""

from __future__ import annotations

from markupsafe import Markup

from reports.entries import Column, Entry
from reports.figures.figure import Figure, column_title, short_names
from reports.figures.svg import (
    Scale,
    line,
    marker,
    picture,
    scale_around,
    shorten,
    text,
    text_width,
    tick_label,
)
from reports.wording import metric_card, score

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 340.0, 300.0, 44.0, 14.0, 256.0
Box = tuple[float, float, float, float]


def speed_plot(order: list[Entry], column: Column | None) -> list[Figure]:
    """Mean score against cells per second, one mark per model."""
    points = []
    for entry in order:
        rate = entry.cost("cells_per_s")
        result = entry.scores.get(column) if column else None
        if rate and result is not None and result.mean is not None:
            points.append((entry, rate, result.mean))
    if len(points) < 2 or column is None:
        return []
    card = metric_card(column.metric)
    rates = [rate for _, rate, _ in points]
    x = Scale(min(rates) / 1.5, max(rates) * 1.5, LEFT, WIDTH - 12, log=True)
    y = Scale(*scale_around([mean for *_, mean in points], card.low, card.high), BOTTOM, TOP)
    parts = _axes(x, y)
    for entry, rate, mean in points:
        hint = f"{entry.label}: {score(mean)}, {rate:,.0f} cells/s"
        parts.append(marker(entry.track, x(rate), y(mean), 4.2, hollow=entry.unranked, title=hint))
    names = short_names([entry for entry, *_ in points])
    taken: list[Box] = [_around(x(rate), y(mean)) for _, rate, mean in points]
    for entry, rate, mean in points:
        parts += _label(shorten(names[entry], 120, 11), x(rate), y(mean), taken)
    title = f"{column_title(column)} against speed"
    better = "above" if card.higher_is_better else "below"
    return [Figure(title, picture(WIDTH, HEIGHT, *parts, label=f"{title}: better is {better} and to the right"))]


def _axes(x: Scale, y: Scale) -> list[Markup]:
    parts = []
    ticks = y.ticks()
    for tick in ticks:
        parts.append(line(LEFT, y(tick), WIDTH, y(tick), "grid"))
        parts.append(text(LEFT - 6, y(tick) + 4, tick_label(tick, ticks), anchor="end", class_="tick"))
    for tick in x.ticks():
        words = f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"
        parts.append(line(x(tick), TOP, x(tick), BOTTOM, "grid"))
        parts.append(text(x(tick), BOTTOM + 16, words, anchor="middle", class_="tick"))
    parts.append(text((LEFT + WIDTH) / 2, HEIGHT - 8, "cells per second →", anchor="middle", class_="axis"))
    return parts


def _around(x: float, y: float) -> Box:
    return x - 5, y - 5, x + 5, y + 5


def _label(words: str, x: float, y: float, taken: list[Box]) -> list[Markup]:
    """The name of a point at the first free place around it; none if all are taken (the hint still says it)."""
    wide = text_width(words, 11)
    for dx, dy, anchor in ((8, 4, None), (-8, 4, "end"), (0, -9, "middle"), (0, 16, "middle")):
        start = x + dx - (wide if anchor == "end" else wide / 2 if anchor else 0)
        box = (start, y + dy - 9, start + wide, y + dy + 2)
        inside = box[0] >= LEFT and box[1] >= 4 and box[2] <= WIDTH and box[3] <= BOTTOM
        if inside and not any(_overlap(box, other) for other in taken if other != _around(x, y)):
            taken.append(box)
            return [text(x + dx, y + dy, words, anchor=anchor, class_="pointer")]
    return []


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
