"""The rows that are looked at closely: the best model and the best baseline of a section."""

from __future__ import annotations

from reports.entries import Column, Entry
from reports.ranking import Ranked


def best_rows(ranked: Ranked) -> list[tuple[Entry, Column]]:
    """The best model and the best baseline of the first board, the better first, each with the column it reports.

    By the number the board is ranked by; a baseline that is a classifier itself has it in a column of its own.
    """
    family = ranked.boards[0].families.get(ranked.headline[0]) if ranked.boards and ranked.headline else None
    if family is None:
        return []
    found = [member for baselines in (False, True) if (member := family.best(baselines=baselines))]
    return [(member.entry, member.column) for member in family.order(found)]
