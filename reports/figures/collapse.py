"""Whether a predictor says nearly the same of every perturbation: how alike its predictions are, against the truth."""

from __future__ import annotations

from statistics import fmean

from markupsafe import Markup

from reports.entries import Entry, Section, defined
from reports.figures.figure import Figure, short_names
from reports.figures.lanes import lanes
from reports.figures.svg import Scale, picture, shorten, tag, text, track_class
from reports.ranking import columns, own_column, own_heads
from reports.wording import head_title, metric_title, score

METRIC = "prediction_similarity"
#: The note in which a run says how alike the measured changes are.
TRUTH = "similarity of the measured changes"
#: Beyond this part of the way from the truth to 1, predictions are called alike.
ALIKE = 0.5
WIDTH, LEFT, RIGHT, ROW, TOP = 560.0, 190.0, 440.0, 22.0, 26.0


def collapse(section: Section, order: list[Entry]) -> list[Figure]:
    """A bar per model under each head, and the similarity of the measured changes as a line."""
    truth = _truth(order)
    if truth is None:
        return []
    shown = [c for c in columns(section, controls=False) if c.metric == METRIC]
    own = own_heads(section, order, [METRIC])
    names = short_names(order)
    figures = []
    for column in [c for c in shown if (c.metric, c.head) not in own] or shown:
        means: dict[Entry, float | None] = {}
        for entry in order:
            reported = own_column(section, entry, column)
            if reported in entry.scores:
                means[entry] = entry.scores[reported].mean
        if all(mean is None for mean in means.values()):
            continue
        alike = [entry for entry, mean in means.items() if mean is not None and _alike(mean, truth)]
        title = " · ".join(filter(None, ("Are the predictions alike?", head_title(column.head))))
        caption = (
            f"{metric_title(METRIC)}: mean Pearson correlation of the changes predicted for different perturbations. "
            f"The line is that of the measured changes, {score(truth)}; at 1 all are predicted the same. "
        )
        caption += (
            f"More than half of the way there: {', '.join(names[entry] for entry in alike)}. Such a row may score "
            "well by what perturbations share, and tells none from another."
            if alike
            else "No row is more than half of the way there."
        )
        figures.append(Figure(title, _draw(means, names, truth, title), caption, column.head))
    return figures


def _truth(order: list[Entry]) -> float | None:
    """Mean over the runs that say so; a run of undefined similarity says it in words."""
    said = [run.notes.get(TRUTH) for entry in order for run in entry.runs]
    known = [float(v) for v in said if isinstance(v, (int, float)) and defined(float(v)) is not None]
    return fmean(known) if known else None


def _alike(mean: float, truth: float) -> bool:
    return truth < 1 and (mean - truth) / (1 - truth) > ALIKE


def _draw(means: dict[Entry, float | None], names: dict[Entry, str], truth: float, label: str) -> Markup:
    known = [mean for mean in means.values() if mean is not None]
    low = min([0.0, truth, *known])
    x = Scale(low if low == 0 else min(-0.25, low), 1.0, LEFT, RIGHT)

    def draw(entry: Entry, y: float) -> Markup:
        return _bar(entry, names[entry], means[entry], truth, x, y)

    found = lanes(means, x, draw, top=TOP, row=ROW, width=WIDTH)
    hint = tag("title", f"measured changes: {score(truth)}")
    pointer = tag("line", hint, x1=x(truth), y1=TOP - 6, x2=x(truth), y2=found.bottom, class_="mean")
    words = text(x(truth), TOP - 11, "measured", anchor="middle", class_="pointer")
    return picture(WIDTH, found.bottom + 24, *found.grid, *found.rows, pointer, words, label=label)


def _bar(entry: Entry, name: str, mean: float | None, truth: float, x: Scale, y: float) -> Markup:
    words = text(0, y + 15, shorten(name, LEFT - 14), class_="name")
    if mean is None:
        return tag("g", tag("title", entry.label), words, text(LEFT + 4, y + 15, "undefined", class_="missing"))
    start, end = sorted((x(0.0), x(mean)))
    style = f"mark t-{track_class(entry.track)}"
    bar = tag("rect", x=start, y=y + 5, width=max(end - start, 1.0), height=12.0, rx=2, class_=style)
    said = score(mean) + (" · alike" if _alike(mean, truth) else "")
    hint = tag("title", f"{entry.label}: {score(mean)}")
    return tag("g", hint, words, bar, text(RIGHT + 14, y + 15, said, class_="value"))
