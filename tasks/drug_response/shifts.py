"""What moves all cells alike: not at all, by the mean shift of the genes, or by that of codes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from harness.errors import InputError
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.drug_response.problem import DrugBaseline, Populations, Problem

CELLOT = "Bunne et al., Nature Methods 2023, doi:10.1038/s41592-023-01969-x"
COMPONENTS = 50


class Coder(Protocol):
    """Expression (n, g) -> codes (n, c), and back."""

    def encode(self, cells: np.ndarray) -> np.ndarray: ...

    def decode(self, codes: np.ndarray) -> np.ndarray: ...


class Components:
    """Principal components of some cells, in which a cell has as few numbers as they have directions.

    Parameters
    ----------
    cells
        (n, g).
    n_components
        At most so many; no more than n - 1 and g.
    """

    def __init__(self, cells: np.ndarray, n_components: int = COMPONENTS):
        from sklearn.decomposition import PCA

        values = np.asarray(cells, np.float64)
        self.centre = values.mean(axis=0)
        n = max(1, min(n_components, len(values) - 1, values.shape[1]))
        if not values.std(axis=0).any():  # cells that are all alike have no directions
            self.axes = np.zeros((1, values.shape[1]))
            return
        solver = "arpack" if n < min(values.shape) else "full"
        #: Orthonormal rows, float64 (c, g).
        self.axes = PCA(n, svd_solver=solver, random_state=0).fit(values).components_

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """Codes, float32 (n, c)."""
        return ((cells - self.centre) @ self.axes.T).astype(np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Expression, float32 (n, g)."""
        return (codes @ self.axes + self.centre).astype(np.float32)


def both(populations: Populations) -> np.ndarray:
    """Control cells, then treated cells, (n + m, g)."""
    return np.concatenate([populations.control, populations.treated])


def encoded(coder: Coder, populations: Populations) -> Populations:
    """The codes of cells."""
    return Populations(coder.encode(populations.control), coder.encode(populations.treated))


def shifted(coder: Coder, train: Populations, test: np.ndarray) -> np.ndarray:
    """Cells whose codes are moved by the mean shift of the training cells' codes, then decoded, float32 (k, g)."""
    codes = coder.encode(test) + encoded(coder, train).shift
    return coder.decode(codes.astype(np.float32))


def check_counts(where: str, **counts: int) -> None:
    """Refuse settings that are no whole number from 1 with InputError."""
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise InputError(f"{where}.{name}={value}: expected a whole number from 1")


@register_model("identity")
class Identity(DrugBaseline):
    """The control cells, unchanged."""

    spec = baseline_spec("drug_response", "identity", "Identity", paper=CELLOT)

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        return np.array(problem.test, np.float32)


@register_model("treated_mean")
class TreatedMean(DrugBaseline):
    """Treated training cells, drawn with replacement, whatever the control cell: no response of a cell's own.

    Their mean is what a decoder gives that has seen treated cells and makes nothing of its codes; a method that is no
    better than this has learned nothing of how cells respond.
    """

    spec = baseline_spec("drug_response", "treated_mean", "Treated training cells")

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        treated = problem.train.treated
        return treated[np.random.default_rng([problem.seed, 53]).integers(len(treated), size=len(problem.test))]


@register_model("mean_shift")
class MeanShift(DrugBaseline):
    """Every gene moves by the difference of its means in the training cells; CellOT calls it average.

    A cell keeps all that set it apart from other control cells. What falls below zero is left there, as published.
    """

    spec = baseline_spec("drug_response", "mean_shift", "Mean shift", paper=CELLOT)

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        return (problem.test + problem.train.shift).astype(np.float32)


class InCodes(DrugBaseline):
    """What moves codes: cells come back with what the coder loses."""

    _coder: Coder | None = None

    def decoded(self, cells: np.ndarray) -> np.ndarray | None:
        """See `DrugBaseline.decoded`."""
        return None if self._coder is None else self._coder.decode(self._coder.encode(cells))


@register_model("pca_shift")
class PCAShift(InCodes):
    """Mean shift in principal components of the training cells, control and treated: scGen with a linear autoencoder.

    Unlike `mean_shift`, which moves cells in gene space, it gives back only what lies along the components, of the
    shift and of the cells. What sets a cell apart outside of them, mostly noise of counting, is lost: predicted cells
    vary less than measured ones. With as many components as there are directions among the cells the two are one. How
    far `scgen` is from this is what a network adds.
    """

    spec = baseline_spec("drug_response", "pca_shift", "Mean shift of PCA codes")

    def __init__(self, components: int = COMPONENTS):
        check_counts("model", components=components)
        self.components = components

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        self._coder = Components(both(problem.train), self.components)
        return shifted(self._coder, problem.train, problem.test)


@register_model("scgen")
class ScGen(InCodes):
    """Mean shift of an autoencoder's codes, trained on control and treated cells; CellOT's scGen.

    Its settings are those of `tasks.drug_response.autoencoder.AutoEncoderSettings`.
    """

    spec = baseline_spec("drug_response", "scgen", "scGen (CellOT's autoencoder)", paper=CELLOT)

    def __init__(self, **settings: Any):
        from tasks.drug_response.autoencoder import AutoEncoderSettings

        self.settings = AutoEncoderSettings.of(settings, "model")
        self._notes: dict[str, Any] = {}

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        from tasks.drug_response.autoencoder import train_autoencoder

        train, val = both(problem.train), both(problem.val)
        self._coder = fitted = train_autoencoder(train, val, self.settings, problem.seed, problem.progress)
        self._notes = {"autoencoder steps, kept": f"{fitted.steps}, {fitted.kept_step}"}
        return shifted(fitted, problem.train, problem.test)

    def notes(self) -> dict[str, Any]:
        """See `DrugBaseline.notes`."""
        return dict(self._notes)
