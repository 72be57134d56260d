"""What a fine-tuning leaves in a task's result: its curve, its notes, and whether it was too short to say anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.finetuning import Finetuned
    from harness.task import TaskResult


def note_tuning(tuned: Finetuned, fold: str, result: TaskResult) -> None:
    """Put the curve into `result.tables` and what a reader must know into `result.notes`; each fold has its own."""
    import pandas as pd

    if tuned.smoke and "smoke" not in result.flags:
        result.flags.append("smoke")
    told = {
        "optimiser steps": tuned.steps,
        "epochs, best": f"{tuned.epochs}, {tuned.best_epoch}",
        "cells fine-tuned on, validated on": f"{tuned.n_training}, {tuned.n_validation}",
        "learning rate": tuned.learning_rate,
        "seconds of fine-tuning": round(tuned.seconds, 2),
    }
    for what, value in told.items():
        others = result.notes.get(what)
        result.notes[what] = value if others is None else f"{others}; {value}"
    curve = pd.DataFrame(tuned.curve).assign(fold=fold)
    earlier = result.tables.get("finetuning")
    result.tables["finetuning"] = curve if earlier is None else pd.concat([earlier, curve])
