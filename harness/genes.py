"""Gene identifiers: the genes of a data set, and what of them a model's vocabulary knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.errors import InputError

ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{6,}(\.\d+)?(_PAR_Y)?$")

#: Columns of `var` that are looked at for symbols and Ensembl ids, in this order.
SYMBOL_COLUMNS = (
    "gene_symbol",
    "gene_symbols",
    "feature_name",
    "gene_name",
    "gene_names",
    "symbol",
    "hgnc_symbol",
)
ENSEMBL_COLUMNS = (
    "ensembl_id",
    "ensembl_ids",
    "gene_ids",
    "gene_id",
    "feature_id",
    "ensembl",
    "ensembl_gene_id",
)


_MONTH = "(jan|feb|mar|march|marc|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)"
#: What a spreadsheet makes of MARCHF1 or SEPTIN2, and the old symbols (SEPT2, DEC1) it makes it of.
_DATE = re.compile(
    rf"\d{{1,4}}[-/ ]{_MONTH}([-/ ]\d{{2,4}})?|{_MONTH}[-/ ]?\d{{1,2}}|{_MONTH}[-/ ]\d{{4}}"
    r"|\d{4}-\d\d-\d\d( 00:00:00)?|\d{1,2}/\d{1,2}/\d{2,4}|\d(\.\d+)?E\+\d+",
    re.IGNORECASE,
)


def strip_version(ensembl_id: str) -> str:
    """`ENSG00000141510.17` -> `ENSG00000141510`."""
    return ensembl_id.split(".", 1)[0]


def looks_ensembl(names: Iterable[str]) -> bool:
    """Whether most of the names that are not empty are Ensembl gene ids."""
    names = [name for name in names if name]
    return bool(names) and sum(bool(ENSEMBL.match(name)) for name in names) * 2 > len(names)


def date_mangled(names: Iterable[str]) -> list[str]:
    """Names a spreadsheet made of symbols (`1-Mar`, `2001-03-01`), or makes dates of (`SEPT2`, `DEC1`)."""
    return [name for name in names if _DATE.fullmatch(name)]


def _unicode(names: Iterable[str]) -> np.ndarray:
    return np.asarray(list(names), dtype=np.str_)


def _text(column: Any) -> list[str]:
    return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def _without_versions(names: Iterable[str]) -> np.ndarray:
    return _unicode(strip_version(name) if ENSEMBL.match(name) else name for name in names)


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

        Raises
        ------
        InputError
            No column has that name; the message lists those there are.
        """
        names = np.asarray(var.index.astype(str), dtype=np.str_)
        if gene_ids not in ("auto", "index"):
            if list(var.columns).count(gene_ids) != 1:
                columns = ", ".join(map(str, var.columns)) or "none"
                raise InputError(
                    f"dataset.gene_ids={gene_ids}: one var column of that name is expected; the columns are: "
                    f"{columns}. Name one of them, or say index or auto"
                )
            return replace(cls.from_names(_text(var[gene_ids])), names=names)
        table = cls.from_names(names.tolist())
        if gene_ids == "index":
            return table
        symbols, ensembl = table.symbols, table.ensembl
        if all(map(str.isdigit, names.tolist())):  # a plain row number names no gene
            symbols = np.full(len(names), "", np.str_)
        for column in SYMBOL_COLUMNS:
            if list(var.columns).count(column) == 1 and not symbols.any():
                values = _text(var[column])
                symbols = symbols if looks_ensembl(values) else _unicode(values)
        # A few Ensembl ids among the symbols of the index do not make a column of them superfluous.
        complete = looks_ensembl(names.tolist())
        for column in ENSEMBL_COLUMNS:
            if list(var.columns).count(column) == 1 and not complete:
                values = _text(var[column])
                if looks_ensembl(values) or column.startswith("ensembl"):
                    ids = _without_versions(values)
                    ensembl = np.where(ids == "", ensembl, ids)
                    complete = looks_ensembl(values)
        return cls(names, symbols, ensembl)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> GeneTable:
        """A table from one list of ids, symbols or Ensembl ids, recognised by their form.

        Among symbols, the genes that have none and stand by their Ensembl id get it as such too.
        """
        array = _unicode(map(str, names))
        if looks_ensembl(array.tolist()):
            return cls(array, np.full(len(array), "", np.str_), _without_versions(array.tolist()))
        ensembl = (strip_version(name) if ENSEMBL.match(name) else "" for name in array.tolist())
        return cls(array, array, _unicode(ensembl))

    @property
    def n_duplicates(self) -> int:
        """Columns whose id an earlier column has; legal, and every model has its rule for them."""
        ids = self.ensembl if looks_ensembl(self.names.tolist()) else self.symbols
        ids = ids[ids != ""]
        return len(ids) - len(np.unique(ids))


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


@dataclass(frozen=True)
class Organism:
    """What organism gene ids are of: `human`, `mouse`, … or `unknown`, and the evidence in words."""

    name: str
    evidence: str


#: Ensembl prefix -> species, as `ModelSpec.species` names them.
ENSEMBL_SPECIES = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSDARG": "zebrafish",
    "ENSSSCG": "pig",
    "ENSMMUG": "macaca_mulatta",
    "ENSMFAG": "macaca_fascicularis",
    "ENSMICG": "mouse_lemur",
    "ENSXETG": "frog",
    "ENSGALG": "chicken",
    "ENSBTAG": "cow",
}
_MOUSE_STYLE = re.compile(r"^(mt-)?[A-Z][a-z]+[0-9a-z.-]*[A-Za-z0-9.-]*$|^\d{7}[A-Z]\d{2}Rik$")
_HUMAN_STYLE = re.compile(r"^(C(\d+|X|Y)orf\d+.*|[A-Z][A-Z0-9.-]*[A-Z0-9])$")
#: Fewer different stems than this (Gene1, Gene2, …) are somebody's numbering, not the style of an organism.
_MIN_STEMS = 5


def organism_of(table: GeneTable, gene_ids: str = "ensembl") -> Organism:
    """The organism of a table, by the prefix of its Ensembl ids and by the style of its symbols.

    Mouse (and rat) symbols are written `Cd3d`, human ones `CD3D`; `C1orf12` is human.

    Parameters
    ----------
    gene_ids
        Whose word goes first where both say something: `ensembl`, else the symbols.
    """
    found = [_by_prefix(table.ensembl.tolist()), _by_style([name for name in table.symbols.tolist() if name])]
    if gene_ids != "ensembl":
        found.reverse()
    return next((organism for organism in found if organism), Organism("unknown", "no id of a recognised style"))


def _by_prefix(ensembl: list[str]) -> Organism | None:
    prefixes = [name.rstrip("0123456789") for name in ensembl if ENSEMBL.match(name)]
    if not prefixes:
        return None
    found, times = np.unique(prefixes, return_counts=True)
    prefix, n = str(found[times.argmax()]), int(times.max())
    evidence = f"{n} of {len(prefixes)} Ensembl ids start with {prefix}"
    return Organism(ENSEMBL_SPECIES.get(prefix, "another species"), evidence)


def _by_style(symbols: list[str]) -> Organism | None:
    for name, style in (("mouse", _MOUSE_STYLE), ("human", _HUMAN_STYLE)):
        matching = [symbol for symbol in symbols if style.match(symbol)]
        stems = {symbol.rstrip("0123456789.-_").casefold() for symbol in matching}
        if len(matching) * 2 > len(symbols) and len(stems) >= _MIN_STEMS:
            examples = ", ".join(matching[:5])
            evidence = f"{len(matching)} of {len(symbols)} symbols are written as those of {name} ({examples})"
            return Organism(name, evidence)
    return None


def refuse_other_species(
    model: str, species: Sequence[str], table: GeneTable, source: str = "the data", gene_ids: str = "symbol"
) -> None:
    """Refuse genes of a species a model does not cover; unrecognised ones pass (coverage judges them).

    Parameters
    ----------
    model
        Name, for the message.
    species, gene_ids
        Of the model's `ModelSpec`. A model that reads any column (`any`) covers every species.

    Raises
    ------
    InputError
        With the evidence.
    """
    organism = organism_of(table, gene_ids)
    if organism.name not in ("unknown", *species) and gene_ids != "any":
        raise InputError(
            f"{source} holds genes of {organism.name} ({organism.evidence}); {model} covers "
            f"{', '.join(species)}. Map the genes to orthologs of {species[0]} first, or choose another model"
        )
