"""Rows of a board under one column -> who can be told from whom: intervals, ties, tests, mean ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from harness.results import content_id
from reports.entries import Column, Entry, Section, fine_tuning
from reports.paired_tests import holm
from reports.ranking import SAME, Board, Ranked, columns, own_column
from reports.statistics import FEWEST, Difference, Interval, bonferroni, differences, every_pair, mean_interval
from reports.statistics import mean_ranks as ranks_of
from reports.unit_scores import Key, Scores, covers, n_seeds, scores, table
from reports.wording import BASELINE


@dataclass(frozen=True)
class Pair:
    """Two entries and what can be said of their difference, a - b."""

    a: Scores
    b: Scores
    difference: Difference
    p_holm: float | None
    n_units: int
    n_seeds: int
    covers: str


@dataclass
class Family:
    """The rows of a board under one column, with every pair of them; intervals hold together."""

    column: Column
    members: list[Scores]
    higher_is_better: bool
    pairs: dict[frozenset[Entry], Pair] = field(default_factory=dict)
    ranks: dict[Entry, Interval] = field(default_factory=dict)

    def order(self, members: Iterable[Scores]) -> list[Scores]:
        """Members, the best mean first."""
        return sorted(members, key=lambda m: (-m.mean if self.higher_is_better else m.mean, m.entry.label))

    def gain(self, a: Entry, b: Entry) -> Difference | None:
        """Difference a - b of two members; None where nothing is paired."""
        pair = self.pairs.get(frozenset((a, b)))
        if pair is None:
            return None
        return pair.difference if pair.a.entry is a else minus(pair.difference)

    def best(self, baselines: bool | None = None) -> Scores | None:
        """The best member: of all, of baselines, of the others."""
        chosen = [m for m in self.members if baselines in (None, m.entry.track == BASELINE)]
        return self.order(chosen)[0] if chosen else None

    @property
    def few(self) -> str:
        """Why nothing on this board can be told apart, whatever the numbers: too few to sample from; or nothing."""
        if len(self.members) < 2:
            return "nothing to compare with" if self.members else "no number"
        most = max(self.pairs.values(), key=lambda pair: pair.n_units, default=None)
        if most is None:
            return "too few to rank: nothing is paired"
        return f"too few to rank: {most.covers}" if most.n_units < FEWEST else ""

    def tied(self, entry: Entry) -> bool | None:
        """Whether a row cannot be told from the best row; None where nothing can be said."""
        best = self.best()
        own = next((m for m in self.members if m.entry is entry), None)
        if best is None or own is None:
            return None
        if own is best or abs(own.mean - best.mean) <= SAME:
            return True
        gain = self.gain(entry, best.entry)
        return gain.tied if gain else None

    def beats(self, entry: Entry) -> bool | None:
        """Whether a row is above the best baseline beyond its interval; None for baselines and where it is open."""
        best = self.best(baselines=True)
        gain = self.gain(entry, best.entry) if best else None
        if entry.track == BASELINE or gain is None:
            return None
        above = gain.estimate > SAME if self.higher_is_better else gain.estimate < -SAME
        if not above:
            return False
        return None if gain.tied is None else not gain.tied


def minus(difference: Difference) -> Difference:
    """The same difference, taken the other way round."""
    d = difference
    low, high = (None, None) if d.low is None or d.high is None else (-d.high, -d.low)
    return Difference(-d.estimate, low, high, d.n_blocks, d.p, d.test)


def judge(ranked: Ranked) -> None:
    """Fill the intervals of every score of a section, and the families of its boards."""
    section = ranked.section
    for entry in section.entries:
        for column, score in entry.scores.items():
            found = scores(section, entry, column)
            if not found.overall:
                continue
            interval = mean_interval(*table([found.best]), ratio=found.overlap)
            score.ci_low, score.ci_high = interval.low, interval.high
            score.n_units = len({key[2] for key in found.units}) or score.n_seeds
            score.covers = covers(found.best, found.scope)
    for board in ranked.boards:
        for column in columns(section):
            board.families[column] = family(section, board, column)


def family(section: Section, board: Board, column: Column) -> Family:
    """The ranked rows of a column, those that bring their own head for the same metric among them."""
    ranked = [entry for entry in board.entries if (entry, column) in board.ranks]
    return compare(column, [scores(section, entry, own_column(section, entry, column)) for entry in ranked])


def compare(column: Column, members: list[Scores]) -> Family:
    """A family with all its pairs: simultaneous intervals, Holm over its tests, mean ranks."""
    higher = next((m.entry.scores[m.column].higher_is_better for m in members), True)
    made = Family(column, members, higher)
    ordered = made.order(members)
    found = paired(list(combinations(ordered, 2)), every_pair(len(members)))
    made.pairs = {frozenset((pair.a.entry, pair.b.entry)): pair for pair in found}
    if len(members) > 1:
        by_unit = all(m.units for m in ordered)
        values, levels = table([m.units if by_unit else m.overall for m in ordered])
        ratio = max((m.overlap for m in ordered), default=0.0) if by_unit else 0.0
        if levels.size and (ranks := ranks_of(values, levels, higher_is_better=higher, ratio=ratio)):
            made.ranks = {m.entry: each for m, each in zip(ordered, ranks, strict=True)}
    return made


def paired(pairs: list[tuple[Scores, Scores]], level: float) -> list[Pair]:
    """Every pair that shares a score, by unit where both have units and by seed where not; Holm over all of them."""
    found: list[tuple[Scores, Scores, Difference, dict[Key, float], str]] = []
    for by_unit in (True, False):
        chosen = [pair for pair in pairs if bool(pair[0].units and pair[1].units) == by_unit]
        members = list({id(m): m for pair in chosen for m in pair}.values())
        if not members:
            continue
        cells = [m.units if by_unit else m.overall for m in members]
        place = {id(m): i for i, m in enumerate(members)}
        values, levels = table(cells)
        ratio = max(m.overlap for m in members) if by_unit else 0.0
        asked = [(place[id(a)], place[id(b)]) for a, b in chosen]
        numbers = differences(values, levels, asked, level=level, ratio=ratio)
        for (a, b), number in zip(chosen, numbers, strict=True):
            if number is not None:
                left, right = cells[place[id(a)]], cells[place[id(b)]]
                found.append((a, b, number, {k: left[k] for k in left if k in right}, a.scope if by_unit else ""))
    adjusted = holm(np.array([np.nan if f[2].p is None else f[2].p for f in found], dtype=float))
    return [
        Pair(a, b, number, None if np.isnan(p) else float(p), number.n_blocks, n_seeds(common), covers(common, scope))
        for (a, b, number, common, scope), p in zip(found, adjusted, strict=True)
    ]


def pretraining(ranked: Ranked, column: Column) -> list[Pair]:
    """Each pretrained row minus the untrained one of the same model, size, setting, fine-tuning and read-out."""
    section = ranked.section
    rows = [e for e in section.entries if e.track != BASELINE and not e.unranked and _mean(e, column) is not None]
    untrained = {_kind(e): e for e in rows if e.track == "untrained"}
    pairs = [
        (scores(section, e, column), scores(section, untrained[_kind(e)], column))
        for e in rows
        if e.track != "untrained" and _kind(e) in untrained
    ]
    return paired(pairs, bonferroni(len(pairs)))


def pooled(ranked: list[Ranked], track: str, column: Column) -> Family | None:
    """One board over the data sets and splits of a task: the rows that have a number in each of them."""
    found: dict[tuple[str, str], list[Scores]] = {}
    for each in ranked:
        board = next((b for b in each.boards if b.track == track), None)
        if board is None or column not in board.families:
            return None
        for member in board.families[column].members:
            found.setdefault((member.entry.track, member.entry.label), []).append(member)
    members = []
    for group in found.values():
        if len(group) == len(ranked):
            units = {k: v for m in group for k, v in m.units.items()} if all(m.units for m in group) else {}
            overall = {k: v for m in group for k, v in m.overall.items()}
            scope, share = (group[0].scope, max(m.overlap for m in group)) if units else ("", 0.0)
            members.append(Scores(group[0].entry, group[0].column, overall, units, scope, share))
    return compare(column, members) if len(members) > 1 else None


def _kind(entry: Entry) -> tuple[str, ...]:
    about = entry.about
    return about.model, about.variant, about.setting, content_id(fine_tuning(about)), about.readout


def _mean(entry: Entry, column: Column) -> float | None:
    return entry.scores[column].mean if column in entry.scores else None
