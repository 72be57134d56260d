"""CellFM's gene tables: the vocabulary, the HGNC alias table, and the official way to match names to them."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.genes import GeneTable

SYMBOL = "HGNC_gene"
ALIAS_COLUMNS = ("Approved symbol", "Status", "Alias symbols", "Previous symbols")


def read_vocabulary(path: Path) -> np.ndarray:
    """Symbols in file order, unicode (n_genes,); the token id of a gene is its row plus one.

    Raises
    ------
    InputError
        The table has no `HGNC_gene` column, an empty symbol, or a symbol twice.
    """
    rows = _read(path, (SYMBOL,), ",")
    symbols = [row[SYMBOL] for row in rows]
    seen: dict[str, int] = {}
    for line, symbol in enumerate(symbols, start=2):
        if not symbol:
            raise InputError(f"{path}, line {line}: no symbol; a token id is a row's number, so none may be empty")
        if symbol in seen:
            raise InputError(
                f"{path}: {symbol} stands in lines {seen[symbol]} and {line}; symbols must be unique. "
                "Take the table from the CellFM release again"
            )
        seen[symbol] = line
    if not symbols:
        raise InputError(f"{path} holds no gene; expected one symbol per line under {SYMBOL}")
    return np.asarray(symbols, np.str_)


def write_vocabulary(path: Path, symbols: Iterable[str]) -> None:
    """Write a table that `read_vocabulary` reads back."""
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([SYMBOL])
        writer.writerows([symbol] for symbol in symbols)


def read_aliases(path: Path) -> dict[str, str]:
    """Alias -> approved symbol, from the HGNC table `updated_hgcn.tsv` as the authors read it.

    Approved entries only; a name that is itself approved is never an alias; a later row wins over an earlier
    one, and a previous symbol over an alias symbol.

    Raises
    ------
    InputError
        A column is missing.
    """
    rows = [row for row in _read(path, ALIAS_COLUMNS, "\t") if row["Status"] == "Approved"]
    approved = {row["Approved symbol"] for row in rows}
    aliases: dict[str, str] = {}
    for column in ("Alias symbols", "Previous symbols"):
        for row in rows:
            for name in (row[column] or "").split(", "):
                if name and name not in approved:
                    aliases[name] = row["Approved symbol"]
    return aliases


def write_aliases(path: Path, aliases: Mapping[str, str]) -> None:
    """Write a table that `read_aliases` reads back as the same mapping."""
    names: dict[str, list[str]] = {}
    for alias, symbol in aliases.items():
        names.setdefault(symbol, []).append(alias)
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(ALIAS_COLUMNS)
        writer.writerows([symbol, "Approved", ", ".join(found), ""] for symbol, found in names.items())


def _read(path: Path, columns: Iterable[str], delimiter: str) -> list[dict[str, str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                found = ", ".join(reader.fieldnames or []) or "nothing"
                raise InputError(f"{path} has no column {', '.join(missing)}; its first line holds {found}")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({error})") from None


def symbols_of(table: GeneTable) -> np.ndarray:
    """What a column is called for CellFM: its symbol, or its name where it has none."""
    return np.where(table.symbols != "", table.symbols, table.names)


def approved_names(symbols: np.ndarray, vocabulary: Collection[str], aliases: Mapping[str, str]) -> np.ndarray:
    """The names after the authors' alias step (their `process.ipynb`), in the same order.

    Every symbol outside the vocabulary, in sorted order, becomes its approved symbol unless that one is
    already among the names: GNB2L1 beside RACK1 stays as it is, and is not summed.
    """
    present = set(symbols.tolist())
    renamed: dict[str, str] = {}
    for name in sorted(present.difference(vocabulary)):
        symbol = aliases.get(name)
        if symbol is not None and symbol not in present:
            renamed[name] = symbol
            present.add(symbol)
    return np.asarray([renamed.get(name, name) for name in symbols.tolist()], np.str_)


def match_names(names: np.ndarray, vocabulary: Mapping[str, int]) -> np.ndarray:
    """Token id of each name, -1 for none; of equal names only the first counts (numpy's `intersect1d`)."""
    ids = np.fromiter((vocabulary.get(name, -1) for name in names.tolist()), np.int64, len(names))
    repeat = np.ones(len(ids), bool)
    repeat[np.unique(ids, return_index=True)[1]] = False
    return np.where(repeat, -1, ids)
