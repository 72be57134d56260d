"""A floor of the integration task: well-parted clusters that have nothing to do with the cell types."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.draws import normal
from harness.model import TaskBaseline
from harness.registry import register_model
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from harness.data import CellData

#: Standard deviation of the jitter: a hundredth of the distance between two labels. Without it all neighbours tie.
JITTER = 0.01 * np.sqrt(2)


@register_model("shuffled_types")
class ShuffledTypes(TaskBaseline):
    """The label-perfect embedding of cell types that were permuted among the cells: as neat, and all wrong."""

    spec = replace(
        baseline_spec("integration", "shuffled_types", "Shuffled cell types"), control=True, reads_labels=True
    )

    def predict(self, data: CellData, seed: int) -> np.ndarray:
        """Float32 (n_obs, number of types); rows of NaN are cells without a type."""
        labels = data.labels("cell_type")
        known = np.flatnonzero(labels != "")
        drawn = np.random.default_rng(seed).permutation(labels[known])
        types = np.unique(drawn)
        result = np.full((data.n_obs, len(types)), np.nan, np.float32)
        result[known] = (drawn[:, None] == types[None, :]) + JITTER * normal(
            data.cell_hashes[known], len(types), seed=seed
        )
        return result
