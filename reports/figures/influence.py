"""Whether the genes most influenced by a perturbed gene are its known targets, against draws by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.svg import Scale, line, marker, picture, scale_around, shorten, tag, text, tick_label
from reports.wording import plural, score

if TYPE_CHECKING:
    import pandas as pd

KIND = "influence_draws"
#: Kind of draw -> what it is called, its colour.
DRAWS = {"random": ("random genes", "c0"), "matched": ("genes of like expression", "c1")}
COLUMNS = ("perturbed", "observed", *(f"{kind}_{part}" for kind in DRAWS for part in ("mean", "low", "high", "p")))
#: Genes drawn, those of the least p against genes of like expression.
MOST = 30
WIDTH, LEFT, RIGHT, ROW, TOP = 560.0, 130.0, 440.0, 29.0, 30.0


def influences(rows: Rows, tables: Tables) -> list[Figure]:
    """For each row a lane per perturbed gene: the observed overlap over the ranges of both kinds of draws."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS, free=("none",))
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, column in ((entry, column) for entry, column in rows if entry in found):
        known = (
            _under(found[entry], column.head)
            .dropna(subset=["observed"])
            .sort_values(["matched_p", "perturbed"], kind="stable")
        )
        if not len(known):
            continue
        shown = known.iloc[:MOST]
        caption = (
            "Mark: overlap of the genes most influenced by a perturbed gene with its listed targets. Bars: the same of "
            f"as many genes drawn by chance, with the mean as a line. At the right p against each. Seed {seed}."
        )
        if len(shown) < len(known):
            caption += f" {len(shown)} of {plural(len(known), 'gene')}, those of the least p."
        title = f"Influence of perturbed genes: {titles[entry]}"
        figures.append(Figure(title, _draw(shown, entry.track, title), caption))
    return figures


def _under(table: pd.DataFrame, head: str) -> pd.DataFrame:
    """The lines of a head, or those of no head where it has none."""
    if "head" not in table:
        return table
    own = table[table["head"] == head]
    return own if len(own) else table


def _draw(table: pd.DataFrame, track: str, label: str) -> Markup:
    ends = ["observed", *(f"{kind}_{end}" for kind in DRAWS for end in ("low", "high"))]
    values = [float(v) for v in table[ends].to_numpy().ravel() if v == v]
    x = Scale(*scale_around(values, 0.0 if min(values) >= 0 else None, None), LEFT, RIGHT)
    bottom = TOP + ROW * len(table)
    ticks = x.ticks()
    parts = [line(x(t), TOP, x(t), bottom, "grid") for t in ticks]
    parts += [text(x(t), bottom + 16, tick_label(t, ticks), anchor="middle", class_="tick") for t in ticks]
    parts += [marker(track, 6, 9, 3.8), text(18, 13, "observed", class_="name")]
    for at, (name, hue) in zip((120.0, 270.0), DRAWS.values(), strict=True):
        parts += [line(at, 9, at + 18, 9, f"range {hue}"), text(at + 28, 13, name, class_="name")]
    parts.append(text(WIDTH, 13, "p", anchor="end", class_="axis"))
    for i, lane in enumerate(table.to_dict("records")):
        y = TOP + ROW * i
        gene = str(lane["perturbed"])
        hint = f"{gene}: observed {score(lane['observed'])}"
        marks = [line(0, y, WIDTH, y, "rule"), text(0, y + 17, shorten(gene, LEFT - 14), class_="name")]
        for kind, (name, hue), level in zip(DRAWS, DRAWS.values(), (y + 8, y + 21), strict=True):
            mean, low, high, p = (float(lane[f"{kind}_{part}"]) for part in ("mean", "low", "high", "p"))
            if low == low and high == high:
                marks.append(line(x(low), level, x(high), level, f"range {hue}"))
                hint += f"; {name} {score(low)} to {score(high)}"
            if mean == mean:
                marks.append(line(x(mean), level - 4, x(mean), level + 4, "mean"))
            if p == p:
                marks.append(text(WIDTH, level + 4, score(p), anchor="end", class_="tick"))
                hint += f", p {score(p)}"
        marks.append(marker(track, x(float(lane["observed"])), y + 14.5, 4.2))
        parts.append(tag("g", tag("title", hint), *marks))
    return picture(WIDTH, bottom + 24, *parts, label=label)
