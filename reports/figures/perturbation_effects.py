"""Size of the predicted against that of the observed change, condition by condition, and scores by subgroup."""

from __future__ import annotations

import zlib
from statistics import fmean
from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section, defined
from reports.figures.best import Rows, row_titles
from reports.figures.figure import Figure, column_title, short_names
from reports.figures.heatmap import HeatRow, heat_map
from reports.figures.maps import shaded
from reports.figures.svg import Scale, line, picture, scale_around, shorten, tag, text, tick_label
from reports.ranking import own_column, own_head
from reports.wording import arrow, metric_card, plural, score, subgroup_order, subgroup_title

if TYPE_CHECKING:
    import pandas as pd

KIND = "perturbation_effects"
SIZES = ("observed_l2", "predicted_l2")
#: Marks of one figure.
MOST = 600
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 560.0, 48.0, 360.0, 10.0, 300.0

#: A mark per subgroup around (0, 0); told apart by shape as well as by colour.
_SHAPES = (
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
    "M-3.2 -3.2h6.4v6.4h-6.4z",
    "M0 -4.2l3.9 7h-7.8z",
    "M0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "M0 4.2l3.9 -7h-7.8z",
)


def effect_sizes(rows: Rows, tables: Tables) -> list[Figure]:
    """A scatter per row on common axes: a mark per condition, on the line where both changes are of one size."""
    found = {entry: own for entry, column in rows if (own := _effects(entry, column.head, tables)) is not None}
    values = [float(v) for table in found.values() for column in SIZES for v in table[column]]
    if not values:
        return []
    groups = sorted({key for table in found.values() for key in table["key"]}, key=subgroup_order)
    limits = scale_around([0.0, *values], 0.0, None)
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, table in found.items():
        shown = _sample(table)
        caption = "L2 of the change from control, over all genes. Under the line a change is predicted too small."
        if len(entry.runs) > 1:
            caption += f" Mean over the runs that test a condition, of {plural(len(entry.runs), 'seed')}."
        if len(shown) < len(table):
            caption += f" {len(shown):,} of {len(table):,} conditions are drawn."
        title = f"Size of effects: {titles[entry]}"
        figures.append(Figure(title, _scatter(shown, table, groups, limits, title), caption))
    return figures


def _effects(entry: Entry, head: str, tables: Tables) -> pd.DataFrame | None:
    """Condition and subgroup -> sizes, the mean over folds and runs; None where nothing is known."""
    import pandas as pd

    read = [tables.get(run, KIND, ("condition", "key", "head", *SIZES)) for run in entry.runs]
    own = [table[table["head"] == head] for table in read if table is not None]
    if not own:
        return None
    every = pd.concat(own).dropna(subset=list(SIZES))
    return every.groupby(["condition", "key"])[list(SIZES)].mean().reset_index() if len(every) else None


def _sample(table: pd.DataFrame) -> pd.DataFrame:
    """The same conditions in every figure: those with the smallest hash of their name."""
    if len(table) <= MOST:
        return table
    keys = table["condition"].map(lambda name: zlib.crc32(str(name).encode()))
    return table.loc[keys.sort_values(kind="stable").index[:MOST]].sort_index()


def _scatter(
    shown: pd.DataFrame, every: pd.DataFrame, groups: list[str], limits: tuple[float, float], label: str
) -> Markup:
    x, y = Scale(*limits, LEFT, RIGHT), Scale(*limits, BOTTOM, TOP)
    ticks, parts = x.ticks(), []
    for tick in ticks:
        words = tick_label(tick, ticks)
        parts += [line(x(tick), TOP, x(tick), BOTTOM, "grid"), line(LEFT, y(tick), RIGHT, y(tick), "grid")]
        parts.append(text(x(tick), BOTTOM + 16, words, anchor="middle", class_="tick"))
        parts.append(text(LEFT - 6, y(tick) + 4, words, anchor="end", class_="tick"))
    parts.append(line(x(limits[0]), y(limits[0]), x(limits[1]), y(limits[1]), "reference"))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 34, "observed size →", anchor="middle", class_="axis"))
    turned = f"translate(11 {(TOP + BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(tag("text", "predicted size →", transform=turned, text_anchor="middle", class_="axis"))
    for condition, key, observed, predicted in shown[["condition", "key", *SIZES]].itertuples(index=False):
        hint = f"{condition}: observed {score(observed)}, predicted {score(predicted)}"
        if key:
            hint += f"; {subgroup_title(key)}"
        parts.append(_mark(groups.index(key), x(observed), y(predicted), hint))
    if any(groups):
        counts = every["key"].value_counts()
        for place, key in enumerate(groups):
            at = TOP + 14 + 20 * place
            parts.append(_mark(place, RIGHT + 22, at - 4))
            n = tag("tspan", f" {int(counts.get(key, 0))}", class_="tick")
            name = shorten(subgroup_title(key) or "other", WIDTH - RIGHT - 64)
            parts.append(tag("text", name, n, x=RIGHT + 34, y=at, class_="name"))
    return picture(WIDTH, BOTTOM + 42, *parts, label=label)


def _mark(group: int, x: float, y: float, hint: str = "") -> Markup:
    return tag(
        "path",
        *([tag("title", hint)] if hint else []),
        d=_SHAPES[group % len(_SHAPES)],
        transform=f"translate({x:.1f} {y:.1f})",
        class_=f"hued c{group % 16}",
    )


def subgroup_maps(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """Models x subgroups of conditions, under each head of the number the board is ranked by."""
    groups = _subgroups(section, tables)
    keys = sorted({key for by_condition in groups.values() for key in by_condition.values()}, key=subgroup_order)
    if len(keys) < 2 or not headline:
        return []
    metric = headline[0].metric
    own = {own_head(section, entry, metric) for entry in order}
    figures = []
    for column in (c for c in headline if c.metric == metric and c.head not in own):
        found = {e: means for e in order if (means := _means(e, own_column(section, e, column), groups))}
        if found:
            figures.append(_subgroup_map(column, keys, found, groups))
    return figures


def _subgroups(section: Section, tables: Tables) -> dict[int, dict[str, str]]:
    """Seed -> condition -> subgroup: a seed may draw the split, and with it what was seen."""
    found: dict[int, dict[str, str]] = {}
    for run in section.runs:
        if run.seed not in found and (table := tables.get(run, KIND, ("condition", "key"))) is not None:
            found[run.seed] = {c: key for c, key in zip(table["condition"], table["key"], strict=True) if key}
    return found


def _means(entry: Entry, column: Column, groups: dict[int, dict[str, str]]) -> dict[str, float]:
    """Subgroup -> mean over the seeds of its conditions' mean."""
    by_seed: dict[str, list[float]] = {}
    for run in entry.runs:
        scores: dict[str, list[float]] = {}
        for row in run.metrics:
            key = groups.get(run.seed, {}).get(row.key)
            same = (row.name, row.head, row.version, row.scope) == (*column, "per-perturbation")
            if same and key and (value := defined(row.value)) is not None:
                scores.setdefault(key, []).append(value)
        for key, values in scores.items():
            by_seed.setdefault(key, []).append(fmean(values))
    return {key: fmean(values) for key, values in by_seed.items()}


def _subgroup_map(
    column: Column, keys: list[str], found: dict[Entry, dict[str, float]], groups: dict[int, dict[str, str]]
) -> Figure:
    names = short_names(list(found))
    known = [value for means in found.values() for value in means.values()]
    rows = [
        HeatRow(
            names[entry],
            [shaded(means.get(key), known, column.metric, f"{entry.label}, {subgroup_title(key)}") for key in keys],
            entry.track,
        )
        for entry, means in found.items()
    ]
    first = list(groups[min(groups)].values())
    heads = [(subgroup_title(key), f" ({first.count(key)})" if key in first else "") for key in keys]
    higher = metric_card(column.metric).higher_is_better
    title = f"{column_title(column)} by what was seen {arrow(higher)}"
    caption = f"Mean over the conditions of a subgroup, then over seeds. In brackets: conditions of seed {min(groups)}."
    return Figure(title, heat_map(rows, heads, label=title), caption, column.head)
