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
    """The shortest names that tell the entries of one track apart: the label's first part, or all of it."""
    names = {}
    for _, members in by_track(entries):
        firsts = [entry.label.split(" · ")[0] for entry in members]
        for entry, first in zip(members, firsts, strict=True):
            names[entry] = first if firsts.count(first) == 1 and first else entry.label
    return names


def column_title(column: Column) -> str:
    """`Macro F1 · kNN`."""
    return " · ".join(filter(None, (metric_title(column.metric), head_title(column.head))))
