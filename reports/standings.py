"""The table of who can be told from whom, row by row, as the template prints it."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

from reports.compare import Family, Pair
from reports.entries import Entry
from reports.figures.figure import column_title
from reports.ranking import Ranked
from reports.statistics import Difference, Interval
from reports.unit_scores import Scores
from reports.verdicts import bracket, deciding, p_value, signed
from reports.wording import BASELINE, NOTHING, own_head_title, score


@dataclass(frozen=True)
class Standing:
    """A row against the best row and against the best baseline."""

    entry: Entry
    value: float
    mean: str
    rank_value: float | None
    rank: str
    group: str
    best: str
    p: str
    baseline: str
    covers: str


@dataclass(frozen=True)
class Standings:
    """A board under its first headline number."""

    track: str
    column: str
    few: str
    groups: bool
    rows: list[Standing]


def standings(ranked: Ranked) -> list[Standings]:
    """A table for each board with more than one row."""
    found = []
    for board in ranked.boards:
        family = board.families.get(deciding(board, ranked.headline)) if ranked.headline else None
        if family and family.pairs:
            letters = {} if family.few else groups(family)
            rows = [_row(family, member, letters, ranked.section.dataset) for member in family.order(family.members)]
            found.append(Standings(board.track, column_title(family.column), family.few, bool(letters), rows))
    return found


def groups(family: Family) -> dict[Entry, str]:
    """Compact letters: two rows share one exactly if they cannot be told apart.

    Each letter is a largest set of rows without a pair that is told apart (Piepho 2004, "An algorithm for a
    letter-based representation of all-pairwise comparisons": insert and absorb).
    """
    members = [m.entry for m in family.order(family.members)]
    sets = [set(range(len(members)))]
    for i in range(len(members)):
        for j in range(i):
            gain = family.gain(members[i], members[j])
            if gain is None or gain.tied is not False:
                continue
            split = [part for each in sets for part in ([each - {i}, each - {j}] if {i, j} <= each else [each])]
            sets = [a for k, a in enumerate(split) if not any(a < b or (a == b and k > m) for m, b in enumerate(split))]
    sets.sort(key=sorted)
    return {entry: "".join(_letter(k) for k, each in enumerate(sets) if i in each) for i, entry in enumerate(members)}


def _letter(k: int) -> str:
    return ascii_lowercase[k] if k < 26 else f"({k + 1})"


def _row(family: Family, member: Scores, letters: dict[Entry, str], dataset: str) -> Standing:
    entry = member.entry
    best, baseline = family.best(), family.best(baselines=True)
    rank = family.ranks.get(entry)
    pair = family.pairs.get(frozenset((entry, best.entry))) if best and best is not member else None
    head = f" ({own_head_title(member.column.head)})" if member.column != family.column else ""
    return Standing(
        entry,
        member.mean,
        score(member.mean) + head,
        rank.estimate if rank else None,
        f"{rank.estimate:.1f}" + (f" [{rank.low:.1f}, {rank.high:.1f}]" if rank.low is not None else "")
        if rank
        else "",
        letters.get(entry, ""),
        "the best" if best is member else _against(family, entry, best),
        _p(pair),
        _against(family, entry, baseline) if baseline is not member and entry.track != BASELINE else "",
        pair.covers.removesuffix(f" of {dataset}") if pair else "",
    )


def _mean_rank(rank: Interval | None) -> str:
    if rank is None:
        return ""
    return f"{rank.estimate:.1f}" + ("" if rank.low is None else f" [{rank.low:.1f}, {rank.high:.1f}]")


def _against(family: Family, entry: Entry, other: Scores | None) -> str:
    gain: Difference | None = family.gain(entry, other.entry) if other else None
    if gain is None:
        return NOTHING
    return signed(gain.estimate) + (f" {bracket(gain)}" if gain.low is not None else "")


def _p(pair: Pair | None) -> str:
    if pair is None or pair.difference.p is None:
        return NOTHING if pair else ""
    return f"{p_value(pair.difference.p)} ({p_value(pair.p_holm)})"
