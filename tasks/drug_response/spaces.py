"""Where cells are moved, and the way back: expression itself, an autoencoder's codes, a model's cell vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drug_response.problem import Populations

if TYPE_CHECKING:
    from tasks.drug_response.cellot import FittedCellOT

#: How cells are moved in a space. `untransported` leaves them where they are: what is seen is what decoding alone does.
HEADS = ("cellot", "shift", "untransported")


@dataclass(frozen=True)
class Space:
    """The cells of a problem in some space.

    Parameters
    ----------
    train, val
        Codes of cells to learn from and to choose by, float32 (n, c).
    test
        Codes of the control cells that are moved, float32 (k, c).
    decode
        Codes (n, c) -> log-normalised expression, float32 (n, g).
    truth
        Codes of the treated test cells, float32 (m, c): decoded, they say what is lost on the way back. No head sees
        them.
    """

    train: Populations
    val: Populations
    test: np.ndarray
    decode: Callable[[np.ndarray], np.ndarray]
    truth: np.ndarray


def move(
    head: str, space: Space, settings: Mapping[str, Any], seed: int, *, name: str, progress: bool = False
) -> tuple[np.ndarray, dict[str, Any]]:
    """Predicted treated cells, float32 (k, g), by one of `HEADS`, and what a reader must know.

    Parameters
    ----------
    settings
        Of CellOT, see `tasks.drug_response.cellot.CellOTSettings`.
    name
        The drug, for messages.
    """
    if head == "untransported":
        return space.decode(space.test), {}
    if head == "shift":
        return space.decode((space.test + space.train.shift).astype(np.float32)), {}
    from tasks.drug_response.cellot import CellOTSettings, train

    fitted = train(
        space.train,
        space.val,
        CellOTSettings.of(settings, "task.cellot"),
        seed,
        name=name,
        progress=progress,
    )
    return space.decode(fitted.transport(space.test)), {"CellOT steps, kept": steps_kept(fitted)}


def steps_kept(fitted: FittedCellOT) -> str:
    """`2000, 1500`, and whether the last step was the best."""
    unfinished = " (still getting better)" if fitted.kept_step == fitted.steps else ""
    return f"{fitted.steps}, {fitted.kept_step}{unfinished}"
