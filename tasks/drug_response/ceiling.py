"""The ceiling: how much half of the treated cells are like the other half. No prediction can be asked for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.errors import NotApplicableError
from harness.model import TaskBaseline
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.drug_response.shifts import CELLOT


@register_model("treated_half")
class TreatedHalf(TaskBaseline):
    """Treated cells as the prediction of other treated cells; CellOT calls it random.

    Where cells are held out at random, treated training cells predict the test cells; where groups are, a random half
    of the treated test cells the other half: both are smaller than what a prediction is scored on, and the ceiling is
    then a cautious one.
    """

    spec = replace(
        baseline_spec("drug_response", "treated_half", "Other treated cells", paper=CELLOT),
        control=True,
        reads_labels=True,
    )

    def halves(self, treated: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that predict and rows that are the truth, each ascending; an odd one is of those that predict.

        Parameters
        ----------
        treated
            Rows of the treated test cells, int (n,).

        Raises
        ------
        NotApplicableError
            There are fewer than two.
        """
        if len(treated) < 2:
            raise NotApplicableError(f"{self.spec.title}: {len(treated)} treated test cell, two are needed for halves")
        rows = np.random.default_rng([seed, 41]).permutation(treated)
        middle = (len(rows) + 1) // 2
        return np.sort(rows[:middle]), np.sort(rows[middle:])

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: see `halves`."""
        raise NotImplementedError
