"""Rows of numbers with names, and what makes them unfit to be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import InputError

#: So many names stand in a message.
SHOWN = 5


def few(names: Sequence[str] | np.ndarray) -> str:
    """`a, b, c, d, e, …`: the first few of some names."""
    names = list(map(str, names))
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def repeated(names: np.ndarray) -> list[str]:
    """Names that stand there more than once, in order."""
    return [name for name, times in Counter(names.tolist()).items() if times > 1]


@dataclass(frozen=True)
class NamedVectors:
    """Vectors as a file holds them.

    Parameters
    ----------
    matrix
        Numbers, (n, d), of any type and possibly still on disk.
    names
        Unicode (n,), each once; None where the file names no rows.
    where
        File and part of it, for messages.
    """

    matrix: Any
    names: np.ndarray | None
    where: str

    @classmethod
    def checked(cls, matrix: Any, names: Any, where: str) -> NamedVectors:
        """Vectors of the right form.

        Raises
        ------
        InputError
            Not a table of numbers, another number of names than of rows, or a name that stands there twice.
        """
        if getattr(matrix, "ndim", 0) != 2 or not all(matrix.shape):
            raise InputError(f"{where} has the shape {getattr(matrix, 'shape', ())}; a row of numbers each is expected")
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"{where} holds {matrix.dtype}, and numbers are expected")
        if names is None:
            return cls(matrix, None, where)
        array = as_names(names, where)
        if len(array) != len(matrix):
            raise InputError(f"{where} has {len(matrix)} rows and {len(array)} names; a name for each row is expected")
        if twice := repeated(array):
            raise InputError(f"{where} names {len(twice)} more than once: {few(twice)}; each may have one row")
        return cls(matrix, array, where)

    def rows(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Float32 (n, d) of some rows (default: all); a row of NaN is one that the model could not read.

        Raises
        ------
        InputError
            Rows with NaN among numbers, or infinite values.
        """
        with np.errstate(over="ignore"):
            found = np.asarray(self.matrix if rows is None else self.matrix[rows], np.float32)
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1) & ~np.isnan(found).all(axis=1))
        if len(bad):
            places = bad if rows is None else rows[bad]
            names = [f"row {place}" for place in places] if self.names is None else self.names[places]
            raise InputError(
                f"{self.where} holds NaN or infinite values in {len(bad)} rows: {few(names)}; a row is all numbers, or "
                "all NaN where the model could not read it"
            )
        return found


def as_names(names: Any, where: str) -> np.ndarray:
    """Names as unicode (n,), bytes decoded.

    Raises
    ------
    InputError
        They are no list of names.
    """
    array = np.asarray(names)
    if array.ndim != 1 or array.dtype.kind not in "USOiu":
        raise InputError(f"the names of {where} are {array.dtype} {array.shape}; a list of text is expected")
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    return np.asarray([str(name) for name in array.tolist()], np.str_)
