"""What the figures of drug response share: a drug with what was held out, and the colours of the three populations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: (drug, group that was held out); the latter "" where none was.
Pair = tuple[str, str]

#: Population -> class of its colour. Control cells have none: they are faint.
HUES = {"control": "", "treated": "c0", "predicted": "c1"}


def pair_title(pair: Pair) -> str:
    """`trametinib`, or `trametinib · A549 held out`."""
    drug, held_out = pair
    return f"{drug} · {held_out} held out" if held_out else drug


def pairs(tables: Iterable[pd.DataFrame]) -> list[Pair]:
    """The pairs of some tables, in the order in which they are stored."""
    found: dict[Pair, None] = {}
    for table in tables:
        found.update(dict.fromkeys(zip(table["drug"], table["held_out"], strict=True)))
    return list(found)


def of_pair(table: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """The lines of a pair."""
    return table[(table["drug"] == pair[0]) & (table["held_out"] == pair[1])]


def left_out(shown: int, found: list[Pair], why: str) -> str:
    """`8 of 12 drugs and held-out groups, those that change most. `; nothing where all are shown."""
    if shown >= len(found):
        return ""
    noun = "drugs and held-out groups" if any(held_out for _, held_out in found) else "drugs"
    return f"{shown} of {len(found)} {noun}, {why}. "
