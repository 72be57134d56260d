"""Scores of each class (or other unit) of a few rows, with their intervals; the largest class first."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from reports.artifacts import Tables
from reports.by_fold import fold_intervals
from reports.entries import Column, Entry, Section, defined
from reports.figures.figure import Figure, short_names
from reports.figures.svg import (
    Scale,
    line,
    marker,
    picture,
    scale_around,
    shorten,
    tag,
    text,
    text_width,
    tick_label,
    track_class,
)
from reports.ranking import own_column
from reports.statistics import Interval, mean_interval
from reports.wording import MetricCard, arrow, head_title, metric_card, own_head_title, plural, score, unit_size

#: Units shown, the largest.
MOST_UNITS = 30
WIDTH, LEFT, RIGHT, LANE = 560.0, 196.0, 506.0, 13.0


def unit_dots(
    section: Section, rows: list[tuple[Entry, Column]], headline: list[Column], tables: Tables
) -> list[Figure]:
    """A lane for each row under each unit: the mean over seeds and its 95 % interval.

    The units are those of the first headline number that has any; folds are none of them, for they are what is varied.
    """
    kind = _kind([entry for entry, _ in rows], headline)
    if kind is None:
        return []
    column, metric, scope = kind
    shown: dict[Entry, dict[str, Interval]] = {}
    sizes: dict[str, int] = {}
    over: dict[str, list[Entry]] = {}
    for entry, _ in rows:
        head = own_column(section, entry, column).head
        units = entry.units(metric, head, scope)
        for key, (_, n) in units.items():
            sizes[key] = max(sizes.get(key, 0), n or 0)
        means = {key: mean for key, (mean, _) in units.items() if mean is not None}
        if means:
            by_fold = fold_intervals(entry, head, means, tables) if (metric, scope) == ("f1", "per-class") else {}
            shown[entry] = _with_folds(means, by_fold) if by_fold else _over_seeds(entry, metric, head, scope)
            over.setdefault(_words(shown[entry], by_fold, len(entry.runs)), []).append(entry)
    if not shown:
        return []
    if max(sizes.values()) <= 1:  # one everywhere says nothing
        sizes = dict.fromkeys(sizes, 0)
    keys = sorted(sizes, key=lambda key: (-sizes[key], key))
    kept = keys[:MOST_UNITS]
    unit = scope.removeprefix("per-").replace("-", " ")
    heads = {entry: own_column(section, entry, column).head for entry in shown}
    card = metric_card(metric)
    title = f"{card.title} per {unit} {arrow(card.higher_is_better)}"
    names = short_names(list(shown))
    whose = {words: f"{', '.join(names[e] for e in group)}: " if len(over) > 1 else "" for words, group in over.items()}
    caption = "".join(f"{whose[words]}{words}. " for words in over if words)
    if any(sizes.values()):
        caption += f"The largest {unit} first; in brackets its {unit_size(scope)}."
    if len(kept) < len(keys):
        which = f"{len(kept)} largest" if any(sizes.values()) else f"first {len(kept)}"
        caption += f" The {which} of {len(keys)} are shown."
    svg = _draw(shown, heads, {key: sizes[key] for key in kept}, card, f"{title} of the best model and baseline")
    return [Figure(f"{title} · best model and best baseline" if len(shown) > 1 else title, svg, caption)]


def _kind(entries: list[Entry], headline: list[Column]) -> tuple[Column, str, str] | None:
    """The first headline column with parts, and the name and scope of these."""
    found = {(row.name, row.scope) for entry in entries for run in entry.runs for row in run.metrics}
    for column in headline:
        for name in dict.fromkeys((column.metric, column.metric.removeprefix("macro_"))):
            for scope in sorted(scope for metric, scope in found if metric == name):
                if scope not in ("overall", "per-fold"):
                    return column, name, scope
    return None


def _over_seeds(entry: Entry, metric: str, head: str, scope: str) -> dict[str, Interval]:
    """Unit -> Student's t interval over the seeds; none of one seed."""
    values: dict[str, list[float]] = {}
    for run in entry.runs:
        for row in run.metrics:
            if (row.name, row.head, row.scope) == (metric, head, scope) and (value := defined(row.value)) is not None:
                values.setdefault(row.key, []).append(value)
    return {key: mean_interval(np.array(each), np.arange(len(each))[:, None]) for key, each in values.items()}


def _with_folds(means: dict[str, float], by_fold: dict[str, Interval]) -> dict[str, Interval]:
    """Unit -> its interval over folds; none for what is in one fold only, rather than one of another kind."""
    return {key: by_fold.get(key) or Interval(mean, None, None, 1) for key, mean in means.items()}


def _words(intervals: dict[str, Interval], by_fold: dict[str, Interval], seeds: int) -> str:
    """What the intervals of a row are over."""
    if by_fold:
        folds = max(each.n_blocks for each in by_fold.values())
        return f"95 % intervals by leaving one of {plural(folds, 'fold')} out (jackknife, Student's t)"
    if any(each.low is not None for each in intervals.values()):
        return f"95 % intervals by Student's t over {plural(seeds, 'seed')}"
    return ""


def _draw(
    shown: dict[Entry, dict[str, Interval]],
    heads: dict[Entry, str],
    sizes: dict[str, int],
    card: MetricCard,
    label: str,
) -> Markup:
    names = short_names(list(shown))
    row = LANE * len(shown) + 9
    top = 20.0 * len(shown) + 6
    bottom = top + row * len(sizes)
    values = [v for each in shown.values() for i in each.values() for v in (i.estimate, i.low, i.high) if v is not None]
    limits = scale_around([_inside(value, card) for value in values], card.low, card.high)
    x = Scale(*limits, LEFT, RIGHT)
    parts = []
    for place, entry in enumerate(shown):
        parts.append(marker(entry.track, 6, 9 + 20 * place, 3.8))
        head = head_title(heads[entry]) or own_head_title(heads[entry]) * (entry.track == "baseline")
        words = " · ".join(filter(None, (names[entry], entry.track, head)))
        parts.append(text(18, 13 + 20 * place, shorten(words, WIDTH - 30), class_="name"))
    ticks = x.ticks()
    parts += [line(x(t), top, x(t), bottom, "grid") for t in ticks]
    parts += [text(x(t), bottom + 16, tick_label(t, ticks), anchor="middle", class_="tick") for t in ticks]
    for place, (key, n) in enumerate(sizes.items()):
        y = top + row * place
        tail = f" ({n:,})" if n else ""
        name = shorten(key, LEFT - 14 - text_width(tail)) + tail
        parts.append(line(0, y, WIDTH, y, "rule"))
        parts.append(tag("text", tag("title", key), name, x=0, y=y + row / 2 + 4, class_="name"))
        for lane, (entry, intervals) in enumerate(shown.items()):
            interval = intervals.get(key)
            parts.append(_lane(entry, key, interval, card, x, y + 4.5 + LANE * (lane + 0.5)))
    return picture(WIDTH, bottom + 26, *parts, label=label)


def _lane(entry: Entry, key: str, interval: Interval | None, card: MetricCard, x: Scale, y: float) -> Markup:
    if interval is None:
        return tag("g", text(LEFT + 4, y + 4, "–", class_="missing"))
    hint = f"{entry.label}, {key}: {score(interval.estimate)}"
    parts = []
    if interval.low is not None and interval.high is not None:
        hint += f", 95 % interval [{score(interval.low)}, {score(interval.high)}]"
        ends = [x(_inside(end, card)) for end in (interval.low, interval.high)]
        parts.append(line(ends[0], y, ends[1], y, f"whisker t-{track_class(entry.track)}"))
    parts.append(marker(entry.track, x(interval.estimate), y, 3.4))
    parts.append(text(WIDTH, y + 4, score(interval.estimate), anchor="end", class_="tick"))
    return tag("g", tag("title", hint), *parts)


def _inside(value: float, card: MetricCard) -> float:
    """An end of an interval, cut to the range of the metric."""
    value = value if card.low is None else max(value, card.low)
    return value if card.high is None else min(value, card.high)
