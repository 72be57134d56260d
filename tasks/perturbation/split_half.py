"""The ceiling: how well half of a condition's cells predict the other half. No predictor can be asked for more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.perturbation.cells import PerturbedCells
from tasks.perturbation.conditions import Condition
from tasks.perturbation.problem import SplitHalves


@register_model("split_half")
class SplitHalf(SplitHalves):
    """Mean profile of a random half of the cells, scored on the other half.

    Both halves have the noise of half the cells, so that the ceiling is a cautious one: a predictor is scored on all
    cells, which are less noisy.
    """

    spec = replace(
        baseline_spec("perturbation", "split_half", "Split-half ceiling"),
        tasks=("perturbation",),
        control=True,
        reads_labels=True,
    )

    def halves(
        self, cells: PerturbedCells, test: tuple[Condition, ...], seed: int
    ) -> tuple[PerturbedCells, np.ndarray]:
        """See `SplitHalves.halves`; an odd cell is of the half that predicts."""
        rng, kept = np.random.default_rng([seed, 17]), np.ones(len(cells.of_cell), bool)
        guesses = []
        for condition in test:
            rows = rng.permutation(cells.rows(condition))
            predicts = rows[: (len(rows) + 1) // 2]
            kept[predicts] = False
            guesses.append(np.asarray(cells.values[np.sort(predicts)].mean(axis=0, dtype=np.float64)).ravel())
        truth = PerturbedCells(cells.values[kept], cells.genes, cells.conditions, cells.of_cell[kept])
        return truth, np.stack(guesses)
