"""Which row of a file belongs to which cell of a data set, and to which gene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.data import CellData
from harness.errors import InputError
from harness.genes import ENSEMBL, GeneMatch, GeneTable, looks_ensembl, match_exact, strip_version
from models.precomputed.vectors import NamedVectors, few, repeated


def rows_of_cells(vectors: NamedVectors, data: CellData) -> tuple[np.ndarray, dict[str, Any]]:
    """The row of each cell, int (n_obs,), by its name; by order where the file names none. And what to say of it.

    Raises
    ------
    InputError
        Cells without a row, names that several cells bear, or another number of rows where rows have no names.
    """
    if vectors.names is None:
        if len(vectors.matrix) != data.n_obs:
            raise InputError(
                f"{vectors.where} has {len(vectors.matrix)} rows without names, and {data.name} {data.n_obs} cells: "
                "name the rows (model.names=FILE, a line each), or give a row for every cell, in order"
            )
        return np.arange(data.n_obs), {"vectors matched": "by order, as their file names no cells"}
    names = data.obs_names
    if twice := repeated(names):
        raise InputError(
            f"{len(twice)} names of {data.name} are borne by several cells: {few(twice)}; vectors are matched by name. "
            "Make names unique (adata.obs_names_make_unique()), or give vectors without names (.npy) in order"
        )
    row = {name: i for i, name in enumerate(vectors.names.tolist())}
    rows = np.array([row.get(name, -1) for name in names.tolist()], np.int64)
    missing = names[rows < 0]
    if len(missing):
        raise InputError(
            f"{vectors.where} has no vector of {len(missing)} of the {len(names)} cells of {data.name}: {few(missing)}"
            f"; it names {few(vectors.names)}. Every cell needs a row, of NaN where the model could not read it"
        )
    more = len(vectors.names) - len(names)
    return rows, {"vectors of cells that are not in the data set": more} if more else {}


@dataclass(frozen=True)
class GeneVectors:
    """Vectors of genes: float32 (n, d), and the symbols or Ensembl ids they belong to, (n,)."""

    matrix: np.ndarray
    names: np.ndarray
    where: str

    @classmethod
    def of(cls, vectors: NamedVectors) -> GeneVectors:
        """The genes of a file that have a vector; rows of NaN are genes without one.

        Raises
        ------
        InputError
            It names no genes, or has no vector at all.
        """
        if vectors.names is None:
            raise InputError(f"{vectors.where} names no genes: say model.gene_names=FILE (a line each, in order)")
        matrix = vectors.rows()
        known = ~np.isnan(matrix).all(axis=1)
        if not known.any():
            raise InputError(f"{vectors.where} has a vector of no gene: all rows are NaN")
        return cls(matrix[known], vectors.names[known], vectors.where)

    @cached_property
    def symbols(self) -> dict[str, int]:
        """Symbol -> row."""
        return {name: i for i, name in enumerate(self.names.tolist()) if not ENSEMBL.match(name)}

    @cached_property
    def ensembl(self) -> dict[str, int]:
        """Ensembl id without version -> row, the first of two versions."""
        found: dict[str, int] = {}
        for i, name in enumerate(self.names.tolist()):
            if ENSEMBL.match(name):
                found.setdefault(strip_version(name), i)
        return found

    def match(self, table: GeneTable) -> GeneMatch:
        """The row of each gene, by its exact symbol or else by its Ensembl id; -1 where there is none."""
        by_symbol, by_id = match_exact(table, self.symbols), match_exact(table, self.ensembl, "ensembl")
        return GeneMatch(table, np.where(by_symbol.ids >= 0, by_symbol.ids, by_id.ids))

    def refuse_strangers(self, match: GeneMatch, data: str) -> None:
        """Say so where none of the genes is known.

        Raises
        ------
        InputError
            With what the one side and the other call genes.
        """
        if len(match.columns):
            return
        table = match.table
        kinds = {True: "Ensembl ids", False: "symbols"}
        here, there = looks_ensembl(table.names.tolist()), looks_ensembl(self.names.tolist())
        raise InputError(
            f"{self.where} has a vector of none of the {len(table)} genes of {data}: it names {kinds[there]} "
            f"({few(self.names[:3])}), and they are {kinds[here]} ({few(table.names[:3])}). Name the var column that "
            "holds the same: dataset.gene_ids=COLUMN"
        )
