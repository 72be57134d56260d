"""What the genes of a file are: id space, organism, and what is wrong with their names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from harness.genes import ENSEMBL, ENSEMBL_COLUMNS, SYMBOL_COLUMNS, GeneTable, date_mangled, organism_of

EXAMPLES = 5
_BARCODE = re.compile(r"([A-Za-z0-9]+[_:#.-])*[ACGTN]{8,}([-_.:#][A-Za-z0-9]+)*")
_NUMBERED = re.compile(r"(cell|c|barcode|bc|sample)?[-_ ]?\d+", re.IGNORECASE)
#: Human symbols are upper case, but for the open reading frames.
_ORF = re.compile(r"C(\d+|X|Y)orf\d+.*")


@dataclass(frozen=True)
class GeneReport:
    """The genes of a file.

    Parameters
    ----------
    ids
        `Ensembl ids`, `symbols`, `Ensembl ids and symbols`, or `not recognised`.
    where
        `index`, or the var columns the ids are read from.
    organism, evidence
        See `harness.genes.Organism`.
    versions
        Ids with a version (`ENSG….17`); they are cut off.
    duplicates
        Columns whose id an earlier column has.
    dates
        Symbols a spreadsheet turned into dates.
    odd_case
        Symbols that are not written as the organism's are.
    transposed
        Why the file seems to hold genes in rows; None where it does not.
    """

    ids: str
    where: str
    organism: str
    evidence: str
    versions: int
    duplicates: int
    duplicate_examples: tuple[str, ...]
    dates: tuple[str, ...]
    odd_case: int
    odd_case_examples: tuple[str, ...]
    transposed: str | None

    @property
    def known(self) -> bool:
        """Whether ids were recognised."""
        return self.ids != "not recognised"


def inspect_genes(var: Any, obs_names: list[str], gene_ids: str = "auto") -> GeneReport:
    """Look at `var`, and whether genes lie in `obs` instead."""
    table = GeneTable.from_var(var, gene_ids)
    names = table.names.tolist()
    ensembl = [name for name in table.ensembl.tolist() if name]
    symbols = [name for name in table.symbols.tolist() if name and not ENSEMBL.match(name)]
    organism = organism_of(table)
    transposed = _transposed(names, obs_names)
    symbolic = bool(symbols) and not _mostly(_NUMBERED, symbols) and not _mostly(_BARCODE, symbols)
    kinds = [kind for kind, there in (("Ensembl ids", len(ensembl) * 2 > len(names)), ("symbols", symbolic)) if there]
    counted = Counter(
        ensembl if len(ensembl) == len(names) else [s or n for s, n in zip(table.symbols, names, strict=True)]
    )
    twice = [name for name, times in counted.items() if times > 1]
    odd = _odd_case(symbols, organism.name)
    return GeneReport(
        ids=" and ".join(kinds) if kinds and not transposed else "not recognised",
        where=_where(var, gene_ids),
        organism=organism.name if not transposed else "unknown",
        evidence=organism.evidence,
        versions=sum(bool(ENSEMBL.match(n)) and "." in n for n in _raw_ids(var, gene_ids)),
        duplicates=sum(counted[name] - 1 for name in twice),
        duplicate_examples=tuple(twice[:EXAMPLES]),
        # SEPT2 is an old symbol that came through; 2-Sep is one that did not.
        dates=tuple(name for name in date_mangled(symbols) if not name.isalnum())[:EXAMPLES],
        odd_case=len(odd),
        odd_case_examples=tuple(odd[:EXAMPLES]),
        transposed=transposed,
    )


def _mostly(pattern: re.Pattern[str], names: list[str]) -> bool:
    return bool(names) and sum(bool(pattern.fullmatch(name)) for name in names) * 2 > len(names)


def _transposed(var_names: list[str], obs_names: list[str]) -> str | None:
    """Evidence that rows are genes and columns are cells."""
    if _mostly(ENSEMBL, obs_names) and not _mostly(ENSEMBL, var_names):
        return f"the rows are named by Ensembl ids ({', '.join(obs_names[:3])})"
    if _mostly(_BARCODE, var_names) and not _mostly(_BARCODE, obs_names):
        return f"the columns are named by barcodes ({', '.join(var_names[:3])})"
    if _mostly(_BARCODE, obs_names):
        return None
    of_rows = organism_of(GeneTable.from_names(obs_names[:5000]), "symbol")
    if of_rows.name in ("human", "mouse") and _mostly(_NUMBERED, var_names):
        return f"the rows are named as genes ({', '.join(obs_names[:3])}), the columns are numbered"
    return None


def _odd_case(symbols: list[str], organism: str) -> list[str]:
    """Symbols with lower-case letters among human ones, or in no organism's style."""
    if organism == "mouse":
        return [s for s in symbols if s.isupper() and len(s) > 3 and s.isalpha()]
    odd = [s for s in symbols if s != s.upper() and not _ORF.fullmatch(s)]
    return odd if organism == "human" or len(odd) * 2 > len(symbols) else []


def _columns(var: Any) -> list[str]:
    return [c for c in (*SYMBOL_COLUMNS, *ENSEMBL_COLUMNS) if c in var.columns]


def _raw_ids(var: Any, gene_ids: str) -> list[str]:
    columns = _columns(var) if gene_ids == "auto" else [gene_ids] if gene_ids != "index" else []
    return [*var.index.astype(str), *(str(v) for c in columns for v in var[c])]


def _where(var: Any, gene_ids: str) -> str:
    if gene_ids != "auto":
        return gene_ids
    return ", ".join(["index", *_columns(var)])
