"""What was planted, as predictors: the truth of a semi-synthetic data set, and the same with pairs that only add up.

Both know the answer. They say whether the metrics find it: the truth must score best, the sum of the single effects as
well where pairs add up, and worse where they interact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.counts import log_normalise
from harness.errors import NotApplicableError
from harness.model import TaskBaseline
from harness.planting import changed
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.perturbation.conditions import CONTROL, GEARS_CONTROL, Condition, name_of

if TYPE_CHECKING:
    from harness.data import CellData
    from tasks.perturbation.prepare import Prepared

#: Times the effect is drawn anew in every control cell.
DRAWS = 10


class Planted(TaskBaseline):
    """Control cells with the planted effect drawn anew, averaged."""

    interactions: bool

    def profiles(self, data: CellData, prepared: Prepared, test: Sequence[Condition], seed: int) -> np.ndarray:
        """Mean profiles, float64 (n_test, g).

        Raises
        ------
        NotApplicableError
            No perturbation was planted in the cells.
        """
        planted = data.planted or {}
        if planted.get("effect") != "perturbation":
            raise NotApplicableError(f"{self.spec.title}: no perturbation was planted in {data.name}")
        column = {name: i for i, name in enumerate(data.genes.names.tolist())}
        counts = data.counts(prepared.rows[prepared.cells.rows(CONTROL)])
        groups, found = np.zeros(counts.shape[0], np.int64), []
        for i, condition in enumerate(test):
            change = np.zeros(data.n_vars)
            for gene in condition:
                for name, value in planted["log2_changes"][f"{gene}+{GEARS_CONTROL}"].items():
                    change[column[name]] += value
            if self.interactions:
                change *= _factor(condition, planted)
            rng = np.random.default_rng([seed, 5, i])  # the same draws for the truth and for the sum
            draws = [changed(counts, {0: np.exp2(change)}, groups, rng) for _ in range(DRAWS)]
            means = [log_normalise(draw).mean(axis=0, dtype=np.float64) for draw in draws]
            found.append(np.asarray(np.mean(means, axis=0)).ravel()[prepared.columns])
        return np.stack(found)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: see `profiles`."""
        raise NotImplementedError


def _factor(condition: Condition, planted: dict[str, Any]) -> float:
    """What the sum of the single effects is multiplied by in a pair."""
    own = {tuple(sorted(each["pair"].split("+"))): float(each["factor"]) for each in planted["interactions"]}
    return own.get(tuple(sorted(name_of(condition).split("+"))), 1.0)


def _spec(name: str, title: str) -> Any:
    return replace(baseline_spec("perturbation", name, title), tasks=("perturbation",), control=True, reads_labels=True)


@register_model("planted_truth")
class PlantedTruth(Planted):
    """The planted effect."""

    spec = _spec("planted_truth", "Planted truth")
    interactions = True


@register_model("planted_additive")
class PlantedAdditive(Planted):
    """The planted single effects, added up in pairs."""

    spec = _spec("planted_additive", "Planted singles, added up")
    interactions = False
