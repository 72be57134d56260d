"""Progress on long work: a bar on a terminal, a line now and then elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

#: Without a terminal, a line at most this often (seconds).
LINE_EVERY = 15.0


def track(
    items: Iterable[T],
    *,
    total: int,
    label: str,
    step: Callable[[T], int] = lambda _: 1,
    note: Callable[[], str] = lambda: "",
    on: bool = True,
) -> Iterator[T]:
    """Pass `items` through while showing how much of `total` is done.

    Parameters
    ----------
    step
        How much of the total an item is.
    note
        What to say beside the bar (the loss, tokens per second).
    """
    if not on:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, total, label, step, note)
    else:
        yield from _lines(items, total, label, step, note)


def _bar(items: Iterable[T], total: int, label: str, step: Any, note: Any) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, note="")
        for item in items:
            yield item
            progress.update(task, advance=step(item), note=note())


def _lines(items: Iterable[T], total: int, label: str, step: Any, note: Any) -> Iterator[T]:
    done, last = 0, time.monotonic()
    for item in items:
        yield item
        done += step(item)
        if time.monotonic() - last > LINE_EVERY:
            last = time.monotonic()
            print(f"{label}: {done} of {total} {note()}".rstrip(), file=sys.stderr, flush=True)
