"""Where the error comes from: cells as they are, decoded without transport, predicted, the best decoding lets be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drug_response.scores import response_scores

if TYPE_CHECKING:
    from tasks.drug_response.answers import Answer
    from tasks.drug_response.cells import FoldCells

METRICS = ("l2_means", "pearson_delta")


def step_lines(cells: FoldCells, found: Answer, markers: int, seed: int) -> list[dict[str, Any]]:
    """A line per head, step and metric.

    Steps: `identity`, the control cells; `untransported`, decoded where they are; `predicted`; `decoded`, the measured
    treated cells decoded; `half`, half of the treated cells against the others.
    """
    fold, chosen = cells.fold, cells.markers[:markers]
    control, treated = cells.expression(fold.test.control), cells.expression(found.true)
    order = np.random.default_rng([seed, 29]).permutation(len(treated))
    half, rest = treated[order[: len(order) // 2]], treated[order[len(order) // 2 :]]
    given: dict[str, tuple[np.ndarray, np.ndarray]] = {"identity": (control, treated), "half": (half, rest)}
    if found.untransported is not None and found.decoded is not None:
        given |= {"untransported": (found.untransported, treated), "decoded": (found.decoded, treated)}
    known = {step: _scores(*pair, control, chosen) for step, pair in given.items()}
    return [
        {
            "drug": fold.drug,
            "held_out": fold.held_out,
            "step": step,
            "head": head,
            "metric": metric,
            "value": scores[metric],
        }
        for head, predicted in found.predicted.items()
        for step, scores in {**known, "predicted": _scores(predicted, treated, control, chosen)}.items()
        for metric in METRICS
    ]


def _scores(guess: np.ndarray, truth: np.ndarray, control: np.ndarray, markers: np.ndarray) -> dict[str, float]:
    """Scores of means alone."""
    return response_scores(guess, truth, control, markers, most=0)
