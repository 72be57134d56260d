"""Does a predictor say the same whatever is perturbed? How alike its predictions are, beside the observed changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.profiles import CONSTANT, standardised


def mean_pairwise_pearson(changes: np.ndarray) -> float:
    """Mean Pearson correlation of the changes of different perturbations.

    Parameters
    ----------
    changes
        From control, (n, g). Constant ones and NaN have no correlation and are left out.

    Returns
    -------
    float
        1: the same direction for all, near 0: unrelated. NaN for fewer than two.
    """
    rows = standardised(changes)
    rows = rows[~np.isnan(rows).any(axis=1)]
    n = len(rows)
    # The squared length of the sum holds every pair twice, and each row with itself.
    return float((np.sum(rows.sum(axis=0) ** 2) - n) / (n * (n - 1))) if n > 1 else float("nan")


@dataclass(frozen=True)
class Collapse:
    """How alike predictions are.

    Parameters
    ----------
    predicted, observed
        `mean_pairwise_pearson` of the predicted and of the observed changes.
    identical
        All predictions are the same profile.
    """

    predicted: float
    observed: float
    identical: bool

    @property
    def excess(self) -> float:
        """How much more alike predictions are than the truth; NaN where either is undefined."""
        return self.predicted - self.observed

    @property
    def ratio(self) -> float:
        """Likeness of predictions over that of the truth; NaN where the truth's is not above 0."""
        return self.predicted / self.observed if self.observed > 0 else float("nan")


def collapse(predicted: np.ndarray, true: np.ndarray, control: np.ndarray) -> Collapse:
    """Likeness of the predicted and of the observed changes.

    Parameters
    ----------
    predicted, true
        Mean profiles of different perturbations, (n, g); predictions that are NaN are left out of both.
    control
        Control mean, (g,).
    """
    told = ~np.isnan(predicted).any(axis=1)
    guess = predicted[told]
    identical = len(guess) > 1 and bool(np.all(np.ptp(guess, axis=0) <= CONSTANT))
    return Collapse(mean_pairwise_pearson(guess - control), mean_pairwise_pearson(true[told] - control), identical)
