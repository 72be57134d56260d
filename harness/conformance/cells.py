"""Made cells for the conformance checks: ordinary ones, and every kind that has broken a wrapper before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from harness.genes import GeneTable

N_ORDINARY = 15
N_UNKNOWN = 6


def made_genes(n: int, prefix: str = "MADE", start: int = 0) -> GeneTable:
    """`n` genes that exist nowhere, with symbols and Ensembl ids."""
    symbols = np.asarray([f"{prefix}{start + i:04d}" for i in range(n)], np.str_)
    number = sum(map(ord, prefix)) * 100_000
    ensembl = np.asarray([f"ENSG{number + start + i:011d}" for i in range(n)], np.str_)
    return GeneTable(symbols, symbols, ensembl)


def unknown_genes(n: int = N_UNKNOWN, start: int = 0) -> GeneTable:
    """`n` genes no vocabulary holds."""
    return made_genes(n, "UNKNOWN", start)


def concatenated(first: GeneTable, second: GeneTable) -> GeneTable:
    """The genes of both, in order."""
    return GeneTable(
        np.concatenate([first.names, second.names]),
        np.concatenate([first.symbols, second.symbols]),
        np.concatenate([first.ensembl, second.ensembl]),
    )


def cells_with(counts: Any, genes: GeneTable, names: Any = None) -> Any:
    """An AnnData of counts (n, n_genes); `var` has the names as index, and the Ensembl ids where there are any."""
    import warnings

    import anndata

    var = pd.DataFrame(index=pd.Index(genes.names.astype(object)))
    if genes.ensembl.any() and genes.symbols.any():
        var["ensembl_id"] = genes.ensembl.astype(object)
    names = [f"cell-{i}" for i in range(counts.shape[0])] if names is None else list(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicated gene names are what one of the checks is about
        return anndata.AnnData(counts, obs=pd.DataFrame(index=names), var=var)


def made_cells(genes: GeneTable, seed: int = 7) -> Any:
    """About two dozen cells over `genes` and a few genes no model knows; raw counts, float32 CSR.

    The names of the cells say what each one is for: `empty`, `one-gene`, `two-genes`, `ties` (all counts 1),
    `twin` (the counts of another cell), `crowded` (every gene: longer than a context), `deep` (very many
    counts), `strangers` (counts in unknown genes only), and ordinary ones between them.
    """
    rng = np.random.default_rng(seed)
    n = len(genes)
    level = rng.lognormal(0.0, 1.0, n)
    table = concatenated(genes, unknown_genes())
    rows: list[tuple[str, np.ndarray]] = []

    def cell(name: str, k: int, depth: float = 1.0) -> np.ndarray:
        row = np.zeros(len(table))
        chosen = rng.choice(n, min(k, n), replace=False, p=level / level.sum())
        row[chosen] = 1 + rng.poisson(level[chosen] * depth)
        row[n + rng.integers(N_UNKNOWN)] = 1 + rng.poisson(1.0)
        rows.append((name, row))
        return row

    for i in range(N_ORDINARY):
        cell(f"ordinary-{i}", int(rng.integers(18, 60)), rng.uniform(0.5, 4.0))
    cell("crowded", n, 2.0)
    deep = cell("deep", 40)
    deep[:n] = np.rint(deep[:n] * (150_000 / deep[:n].sum()))
    ties = cell("ties", 25)
    ties[ties > 0] = 1
    cell("two-genes", 2, 3.0)
    one = np.zeros(len(table))
    one[n // 2] = 7
    strangers = np.zeros(len(table))
    strangers[n:] = 3
    rows += [
        ("twin", rows[3][1].copy()),
        ("one-gene", one),
        ("empty", np.zeros(len(table))),
        ("strangers", strangers),
    ]
    rows = [rows[i] for i in rng.permutation(len(rows))]  # no special cell at an end
    names, counts = zip(*rows, strict=True)
    return cells_with(sp.csr_matrix(np.asarray(counts, np.float32)), table, names)
