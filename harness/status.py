"""What a grid is doing: a live table on a terminal, a line per finished run elsewhere, and how it ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

from harness.results import RunRecord

if TYPE_CHECKING:
    from harness.grid import Cell

#: Seconds between two lines about a grid that other processes run.
WATCH_EVERY = 60.0

#: A run of which there is no record when its grid has ended.
UNRECORDED = "no record was written, or another process is still computing it"

MARKS = {
    "ok": "[green]●[/]",
    "not-applicable": "[dim]–[/]",
    "waiting": "[dim]·[/]",
    "running": "[yellow]▶[/]",
}


def headline(record: RunRecord) -> str:
    """The first overall metric of each head, or the reason there is none."""
    if record.status != "ok":
        return f"{record.status}: {record.error}"
    from harness.registry import TASKS

    values = {(m.name, m.head): m.value for m in record.metrics if m.scope == "overall"}
    wanted = [pair for pair in TASKS.get(record.task).headline if pair in values][:3]
    shown = [
        f"{name}{'' if head == 'none' else f' ({head})'} "
        + ("undefined" if values[name, head] is None else f"{values[name, head]:.3f}")
        for name, head in wanted
    ]
    return "  ".join(shown)


def print_record(record: RunRecord, prefix: str = "") -> None:
    """One line for a finished run."""
    seconds = f"  [{record.cost.task_s:.1f} s]" if record.cost.task_s is not None else ""
    setting = "" if record.setting == "frozen" else f" · {record.setting}"
    print(
        f"{prefix}{record.label or record.model}{setting} · {record.task} · {record.dataset} · seed {record.seed}   "
        f"{headline(record)}{seconds}",
        flush=True,
    )


class Board:
    """The live status of a grid.

    Parameters
    ----------
    cells
        All runs.
    todo
        Those that have to be computed.
    """

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell]):
        self.cells, self.todo = list(cells), list(todo)
        self.live = sys.stdout.isatty()
        self._running: tuple[str, ...] | None = None
        self._waiting = {cell.run_id for cell in todo} | {cell.failure_id for cell in todo}
        self._count = 0
        self._since = time.perf_counter()
        self._view: Any = None

    def __enter__(self) -> Self:
        done = len(self.cells) - len(self.todo)
        print(f"{len(self.cells)} runs: {done} done before, {len(self.todo)} to compute", flush=True)
        if self.live:
            from rich.live import Live

            self._view = Live(get_renderable=self._table, refresh_per_second=2)
            self._view.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._view is not None:
            self._view.__exit__(*error)

    def started(self, overrides: Sequence[str]) -> None:
        """A run begins."""
        self._running = tuple(overrides)

    def finished(self, record: RunRecord) -> None:
        """A run ended."""
        self._running = None
        # Hydra launches every combination; what was there already, or came twice, is not said again.
        if record.run_id in self._waiting:
            self._waiting.remove(record.run_id)
            self._count += 1
            if not self.live:
                print_record(record, f"[{self._count}/{len(self.todo)}] ")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Where other processes do the runs: a line now and then with how many are done, and how long is left."""
        ended = Event()

        def say() -> None:
            while not ended.wait(WATCH_EVERY):
                done, minutes = sum(cell.done for cell in self.todo), (time.perf_counter() - self._since) / 60
                left = f", about {minutes / done * (len(self.todo) - done):.0f} min left" if done else ""
                print(f"  {done} of {len(self.todo)} done in {minutes:.0f} min{left}", flush=True)

        watcher = Thread(target=say, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _table(self) -> Any:
        from rich.table import Table

        columns = list(dict.fromkeys((c.labels["task"], c.labels["dataset"]) for c in self.cells))
        rows = list(dict.fromkeys((c.labels["model"], c.labels["track"]) for c in self.cells))
        table = Table(title=f"{time.perf_counter() - self._since:.0f} s · one mark per run", box=None)
        table.add_column("model")
        for task, dataset in columns:
            table.add_column(f"{task}\n{dataset}")
        for model, track in rows:
            marks = dict.fromkeys(columns, "")
            for cell in self.cells:
                if (cell.labels["model"], cell.labels["track"]) == (model, track):
                    marks[cell.labels["task"], cell.labels["dataset"]] += self._mark(cell)
            table.add_row(f"{model} · {track}", *marks.values())
        return table

    def _mark(self, cell: Cell) -> str:
        if self._running is not None and set(cell.overrides) == set(self._running):
            return MARKS["running"]
        record = cell.record()
        return MARKS["waiting"] if record is None else MARKS.get(record.status, "[red]✗[/]")

    def summary(self) -> int:
        """Print how it ended; 1 when a run failed, else 0."""
        records = [(cell, cell.record()) for cell in self.cells]
        failed = [(cell, r) for cell, r in records if r is None or r.status not in ("ok", "not-applicable")]
        if not self.todo:
            print(f"{len(self.cells)} runs: all done before, nothing to compute")
        else:
            ok = len(self.cells) - len(failed)
            print(f"{ok} of {len(self.cells)} runs done in {time.perf_counter() - self._since:.0f} s")
        if failed:
            print(f"{len(failed)} failed:")
            for cell, record in failed:
                where = " · ".join(str(value) for value in cell.labels.values())
                reason = f"{record.status}: {record.error}" if record else UNRECORDED
                print(f"  {where}   {reason}")
        return 1 if failed else 0
