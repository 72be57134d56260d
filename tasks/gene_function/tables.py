"""Tables of genes as they come: with commas or tabs, gzipped or not, from whatever program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path, setting: str) -> pd.DataFrame:
    """A table with a header as text, without spaces around its values; `.csv` has commas, all else tabs.

    Raises
    ------
    InputError
        It is empty, damaged, not UTF-8, or its rows are longer than its header.
    """
    import pandas as pd

    commas = ".csv" in path.name.lower()
    try:
        table = pd.read_csv(path, sep="," if commas else "\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{setting}={path}: it cannot be read as a table ({' '.join(str(error).split())})") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{setting}={path.name}: rows have more fields than the header")
    if len(table.columns) == 1:
        raise InputError(
            f"{setting}={path.name}: one column, {table.columns[0]}; columns are separated by "
            + ("commas in a .csv file" if commas else "tabs, or by commas in a .csv file")
        )
    table.columns = [str(column).strip() for column in table.columns]
    return table.apply(lambda column: column.str.strip())
