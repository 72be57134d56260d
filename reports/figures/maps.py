"""Heat maps of a section: models x classes (or other units), and models x metrics."""

from __future__ import annotations

from reports.entries import Column, Entry, Section
from reports.figures.figure import Figure, short_names
from reports.figures.heatmap import HALF_PAGE, Cell, HeatRow, heat_map
from reports.ranking import own_head
from reports.wording import arrow, head_title, metric_card, metric_title, score, unit_size

#: Units (classes, perturbations) a heat map shows; the others stand in the records.
MOST_UNITS = 40


def unit_heat_maps(section: Section, order: list[Entry], headline: list[Column]) -> list[Figure]:
    """Models x units (classes, perturbations, drugs): the parts of headline numbers; all, where these have none.

    The parts of `macro_f1` are `f1` or `macro_f1` of each unit; those of the first number's head come first.
    """
    first_head = headline[0].head if headline else ""
    kinds: dict[tuple[str, str, str], None] = {}
    for entry in order:
        for row in (row for run in entry.runs for row in run.metrics):
            if row.scope != "overall":
                kinds.setdefault((row.name, row.scope, row.head))
    parts = {(name, c.head) for c in headline for name in (c.metric, c.metric.removeprefix("macro_"))}
    kinds = {kind: None for kind in kinds if (kind[0], kind[2]) in parts} or kinds
    own = {(entry, name): own_head(section, entry, name) for entry in order for name in {kind[0] for kind in kinds}}
    figures = []
    for metric, scope, head in sorted(kinds, key=lambda kind: (kind[:2], kind[2] != first_head)):
        if head in {own[entry, metric] for entry in order}:
            continue
        units = {e: u for e in order if (u := e.units(metric, own[e, metric] or head, scope))}
        several = len({key for found in units.values() for key in found}) > 1 or scope != "per-fold"
        if units and several:  # one fold is the whole
            figures.append(_unit_map(metric, scope, head, units))
    return figures


def _unit_map(metric: str, scope: str, head: str, units: dict[Entry, dict]) -> Figure:
    sizes: dict[str, int] = {}
    for found in units.values():
        for key, (_, n) in found.items():
            sizes[key] = max(sizes.get(key, 0), n or 0)
    if max(sizes.values()) <= 1:  # one everywhere says nothing
        sizes = dict.fromkeys(sizes, 0)
    keys = sorted(sizes, key=lambda key: (-sizes[key], key))
    kept = keys[:MOST_UNITS]
    names = short_names(list(units))
    card = metric_card(metric)
    known = [v for found in units.values() for v, _ in found.values() if v is not None]
    rows = [
        HeatRow(
            names[entry],
            [
                shaded(found.get(key, (None, None))[0], known, metric, f"{names[entry]} · {entry.track}, {key}")
                for key in kept
            ],
            entry.track,
        )
        for entry, found in units.items()
    ]
    heads = [(key, f" ({sizes[key]})" if sizes[key] else "") for key in kept]
    unit = scope.removeprefix("per-").replace("-", " ")
    title = f"{card.title} per {unit}" + (f" · {head_title(head)}" if head_title(head) else "")
    caption = f"Mean over seeds. In brackets: {unit_size(scope)}." if any(sizes.values()) else ""
    if len(kept) < len(keys):
        which = f"{len(kept)} largest" if any(sizes.values()) else f"first {len(kept)}"
        caption += f" The {which} of {len(keys)} are shown."
    return Figure(title, heat_map(rows, heads, label=title), caption.strip(), head, wide=len(heads) > HALF_PAGE)


def metric_heat_map(order: list[Entry], columns: list[Column]) -> list[Figure]:
    """Models x metrics, where a section has many metrics under one head (integration)."""
    shown = [entry for entry in order if entry.scores]
    if len(columns) < 3 or len({column.head for column in columns}) > 1 or not shown:
        return []
    names = short_names(shown)
    known = {
        column: [m for e in shown if column in e.scores and (m := e.scores[column].mean) is not None]
        for column in columns
    }
    rows = []
    for entry in shown:
        means = [entry.scores[c].mean if c in entry.scores else None for c in columns]
        cells = [
            shaded(mean, known[c], c.metric, f"{names[entry]} · {entry.track}, {metric_title(c.metric)}")
            for c, mean in zip(columns, means, strict=True)
        ]
        rows.append(HeatRow(names[entry], cells, entry.track))
    direction = {c: next(e.scores[c].higher_is_better for e in shown if c in e.scores) for c in columns}
    heads = [(metric_title(column.metric), f" {arrow(direction[column])}") for column in columns]
    svg = heat_map(rows, heads, label="Every metric of every model")
    caption = "Mean over seeds; the shade runs over each metric's own range."
    return [Figure("All metrics", svg, caption, wide=len(heads) > HALF_PAGE)]


def shaded(value: float | None, known: list[float], metric: str, hint: str) -> Cell | None:
    """A cell shaded over the metric's range, from nothing at 0 (or its lowest) to full; else over what is known."""
    if value is None:
        return None
    card = metric_card(metric)
    low = min(known) if card.low is None else max(card.low, 0.0)
    high = max(known) if card.high is None else card.high
    share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    bounded = card.low is not None and card.high is not None
    return Cell(f"{value:.2f}" if bounded else score(value), share, f"{hint}: {score(value)}")
