"""What a subject predicts for the test cells of a fold, and what its decoder does by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError, InternalError
from tasks.drug_response.ceiling import TreatedHalf
from tasks.drug_response.cells import FoldCells
from tasks.drug_response.model_space import Reading, frozen_space, tuned_space
from tasks.drug_response.problem import DrugBaseline
from tasks.drug_response.spaces import move

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject
    from harness.task import TaskResult

#: The head of what predicts by itself.
NO_HEAD = "none"


@dataclass(frozen=True)
class Answer:
    """Predicted cells of a fold, log-normalised.

    Parameters
    ----------
    predicted
        Head -> treated cells, float32 (k, g).
    moved
        The rows of the data set they were predicted from, int64 (k,).
    true
        Rows of the treated cells they are compared with, int64 (m,).
    untransported, decoded
        What decoding alone makes of the cells `moved` (k, g) and `true` (m, g); None for what never leaves the genes.
    """

    predicted: Mapping[str, np.ndarray]
    moved: np.ndarray
    true: np.ndarray
    untransported: np.ndarray | None = None
    decoded: np.ndarray | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def answer(
    subject: Subject,
    data: CellData,
    cells: FoldCells,
    heads: Sequence[str],
    settings: Mapping[str, Any],
    seed: int,
    result: TaskResult,
    alone: bool,
) -> Answer:
    """The answer of a model, a method or a control.

    What cannot be learned from the cells of a drug is NaN, with the reason in the notes, unless it is `alone`.

    Parameters
    ----------
    settings
        Of the task.
    """
    test = cells.fold.test
    if subject.spec.kind == "predictor":
        method = subject.model
        if isinstance(method, TreatedHalf):
            if settings["holdout"] == "cells":  # the treated training cells are more of the same
                predicting, true = cells.fold.train.treated, test.treated
            else:
                predicting, true = method.halves(test.treated, seed)
            return Answer({NO_HEAD: cells.expression(predicting)}, predicting, true)
        return _of_method(method, cells, seed, subject.progress, alone)
    if subject.tuning is not None:
        reading, notes = tuned_space(subject, data, cells, settings["code_size"], result)
    else:
        vectors = subject.cells(fitted_to=np.sort(cells.fold.train.rows))
        reading, notes = frozen_space(
            vectors, cells, settings["code"], settings["code_size"], settings["decoder"], seed, subject.progress
        )
    return _in_space(reading, notes, cells, heads, settings["cellot"], seed, subject.progress, alone)


def _of_method(method: DrugBaseline, cells: FoldCells, seed: int, progress: bool, alone: bool) -> Answer:
    problem, test = cells.problem(seed, progress), cells.fold.test
    try:
        predicted = method.predict(problem)
    except InputError as error:
        if alone:
            raise
        nothing = np.full_like(problem.test, np.nan)
        return Answer({NO_HEAD: nothing}, test.control, test.treated, notes={"not learned": str(error)})
    if predicted.shape != problem.test.shape:
        raise InternalError(
            f"{method.spec.name} predicted an array of {predicted.shape}; a cell for each of the {len(problem.test)} "
            f"control cells is expected, over {problem.test.shape[1]} genes"
        )
    return Answer(
        {NO_HEAD: predicted},
        test.control,
        test.treated,
        method.decoded(problem.test),
        method.decoded(cells.expression(test.treated)),
        method.notes(),
    )


def _in_space(
    reading: Reading,
    notes: dict[str, Any],
    cells: FoldCells,
    heads: Sequence[str],
    cellot: Mapping[str, Any],
    seed: int,
    progress: bool,
    alone: bool,
) -> Answer:
    space, test, predicted = reading.space, cells.fold.test, {}
    for head in heads:
        try:
            predicted[head], told = move(head, space, cellot, seed, name=cells.fold.name, progress=progress)
        except InputError as error:
            if alone:
                raise
            predicted[head] = np.full((len(space.test), len(cells.columns)), np.nan, np.float32)
            told = {"not learned": str(error)}
        notes |= told
    for what, readable in (("control", reading.tested), ("treated", reading.true)):
        if not readable.all():
            notes[f"{what} test cells the model cannot read"] = int((~readable).sum())
    return Answer(
        predicted,
        test.control[reading.tested],
        test.treated[reading.true],
        space.decode(space.test),
        space.decode(space.truth),
        notes,
    )
