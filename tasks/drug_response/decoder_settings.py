"""The settings of a decoder; what is trained by them is `tasks.drug_response.decoder`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import InputError
from tasks.settings import settings_of

KINDS = ("mlp", "linear")


@dataclass(frozen=True)
class DecoderSettings:
    """How expression is read off codes.

    Parameters
    ----------
    kind
        `mlp`: one hidden layer, SiLU and dropout, trained by mean squared error (the decoder of the CellFM paper's drug
        experiment). `linear`: ridge regression with a penalty of `ridge` times the mean variance of a code.
    hidden, dropout, learning_rate, batch, steps
        Of the MLP; Adam.
    check_every, patience
        The error on the validation cells is taken every so many steps; after `patience` of them without a lower one
        training stops. The state of the lowest is kept.
    """

    kind: str = "mlp"
    hidden: int = 512
    dropout: float = 0.15
    learning_rate: float = 1e-3
    batch: int = 128
    steps: int = 2000
    check_every: int = 50
    patience: int = 6
    ridge: float = 1e-3

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> DecoderSettings:
        """Settings of a config node; InputError for one there is not, or a value that means nothing."""
        made = settings_of(cls, settings, where, "the decoder")
        if made.kind not in KINDS:
            raise InputError(f"{where}.kind={made.kind}: expected {' or '.join(KINDS)}")
        for name in ("hidden", "batch", "steps", "check_every", "patience"):
            value = getattr(made, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{where}.{name}={value}: expected a whole number from 1")
        return made
