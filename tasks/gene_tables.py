"""Tables of genes as they come: with commas or tabs, gzipped or not, from whatever program."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path, setting: str, by_name: bool = False) -> pd.DataFrame:
    """A table with a header as text, without spaces around names and values.

    Parameters
    ----------
    by_name
        Commas in `.csv` and tabs in all else; if not, tabs where the header has one, else commas.

    Raises
    ------
    InputError
        It is empty, damaged, not UTF-8, or its rows are longer than its header; by name also: it has one column.
    """
    import pandas as pd

    commas = ".csv" in path.name.lower()
    try:
        separator = ("," if commas else "\t") if by_name else _separator(path)
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise InputError(f"{setting}={path}: it cannot be read as a table (the file is empty)") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{setting}={path}: it cannot be read as a table ({' '.join(str(error).split())})") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{setting}={path.name}: rows have more fields than the header")
    if by_name and len(table.columns) == 1:
        raise InputError(
            f"{setting}={path.name}: one column, {table.columns[0]}; columns are separated by "
            + ("commas in a .csv file" if commas else "tabs, or by commas in a .csv file")
        )
    table.columns = [str(column).strip() for column in table.columns]
    return table.apply(lambda column: column.str.strip())


def _separator(path: Path) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as lines:
        return "\t" if "\t" in lines.readline() else ","


@cache
def read_pairs(
    path: Path, changed: int, setting: str, columns: tuple[str, str]
) -> tuple[tuple[tuple[str, str], ...], str]:
    """Two columns (named in any case) without their empty lines, and the file's sha256; read once for a grid.

    Parameters
    ----------
    changed
        When the file was changed, for it to be read again then.

    Raises
    ------
    InputError
        As `read_table`, or a column is missing or there twice.
    """
    from harness.checkpoints import sha256_of

    table = read_table(path, setting)
    table.columns = [column.casefold() for column in table.columns]
    missing = [column for column in columns if list(table.columns).count(column) != 1]
    if missing:
        raise InputError(
            f"{setting}={path}: one column {' and one '.join(missing)} is expected; the columns are: "
            f"{', '.join(table.columns)}"
        )
    both = (table[column].tolist() for column in columns)
    return tuple((a, b) for a, b in zip(*both, strict=True) if a and b), sha256_of([path])
