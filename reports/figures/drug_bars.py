"""What of a predicted response the decoder does, and what the transport: every method between its own bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section, defined
from reports.figures.drug_pairs import Pair, left_out, pair_title
from reports.figures.figure import Figure, short_names
from reports.figures.lanes import lanes
from reports.figures.svg import Scale, line, marker, picture, scale_around, shorten, tag, text
from reports.ranking import columns, own_column, own_heads
from reports.wording import arrow, head_title, metric_card, score

KIND = "drug_bars"
COLUMNS = ("drug", "held_out", "step", "head", "metric", "value")
#: Metric -> whether higher is better; a panel each.
METRICS = {"l2_means": False, "pearson_delta": True}
#: Drugs (times held-out groups) drawn, those whose cells change most.
MOST_PAIRS = 8
#: Values further off than this many times the untouched cells are drawn at the edge.
FAR = 2.0
#: The names and the first panel are as wide as a phone has room for.
WIDTH, LEFT, NUMBER, GAP, ROW, LEGEND = 560.0, 124.0, 52.0, 12.0, 22.0, 20.0

#: Step -> what it is called. `predicted` is the method itself.
STEPS = {
    "identity": "control cells as they are",
    "half": "half of the treated against the others",
    "untransported": "decoding alone",
    "decoded": "treated cells, decoded",
}


@dataclass
class Steps:
    """A row's values by metric and step, each a mean over seeds; None where it is undefined."""

    values: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def get(self, metric: str, step: str) -> float | None:
        return self.values.get((metric, step))

    def of(self, metric: str) -> list[float]:
        """What is known of a metric."""
        return [value for (name, _), value in self.values.items() if name == metric and value is not None]


#: Pair -> row -> its values, under one head.
Found = dict[Pair, dict[Entry, Steps]]


def decoder_bounds(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """Under each head a figure per drug and held-out group: rows by track, a panel per metric."""
    if not headline:
        return []
    metric = headline[0].metric
    present = [column for column in columns(section, controls=False) if column.metric == metric]
    own = own_heads(section, order, [metric])
    figures = []
    for column in {c.head: c for c in [c for c in present if (metric, c.head) not in own] or present}.values():
        found = _found(section, order, column, tables)
        every = sorted(found, key=lambda pair: (-_change(found[pair].values()), pair))
        for place, pair in enumerate(every[:MOST_PAIRS]):
            title = " · ".join(filter(None, (f"Decoder and transport: {pair_title(pair)}", head_title(column.head))))
            first = _READING + left_out(MOST_PAIRS, every, "those whose cells change most") if place == 0 else ""
            caption = first + _verdict(found[pair])
            figures.append(Figure(title, _draw(found[pair], title), caption.strip(), column.head))
    return figures


_READING = (
    "Mark and number: the method. The bar runs from decoding alone to the decoded treated cells, the best that can be "
    "asked of a transport. A short bar near the solid line leaves transport nothing to do; one that ends near the "
    "dashed line is a poor decoder, whatever the transport. Means over seeds; › lies beyond the axis. "
)
#: Rows that a caption names.
MOST_NAMES = 6


def _found(section: Section, order: list[Entry], column: Column, tables: Tables) -> Found:
    """Lines of every row under the head it reports."""
    found: Found = {}
    for entry in order:
        head = own_column(section, entry, column).head
        seen: dict[tuple[Pair, str, str], list[float | None]] = {}
        for run in entry.runs:
            table = tables.get(run, KIND, COLUMNS)
            if table is None:
                continue
            lines = table[(table["head"] == head) & table["metric"].isin(METRICS)]
            for drug, held_out, step, metric, value in lines[[*COLUMNS[:3], *COLUMNS[4:]]].itertuples(index=False):
                seen.setdefault(((drug, held_out), metric, step), []).append(defined(float(value)))
        for (pair, metric, step), values in seen.items():
            known = [value for value in values if value is not None]
            steps = found.setdefault(pair, {}).setdefault(entry, Steps())
            steps.values[metric, step] = fmean(known) if known else None
    return found


def _change(rows: Iterable[Steps]) -> float:
    """How far untouched control cells are from the treated ones; nothing where it is not known."""
    first = next(iter(METRICS))
    known = [value for steps in rows if (value := steps.get(first, "identity")) is not None]
    return fmean(known) if known else 0.0


def _verdict(rows: dict[Entry, Steps]) -> str:
    """Which rows are held up by their decoder, and which are carried by it, by the first metric."""
    metric, names = next(iter(METRICS)), short_names(list(rows))
    poor, alone = [], []
    for entry, steps in rows.items():
        start, *others = (steps.get(metric, step) for step in ("identity", "untransported", "decoded", "predicted"))
        if start is None:
            continue
        without, best, gained = (None if value is None else start - value for value in others)
        if best is not None and best <= 0:
            poor.append(f"{names[entry]} ({entry.track})")
        if without is not None and gained is not None and gained > 0 and without > gained / 2:
            alone.append(f"{names[entry]} ({entry.track})")
    said = ""
    for words, whose in (
        ("Decoded treated cells are no nearer than untouched control cells", poor),
        ("Decoding alone does more than half of the way", alone),
    ):
        rest = f" and {len(whose) - MOST_NAMES} more" if len(whose) > MOST_NAMES else ""
        said += f"{words}: {', '.join(whose[:MOST_NAMES])}{rest}. " if whose else ""
    return said


def _draw(rows: dict[Entry, Steps], label: str) -> Markup:
    shown = [metric for metric in METRICS if any(steps.of(metric) for steps in rows.values())]
    steps = [step for step in STEPS if any(known.get(m, step) is not None for known in rows.values() for m in METRICS)]
    top = LEGEND * 3 + 30
    each = (WIDTH - LEFT - GAP * (len(shown) - 1)) / max(1, len(shown))
    scales = {}
    for place, metric in enumerate(shown):
        left = LEFT + (each + GAP) * place
        scales[metric] = Scale(*_limits(rows, metric), left, left + each - NUMBER)
    names = short_names(list(rows))

    def draw(entry: Entry, y: float) -> Markup:
        name = text(0, y + 15, shorten(names[entry], LEFT - 14), class_="name")
        parts = [_lane(entry, metric, rows[entry], x, y) for metric, x in scales.items()]
        return tag("g", tag("title", entry.label), name, *parts)

    parts = _legend(steps)
    bottom = top
    for place, (metric, x) in enumerate(scales.items()):
        higher = metric_card(metric, METRICS[metric]).higher_is_better
        heading = f"{metric_card(metric).title} {arrow(higher)}"
        parts.append(text(x.start, top - 8, heading, class_="axis"))
        found = lanes(rows, x, draw if place == len(scales) - 1 else _nothing, top=top, row=ROW, width=WIDTH)
        parts += [*found.grid, *found.rows] if place == len(scales) - 1 else found.grid
        bottom = found.bottom
    if not scales:
        parts.append(text(0, top, "undefined", class_="missing"))
    return picture(WIDTH, bottom + 24, *parts, label=label)


def _nothing(_entry: Entry, _y: float) -> Markup:
    return Markup()


def _limits(rows: dict[Entry, Steps], metric: str) -> tuple[float, float]:
    """The range of an axis: all values, but those far beyond the untouched cells."""
    card = metric_card(metric, METRICS[metric])
    values = [value for steps in rows.values() for value in steps.of(metric)]
    low = card.low
    if not METRICS[metric]:
        low = 0.0
        untouched = [value for steps in rows.values() if (value := steps.get(metric, "identity")) is not None]
        most = FAR * max(untouched, default=float("inf"))
        values = [0.0, *(min(value, most) if most > 0 else value for value in values)]
    return scale_around(values, low, card.high)


def _lane(entry: Entry, metric: str, steps: Steps, x: Scale, y: float) -> Markup:
    """One row in one panel."""
    middle = y + 11
    at = {
        step: (min(max(x(value), x.start), x.end), x(value) > x.end + 0.5)
        for step in (*STEPS, "predicted")
        if (value := steps.get(metric, step)) is not None
    }
    parts: list[Markup] = [line(x.start, middle, x.end, middle, "lane")]
    if "untransported" in at and "decoded" in at:
        parts.append(line(at["untransported"][0], middle, at["decoded"][0], middle, "range"))
    parts += [_sign(step, at[step][0], middle) for step in STEPS if step in at]
    parts += [text(x.end + 6, middle + 4, "›", class_="tick")] * any(beyond for _, beyond in at.values())
    value = steps.get(metric, "predicted")
    number = text(
        x.end + NUMBER, middle + 4, score(value), anchor="end", class_="value" if "predicted" in at else "missing"
    )
    if "predicted" in at:
        parts.append(marker(entry.track, at["predicted"][0], middle, 3.8, hollow=entry.unranked))
    said = "; ".join(f"{words} {score(steps.get(metric, step))}" for step, words in STEPS.items() if step in at)
    hint = f"{entry.label}, {metric_card(metric).title}: {score(value)}" + (f"; {said}" if said else "")
    return tag("g", tag("title", hint), *parts, number)


def _sign(step: str, x: float, y: float, half: float = ROW / 2) -> Markup:
    """The sign of a step: upright strokes through the row for what has no decoder, the ends of the bar for the rest."""
    if step == "identity":
        return line(x, y - half, x, y + half, "reference")
    if step == "half":
        return line(x, y - half, x, y + half, "mean")
    if step == "decoded":
        return line(x, y - 5.5, x, y + 5.5, "link")
    return tag("circle", cx=x, cy=y, r=3.0, class_="node")


def _legend(steps: list[str]) -> list[Markup]:
    """What the signs mean; the method's own is that of its track."""
    lines, ends = (
        [step for step in pair if step in steps] for pair in (("identity", "half"), ("untransported", "decoded"))
    )
    parts: list[Markup] = []
    for place, step in enumerate(lines):
        y = 9.0 + LEGEND * place
        parts += [_sign(step, 19.0, y, 7.0), text(46, y + 4, STEPS[step], class_="name")]
    y = 9.0 + LEGEND * len(lines)
    if len(ends) == 2:
        parts.append(line(4, y, 34, y, "range"))
    parts += [_sign(step, 4.0 if step == "untransported" else 34.0, y) for step in ends]
    if ends:
        parts.append(text(46, y + 4, " → ".join(STEPS[step] for step in ends), class_="name"))
    return parts
