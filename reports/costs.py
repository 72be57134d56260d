"""What a row of a board costs: the columns beside its scores."""

from __future__ import annotations

from reports.entries import Entry
from reports.wording import quantity, seconds

#: Cost -> title, sub-title, first click, how it is written.
COSTS = {
    "cells_per_s": ("Cells/s", "", "desc", quantity),
    "peak_rss_mb": ("Memory", "MB", "asc", quantity),
    "peak_gpu_mb": ("GPU", "MB", "asc", quantity),
    "n_params": ("Params", "", "asc", quantity),
    "n_trained_params": ("Trained", "params", "asc", quantity),
    "pretrain_s": ("Pretrain", "s", "asc", seconds),
    "seconds": ("Time", "s", "asc", seconds),
}

COST_HINTS = {
    "cells_per_s": "Cells embedded per second",
    "peak_rss_mb": "Peak resident memory",
    "peak_gpu_mb": "Peak GPU memory",
    "n_params": "Parameters of the network",
    "n_trained_params": "Parameters that were trained",
    "pretrain_s": "Seconds of pretraining by this harness",
    "seconds": "Seconds of embedding and task together",
}


def cost_of(entry: Entry, name: str) -> float | None:
    """A cost of `Cost`, or the seconds of embedding and task together."""
    if name != "seconds":
        return entry.cost(name)
    parts = [value for part in ("embed_s", "task_s") if (value := entry.cost(part)) is not None]
    return sum(parts) if parts else None


def has_column(name: str, entries: list[Entry]) -> bool:
    """Whether a cost has a column: it was measured, and, of what was trained, is not nothing everywhere."""
    values = [value for entry in entries if (value := cost_of(entry, name)) is not None]
    return any(values) if name == "n_trained_params" else bool(values)
