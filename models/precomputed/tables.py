"""Text tables and parquet: a row per cell or gene, its name first, numbers after it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from models.precomputed.vectors import few


def separator(path: Path) -> str:
    """A comma for .csv, a tabulator for .tsv and .txt, compressed or not."""
    return "," if ".csv" in path.suffixes[-2:] else "\t"


def read_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (n, d) and names (n,) of a text table.

    The first line is a header, unless what follows its first field are numbers other than 0, 1, 2, … (which is how
    pandas calls columns without a name). The header may lack the field above the names, as R writes it.

    Raises
    ------
    InputError
        Lines of unequal length, or columns that hold no numbers.
    """
    import pandas as pd

    sep = separator(path)
    first = next(_lines(path, sep), None)
    if not first:
        raise InputError(f"{path} is empty")
    header = first if _is_header(first) else None
    try:
        frame = pd.read_csv(
            path, sep=sep, header=None, skiprows=int(header is not None), converters={0: str}, low_memory=False
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} holds a header and no row") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        _refuse_ragged(path, sep, header)
        raise InputError(f"{path} cannot be read as a table: {' '.join(str(error).split())}") from None
    width = frame.shape[1]
    if width < 2:
        names = {",": "commas", "\t": "tabulators"}
        raise InputError(f"{path} has one column; a name and numbers, separated by {names[sep]}, are expected")
    if header is not None and len(header) not in (width, width - 1):
        _refuse_ragged(path, sep, header)
    titles = [f"column {i + 1}" for i in range(1, width)] if header is None else header[1 - width :]
    matrix = numbers(frame.iloc[:, 1:].set_axis(titles, axis=1), frame[0].tolist(), str(path))
    if np.isnan(matrix).any():  # written so, or a line that is too short
        _refuse_ragged(path, sep, header)
    return matrix, np.asarray(frame[0].tolist(), np.str_)


def read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers (n, d) and names: the index, or where that only counts the rows the first column, if that is text.

    Raises
    ------
    InputError
        Columns that hold no numbers, a damaged file, or no pyarrow to read it with.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise InputError(
            f"{path}: pyarrow reads .parquet and is not installed; install it (pip install pyarrow), or save the "
            "table as .csv or .npz"
        ) from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as parquet: {' '.join(str(error).split())}") from None
    return of_frame(frame, str(path))


def of_frame(frame: Any, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers and names of a DataFrame, see `read_parquet`."""
    import pandas as pd

    names = None if isinstance(frame.index, pd.RangeIndex) else frame.index
    if names is None and frame.shape[1] and not pd.api.types.is_numeric_dtype(frame.iloc[:, 0]):
        names, frame = frame.iloc[:, 0], frame.iloc[:, 1:]
    if names is None and frame.shape[1] > 1 and _counts_cells(frame):
        raise InputError(
            f"{where}: the first column, {frame.columns[0]}, holds whole numbers that never repeat, the others do not: "
            "if it names the rows, save it as text or as the index; if it is one of the vectors' numbers, as a float"
        )
    named = None if names is None else np.asarray([str(name) for name in names], np.str_)
    rows = range(len(frame)) if named is None else named
    return numbers(frame, [str(row) for row in rows], where), named


def numbers(frame: Any, names: list[str], where: str) -> np.ndarray:
    """The values of a DataFrame, (n, d).

    Raises
    ------
    InputError
        Columns that hold something else, with an example of it.
    """
    import pandas as pd

    numeric = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in frame.dtypes]
    wrong = [i for i, fits in enumerate(numeric) if not fits]
    if wrong:
        values = frame.iloc[:, wrong[0]]
        strange = pd.to_numeric(values.astype(str), errors="coerce").isna().to_numpy() & values.notna().to_numpy()
        row = int(np.flatnonzero(strange)[0]) if strange.any() else 0
        raise InputError(
            f"{where} has {len(wrong)} columns that hold no numbers: {few([str(frame.columns[i]) for i in wrong])} "
            f"({values.iloc[row]!r} in the row of {names[row]}); remove them, the vectors alone are expected"
        )
    plain = all(
        isinstance(dtype, np.dtype) for dtype in frame.dtypes
    )  # else of pandas' own, which know a missing value
    return np.asarray(frame.to_numpy() if plain else frame.to_numpy(dtype=float, na_value=np.nan))


def _counts_cells(frame: Any) -> bool:
    """Whether the first column of a table looks like ids: whole numbers, all different, beside columns of others."""
    import pandas as pd

    first, others = frame.iloc[:, 0], frame.dtypes.iloc[1:]
    whole = pd.api.types.is_integer_dtype(first.dtype) and first.is_unique
    return whole and not any(pd.api.types.is_integer_dtype(dtype) for dtype in others)


#: What stands above a column of names.
HEADERS = frozenset(
    {"", "name", "names", "id", "ids", "cell", "cells", "cell_id", "barcode", "barcodes", "obs_names"}
) | {"index", "gene", "genes", "gene_id", "gene_name", "symbol"}


def read_names(path: Path, n: int) -> np.ndarray:
    """The first field of every line of a text file, (n,); a header above them is left out.

    Raises
    ------
    InputError
        It holds another number of names.
    """
    found = [line[0] if line else "" for line in _lines(path, separator(path))]
    if len(found) == n + 1 and found[0].lower() in HEADERS:
        found = found[1:]
    if len(found) != n:
        raise InputError(f"{path} holds {len(found)} names for {n} rows; a name a line is expected, in their order")
    return np.asarray(found, np.str_)


def _lines(path: Path, sep: str) -> Iterator[list[str]]:
    """The fields of every line that is not blank."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield from (fields for fields in csv.reader(stream, delimiter=sep) if fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as text: {' '.join(str(error).split())}") from None


def _is_header(fields: list[str]) -> bool:
    try:
        values = [float(field) for field in fields[1:]]
    except ValueError:
        return True
    count = list(range(len(values)))
    return values in (count, [i + 1 for i in count])


def _refuse_ragged(path: Path, sep: str, header: list[str] | None) -> None:
    """Name the lines that are longer or shorter than most."""
    lines = [(fields[0], len(fields)) for fields in _lines(path, sep)][int(header is not None) :]
    widths = [width for _, width in lines]
    usual = max(set(widths), key=widths.count)
    odd = [f"{name} ({width - 1})" for name, width in lines if width != usual]
    if header is not None and not odd and len(header) not in (usual, usual - 1):
        odd = [f"the header ({len(header) - 1})"]
    if odd:
        raise InputError(
            f"{path}: {len(odd)} rows are not of {usual - 1} numbers as the others are: {few(odd)}; vectors of one "
            "length are expected"
        )
