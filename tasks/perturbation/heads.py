"""From a model to predicted profiles: a regression on its gene vectors, GEARS with them, or its own predictor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import NotApplicableError
from harness.genes import GeneTable
from harness.provenance import CostMeter
from tasks.gene_names import gene_names, some
from tasks.perturbation.conditions import CONTROL, Condition
from tasks.perturbation.embedding_ridge import ridge_on_vectors
from tasks.perturbation.problem import Problem

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject
    from tasks.perturbation.prepare import Prepared

#: The shuffled ones give each gene the vector of another: what is left is not what the vectors say.
HEADS = ("linear", "linear_shuffled", "gears", "gears_shuffled", "native")
NO_HEAD = "none"
SHUFFLED = "_shuffled"


class GeneVectors:
    """The gene vectors of one subject for a prepared data set: those of the measured genes and of the targets.

    Parameters
    ----------
    source, reference
        See `harness.subject.Subject.genes`.
    """

    def __init__(self, subject: Subject, data: CellData, prepared: Prepared, source: str, reference: CellData | None):
        measured = prepared.cells.genes
        targets = sorted({gene for condition in prepared.cells.conditions for gene in condition})
        others = np.setdiff1d(np.array(targets, np.str_), measured)
        self.table = _table(data.genes, prepared.columns, measured, others)
        self.matrix = subject.genes(self.table, source=source, reference=reference)
        self.measured, self.targets = measured, targets

    def shuffled(self, seed: int) -> np.ndarray:
        """The matrix with vectors exchanged among the genes that have one, (n_genes, d)."""
        matrix = self.matrix.copy()
        known = np.flatnonzero(~np.isnan(matrix).any(axis=1))
        matrix[known] = matrix[np.random.default_rng([seed, 71]).permutation(known)]
        return matrix

    def by_name(self, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """Gene -> vector, float64 (d,), of those that have one."""
        names = self.table.names.tolist()
        return {n: v.astype(np.float64) for n, v in zip(names, matrix, strict=True) if not np.isnan(v).any()}

    def notes(self) -> dict[str, Any]:
        """How many targets and measured genes have no vector."""
        known = set(self.by_name(self.matrix))
        without = [gene for gene in self.targets if gene not in known]
        found: dict[str, Any] = {
            "targets with a gene vector": f"{len(self.targets) - len(without)} of {len(self.targets)}"
        }
        if without:
            found["targets without a gene vector"] = (
                f"{some(without)}: the mean vector of the targets stands for theirs"
            )
        n = int(np.isin(self.measured, sorted(known)).sum())
        found["measured genes with a gene vector"] = f"{n} of {len(self.measured)}"
        return found


def _table(genes: GeneTable, columns: np.ndarray, measured: np.ndarray, others: np.ndarray) -> GeneTable:
    """The measured genes, with all their ids, and other genes by name."""
    more = GeneTable.from_names(others.tolist()) if len(others) else None
    symbols = np.where(genes.symbols != "", genes.symbols, gene_names(genes))[columns]
    if more is None:
        return GeneTable(measured, symbols, genes.ensembl[columns])
    return GeneTable(
        np.concatenate([measured, others]),
        np.concatenate([symbols, more.symbols]),
        np.concatenate([genes.ensembl[columns], more.ensembl]),
    )


def predict_with(
    head: str,
    subject: Subject,
    problem: Problem,
    vectors: GeneVectors | None,
    gears: dict[str, Any],
    native: dict[str, Any],
    notes: dict[str, Any],
) -> np.ndarray:
    """Predicted mean profiles, float64 (n_test, g); rows of NaN where it cannot say.

    Parameters
    ----------
    vectors
        For every head but `native`.
    gears
        Settings of `tasks.perturbation.gears.GearsSettings`.
    native
        Settings of the model's own predictor; `epochs` or `steps`, and `control_cells` that a prediction starts from.
    notes
        What a reader must know is added to it.

    Raises
    ------
    NotApplicableError
        The model has no predictor of its own.
    """
    if head == "native":
        return _native(subject, problem, native, notes)
    assert vectors is not None
    matrix = vectors.shuffled(problem.seed) if head.endswith(SHUFFLED) else vectors.matrix
    if head.removesuffix(SHUFFLED) == "linear":
        return ridge_on_vectors(problem, vectors.by_name(matrix))
    from tasks.perturbation.gears import GearsSettings, fit_predict, graph_notes

    notes |= graph_notes(problem)
    return fit_predict(problem, GearsSettings.of(gears, "task.gears"), embedding=matrix[: len(problem.genes)])


def _native(subject: Subject, problem: Problem, settings: dict[str, Any], notes: dict[str, Any]) -> np.ndarray:
    """The model's own predictor, trained on the training conditions, its epoch chosen by the validation conditions."""
    if subject.spec.kind != "foundation":
        raise NotApplicableError(f"{subject.spec.title} has no perturbation predictor of its own")
    budget = {key: value for key, value in settings.items() if key in ("epochs", "steps")}
    own = {key: value for key, value in settings.items() if key not in ("epochs", "steps", "control_cells")}
    with CostMeter() as loading:
        model = subject.model
        predictor = model.perturbation_model(problem.genes.tolist(), seed=problem.seed, **own)
    subject.embedding_seconds += loading.seconds
    subject.about = {"variant": model.variant, "n_params": model.n_params} | subject.about
    cells, control = problem.cells, problem.cells.rows(CONTROL)
    train, val = (_cells_and_targets(problem, part) for part in (problem.train, problem.val))
    predictor.fit(cells.values, control, *train, val=val if len(val[0]) else None, progress=problem.progress, **budget)
    drawn = np.random.default_rng([problem.seed, 3]).permutation(control)[: int(settings.get("control_cells", 20))]
    found = predictor.predict(cells.values[np.sort(drawn)].toarray(), problem.test)
    notes |= predictor.notes
    return np.asarray(found, np.float64)


def _cells_and_targets(problem: Problem, part: tuple[Condition, ...]) -> tuple[np.ndarray, list[Condition]]:
    """The cells of some conditions, int (n,), and what was perturbed in each."""
    cells, own = problem.cells, {problem.cells.index[condition] for condition in part}
    rows = np.flatnonzero(np.isin(cells.of_cell, sorted(own)))
    return rows, [cells.conditions[code] for code in cells.of_cell[rows].tolist()]
