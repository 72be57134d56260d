"""The table at the top: the first headline number of every row in every section."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.exposure import LABEL_EXPOSURE
from reports.board_table import Number, bar
from reports.entries import Entry, by_track
from reports.ranking import Ranked, own_column
from reports.wording import NOTHING, head_title, metric_title, own_head_title, score


@dataclass
class GlanceRow:
    """A row: a model under one track, its number in each section."""

    track: str
    label: str
    smoke: bool
    numbers: list[Number]


@dataclass
class Glance:
    """Heads are (task, data set, metric, head)."""

    heads: list[tuple[str, str, str, str]] = field(default_factory=list)
    rows: list[GlanceRow] = field(default_factory=list)


def figure_order(ranked: Ranked) -> list[Entry]:
    """Every entry once, by track, the best of each track first."""
    placed: dict[Entry, None] = {}
    for board in ranked.boards:
        for entry in board.entries:
            placed.setdefault(entry)
    order = {entry: i for i, entry in enumerate(placed)}
    return [e for _, members in by_track(placed) for e in sorted(members, key=order.__getitem__)]


def glance(ranked: list[Ranked]) -> Glance | None:
    """The overview; None for a board of one section, which is its own overview. Nothing planted is in it."""
    shown = [each for each in ranked if each.headline and not each.planted]
    if len(shown) < 2:
        return None
    found = Glance()
    entries: dict[tuple[str, str], dict[int, Entry]] = {}
    for i, each in enumerate(shown):
        first = each.headline[0]
        names = (metric_title(first.metric), head_title(first.head))
        place = (each.section.task, each.section.dataset)
        twice = sum((other.section.task, other.section.dataset) == place for other in shown) > 1
        dataset = " · ".join(filter(None, (each.section.dataset, each.section.split if twice else "")))
        found.heads.append((each.task.title, dataset, *names))
        for entry in figure_order(each):
            entries.setdefault((entry.track, entry.label), {})[i] = entry
    firsts = [next(iter(by_section.values())) for by_section in entries.values()]
    for _, members in by_track(firsts):
        for first_entry in members:
            by_section = entries[first_entry.track, first_entry.label]
            numbers = [_number(shown[i], by_section.get(i)) for i in range(len(shown))]
            smoke = any(entry.smoke for entry in by_section.values())
            found.rows.append(GlanceRow(first_entry.track, first_entry.label, smoke, numbers))
    return found


def _number(ranked: Ranked, entry: Entry | None) -> Number:
    first = ranked.headline[0]
    column = own_column(ranked.section, entry, first) if entry else first
    if entry and column not in entry.scores:  # fine-tuned: its head alone reads it
        others = [each for each in ranked.headline if each.metric == first.metric and each in entry.scores]
        column = others[0] if len(others) == 1 else column
    result = entry.scores.get(column) if entry else None
    if result is None or result.mean is None:
        return Number(None, NOTHING)
    values = [s.mean for e in ranked.section.entries if (s := e.scores.get(first)) and s.mean is not None]
    note = (head_title(column.head) or own_head_title(column.head)) if column != first else ""
    if entry is not None and LABEL_EXPOSURE in entry.flags:
        note = ", ".join(filter(None, (note, "labels seen")))
    return Number(result.mean, score(result.mean), note, bar=bar(column, result.mean, values))
