"""The ranked table of a board and the table of all numbers, cell by cell, as the template prints them."""

from __future__ import annotations

from dataclasses import dataclass

from reports.cards import Exposure, Terms, exposure, terms
from reports.controls import CEILING, FLOOR, Bounds, bounds, controls, under
from reports.costs import COST_HINTS, COSTS, cost_of, has_column
from reports.entries import Column, Entry, Score, Section
from reports.figures.figure import column_title
from reports.ranking import Board, own_column
from reports.wording import (
    NOTHING,
    STATUSES,
    TRACKS,
    arrow,
    head_title,
    metric_card,
    metric_title,
    own_head_title,
    percent,
    plural,
    score,
    spread,
)


@dataclass(frozen=True)
class Head:
    """A column head. `first` is the direction of the first click: `asc` or `desc`."""

    title: str
    sub: str
    first: str
    head: str = ""
    hint: str = ""
    few: bool = False


@dataclass(frozen=True)
class Number:
    """A cell. `value` sorts, None goes last; `bar`, `seeds` and `whisker` are places on the bar, in per cent.

    `beside` is the number of a method that brings its own head, shown and sorted under the heads of the others.
    """

    value: float | None
    text: str
    spread: str = ""
    rank: int | None = None
    bar: float | None = None
    seeds: tuple[float, ...] = ()
    head: str = ""
    hint: str = ""
    interval: str = ""
    whisker: tuple[float, float] | None = None
    tied: bool = False
    #: Where the number lies between floor and ceiling, in per cent, and what those are.
    scaled: str = ""
    scale: str = ""
    beside: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a board."""

    entry: Entry
    rank: int | None
    name: str
    rest: str
    seeds: Number
    numbers: list[Number]
    costs: list[Number]
    reason: str
    setting: str
    exposure: Exposure
    terms: Terms


@dataclass(frozen=True)
class BoardTable:
    """A board as a table."""

    track: str
    about: str
    ranked_by: str
    heads: list[Head]
    costs: list[Head]
    rows: list[Row]
    settings: bool
    #: What bounds the scores, the ceilings first: (role, entry, number of each column).
    controls: list[tuple[str, Entry, list[Number]]]
    #: Whether any row was pretrained, so that it may have seen its cells before.
    exposed: bool
    #: Why nothing on this board can be told apart; empty where it can.
    few: str = ""


@dataclass(frozen=True)
class NumberRow:
    """One line of the table of all numbers."""

    entry: Entry
    column: Column
    title: str
    direction: str
    number: Number
    ranks: str


def board_table(section: Section, board: Board, headline: list[Column]) -> BoardTable:
    """The table of a board: its headline numbers, what bounds them, and what they cost."""
    limits = {column: found for column in headline if (found := bounds(section, column))}
    costs = [name for name in COSTS if has_column(name, board.entries)]
    primary = headline[0] if headline else None
    versions = {(c.metric, c.head): 0 for c in headline}
    for column in headline:
        versions[column.metric, column.head] += 1
    few = board.families[primary].few if primary in board.families else ""
    heads = []
    for column in headline:
        higher = _direction(board.entries, column)
        alone = column.head == "none" and any(c.metric == column.metric and c.head != "none" for c in headline)
        sub = own_head_title(column.head) if alone else head_title(column.head)
        if versions[column.metric, column.head] > 1:
            sub = " ".join(filter(None, (sub, f"version {column.version}")))
        heads.append(
            Head(
                f"{metric_title(column.metric)} {arrow(higher)}",
                sub,
                "desc" if higher else "asc",
                column.head,
                f"{' · '.join(filter(None, (metric_title(column.metric), sub)))}: "
                f"{'higher' if higher else 'lower'} is better; version {column.version}",
                few=not few and column in board.families and board.families[column].few.startswith("too few"),
            )
        )
    return BoardTable(
        track=board.track,
        about=TRACKS.get(board.track, ""),
        ranked_by=column_title(primary) if primary else "",
        heads=heads,
        costs=[Head(*COSTS[name][:3], hint=COST_HINTS.get(name, "")) for name in costs],
        rows=(rows := [_row(section, board, entry, headline, costs, limits) for entry in board.entries]),
        few=few,
        controls=[
            (role, entry, [_bounding(board, entry, column) for column in headline])
            for role in (CEILING, FLOOR)
            for entry in controls(section, role)
            if entry not in board.entries
        ],
        exposed=any(row.exposure.status for row in rows),
        settings=any(entry.about.setting != "frozen" for entry in board.entries),
    )


def _direction(entries: list[Entry], column: Column) -> bool:
    found = [entry.scores[column].higher_is_better for entry in entries if column in entry.scores]
    return found[0] if found else metric_card(column.metric).higher_is_better


def _row(
    section: Section,
    board: Board,
    entry: Entry,
    headline: list[Column],
    costs: list[str],
    limits: dict[Column, Bounds],
) -> Row:
    name, _, rest = entry.label.partition(" · ")
    absent = sorted({r.seed for r in entry.missing} - {r.seed for r in entry.runs})
    shown = f"{len(entry.runs)} of {len(entry.runs) + len(absent)}" if absent else str(len(entry.runs))
    reason = ""
    if entry.missing and (absent or not entry.runs):
        first = entry.missing[0]
        told = " ".join((first.error or "no reason recorded").split())
        seeds = f" (seed {', '.join(map(str, absent))})" if entry.runs else ""
        reason = f"{STATUSES.get(first.status, first.status)}{seeds}: {told}"
    numbers = [_number(section, board, entry, column, limits.get(column)) for column in headline]
    prices = [Number(value := cost_of(entry, cost), COSTS[cost][3](value)) for cost in costs]
    seeds_cell = Number(float(len(entry.runs)), shown, hint=plural(len(entry.runs), "seed"))
    rank = board.rank(entry, headline[0] if headline else None)
    setting, seen, licence = entry.about.setting, exposure(entry), terms(entry)
    return Row(entry, rank, name, rest, seeds_cell, numbers, prices, reason, setting, seen, licence)


def _bounding(board: Board, entry: Entry, column: Column) -> Number:
    """The number of a floor or a ceiling; by another head where it has none of this one."""
    result = under(entry, column)
    if result is None or result.mean is None:
        return Number(None, NOTHING, head=column.head, hint="not measured")
    values = [s.mean for e in board.entries if (s := e.scores.get(column)) and s.mean is not None]
    hint = _hint(result) + ("" if column in entry.scores else "; by a head of its own")
    place = bar(column, result.mean, [*values, result.mean])
    return Number(
        result.mean, score(result.mean), spread(result.sd, result.mean), bar=place, head=column.head, hint=hint
    )


def _number(section: Section, board: Board, entry: Entry, column: Column, limits: Bounds | None) -> Number:
    result = entry.scores.get(column)
    if result is None:
        if (own := own_column(section, entry, column)) != column and (beside := entry.scores.get(own)):
            hint = f"{own_head_title(own.head)}: {score(beside.mean)}"
            place = board.rank(entry, column)
            words = f"{score(beside.mean)}*" if beside.mean is not None else "undefined"
            return Number(None, words, rank=place, head=column.head, hint=hint, beside=beside.mean)
        if entry.runs:
            heads = ", ".join(filter(None, map(head_title, entry.heads)))
            hint = f"not measured; this row is read by {heads}" if heads else "not measured"
            return Number(None, NOTHING, head=column.head, hint=hint)
        status = entry.missing[0].status
        return Number(None, STATUSES.get(status, status), head=column.head, hint=entry.missing[0].error or "")
    if result.mean is None:
        return Number(None, "undefined", head=column.head, hint="NaN for every seed")
    values = [s.mean for e in board.entries if (s := e.scores.get(column)) and s.mean is not None]
    lost = len(result.by_seed) - result.n_seeds
    return Number(
        result.mean,
        score(result.mean),
        spread=spread(result.sd, result.mean),
        rank=board.rank(entry, column),
        bar=bar(column, result.mean, values),
        seeds=tuple(bar(column, value, values) for value in result.values) if result.sd else (),
        head=column.head,
        hint=_hint(result) + (f"; undefined for {plural(lost, 'seed')}" if lost else ""),
        interval=interval(result),
        whisker=_whisker(column, result, values),
        tied=_tied(board, entry, column),
        scaled=percent(limits.scaled(result.mean)) if limits else "",
        scale=scale_words(limits) if limits else "",
    )


def scale_words(limits: Bounds) -> str:
    """`0 % = 0.083 (Random embedding), 100 % = 1.000 (Label-perfect embedding)`."""
    return f"0 % = {score(limits.floor)} ({limits.floor_by}), 100 % = {score(limits.ceiling)} ({limits.ceiling_by})"


def _whisker(column: Column, result: Score, values: list[float]) -> tuple[float, float] | None:
    """Where the interval starts on the bar, and how long it is."""
    if result.ci_low is None or result.ci_high is None:
        return None
    low, high = (bar(column, end, values) for end in (result.ci_low, result.ci_high))
    return low, round(high - low, 1)


def _tied(board: Board, entry: Entry, column: Column) -> bool:
    """Whether a row bears the mark of a tie: not the best itself, nor where nothing could be told apart anyway."""
    family = board.family(entry, column)
    return bool(family and not family.few and board.rank(entry, column) != 1 and family.tied(entry))


def interval(result: Score) -> str:
    """The confidence interval, where the statistics have made one."""
    if result.ci_low is None or result.ci_high is None:
        return ""
    return f"[{score(result.ci_low)}, {score(result.ci_high)}]"


def _hint(result: Score) -> str:
    seeds = "; ".join(f"seed {seed}: {score(value)}" for seed, value in sorted(result.by_seed.items()))
    return f"{seeds}; 95 % interval {interval(result)}, {result.covers}" if interval(result) else seeds


def bar(column: Column, value: float, values: list[float]) -> float:
    """Length of a bar in per cent: from 0 to the metric's highest, or else to the largest of `values`."""
    high = metric_card(column.metric).high
    if high is None:
        high = max(max(values, default=1.0), 1e-12)
    return round(min(100.0, max(0.0, 100 * value / high)), 1)


def number_rows(section: Section, boards: list[Board], columns: list[Column]) -> list[NumberRow]:
    """Every overall number of a section, metric by metric."""
    rows = []
    for column in columns:
        for entry in section.entries:
            result = entry.scores.get(column)
            if result is None:
                continue
            text = score(result.mean) if result.mean is not None else "undefined"
            number = Number(
                result.mean,
                text,
                spread(result.sd, result.mean),
                hint=_hint(result),
                interval=interval(result),
            )
            places = [(board.rank(entry, column), board.track) for board in boards]
            ranks = ", ".join(f"{rank} ({track})" for rank, track in places if rank)
            direction = arrow(result.higher_is_better)
            rows.append(NumberRow(entry, column, metric_title(column.metric), direction, number, ranks))
    return rows
