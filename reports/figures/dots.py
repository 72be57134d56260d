"""Dot plots: every seed a mark, the mean a bar, the models of a track together, the best baseline a dashed line."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from reports.entries import Column, Entry, Score, Section
from reports.figures.figure import Figure, column_title, short_names
from reports.figures.lanes import lanes
from reports.figures.svg import Scale, line, marker, picture, scale_around, shorten, tag, text
from reports.ranking import own_column, own_heads
from reports.wording import BASELINE, NOTHING, STATUSES, arrow, metric_card, score

LEFT, RIGHT, WIDTH, TOP, ROW = 132.0, 300.0, 340.0, 8.0, 22.0


@dataclass(frozen=True)
class _Panel:
    """What one panel shows; the entries of `own` bring a head of their own."""

    title: str
    scores: dict[Entry, Score]
    own: set[Entry]

    @property
    def higher(self) -> bool:
        return next(iter(self.scores.values())).higher_is_better


def dot_plots(section: Section, columns: list[Column], order: list[Entry]) -> list[Figure]:
    """A panel per headline column; a task baseline with a head of its own is shown in each."""
    own = own_heads(section, order, {column.metric for column in columns})
    names = short_names(order)
    figures = []
    for metric in dict.fromkeys(column.metric for column in columns):
        shown = [c for c in columns if c.metric == metric and (metric, c.head) not in own]
        shown = shown or [c for c in columns if c.metric == metric]
        panels = {column: _panel(section, column, order, shown) for column in shown}
        values = [value for panel in panels.values() for s in panel.scores.values() for value in s.values]
        if not values:
            continue
        card = metric_card(metric)
        limits = scale_around(values, card.low, card.high)
        for column, panel in panels.items():
            if panel.scores:
                svg = _draw(panel, order, names, limits)
                figures.append(Figure(f"{panel.title} {arrow(panel.higher)}", svg, head=column.head))
    return figures


def _panel(section: Section, column: Column, order: list[Entry], shown: list[Column]) -> _Panel:
    scores, own = {}, set()
    for entry in order:
        reported = own_column(section, entry, column)
        if reported in entry.scores:
            scores[entry] = entry.scores[reported]
            if reported != column:
                own.add(entry)
    twins = sum((c.metric, c.head) == (column.metric, column.head) for c in shown)
    title = column_title(column) + (f" · version {column.version}" if twins > 1 else "")
    return _Panel(title, scores, own)


def _draw(panel: _Panel, order: list[Entry], names: dict[Entry, str], limits: tuple[float, float]) -> Markup:
    x = Scale(*limits, LEFT, RIGHT)

    def draw(entry: Entry, y: float) -> Markup:
        name = shorten(names[entry], LEFT - 14) + ("*" if entry in panel.own else "")
        return tag("g", *_row(entry, name, panel.scores.get(entry), x, y + ROW / 2))

    found, reference = lanes(order, x, draw, top=TOP, row=ROW, width=WIDTH), []
    baselines = [
        result.mean
        for entry, result in panel.scores.items()
        if entry.track == BASELINE and result.mean is not None and not entry.unranked
    ]
    if baselines and len({entry.track for entry in order}) > 1:
        best = max(baselines) if panel.higher else min(baselines)
        hint = tag("title", f"best baseline: {score(best)}")
        reference = [tag("line", hint, x1=x(best), y1=TOP, x2=x(best), y2=found.bottom, class_="reference")]
    label = f"{panel.title} of every model, one mark per seed"
    return picture(WIDTH, found.bottom + 26, *found.grid, *reference, *found.rows, label=label)


def _row(entry: Entry, name: str, result: Score | None, x: Scale, y: float) -> list[Markup]:
    parts = [tag("title", entry.label), text(0, y + 4, name, class_="name")]
    parts.append(line(LEFT, y, RIGHT, y, "lane"))
    if result is None or result.mean is None:
        reason = NOTHING if entry.runs else STATUSES.get(entry.missing[0].status, "")
        return [*parts, text(LEFT + 4, y + 4, "undefined" if result else reason, class_="missing")]
    for seed, value in sorted(result.by_seed.items()):
        if value is not None:
            hint = f"{entry.label}, seed {seed}: {score(value)}"
            parts.append(marker(entry.track, x(value), y, 3.4, hollow=entry.unranked, title=hint))
    parts.append(line(x(result.mean), y - 7, x(result.mean), y + 7, "mean"))
    return [*parts, text(WIDTH, y + 4, score(result.mean), anchor="end", class_="value")]
