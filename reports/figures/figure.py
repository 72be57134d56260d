"""What a figure is, and the names its rows go by."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from reports.entries import Column, Entry, by_track
from reports.wording import head_title, metric_title


@dataclass(frozen=True)
class Figure:
    """A picture with its words. `head` lets the reader's choice of head hide it; empty means always shown."""

    title: str
    svg: Markup
    caption: str = ""
    head: str = ""
    wide: bool = False


def short_names(entries: list[Entry]) -> dict[Entry, str]:
    """Short names that tell the entries of one track apart: the label's first part, and what others do not share."""
    names = {}
    for _, members in by_track(entries):
        parts = {entry: entry.label.split(" · ") for entry in members}
        for entry, (first, *rest) in parts.items():
            namesakes = [set(other) for other in parts.values() if other[0] == first]
            shared = set.intersection(*namesakes)
            names[entry] = " · ".join([first, *(part for part in rest if part not in shared)])
        for entry in members:
            if not names[entry] or sum(names[each] == names[entry] for each in members) > 1:
                names[entry] = entry.label
    return names


def column_title(column: Column) -> str:
    """`Macro F1 · kNN`."""
    return " · ".join(filter(None, (metric_title(column.metric), head_title(column.head))))
