"""A virtual screen: predicted pairs laid out by their effect, coloured by the gene that dominates it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.svg import Scale, picture, shorten, tag, text, text_width
from reports.wording import plural, score

if TYPE_CHECKING:
    import pandas as pd

KIND = "perturbation_screen"
COLUMNS = ("condition", "x", "y", "label", "effect")
#: Genes with a colour of their own, those that dominate most pairs; the others share a faint one.
MOST_GENES = 16
#: Pairs of the list, those of the largest effect.
STRONGEST = 15
#: Points of one figure.
MOST_POINTS = 6_000
WIDTH, MAP, LINE = 560.0, 380.0, 20.0


def screens(rows: Rows, tables: Tables) -> list[Figure]:
    """For each row that was asked for a screen: the layout, and the pairs of the strongest effect."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, table in found.items():
        known = table.dropna(subset=["x", "y", "effect"]).sort_values("effect", ascending=False, kind="stable")
        if not len(known):
            continue
        caption = (
            f"{plural(len(known), 'predicted pair')}, seed {seed}. Near each other: effects that are alike. Colour: "
            "the gene whose single effect is most like that of the pair. Distances between groups mean little."
        )
        if len(known) > MOST_POINTS:
            caption += f" The {MOST_POINTS:,} strongest are drawn."
        title = f"Predicted pairs: {titles[entry]}"
        figures.append(Figure(title, _layout(known.iloc[:MOST_POINTS], known, title), caption))
        title = f"Strongest predicted pairs: {titles[entry]}"
        figures.append(Figure(title, _strongest(known.iloc[:STRONGEST], title), _FOOT))
    return figures


_FOOT = (
    "L2 of the predicted change from control, and the genes that change most. Predictions: none of these was checked."
)


def _layout(drawn: pd.DataFrame, every: pd.DataFrame, label: str) -> Markup:
    sizes = every["label"].value_counts()
    genes = sorted(sizes.index, key=lambda gene: (-sizes[gene], gene))
    hues = {gene: f"c{i}" if i < MOST_GENES else "" for i, gene in enumerate(genes)}
    low_x, high_x, low_y, high_y = (f(drawn[axis]) for axis in ("x", "y") for f in (min, max))
    x, y = Scale(low_x, high_x, 20.0, 980.0), Scale(low_y, high_y, 980.0, 20.0)
    paths: dict[str, list[str]] = {}
    for across, up, gene in drawn[["x", "y", "label"]].itertuples(index=False):
        paths.setdefault(gene, []).append(f"M{x(across):.0f} {y(up):.0f}h0")
    dots = [
        tag("path", tag("title", gene), d="".join(paths[gene]), class_=hues[gene] or "others")
        for gene in reversed(genes)
        if gene in paths
    ]
    wide = 16 if len(drawn) < 1500 else 10
    parts = [tag("g", *dots, transform=f"scale({MAP / 1000:g})", stroke_width=wide)]
    named = [(hues[gene], gene, int(sizes[gene])) for gene in genes[:MOST_GENES]]
    if len(genes) > MOST_GENES:
        rest = genes[MOST_GENES:]
        named.append(("others", plural(len(rest), "other gene"), int(sizes[rest].sum())))
    for place, (hue, gene, n) in enumerate(named):
        at = 16 + LINE * place
        parts.append(tag("circle", cx=MAP + 24, cy=at - 4, r=4.5, class_=f"hued {hue}"))
        number = tag("tspan", f" {n:,}", class_="tick")
        parts.append(tag("text", shorten(gene, WIDTH - MAP - 80), number, x=MAP + 36, y=at, class_="name"))
    return picture(WIDTH, max(MAP, 16 + LINE * len(named)), *parts, label=label, class_="figure umap")


def _strongest(table: pd.DataFrame, label: str) -> Markup:
    """Pair, its effect as a bar with the number, and the genes that change most where the table says so."""
    most = float(table["effect"].max()) or 1.0
    reasons = table["key"] if "key" in table else [""] * len(table)
    parts = []
    for place, (pair, effect, said) in enumerate(zip(table["condition"], table["effect"], reasons, strict=True)):
        at = 16 + 24.0 * place
        hint = tag("title", f"{pair}: {score(effect)}" + (f"; {said}" if said else ""))
        name = text(0, at, shorten(str(pair), 150), class_="name")
        bar = tag("rect", x=160, y=at - 10, width=90 * effect / most, height=12, rx=2, class_="length")
        number = text(258, at, score(effect), class_="value")
        why = shorten(str(said), WIDTH - 310, 11)
        genes = text(310, at, why, class_="pointer") if text_width(why) else Markup()
        parts.append(tag("g", hint, name, bar, number, genes))
    return picture(WIDTH, 24.0 * len(table) + 4, *parts, label=label)
