"""Scores by random folds beside those by folds that keep gene families together: what relatives give away."""

from __future__ import annotations

from markupsafe import Markup

from reports.entries import Column, Entry, Score, Section
from reports.figures.figure import Figure, column_title, short_names
from reports.figures.lanes import lanes
from reports.figures.svg import Scale, line, marker, picture, scale_around, shorten, tag, text
from reports.ranking import columns, own_column, own_heads
from reports.wording import MetricCard, arrow, metric_card, score

#: End of the name of a metric by folds of gene families.
FAMILY = "_family"
WIDTH, LEFT, RIGHT, TOP, ROW = 560.0, 190.0, 440.0, 8.0, 22.0
TITLE = "What random folds flatter"


def gene_folds(section: Section, order: list[Entry], headline: list[Column]) -> list[Figure]:
    """A figure for each metric that a head reports by both kinds of folds, the first headline number first.

    A line per row from the mean by random folds to that by families. A method with a head of its own stands beside
    each.
    """
    present = list(dict.fromkeys([*headline, *columns(section, controls=False)]))
    pairs: dict[Column, Column] = {}
    for column in present:
        name = column.metric.removesuffix(FAMILY)
        by_random = next((c for c in present if (c.metric, c.head) == (name, column.head)), None)
        by_family = next((c for c in present if (c.metric, c.head) == (name + FAMILY, column.head)), None)
        if by_random and by_family:
            pairs.setdefault(by_random, by_family)
    own = own_heads(section, order, {column.metric for column in pairs})
    shown = {a: b for a, b in pairs.items() if (a.metric, a.head) not in own} or pairs
    names = short_names(order)
    figures = []
    for by_random, by_family in shown.items():
        scores = {e: ends for e in order if (ends := _ends(section, e, by_random, by_family))}
        if scores:
            title = f"{TITLE}: {column_title(by_random)} {arrow(metric_card(by_random.metric).higher_is_better)}"
            svg = _draw(scores, names, metric_card(by_random.metric), title)
            figures.append(Figure(title, svg, _CAPTION, by_random.head))
    return figures


_CAPTION = (
    "Hollow: genes dealt at random to the folds, so that a gene's relatives may be in training. Filled: families kept "
    "together. Means over seeds; at the right the difference. The further it falls, the more random folds flatter."
)

Ends = tuple[float, float]


def _ends(section: Section, entry: Entry, by_random: Column, by_family: Column) -> Ends | None:
    """Both means of a row; None where one of them is missing."""
    found: list[Score | None] = [entry.scores.get(own_column(section, entry, c)) for c in (by_random, by_family)]
    means = [each.mean for each in found if each is not None and each.mean is not None]
    return (means[0], means[1]) if len(means) == 2 else None


def _draw(scores: dict[Entry, Ends], names: dict[Entry, str], card: MetricCard, label: str) -> Markup:
    x = Scale(*scale_around([value for ends in scores.values() for value in ends], card.low, card.high), LEFT, RIGHT)

    def draw(entry: Entry, y: float) -> Markup:
        return _row(entry, names[entry], scores[entry], x, y + ROW / 2)

    found = lanes(scores, x, draw, top=TOP, row=ROW, width=WIDTH)
    return picture(WIDTH, found.bottom + 24, *found.grid, *found.rows, label=label)


def _row(entry: Entry, name: str, ends: Ends, x: Scale, y: float) -> Markup:
    by_random, by_family = ends
    hint = f"{entry.label}: random folds {score(by_random)}, folds of families {score(by_family)}"
    change = by_family - by_random
    return tag(
        "g",
        tag("title", hint),
        text(0, y + 4, shorten(name, LEFT - 14), class_="name"),
        line(LEFT, y, RIGHT, y, "lane"),
        line(x(by_random), y, x(by_family), y, "link"),
        marker(entry.track, x(by_random), y, 3.8, hollow=True),
        marker(entry.track, x(by_family), y, 3.8),
        text(WIDTH, y + 4, f"{score(by_family)} ({'+' * (change > 0)}{score(change)})", anchor="end", class_="value"),
    )
