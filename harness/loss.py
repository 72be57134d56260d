"""The loss of a pretraining objective, made so that it adds up over the parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PretrainingLoss:
    """A loss whose masks are drawn and whose terms are counted, before the network has run.

    Each term is a sum over what is predicted, divided by its count over the whole batch. Counts known beforehand let
    the parts of a batch (micro-batches, devices) add up to the batch's own gradient.

    Parameters
    ----------
    counts
        Term -> how much is predicted, a number or a tensor of one.
    sums
        Runs the network: term -> sum of the errors, a tensor with its gradient.
    """

    counts: Mapping[str, Any]
    sums: Callable[[], Mapping[str, Any]]

    @property
    def total(self) -> Any:
        """The scalar loss of this batch alone: the sum over terms of sum / count."""
        return sum(total / max(float(self.counts[name]), 1.0) for name, total in self.sums().items())
