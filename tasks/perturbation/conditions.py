"""What was done to a cell: which genes were perturbed, read off the label of its condition."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.errors import InputError

#: The genes that are perturbed together, sorted; control is the empty one.
Condition = tuple[str, ...]

CONTROL: Condition = ()
#: How GEARS spells "no gene" (`ctrl`, `GENE+ctrl`, `ctrl+GENE`).
GEARS_CONTROL = "ctrl"
SEPARATORS = ("+", "_", ",", "|", ";")


def name_of(condition: Condition) -> str:
    """`A+B`, `A`, or `control`."""
    return "+".join(condition) or "control"


def parse(label: str, control: str, separator: str) -> Condition:
    """The condition of a label; order and repeats do not matter, `ctrl` as a part counts as nothing."""
    if label in (control, GEARS_CONTROL):
        return CONTROL
    parts = [part.strip() for part in label.split(separator)] if separator else [label]
    return tuple(sorted({part for part in parts if part and part not in (control, GEARS_CONTROL)}))


def separator_of(labels: Iterable[str], control: str) -> str:
    """What stands between the genes of a pair.

    GEARS' `+` where any label has one; else what splits a label into parts of which one is a label itself (`A_B` beside
    `A`); "" where no label is a pair.
    """
    known = set(labels) - {control, GEARS_CONTROL}
    if any("+" in label for label in known):
        return "+"
    for separator in SEPARATORS[1:]:
        if any(separator in label and set(label.split(separator)) & known for label in known):
            return separator
    return ""


def read_conditions(
    labels: np.ndarray, control: str | None, separator: str | None, name: str
) -> tuple[list[Condition], np.ndarray, dict[Condition, str]]:
    """The conditions of a data set, control first and the others sorted, and which one each cell is of.

    Parameters
    ----------
    labels
        Unicode (n,); "" is unknown.
    control
        Label of the control cells; None: GEARS' `ctrl`.
    separator
        Between the genes of a pair; None: found out (`separator_of`).

    Returns
    -------
    conditions : list of Condition
    of_cell : int64 (n,), -1 where the label is unknown
    written : how the file spells each pair, with `+` (the first spelling where there are several)

    Raises
    ------
    InputError
        No cell is a control, or none is perturbed.
    """
    distinct, code = np.unique(labels, return_inverse=True)
    named, control = control, control or GEARS_CONTROL
    separator = separator_of(distinct.tolist(), control) if separator is None else separator
    parsed = [parse(label, control, separator) if label else None for label in distinct.tolist()]
    found = sorted({condition for condition in parsed if condition})
    if CONTROL not in parsed or (named and named not in distinct):
        some = ", ".join(label for label in distinct[:5].tolist() if label) or "no label at all"
        raise InputError(
            f"{name}: no cell of the condition column is labelled {control!r}, and predictions start from control "
            f"cells; found {some}. Say what the controls are called: dataset.control=LABEL"
        )
    if not found:
        raise InputError(f"{name}: every labelled cell is a control; dataset.condition= names the perturbed genes")
    place = {condition: i for i, condition in enumerate([CONTROL, *found])}
    index = np.array([-1 if condition is None else place[condition] for condition in parsed], np.int64)
    written: dict[Condition, str] = {}
    for label, condition in zip(distinct.tolist(), parsed, strict=True):
        if condition and separator:
            written.setdefault(condition, label.replace(separator, "+"))
    return [CONTROL, *found], index[code.ravel()], written
