"""Alias and previous gene symbols, by a table of the HUGO Gene Nomenclature Committee (HGNC), on request.

By default every model maps genes by its own official rule. `dataset.gene_aliases=FILE` brings the genes of a
data set to approved symbols and Ensembl ids first. What the table leaves open is reported, never guessed.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.genes import ENSEMBL, GeneTable, date_mangled, organism_of, strip_version

#: Names a column goes by: the complete set, the custom download, and a plain list of pairs.
COLUMNS = {
    "approved": ("symbol", "approved_symbol"),
    "alias": ("alias_symbol", "alias_symbols", "symbol_or_alias"),
    "previous": ("prev_symbol", "prev_symbols", "previous_symbol", "previous_symbols"),
    "ensembl": ("ensembl_gene_id", "ensembl_id(supplied_by_ensembl)"),
    "status": ("status",),
}


@dataclass(frozen=True)
class AliasReport:
    """What an alias table did to the genes of a data set, and what it left alone.

    Parameters
    ----------
    renamed
        (symbol of the data, approved symbol).
    ambiguous
        (symbol, candidates): several approved symbols claim the alias; the symbol is left.
    contested
        (approved symbol, others it is an alias of); it is read as the approved one.
    duplicate
        (alias, approved symbol): another column of the data has that symbol; the alias is left.
    merged
        (approved symbol, aliases): several columns stand for one gene now, as the data holds none by its
        approved symbol.
    odd_case
        (symbol, approved symbol) that agree but for upper and lower case; also in `renamed` where resolved.
    date_mangled
        Symbols a spreadsheet has turned into dates, or that look so, and that the table does not know.
    unknown
        Symbols the table does not know at all.
    filled_symbols, filled_ensembl
        Number of columns that got a symbol by their Ensembl id, and the reverse.
    """

    renamed: tuple[tuple[str, str], ...]
    ambiguous: tuple[tuple[str, tuple[str, ...]], ...]
    contested: tuple[tuple[str, tuple[str, ...]], ...]
    duplicate: tuple[tuple[str, str], ...]
    merged: tuple[tuple[str, tuple[str, ...]], ...]
    odd_case: tuple[tuple[str, str], ...]
    date_mangled: tuple[str, ...]
    unknown: tuple[str, ...]
    filled_symbols: int
    filled_ensembl: int

    def describe(self, limit: int = 5) -> str:
        """One line: counts, and up to `limit` examples of each kind."""

        def some(items: Iterable[Any]) -> str:
            items = list(items)
            text = []
            for item in items[:limit]:
                name, others = item if isinstance(item, tuple) else (item, "")
                others = others if isinstance(others, str) else " or ".join(others)
                text.append(f"{name} → {others}" if others else name)
            return ", ".join(text) + (f", … {len(items) - limit} more" if len(items) > limit else "")

        parts = [f"{len(self.renamed)} symbols renamed" + (f" ({some(self.renamed)})" if self.renamed else "")]
        for items, words in (
            (self.ambiguous, "ambiguous and left"),
            (self.contested, "read as approved although also an alias"),
            (self.duplicate, "left because another column has the approved symbol"),
            (self.merged, "genes now stand in several columns"),
            (self.odd_case, "in odd case"),
            (self.date_mangled, "look like dates and are left"),
        ):
            if items:
                parts.append(f"{len(items)} {words} ({some(items)})")
        if self.filled_symbols or self.filled_ensembl:
            parts.append(f"{self.filled_symbols} symbols and {self.filled_ensembl} Ensembl ids filled in")
        if self.unknown:
            parts.append(f"{len(self.unknown)} not in the table")
        return "; ".join(parts)


class AliasTable:
    """Approved symbols with their aliases, previous symbols and Ensembl ids.

    Parameters
    ----------
    aliases
        Alias or previous symbol -> approved symbols that claim it.
    ensembl
        Approved symbol -> Ensembl gene id without version, "" where unknown.
    source
        Where it came from, for messages.
    """

    def __init__(self, aliases: Mapping[str, set[str]], ensembl: Mapping[str, str], source: str = "alias table"):
        self.aliases, self.ensembl, self.source = aliases, ensembl, source
        times = Counter(value for value in ensembl.values() if value)
        self.symbol_of = {value: key for key, value in ensembl.items() if times[value] == 1}
        self._folded: dict[str, set[str]] = defaultdict(set)  # casefolded -> approved
        for symbol in ensembl:
            self._folded[symbol.casefold()].add(symbol)
        approved = set(self._folded)  # in whatever case, an approved symbol goes before an alias
        for alias, symbols in aliases.items():
            if alias.casefold() not in approved:
                self._folded[alias.casefold()] |= symbols

    def __len__(self) -> int:
        return len(self.ensembl)

    @classmethod
    def read(cls, path: str | Path) -> AliasTable:
        """Read a HGNC table: tab separated, plain or `.gz`.

        The complete set (`symbol`, `alias_symbol`, `prev_symbol`, `ensembl_gene_id`, `status`; several names
        joined by `|`), the custom download (`Approved symbol`, `Alias symbols`, `Previous symbols`,
        `Ensembl gene ID`, `Status`; joined by a comma), or pairs (`symbol_or_alias`, `approved_symbol`). Rows
        whose status is not `Approved` are left out.

        Raises
        ------
        InputError
            The file is missing, damaged, or has no column of approved symbols and of aliases.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"dataset.gene_aliases={path} does not exist; a HGNC table (tsv) is expected")
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as stream:
                header, *rows = list(csv.reader(stream, delimiter="\t")) or [[]]
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"dataset.gene_aliases={path} cannot be read as a HGNC table: {error}") from None
        found = [name.strip().lower().replace(" ", "_") for name in header]
        where = {role: [found.index(n) for n in names if n in found] for role, names in COLUMNS.items()}
        if not where["approved"] or not (where["alias"] or where["previous"]):
            raise InputError(
                f"dataset.gene_aliases={path} has the columns {', '.join(header) or 'none'}; a tab-separated "
                "HGNC table is expected, with symbol, alias_symbol and prev_symbol (or: Approved symbol, "
                "Alias symbols, Previous symbols)"
            )
        return cls._of_rows(rows, where, str(path))

    @classmethod
    def _of_rows(cls, rows: list[list[str]], where: dict[str, list[int]], source: str) -> AliasTable:
        def first(row: list[str], role: str) -> str:
            return next((row[i].strip() for i in where[role] if i < len(row) and row[i].strip()), "")

        columns = where["alias"] + where["previous"]
        joined_by = {i: "|" if any(i < len(row) and "|" in row[i] for row in rows) else ", " for i in columns}
        aliases: dict[str, set[str]] = defaultdict(set)
        ensembl: dict[str, str] = {}
        for row in rows:
            approved = first(row, "approved")
            if not approved or (where["status"] and first(row, "status") != "Approved"):
                continue
            ensembl[approved] = strip_version(first(row, "ensembl")) or ensembl.get(approved, "")
            for i in columns:
                names = row[i].split(joined_by[i]) if i < len(row) else []
                for alias in filter(None, map(str.strip, names)):
                    if alias != approved:
                        aliases[alias].add(approved)
        return cls(aliases, ensembl, source)

    def approved(self, symbol: str, ensembl: str = "") -> tuple[str, ...]:
        """The approved symbols a name may stand for, sorted: exact spelling only, () if unknown.

        An Ensembl id decides between the candidates of an ambiguous alias.
        """
        if symbol in self.ensembl:
            return (symbol,)
        candidates = self.aliases.get(symbol, set())
        by_id = self.symbol_of.get(ensembl)
        return (by_id,) if by_id in candidates else tuple(sorted(candidates))

    def resolve(self, table: GeneTable, *, fold_case: bool = True) -> tuple[GeneTable, AliasReport]:
        """Approved symbols and Ensembl ids for the genes of a data set.

        Symbols are filled in from Ensembl ids and the reverse; alias and previous symbols are replaced by the
        approved symbol where exactly one claims them and no other column has it. `names` stay as they are.

        Parameters
        ----------
        fold_case
            Resolve symbols in odd case (`cd3d`) where exactly one gene is meant. Not done for names in mouse
            style: `Cd3d` is no human gene.
        """
        fold_case = fold_case and organism_of(table).name in ("human", "unknown")
        old, ids = table.symbols.tolist(), table.ensembl.tolist()
        present = {symbol for symbol in old if symbol in self.ensembl}
        found = _Findings()
        # Columns that go by an Ensembl id alone. (One Ensembl id is an alias in its own right.)
        named = [not name or bool(ENSEMBL.match(name) and name not in self.aliases) for name in old]
        by_id = [self.symbol_of.get(ensembl, "") if bare else "" for bare, ensembl in zip(named, ids, strict=True)]
        present_or_filled = present | set(by_id)
        new = []
        for symbol, ensembl, bare, approved in zip(old, ids, named, by_id, strict=True):
            if not bare:
                approved = self._settle(symbol, ensembl, fold_case, found)
            if approved and approved != symbol and approved in (present if bare else present_or_filled):
                found.duplicate[symbol or ensembl] = approved
                approved = ""
            if approved and not bare:
                found.claims[approved].add(symbol)
            new.append(approved or symbol)
        taken = set(ids)
        filled = [
            ensembl or (self.ensembl.get(symbol, "") if self.ensembl.get(symbol) not in taken else "")
            for symbol, ensembl in zip(new, ids, strict=True)
        ]
        dates = set(date_mangled(found.unknown))
        report = AliasReport(
            renamed=tuple(dict.fromkeys(pair for pair in zip(old, new, strict=True) if pair[0] and pair[0] != pair[1])),
            ambiguous=tuple(found.ambiguous.items()),
            contested=tuple(found.contested.items()),
            duplicate=tuple(found.duplicate.items()),
            merged=tuple(
                (approved, tuple(sorted(names))) for approved, names in found.claims.items() if len(names) > 1
            ),
            odd_case=tuple(found.odd_case.items()),
            date_mangled=tuple(name for name in found.unknown if name in dates),
            unknown=tuple(name for name in found.unknown if name not in dates),
            filled_symbols=sum(not a and bool(b) for a, b in zip(old, new, strict=True)),
            filled_ensembl=sum(not a and bool(b) for a, b in zip(ids, filled, strict=True)),
        )
        return replace(table, symbols=np.asarray(new, np.str_), ensembl=np.asarray(filled, np.str_)), report

    def _settle(self, symbol: str, ensembl: str, fold_case: bool, found: _Findings) -> str:
        """The approved symbol of one symbol, "" where there is none or more than one; notes what it saw."""
        candidates = self.approved(symbol, ensembl)
        if candidates == (symbol,) and symbol in self.aliases:
            found.contested[symbol] = tuple(sorted(self.aliases[symbol]))
        if not candidates:
            candidates = tuple(sorted(self._folded.get(symbol.casefold(), ())))
            if len(candidates) == 1:
                found.odd_case[symbol] = candidates[0]
                return candidates[0] if fold_case else ""
        if not candidates:
            found.unknown[symbol] = None
        elif len(candidates) > 1:
            found.ambiguous[symbol] = candidates
        return candidates[0] if len(candidates) == 1 else ""


@dataclass
class _Findings:
    """What `AliasTable.resolve` meets on its way, in the order of the columns."""

    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    contested: dict[str, tuple[str, ...]] = field(default_factory=dict)
    duplicate: dict[str, str] = field(default_factory=dict)
    odd_case: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    claims: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
