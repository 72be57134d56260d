"""Heat map of gene-gene similarity: are genes of a program like one another, and unlike those of others?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.artifacts import Tables
from reports.figures.best import Rows, row_titles, shared_tables
from reports.figures.figure import Figure
from reports.figures.heatmap import Cell, HeatRow, heat_map

if TYPE_CHECKING:
    import pandas as pd

KIND = "gene_similarity"
COLUMNS = ("a", "b", "program", "cosine")
#: Genes of one figure.
MOST = 24


def gene_similarities(rows: Rows, tables: Tables) -> list[Figure]:
    """One map per row: genes by programs, the largest program first."""
    seed, found = shared_tables(rows, tables, KIND, COLUMNS)
    titles = row_titles([(entry, column) for entry, column in rows if entry in found])
    figures = []
    for entry, table in found.items():
        title = f"Similarity of genes: {titles[entry]}"
        caption = (
            "Cosine of the vectors, of the most central genes of the largest programs (their number before the gene). "
            f"A shade is for a cosine above 0. Seed {seed}."
        )
        figures.append(Figure(title, _draw(table, title), caption, wide=True))
    return figures


def _draw(table: pd.DataFrame, label: str):
    program = table.drop_duplicates("a").set_index("a")["program"]
    genes = program.index.tolist()[:MOST]
    value = {(a, b): float(cosine) for a, b, cosine in table[["a", "b", "cosine"]].itertuples(index=False)}
    rows = [
        HeatRow(f"{int(program[a]) + 1} {a}", [_cell(a, b, value.get((a, b), float("nan"))) for b in genes])
        for a in genes
    ]
    return heat_map(rows, [(gene, "") for gene in genes], label=label)


def _cell(a: str, b: str, cosine: float) -> Cell | None:
    if cosine != cosine:
        return None
    return Cell(
        f"{cosine:.2f}".replace("0.", ".").replace("-", "\N{MINUS SIGN}"), max(cosine, 0.0), f"{a}, {b}: {cosine:.3f}"
    )
