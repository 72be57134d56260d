"""FINDINGS.md: what beats what, with intervals, what the controls say, and what the data cannot decide, in words.

It computes nothing: every number is one of leaderboard.csv or verdicts.csv, as the board prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reports.compare import Family
from reports.controls import CEILING, FLOOR, controls, under
from reports.entries import Column, Entry, Score
from reports.figures.figure import column_title, short_names
from reports.ranking import Ranked, columns
from reports.statistics import Difference
from reports.unit_scores import Scores
from reports.verdicts import RULINGS, bracket, deciding, overall, ruling, signed, wider_than_scale, worth_of_pretraining
from reports.wording import BASELINE, CONTROL, UNRELEASED, arrow, own_head_title, score

#: A board of these is a control of the others: what it says is said of pretraining.
_BESIDE = ("untrained", BASELINE)
#: Head -> the head that is its control: the same vectors exchanged among the genes, or what the decoder does by itself.
_SHUFFLED, _UNTRANSPORTED = "_shuffled", "untransported"


@dataclass(frozen=True)
class Duel:
    """The best network of a track against the best baseline, under one number of one section."""

    #: Empty: all sections of the task together.
    place: str
    track: str
    by: str
    model: str
    baseline: str
    #: Their means; empty where several data sets are pooled.
    model_score: str
    baseline_score: str
    difference: str
    covers: str
    #: Of `RULINGS`.
    outcome: str


@dataclass(frozen=True)
class Worth:
    """What pretraining is worth to each network of a section, and to which of them it is told from nothing."""

    place: str
    track: str
    by: str
    each: str
    told: str
    covers: str


@dataclass(frozen=True)
class Bounds:
    """Floors and ceilings of a section, networks that are not above the best floor, and the control of each head."""

    place: str
    by: str
    floors: str
    ceilings: str
    not_above: str
    #: Whether the ceiling is not above the best floor, so that they bound nothing.
    crossed: bool
    heads: list[str]


@dataclass
class TaskFindings:
    """Everything about a task."""

    title: str
    duels: list[Duel] = field(default_factory=list)
    worths: list[Worth] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)
    #: Sections without a network: the best baseline and the next.
    baselines: list[str] = field(default_factory=list)


def findings(ranked: list[Ranked], *, published: bool) -> str:
    """The text, in Markdown; `ranked` has been judged. Planted sections say nothing here."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # Markdown; names pass through `plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["plain"] = plain
    tasks: dict[str, TaskFindings] = {}
    for each in ranked:
        if not each.headline or each.planted:
            continue
        found = tasks.setdefault(each.task.name, TaskFindings(each.task.title))
        found.duels += _duels(each)
        found.worths += _worths(each)
        found.bounds += _bounds(each)
        found.baselines += _baselines(each)
    for first, family, verdict in overall(ranked):
        if verdict.track not in _BESIDE:
            tasks[first.task.name].duels += _duel("", verdict.track, family)
    return jinja.get_template("findings.md.j2").render(
        unreleased="" if published else UNRELEASED,
        tasks=list(tasks.values()),
        outcomes=RULINGS,
    )


def plain(text: str) -> str:
    """A name as Markdown shows it as it is: nothing in it is markup. Brackets stay: intervals have them."""
    return re.sub(r"([\\|<>*`]|\b_\B|\B_\b)", r"\\\1", text).replace("](", r"]\(").replace("\n", " ")


def _place(ranked: Ranked) -> str:
    return " · ".join(filter(None, (ranked.section.dataset, ranked.section.split)))


def _duels(ranked: Ranked) -> Iterator[Duel]:
    for board in ranked.boards:
        if board.track not in _BESIDE:
            for column in dict.fromkeys((ranked.headline[0], deciding(board, ranked.headline))):
                yield from _duel(_place(ranked), board.track, board.families[column])


def _baselines(ranked: Ranked) -> Iterator[str]:
    """The two best of a section in which no network was run."""
    for board in ranked.boards:
        family = board.families[deciding(board, ranked.headline)]
        if board.track != BASELINE or len(family.members) < 2:
            continue
        names = short_names([m.entry for m in family.members])
        best, second = family.order(family.members)[:2]
        said = [f"{names[m.entry]}{_own(family.column, m)} {score(m.mean)}" for m in (best, second)]
        gain = family.gain(best.entry, second.entry)
        difference = f", difference {_said(gain, family.column.metric)}" if gain else ""
        yield f"{_place(ranked)}, {_by(family)}: {said[0]}, then {said[1]}{difference}"


def _by(family: Family) -> str:
    """A column and which way is better, where a difference is read."""
    return f"{column_title(family.column)} {arrow(family.higher_is_better)}"


def _duel(place: str, track: str, family: Family) -> Iterator[Duel]:
    model, baseline = family.best(baselines=False), family.best(baselines=True)
    pair = family.pairs.get(frozenset((model.entry, baseline.entry))) if model and baseline else None
    if model is None or baseline is None or pair is None:
        return
    gain = family.gain(model.entry, baseline.entry)
    assert gain is not None  # there is a pair
    names = short_names([m.entry for m in family.members])
    said = [names[m.entry] + _own(family.column, m) for m in (model, baseline)]
    means = [score(m.mean) if place else "" for m in (model, baseline)]
    yield Duel(
        place,
        track,
        _by(family),
        *said,
        *means,
        _said(gain, family.column.metric),
        pair.covers,
        ruling(family, model, gain),
    )


def _own(column: Column, member: Scores) -> str:
    return f" ({own_head_title(member.column.head)})" if member.column != column else ""


def _worths(ranked: Ranked) -> Iterator[Worth]:
    column, chosen = worth_of_pretraining(ranked)
    up = any(e.scores[column].higher_is_better for e in ranked.section.entries if column in e.scores)
    for track in dict.fromkeys(pair.a.entry.track for pair in chosen):
        rows = [pair for pair in chosen if pair.a.entry.track == track]
        names = short_names([pair.a.entry for pair in rows])
        told = [names[pair.a.entry] for pair in rows if pair.difference.tied is False]
        each = "; ".join(f"{names[pair.a.entry]} {_said(pair.difference, column.metric)}" for pair in rows)
        yield Worth(_place(ranked), track, f"{column_title(column)} {arrow(up)}", each, ", ".join(told), rows[0].covers)


def _said(found: Difference, metric: str) -> str:
    """`-0.080 [-0.2, 0.1]`."""
    if wider_than_scale(found, metric):
        return f"{signed(found.estimate)}, interval wider than the scale"
    return signed(found.estimate) + (f" {bracket(found)}" if found.low is not None else "")


def _bounds(ranked: Ranked) -> Iterator[Bounds]:
    section, first = ranked.section, ranked.headline[0]
    sides = {role: list(_under(controls(section, role), first)) for role in (FLOOR, CEILING)}
    networks = [e for e in section.entries if e.track not in (*_BESIDE, CONTROL) and _mean(e, first) is not None]
    heads = [line for column in columns(section) for line in _against_control(column, first, networks)]
    if not (sides[FLOOR] or sides[CEILING] or heads):
        return
    best = max((_up(each[1]) for each in sides[FLOOR]), default=None)
    top = max((_up(each[1]) for each in sides[CEILING]), default=None)
    below = [e for e in networks if best is not None and _up(e.scores[first]) <= best]
    said = {role: ", ".join(f"{label} {score(each.mean)}" for label, each in found) for role, found in sides.items()}
    names = short_names(networks)
    yield Bounds(
        _place(ranked),
        column_title(first),
        said[FLOOR],
        said[CEILING],
        ", ".join(names[e] for e in below),
        best is not None and top is not None and top <= best,
        heads,
    )


def _under(entries: Iterable[Entry], column: Column) -> Iterator[tuple[str, Score]]:
    for entry in entries:
        found = under(entry, column)
        if found is not None and found.mean is not None:
            yield entry.label, found


def _up(found: Score) -> float:
    """A mean of which more is better."""
    return (found.mean or 0.0) * (1 if found.higher_is_better else -1)


def _mean(entry: Entry, column: Column) -> float | None:
    return entry.scores[column].mean if column in entry.scores else None


def _against_control(column: Column, first: Column, networks: list[Entry]) -> Iterator[str]:
    """The best network under a head, and the same network under that head's control."""
    control, words = column.head + _SHUFFLED, "vectors shuffled among the genes"
    if column.head == "cellot":
        control, words = _UNTRANSPORTED, "decoded without transport"
    other = column._replace(head=control)
    both = [e for e in networks if _mean(e, column) is not None and _mean(e, other) is not None]
    if column.metric == first.metric and both:
        best = max(both, key=lambda e: _up(e.scores[column]))
        found, beside = (_with_interval(best.scores[each]) for each in (column, other))
        yield f"{short_names(networks)[best]}, {column_title(column)}: {found}; {words}: {beside}"


def _with_interval(found: Score) -> str:
    return score(found.mean) + (f" [{score(found.ci_low)}, {score(found.ci_high)}]" if found.ci_low is not None else "")
