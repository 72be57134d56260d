"""Genetic perturbation: how well is the expression of cells predicted whose perturbation was never seen?

Protocols of GEARS (Roohani et al. 2024) and of the CellFM paper; the metrics and baselines of Ahlmann-Eltze et al. 2025
and Vinas Torne et al. 2025 (Systema), which show what simple predictors give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError
from harness.registry import register_task
from harness.task import Split, TaskResult
from tasks.perturbation.collapse import mean_pairwise_pearson
from tasks.perturbation.conditions import Condition
from tasks.perturbation.heads import HEADS, NO_HEAD
from tasks.perturbation.on_perturbations import OnPerturbations, PerturbationSplit, cells_of
from tasks.perturbation.pair_scores import interactions
from tasks.perturbation.planted import Planted
from tasks.perturbation.prepare import Prepared
from tasks.perturbation.problem import SplitHalves
from tasks.perturbation.scoring import METRICS, Fold, score
from tasks.perturbation.screen import screen_table, screened
from tasks.perturbation.splits import given, leave_genes_out, simulation
from tasks.perturbation.tables import effects_table, genes_table

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject

SPLITS = ("simulation", "given", "genes")


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
        parts = [part for part in split.each() if isinstance(part, PerturbationSplit) and part.conditions is not None]
        chosen = [part.conditions for part in parts if part.conditions is not None]
        truths = [prepared.cells] * len(parts)
        knowing = subject.model if subject.spec.reads_labels else None
        if isinstance(knowing, SplitHalves):
            halved = [knowing.halves(prepared.cells, part.test, seed) for part in chosen]
            truths, predicted = [truth for truth, _ in halved], {NO_HEAD: [guess for _, guess in halved]}
            result.notes["truth"] = "half of each condition's cells, predicted by the other half"
        elif isinstance(knowing, Planted):
            predicted = {NO_HEAD: [knowing.profiles(data, prepared, part.test, seed) for part in chosen]}
        else:
            problems = [self.problem(prepared, part, seed, subject.progress) for part in chosen]
            screen = self._screened(prepared)
            problems[0] = replace(problems[0], test=(*problems[0].test, *screen))
            predicted = self.predictions(subject, data, prepared, problems, result)
            self._screen(screen, predicted, prepared, result)
        folds = [
            Fold(part.name, truth, own, self.config["top_genes"])
            for part, truth, own in zip(parts, truths, chosen, strict=True)
        ]
        rows, tables = interactions(folds, predicted)
        result.metrics = [*score(folds, predicted, seed), *rows]
        result.tables |= {
            "perturbation_effects": effects_table(folds, predicted),
            "perturbation_genes": genes_table(folds, predicted),
            **tables,
        }
        alike = mean_pairwise_pearson(np.concatenate([fold.deltas for fold in folds]))
        result.notes["similarity of the measured changes"] = round(alike, 4) if alike == alike else "not defined"
        result.notes["test conditions"] = len({condition for part in chosen for condition in part.test})
        result.notes["training conditions"] = len(chosen[0].train) if len(chosen) == 1 else f"{len(chosen)} folds"
        return result

    def _screened(self, prepared: Prepared) -> tuple[Condition, ...]:
        """What the virtual screen asks for."""
        asked = self.config["screen"]
        if asked is None:
            return ()
        targets = {gene for condition in prepared.cells.conditions for gene in condition}
        return screened(sorted(targets) if asked == "targets" else asked)

    def _screen(
        self,
        screen: tuple[Condition, ...],
        predicted: dict[str, list[np.ndarray]],
        prepared: Prepared,
        result: TaskResult,
    ) -> None:
        """Take the screen's predictions off those of the first fold, and lay them out."""
        if not screen:
            return
        import pandas as pd

        tables = []
        for head, guesses in predicted.items():
            own = guesses[0][-len(screen) :]
            guesses[0] = guesses[0][: -len(screen)]
            tables.append(screen_table(screen, own - prepared.cells.control_mean, prepared.cells.genes, head))
        if any(len(table) for table in tables):
            result.tables["perturbation_screen"] = pd.concat(tables)
        result.notes["virtual screen"] = f"{len(tables[0])} pairs, trained on the first split"

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS
