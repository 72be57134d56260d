"""What a data set's design lets batch correction mean: confounded designs are said with the scores."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Names listed in a note before it says "and N more".
LISTED = 6


@dataclass(frozen=True)
class Design:
    """How cell types, batches and conditions lie to each other.

    Parameters
    ----------
    notes, flags
        For the record.
    unscored
        Why batch correction is not scored at all; "" where it is.
    """

    notes: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    unscored: str = ""


def judge(labels: np.ndarray, batches: np.ndarray, conditions: np.ndarray | None = None) -> Design:
    """The design of the cells that are scored.

    Parameters
    ----------
    labels, batches
        Cell types and batches, Unicode (n,).
    conditions
        (n,), None where the data set names none; "" is unknown.
    """
    types, kind = np.unique(labels, return_inverse=True)
    names, batch = np.unique(batches, return_inverse=True)
    if len(names) < 2:
        return Design(unscored="one batch: nothing to correct, bio conservation only")
    table = np.zeros((len(types), len(names)), np.int64)
    np.add.at(table, (kind, batch), 1)
    found = Design()
    alone = types[(table > 0).sum(axis=1) == 1]
    if len(alone):
        found.flags.append("type-in-one-batch")
        found.notes["types in one batch only"] = (
            f"{len(alone)} of {len(types)} ({_some(alone)}): they have no part in BRAS and kBET, and mixing them with "
            "others would be wrong"
        )
    sizes = table.sum(axis=0)
    if (sizes == 1).any():
        found.notes["batches of one cell"] = f"{int((sizes == 1).sum())} of {len(names)} ({_some(names[sizes == 1])})"
    if conditions is not None:
        _conditions(found, batches, conditions)
    if len(alone) == len(types):
        reason = "every cell type is in one batch only: batch and cell type are one, and mixing is not defined"
        return Design(found.notes, found.flags, reason)
    return found


def _conditions(found: Design, batches: np.ndarray, conditions: np.ndarray) -> None:
    """Say where each batch is of one condition: a method that removes batches then removes the condition."""
    known = conditions != ""
    pairs = {*zip(batches[known].tolist(), conditions[known].tolist(), strict=True)}
    n_batches, n_conditions = len({b for b, _ in pairs}), len({c for _, c in pairs})
    if n_conditions < 2 or len(pairs) > n_batches:
        return
    found.flags.append("batch-is-condition")
    found.notes["batch and condition"] = (
        f"each of the {n_batches} batches is of one of the {n_conditions} conditions: what removes the batches removes "
        "the condition too, and a high batch correction is no merit"
    )


def _some(names: np.ndarray) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED].tolist()) + more
