"""Entries -> ranked boards: who is compared with whom, by which numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reports.cards import planted
from reports.entries import Column, Entry, Section
from reports.wording import BASELINE, CONTROL, head_order, track_order

if TYPE_CHECKING:
    from reports.compare import Family

log = logging.getLogger(__name__)

#: Means closer than this are the same number; two runs of one sum may differ in the last bit.
SAME = 1e-12


@dataclass
class Board:
    """One track of a section with the baselines: the rows that may share a rank, the best first."""

    track: str
    entries: list[Entry]
    ranks: dict[tuple[Entry, Column], int] = field(default_factory=dict)
    #: (entry, column it reports with a head of its own) -> the column of the others it is ranked under.
    shared: dict[tuple[Entry, Column], Column] = field(default_factory=dict)
    #: Who can be told from whom, by column; filled by `reports.compare.judge`.
    families: dict[Column, Family] = field(default_factory=dict)

    def rank(self, entry: Entry, column: Column | None) -> int | None:
        """Rank of an entry by a column; None for a row without ranks or a number that is missing."""
        return None if column is None else self.ranks.get((entry, self.shared.get((entry, column), column)))

    def family(self, entry: Entry, column: Column) -> Family | None:
        """The rows that an entry is compared with by a column it reports."""
        return self.families.get(self.shared.get((entry, column), column))


@dataclass
class Task:
    """What the board needs of a task: its title and what it ranks by."""

    name: str
    title: str
    headline: tuple[tuple[str, str | None], ...]
    #: Role (`floor`, `ceiling`) -> models that have it.
    controls: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass
class Ranked:
    """A section with what it is ranked by."""

    section: Section
    task: Task
    headline: list[Column]
    boards: list[Board]
    #: What was planted in the cells. Such a section stands apart: it is judged by no sentence and in no aggregate.
    planted: str = ""


def rank(section: Section) -> Ranked:
    """Rank a section by its task's headline."""
    about = task(section.task)
    ranked_by = headline(section, about)
    return Ranked(section, about, ranked_by, boards(section, ranked_by), planted(section))


def task(name: str) -> Task:
    """The task of this name; only its name where this installation does not know it."""
    from harness.registry import TASKS

    try:
        found = TASKS.get(name)
        return Task(name, found.title, tuple(found.headline), tuple(found.controls.items()))
    except Exception as error:  # a plugin may fail in any way, and the records are still good
        log.debug("task %s is not known here: %s", name, error)
        return Task(name, name.replace("_", " ").capitalize(), ())


def columns(section: Section, *, controls: bool = True) -> list[Column]:
    """Every overall metric of a section, in the order in which the tasks report them, heads in board order."""
    metrics: dict[str, None] = {}
    found: dict[Column, None] = {}
    for entry in section.entries if controls else _judged(section):
        for column in entry.scores:
            metrics.setdefault(column.metric)
            found.setdefault(column)
    order = {metric: i for i, metric in enumerate(metrics)}
    return sorted(found, key=lambda c: (order[c.metric], head_order(c.head), c.version))


def headline(section: Section, about: Task) -> list[Column]:
    """The columns a section is ranked by, the first first.

    A pair without head stands for every head that reports the metric. A row that has none of these columns (a
    task baseline that brings its own head) adds its own; a task unknown here is ranked by its first metric.
    """
    present = columns(section, controls=False) or columns(section)
    chosen: list[Column] = []
    for metric, head in about.headline:
        chosen += [c for c in present if c.metric == metric and head in (None, c.head) and c not in chosen]
    if not chosen and present:
        chosen = [column for column in present if column.metric == present[0].metric]
    metrics = {column.metric for column in chosen}
    order = {metric: i for i, metric in enumerate(dict.fromkeys(column.metric for column in chosen))}
    for entry in _judged(section):
        if entry.scores and not set(entry.scores) & set(chosen):
            chosen += [column for column in entry.scores if column.metric in metrics and column not in chosen]
    first = chosen[:1]
    rest = sorted(chosen[1:], key=lambda c: order[c.metric])
    return first + rest


def _judged(section: Section) -> list[Entry]:
    """Every row but the controls."""
    return [entry for entry in section.entries if entry.track != CONTROL]


def boards(section: Section, ranked_by: list[Column]) -> list[Board]:
    """A board for each track that was run, baselines in each; one of baselines alone if nothing else was run.

    A method that brings its own head is ranked beside the others under each of their columns. Its own number bears the
    rank it has by the first of these.
    """
    tracks = track_order(entry.track for entry in _judged(section))
    baselines = [entry for entry in section.entries if entry.track == BASELINE]
    found = []
    for track in [name for name in tracks if name != BASELINE] or [BASELINE]:
        members = baselines + [e for e in section.entries if e.track == track and track != BASELINE]
        board = Board(track, members)
        for column in dict.fromkeys([*ranked_by, *columns(section)]):
            for entry, place in ranks(section, members, column).items():
                board.ranks[entry, column] = place
                if (own := own_column(section, entry, column)) != column:
                    board.shared.setdefault((entry, own), column)
        board.entries = sorted(members, key=lambda entry: _order(board, entry, ranked_by))
        found.append(board)
    return found


def ranks(section: Section, entries: Iterable[Entry], column: Column) -> dict[Entry, int]:
    """Rank of each entry by the mean over seeds: equal means share a rank, and the next rank is skipped.

    Each by the column it reports: a method that brings its own head competes with those read by another.
    """
    scored = []
    for entry in entries:
        score = entry.scores.get(own_column(section, entry, column))
        if score is not None and score.mean is not None and not entry.unranked:
            scored.append((-score.mean if score.higher_is_better else score.mean, entry))
    scored.sort(key=lambda pair: (pair[0], pair[1].label))
    found: dict[Entry, int] = {}
    for place, (loss, entry) in enumerate(scored, start=1):
        tied = place > 1 and loss - scored[place - 2][0] <= SAME
        found[entry] = found[scored[place - 2][1]] if tied else place
    return found


def own_head(section: Section, entry: Entry, metric: str) -> str | None:
    """The head an entry brings itself for a metric (an SVM on expression), which reads no embedding here.

    Asked metric by metric: scores of the vectors have no head anywhere, and say nothing of who is read by one. `none`
    is the head of what classifies by itself, beside rows that are read by heads.
    """
    heads = section.read_by.get(metric, {})
    if len(heads.get(entry, ())) != 1:
        return None
    (head,) = heads[entry]
    others = [found for each, found in heads.items() if each is not entry]
    several = [found for found in others if len(found) > 1]
    read = bool(several) or (head == "none" and any(found - {"none"} for found in others))
    return head if read and not any(head in found for found in several) else None


def own_column(section: Section, entry: Entry, column: Column) -> Column:
    """`column` as this entry reports it: with its own head, if it brings one."""
    head = own_head(section, entry, column.metric)
    return column._replace(head=head) if head else column


def own_heads(section: Section, entries: Iterable[Entry], metrics: Iterable[str]) -> set[tuple[str, str]]:
    """(metric, head) of the methods that bring their own."""
    metrics = list(metrics)
    return {(m, head) for entry in entries for m in metrics if (head := own_head(section, entry, m))}


def _order(board: Board, entry: Entry, ranked_by: list[Column]) -> tuple[object, ...]:
    """Ranked rows by their rank, then rows with other numbers, those without ranks, and last what did not run."""
    unranked = len(board.entries) + 1
    places = tuple(board.rank(entry, column) or unranked for column in ranked_by)
    return (not entry.runs, entry.unranked, *places, entry.label)
