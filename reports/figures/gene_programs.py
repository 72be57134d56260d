"""Table of gene programs: their most central genes, and the gene set each is most enriched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.svg import line, picture, shorten, tag, text
from reports.wording import plural, score

if TYPE_CHECKING:
    import pandas as pd

KIND = "gene_programs"
COLUMNS = ("resolution", "program", "size", "genes", "set", "overlap", "q")
#: Programs of one table, the largest.
MOST = 15
#: A set is enriched below.
LEVEL = 0.05
WIDTH, ROW, TOP = 1080.0, 22.0, 22.0
#: Column heads and where they start; numbers end there.
AT = {"program": 52.0, "genes": 108.0, "most central genes": 124.0, "gene set": 560.0, "shared": 980.0, "q": 1070.0}


def gene_programs(rows: Rows, tables: Tables) -> list[Figure]:
    """A table per row, of the middle resolution."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, table in found.items():
        steps = sorted(set(table["resolution"].dropna()))
        if not steps:
            continue
        middle = steps[len(steps) // 2]
        own = table[table["resolution"] == middle].sort_values("size", ascending=False, kind="stable")
        caption = (
            f"Resolution {middle:g}, seed {seed}. The gene set of the least p; faint where it is not enriched "
            f"(q of Benjamini and Hochberg, {LEVEL:g})."
        )
        if len(own) > MOST:
            caption += f" The {MOST} largest of {plural(len(own), 'program')}."
        title = f"Programs and what they are enriched for: {titles[entry]}"
        figures.append(Figure(title, _draw(own.iloc[:MOST], title), caption, wide=True))
    return figures


def _draw(table: pd.DataFrame, label: str) -> Markup:
    numbers = ("program", "genes", "shared", "q")
    parts = [text(x, 12, head, anchor="end" if head in numbers else None, class_="axis") for head, x in AT.items()]
    for i, (program, size, genes, name, overlap, q) in enumerate(table[list(COLUMNS[1:])].itertuples(index=False)):
        y = TOP + ROW * i
        style = "value" if q < LEVEL else "missing"
        parts.append(line(0, y, WIDTH, y, "rule"))
        cells = [
            text(AT["program"], y + 15, f"{int(program) + 1}", anchor="end", class_="value"),
            text(AT["genes"], y + 15, f"{int(size):,}", anchor="end", class_="value"),
            text(AT["most central genes"], y + 15, shorten(str(genes), AT["gene set"] - 140, 12), class_="name"),
            text(AT["gene set"], y + 15, shorten(str(name) or "–", 370), class_=style),
            text(AT["shared"], y + 15, "–" if overlap != overlap else f"{int(overlap)}", anchor="end", class_=style),
            text(AT["q"], y + 15, "–" if q != q else score(q), anchor="end", class_=style),
        ]
        parts.append(tag("g", tag("title", f"{genes}" + (f"; {name}" if name else "")), *cells))
    return picture(WIDTH, TOP + ROW * len(table) + 2, *parts, label=label)
