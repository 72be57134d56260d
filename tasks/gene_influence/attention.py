"""Influence by attention, and what the cell itself reads: the genes of each type, and how many of them are lncRNAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.model import ModelAdapter
    from harness.tokens import TypeScores
    from tasks.gene_influence.tables import Biotypes

#: Genes of a type that are listed, as many as in the CellFM paper's report of lncRNAs.
TOP_GENES = 100
LNCRNA = "lncRNA"


def attention_influence(
    model: ModelAdapter, cells: CellData, columns: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean share of a gene in what every other gene reads, over cells that have both.

    Parameters
    ----------
    cells
        Cells that express the perturbed gene.
    columns
        Its columns, int; one of them has a token.

    Returns
    -------
    influence : float64 (n_vars,), NaN where no cell has the gene
    times : int64 (n_vars,), cells that have it

    Raises
    ------
    NotApplicableError
        The model has no attention scores.
    """
    match = model.match_genes(cells.genes)
    token = next(int(i) for i in match.ids[columns] if i >= 0)
    found = model.attention_by_type(cells, [""] * cells.n_obs, read=str(model.token_names[token]), seed=seed)
    place = {name: i for i, name in enumerate(found.genes.tolist())}
    influence, times = np.full(cells.n_vars, np.nan), np.zeros(cells.n_vars, np.int64)
    for column in match.columns.tolist():
        i = place.get(str(model.token_names[match.ids[column]]))
        if i is not None and len(found.types):
            influence[column], times[column] = found.scores[0, i], found.cells[0, i]
    return influence, times


def attention_table(scores: TypeScores, biotypes: Biotypes | None, min_cells: int) -> pd.DataFrame:
    """The genes that each type reads most: cell_type, place, name, score, cells, biotype ("" where unknown)."""
    import pandas as pd

    rows = []
    for t, kind in enumerate(scores.types.tolist()):
        place = {name: i for i, name in enumerate(scores.genes.tolist())}
        for n, name in enumerate(scores.top(kind, TOP_GENES, min_cells=min_cells), 1):
            i = place[name]
            biotype = "" if biotypes is None else biotypes.of.get(name, "")
            rows.append((kind, n, name, float(scores.scores[t, i]), int(scores.cells[t, i]), biotype))
    return pd.DataFrame(rows, columns=["cell_type", "place", "name", "score", "cells", "biotype"])


def lncrna_table(scores: TypeScores, biotypes: Biotypes, min_cells: int) -> pd.DataFrame:
    """How many lncRNAs are among the genes that a type reads most, beside what chance gives.

    The report of the CellFM paper (its 100 genes a type), with what it lacks: `expected` is the mean of the
    hypergeometric distribution over the genes of a known biotype that the type expresses, `p` its upper tail.
    """
    import pandas as pd
    from scipy.stats import hypergeom

    rows = []
    for t, kind in enumerate(scores.types.tolist()):
        kinds = np.array([biotypes.of.get(name, "") for name in scores.genes.tolist()], np.str_)
        known = (scores.cells[t] >= max(min_cells, 1)) & (kinds != "")
        genes, values, long = scores.genes[known], scores.scores[t, known], kinds[known] == LNCRNA
        best = np.argsort(-values, kind="stable")[:TOP_GENES]
        n, k, found = len(genes), int(long.sum()), best[long[best]]
        chance = hypergeom(n, k, len(best))
        rows.append(
            {
                "cell_type": kind,
                "genes_read": len(best),
                "lncrnas": len(found),
                "expected": float(chance.mean()) if n else np.nan,
                "p": float(chance.sf(len(found) - 1)) if n else np.nan,
                "expressed": n,
                "expressed_lncrnas": k,
                "genes": ", ".join(genes[found].tolist()),
            }
        )
    return pd.DataFrame(rows)
