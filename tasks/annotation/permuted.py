"""A floor of the annotation task: a classifier that was trained on permuted labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.registry import register_model
from tasks.annotation.baselines import LogisticOnPCA
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@register_model("permuted_labels")
class PermutedLabels(LogisticOnPCA):
    """Logistic regression on principal components, its training labels permuted among the training cells.

    Everything is as in a real run, but expression says nothing of the label: what is left is the share of each type.
    """

    spec = replace(baseline_spec("annotation", "permuted_labels", "Permuted labels"), control=True)

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Permute, then train."""
        super().fit(counts, np.random.default_rng(seed).permutation(labels), seed)
