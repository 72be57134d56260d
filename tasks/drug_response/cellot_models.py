"""CellOT as a method of its own: on expression, or on an autoencoder's codes, as its authors use it for scRNA-seq."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.drug_response.problem import DrugBaseline, Problem
from tasks.drug_response.shifts import both, encoded

if TYPE_CHECKING:
    from tasks.drug_response.autoencoder import FittedAutoEncoder

SPACES = ("autoencoder", "genes")


@register_model("cellot")
class CellOT(DrugBaseline):
    """Optimal transport from control to treated cells (Bunne et al. 2023), its step chosen on the validation cells.

    Parameters
    ----------
    space
        `autoencoder`: codes of a plain autoencoder of the training cells; `genes`: log-normalised expression.
    settings
        Of `tasks.drug_response.cellot.CellOTSettings`.
    autoencoder
        Of `tasks.drug_response.autoencoder.AutoEncoderSettings`.
    """

    spec = baseline_spec(
        "drug_response", "cellot", "CellOT", paper="10.1038/s41592-023-01969-x", code_licence="BSD-3-Clause"
    )

    def __init__(
        self,
        space: str = "autoencoder",
        settings: Mapping[str, Any] | None = None,
        autoencoder: Mapping[str, Any] | None = None,
    ):
        from tasks.drug_response.autoencoder import AutoEncoderSettings
        from tasks.drug_response.cellot import CellOTSettings

        if space not in SPACES:
            raise InputError(f"model.space={space}: expected {' or '.join(SPACES)}")
        self.space = self.variant = space
        self.settings = CellOTSettings.of(settings or {}, "model.settings")
        self.coder = AutoEncoderSettings.of(autoencoder or {}, "model.autoencoder")
        self._fitted: FittedAutoEncoder | None = None
        self._notes: dict[str, Any] = {}

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        from tasks.drug_response.autoencoder import train_autoencoder
        from tasks.drug_response.cellot import train
        from tasks.drug_response.spaces import steps_kept

        populations, test, self._notes = (problem.train, problem.val), problem.test, {}
        if self.space == "autoencoder":
            learn, check = map(both, populations)
            self._fitted = coder = train_autoencoder(learn, check, self.coder, problem.seed, progress=problem.progress)
            populations = encoded(coder, problem.train), encoded(coder, problem.val)
            test = coder.encode(test)
            self._notes["autoencoder step kept"] = coder.kept_step
        fitted = train(
            *populations,
            self.settings,
            problem.seed,
            name=problem.drug,
            where="model.settings",
            progress=problem.progress,
        )
        self._notes["CellOT steps, kept"] = steps_kept(fitted)
        moved = fitted.transport(test)
        return self._fitted.decode(moved) if self._fitted is not None else moved

    def decoded(self, cells: np.ndarray) -> np.ndarray | None:
        """See `DrugBaseline.decoded`."""
        return None if self._fitted is None else self._fitted.decode(self._fitted.encode(cells))

    def notes(self) -> dict[str, Any]:
        """See `DrugBaseline.notes`."""
        return self._notes
