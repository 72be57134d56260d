"""Genetic perturbation: how well is the expression of cells predicted whose perturbation was never seen?

Protocols of GEARS (Roohani et al. 2024) and of the CellFM paper; the metrics and baselines of Ahlmann-Eltze et al. 2025
and Vinas Torne et al. 2025 (Systema), which show what simple predictors give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.gene_matrix import SOURCES
from harness.registry import register_task
from harness.task import Split, Task, TaskResult
from tasks.perturbation.conditions import CONTROL, Condition
from tasks.perturbation.go import read_gene_sets
from tasks.perturbation.heads import HEADS, NO_HEAD, GeneVectors, predict_with
from tasks.perturbation.planted import Planted
from tasks.perturbation.prepare import Prepared, prepare
from tasks.perturbation.problem import Problem, SplitHalves
from tasks.perturbation.reference import control_cells, open_reference
from tasks.perturbation.scoring import METRICS, Fold, score
from tasks.perturbation.splits import ConditionSplit, given, leave_genes_out, simulation
from tasks.perturbation.tables import effects_table, genes_table

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject

SPLITS = ("simulation", "given", "genes")


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


@register_task("perturbation")
class Perturbation(OnPerturbations):
    """Mean profiles of conditions that were not trained on, scored perturbation by perturbation.

    Parameters
    ----------
    split
        `simulation`: GEARS' split of the run's seed; `given`: the column `dataset.split`; `genes`: perturbed genes left
        out in folds.
    gene_folds
        Of `split=genes`.
    top_genes
        Most expressed genes that `l2_top` compares.
    screen
        Genes all pairs of which are predicted as well, `targets` for all perturbed ones; None: no screen.
    """

    name = "perturbation"
    title = "Genetic perturbation"
    headline = (
        *(("pearson_delta", head) for head in (*HEADS, NO_HEAD)),
        *(("pearson_delta_perturbed", head) for head in ("linear", "gears", NO_HEAD)),
        *(("pearson_delta_de20", head) for head in ("linear", "gears", NO_HEAD)),
        *(("l2_top", head) for head in ("linear", "gears", NO_HEAD)),
        *(("centroid_accuracy", head) for head in ("linear", "gears", NO_HEAD)),
    )
    controls: ClassVar = {"floor": ("no_change", "random_embedding"), "ceiling": ("split_half", "planted_truth")}

    def __init__(
        self,
        heads: Sequence[str] = ("linear",),
        split: str = "simulation",
        gene_folds: int = 5,
        embedding: str = "static",
        reference: str | None = None,
        reference_cells: int = 300,
        go: str | None = None,
        separator: str | None = None,
        min_cells: int = 10,
        cells_per_condition: int | None = None,
        n_top_genes: int | None = 5000,
        top_genes: int = 1000,
        screen: Sequence[str] | str | None = None,
        gears: Mapping[str, Any] | None = None,
        native: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            heads=heads,
            embedding=embedding,
            reference=reference,
            reference_cells=reference_cells,
            go=go,
            separator=separator,
            min_cells=min_cells,
            cells_per_condition=cells_per_condition,
            n_top_genes=n_top_genes,
            gears=gears,
            native=native,
            split=split,
            gene_folds=gene_folds,
            top_genes=top_genes,
            screen=screen if screen is None or isinstance(screen, str) else sorted(map(str, screen)),
        )
        if split not in SPLITS:
            raise InputError(f"task.split={split}: expected {', '.join(SPLITS)}")

    def split(self, data: CellData, seed: int) -> PerturbationSplit:
        """Conditions drawn, named, or left out by gene, and their cells."""
        prepared = self.prepared(data)
        conditions = prepared.cells.conditions[1:]
        if self.config["split"] == "given":
            parts = data.labels("split")[prepared.rows]
            chosen = given(conditions, prepared.cells.of_cell - 1, parts, data.name)
            return cells_of(prepared, chosen, "given")
        if self.config["split"] == "genes":
            folds = leave_genes_out(conditions, self.config["gene_folds"], seed)
            parts = tuple(cells_of(prepared, chosen, name) for name, chosen in folds)
            every = np.unique(np.concatenate([part.test for part in parts]))
            return PerturbationSplit("leave-genes-out", every, every, prepared.excluded, parts)
        chosen = simulation(conditions, seed, prepared.written)
        if not chosen.test or not chosen.train:
            raise InputError(
                f"{data.name}: {len(conditions)} perturbed conditions are too few for the simulation split "
                f"({len(chosen.train)} train, {len(chosen.test)} test); take task.split=genes or given"
            )
        return replace(cells_of(prepared, chosen, "simulation"), excluded=prepared.excluded)

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Predict the test conditions of each fold, and score them."""
        prepared, result = self.prepared(data), TaskResult()
        result.notes |= prepared.notes
        folds = [part for part in split.each() if isinstance(part, PerturbationSplit) and part.conditions is not None]
        chosen = [part.conditions for part in folds if part.conditions is not None]
        truths = [prepared.cells] * len(folds)
        knowing = subject.model if subject.spec.reads_labels else None
        if isinstance(knowing, SplitHalves):
            parted = [knowing.halves(prepared.cells, part.test, seed) for part in chosen]
            truths, predicted = [truth for truth, _ in parted], {NO_HEAD: [guess for _, guess in parted]}
            result.notes["truth"] = "half of each condition's cells, predicted by the other half"
        elif isinstance(knowing, Planted):
            predicted = {NO_HEAD: [knowing.profiles(data, prepared, part.test, seed) for part in chosen]}
        else:
            problems = [self.problem(prepared, part, seed, subject.progress) for part in chosen]
            predicted = self.predictions(subject, data, prepared, problems, result)
        scored = [
            Fold(part.name, truth, own, self.config["top_genes"])
            for part, truth, own in zip(folds, truths, chosen, strict=True)
        ]
        result.metrics = score(scored, predicted, seed)
        result.tables["perturbation_effects"] = effects_table(scored, predicted)
        result.tables["perturbation_genes"] = genes_table(scored, predicted)
        tested = {condition for part in chosen for condition in part.test}
        result.notes["test conditions"] = len(tested)
        result.notes["training conditions"] = len(chosen[0].train) if len(chosen) == 1 else f"{len(chosen)} folds"
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS


def cells_of(prepared: Prepared, chosen: ConditionSplit, name: str) -> PerturbationSplit:
    """The rows of the data set behind a split of conditions; control and validation cells are on the training side."""
    index = prepared.cells.index

    def rows(conditions: Sequence[Condition]) -> np.ndarray:
        return prepared.rows[np.isin(prepared.cells.of_cell, [index[condition] for condition in conditions])]

    train = rows((CONTROL, *chosen.train, *chosen.val))
    return PerturbationSplit(name, train, rows(chosen.test), {}, conditions=chosen)
