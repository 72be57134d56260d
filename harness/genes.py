"""Gene identifiers: the genes of a data set, and what of them a model's vocabulary knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{6,}(\.\d+)?$")

#: Columns of `var` that are looked at for symbols and Ensembl ids, in this order.
SYMBOL_COLUMNS = ("gene_symbol", "gene_symbols", "feature_name", "gene_name", "gene_names", "symbol", "hgnc_symbol")
ENSEMBL_COLUMNS = ("ensembl_id", "ensembl_ids", "gene_ids", "gene_id", "feature_id", "ensembl", "ensembl_gene_id")


def _text(column: Any) -> list[str]:
    return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def strip_version(ensembl_id: str) -> str:
    """`ENSG00000141510.17` -> `ENSG00000141510`."""
    return ensembl_id.split(".", 1)[0]


def looks_ensembl(names: Iterable[str]) -> bool:
    """Whether most of the names are Ensembl gene ids."""
    names = list(names)
    return bool(names) and sum(bool(ENSEMBL.match(name)) for name in names) * 2 > len(names)


@dataclass(frozen=True, eq=False)
class GeneTable:
    """The genes of a data set, one entry per column of its matrix, in column order.

    Parameters
    ----------
    names
        What the user calls them (the `var` index), unicode (n,).
    symbols
        Gene symbols, "" where unknown.
    ensembl
        Ensembl gene ids without version, "" where unknown.
    """

    names: np.ndarray
    symbols: np.ndarray
    ensembl: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_var(cls, var: Any, gene_ids: str = "auto") -> GeneTable:
        """The table of an AnnData `var`.

        Parameters
        ----------
        var
            DataFrame, one row per gene.
        gene_ids
            `auto`: the index, and beside it the columns that hold symbols and Ensembl ids; `index`: the index
            alone; else the column that holds the ids.
        """
        names = np.asarray(var.index.astype(str), dtype=np.str_)
        if gene_ids not in ("auto", "index"):
            ids = cls.from_names(_text(var[gene_ids]))
            return cls(names, ids.symbols, ids.ensembl)
        table = cls.from_names(names.tolist())
        if gene_ids == "index":
            return table
        symbols, ensembl = table.symbols, table.ensembl
        for column in SYMBOL_COLUMNS:
            if column in var.columns and not symbols.any():
                symbols = np.asarray(_text(var[column]), np.str_)
        for column in ENSEMBL_COLUMNS:
            if column in var.columns and not ensembl.any():
                ensembl = np.asarray([strip_version(name) for name in _text(var[column])], np.str_)
        return cls(names, symbols, ensembl)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> GeneTable:
        """A table from one list of ids, symbols or Ensembl ids, recognised by their form."""
        array = np.asarray([str(name) for name in names], dtype=np.str_)
        empty = np.full(len(array), "", dtype=np.str_)
        if looks_ensembl(array.tolist()):
            return cls(array, empty, np.asarray([strip_version(name) for name in array.tolist()], np.str_))
        return cls(array, array, empty)


@dataclass(frozen=True, eq=False)
class GeneMatch:
    """How the columns of a data set map to a model's token ids.

    Parameters
    ----------
    table
        The data set's genes.
    ids
        int64 (n_genes,), the model's token id of each column, -1 where the vocabulary has none.
    """

    table: GeneTable
    ids: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """Columns the model knows, ascending, int64."""
        return np.flatnonzero(self.ids >= 0)

    @property
    def unmatched(self) -> np.ndarray:
        """Names of the columns the model does not know."""
        return self.table.names[self.ids < 0]


def match_exact(table: GeneTable, vocabulary: Mapping[str, int], kind: str = "symbol") -> GeneMatch:
    """Match by exact, case-sensitive name; `kind` is `symbol` or `ensembl`."""
    wanted: Any = table.symbols if kind == "symbol" else table.ensembl
    ids = np.fromiter((vocabulary.get(name, -1) for name in wanted.tolist()), np.int64, len(table))
    return GeneMatch(table, ids)
