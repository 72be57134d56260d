"""What the tasks on perturbed cells share: which cells take part, and how models are made to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.gene_matrix import SOURCES
from harness.task import Split, Task, TaskResult
from tasks.gene_sets import read_gene_sets
from tasks.perturbation.conditions import CONTROL, Condition
from tasks.perturbation.heads import HEADS, NO_HEAD, GeneVectors, predict_with
from tasks.perturbation.prepare import Prepared, control_cells, prepare
from tasks.perturbation.problem import Problem
from tasks.perturbation.splits import ConditionSplit
from tasks.reference_cells import open_reference

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject


@dataclass(frozen=True)
class PerturbationSplit(Split):
    """A split of cells that follows one of conditions; control cells train."""

    conditions: ConditionSplit | None = None


class OnPerturbations(Task):
    """What the tasks on perturbed cells share: which cells take part, and how predictors are run.

    Parameters
    ----------
    heads
        Of `tasks.perturbation.heads.HEADS`, for models that give gene vectors.
    embedding, reference, reference_cells
        Gene vectors: `static`, or `contextual` in cells of `reference` (a data set or a file; None: the control cells).
    go
        Gene sets (a GMT file, or GEARS' gene2go): the graph of GEARS and the vectors of `go_ridge`.
    separator
        Between the genes of a pair; None: found out.
    min_cells, cells_per_condition, n_top_genes
        Which cells and genes take part, see `tasks.perturbation.prepare`.
    gears
        Settings of GEARS, see `tasks.perturbation.gears.GearsSettings`.
    native
        Settings of a model's own predictor (see the model), for the head `native`.
    """

    needs = ("condition",)

    def __init__(
        self,
        *,
        heads: Sequence[str],
        embedding: str,
        reference: str | None,
        reference_cells: int,
        go: str | None,
        separator: str | None,
        min_cells: int,
        cells_per_condition: int | None,
        n_top_genes: int | None,
        gears: Mapping[str, Any] | None,
        native: Mapping[str, Any] | None,
        **others: Any,
    ):
        heads = list(heads)
        self.go = None if go is None else read_gene_sets(go)
        self.reference = open_reference(reference, reference_cells)
        self.gears, self.native = dict(gears or {}), dict(native or {})
        super().__init__(
            heads=heads,
            embedding=embedding,
            reference=None if self.reference is None else self.reference.content_hash,
            reference_cells=reference_cells,
            go=None if self.go is None else self.go.content,
            separator=separator,
            min_cells=min_cells,
            cells_per_condition=cells_per_condition,
            n_top_genes=n_top_genes,
            gears=self.gears,
            native=self.native,
            **others,
        )
        unknown = [head for head in heads if head not in HEADS]
        if unknown or not heads:
            raise InputError(f"task.heads={heads}: expected some of {', '.join(HEADS)}")
        if embedding not in SOURCES:
            raise InputError(f"task.embedding={embedding}: expected {' or '.join(SOURCES)}")
        for name, least in (("min_cells", 2), ("cells_per_condition", 2), ("n_top_genes", 1), ("reference_cells", 2)):
            value = self.config[name]
            if not (isinstance(value, int) and value >= least) and not (
                value is None and name in ("cells_per_condition", "n_top_genes")
            ):
                raise InputError(f"task.{name}={value}: expected a whole number from {least}")

    def prepared(self, data: CellData) -> Prepared:
        """The cells and genes of a data set that take part."""
        names = ("separator", "min_cells", "cells_per_condition", "n_top_genes")
        return prepare(data, **{name: self.config[name] for name in names})

    def problem(self, prepared: Prepared, split: ConditionSplit, seed: int, progress: bool) -> Problem:
        """What predictors are given of a split: cells of the training side alone."""
        cells = prepared.cells.of((*split.train, *split.val))
        return Problem(cells, split.train, split.val, split.test, self.go, seed, progress)

    def predictions(
        self, subject: Subject, data: CellData, prepared: Prepared, problems: Sequence[Problem], result: TaskResult
    ) -> dict[str, list[np.ndarray]]:
        """Head -> predicted mean profiles (n_test, g), problem by problem.

        Raises
        ------
        NotApplicableError
            The model has no way to predict.
        """
        if subject.spec.kind == "predictor":
            found = [subject.model.predict(problem) for problem in problems]
            for problem in problems[:1]:
                result.notes |= subject.model.notes(problem)
            return {NO_HEAD: found}
        heads, reasons, predicted = self.config["heads"], [], {}
        vectors = None
        if any(head != "native" for head in heads):
            reference = self.reference
            if reference is None:
                reference = control_cells(data, prepared, self.config["reference_cells"])
            vectors = GeneVectors(subject, data, prepared, self.config["embedding"], reference)
            result.notes |= {"gene vectors": self.config["embedding"], **vectors.notes()}
        for head in heads:
            try:
                predicted[head] = [
                    predict_with(head, subject, problem, vectors, self.gears, self.native, result.notes)
                    for problem in problems
                ]
            except NotApplicableError as error:
                reasons.append(str(error))
        if not predicted:
            raise NotApplicableError("; ".join(reasons))
        return predicted


def cells_of(prepared: Prepared, chosen: ConditionSplit, name: str) -> PerturbationSplit:
    """The rows of the data set behind a split of conditions; control and validation cells are on the training side."""
    index = prepared.cells.index

    def rows(conditions: Sequence[Condition]) -> np.ndarray:
        return prepared.rows[np.isin(prepared.cells.of_cell, [index[condition] for condition in conditions])]

    train = rows((CONTROL, *chosen.train, *chosen.val))
    return PerturbationSplit(name, train, rows(chosen.test), {}, conditions=chosen)
