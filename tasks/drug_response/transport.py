"""What moves each cell by treated cells that it may have become: nearest neighbours, and entropic optimal transport."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.errors import InputError
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.drug_response.problem import DrugBaseline, Problem
from tasks.drug_response.shifts import COMPONENTS, Components, both, check_counts, encoded

#: Sinkhorn has converged when the marginals of its plan are off by no more than this share of their length.
TOLERANCE = 1e-3


@register_model("nearest_neighbour")
class NearestNeighbour(DrugBaseline):
    """The mean of the treated training cells that are nearest to where the mean shift brings a cell.

    Distances are Euclidean, in principal components of the training cells of both populations; the mean is one of gene
    values. Without the shift first, a cell would find the treated cells that changed least. With one neighbour a
    prediction is a measured cell; the mean over more has less noise, and varies less from cell to cell than cells do.
    Where types of cells have shifts of their own, the neighbours found lie on the side of the common one; and nothing
    keeps treated cells from being chosen many times or never. What is better there is what optimal transport adds.
    """

    spec = baseline_spec("drug_response", "nearest_neighbour", "Nearest treated cells")

    def __init__(self, components: int = COMPONENTS, neighbors: int = 10):
        check_counts("model", components=components, neighbors=neighbors)
        self.components, self.neighbors = components, neighbors

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`; no more neighbours than treated cells."""
        from sklearn.neighbors import NearestNeighbors

        space = Components(both(problem.train), self.components)
        codes, k = encoded(space, problem.train), min(self.neighbors, len(problem.train.treated))
        treated = NearestNeighbors(n_neighbors=k).fit(codes.treated)
        graph = treated.kneighbors_graph(space.encode(problem.test) + codes.shift)
        return (graph @ problem.train.treated.astype(np.float64) / k).astype(np.float32)


def dual_potential(cost: np.ndarray, epsilon: float, iterations: int) -> tuple[np.ndarray, float]:
    """Sinkhorn's second potential over epsilon, (m,), for uniform weights, and how far the plan's marginals are off.

    Parameters
    ----------
    cost
        (n, m).
    epsilon
        Weight of the entropy, in units of the cost.

    Returns
    -------
    potential : log weights of the columns; the plan's row i is their softmax with - cost[i] / epsilon
    off : Euclidean distance of the plan's column sums from uniform ones, as a share of their length
    """
    import ot

    n, m = cost.shape
    length = m**-0.5
    with np.errstate(over="ignore"):  # POT also takes exp of the potentials, which is not used here
        _, log = ot.sinkhorn(
            np.full(n, 1 / n),
            np.full(m, 1 / m),
            cost,
            epsilon,
            method="sinkhorn_log",
            numItermax=iterations,
            stopThr=TOLERANCE * length,
            log=True,
            warn=False,
        )
    return log["log_v"], float(log["err"][-1]) / length


@register_model("entropic_ot")
class EntropicOT(DrugBaseline):
    """Entropic optimal transport between the training cells, carried over to new cells by its dual potential.

    The cost is the squared Euclidean distance in principal components of the training cells of both populations. A cell
    x becomes the mean of the treated cells y_j, of their gene values, weighted by softmax_j((g_j - c(x, y_j)) /
    epsilon), which for training cells is the barycentric map of the plan (Pooladian and Niles-Weed 2021,
    arXiv:2109.12004). All mass is moved: where a drug changes the shares of cell types, cells change their type.

    Parameters
    ----------
    epsilon
        As a share of the mean cost.
    cells
        Of each population at most so many, drawn by the seed.
    iterations
        Of Sinkhorn, at most; one that did not converge is used as it is, and said in the notes.
    """

    spec = baseline_spec(
        "drug_response", "entropic_ot", "Entropic OT", paper="Pooladian and Niles-Weed 2021, arXiv:2109.12004"
    )

    def __init__(self, components: int = COMPONENTS, epsilon: float = 0.05, cells: int = 2000, iterations: int = 1000):
        check_counts("model", components=components, cells=cells, iterations=iterations)
        if type(epsilon) not in (int, float) or not 0 < epsilon < np.inf:
            raise InputError(f"model.epsilon={epsilon}: expected a positive number, a share of the mean cost")
        self.components, self.epsilon, self.cells, self.iterations = components, epsilon, cells, iterations
        self._notes: dict[str, Any] = {}

    def predict(self, problem: Problem) -> np.ndarray:
        """See `DrugBaseline.predict`."""
        from scipy.special import softmax
        from sklearn.metrics.pairwise import euclidean_distances

        space, rng = Components(both(problem.train), self.components), np.random.default_rng([problem.seed, 37])
        control, treated = (
            rows[np.sort(rng.permutation(len(rows))[: self.cells])].astype(np.float64)
            for rows in (problem.train.control, problem.train.treated)
        )
        targets = space.encode(treated).astype(np.float64)

        def costs(cells: np.ndarray) -> np.ndarray:
            return euclidean_distances(space.encode(cells).astype(np.float64), targets, squared=True)

        cost = costs(control)
        epsilon = self.epsilon * cost.mean() or 1.0  # cells that are all alike: any weights will do
        potential, off = dual_potential(cost, epsilon, self.iterations)
        self._notes = {}
        if len(control) < len(problem.train.control) or len(treated) < len(problem.train.treated):
            self._notes["cells transported"] = f"{len(control)} control, {len(treated)} treated, drawn"
        if off > TOLERANCE:
            self._notes["Sinkhorn"] = f"not converged in {self.iterations} iterations: marginals off by {off:.1%}"
        return (softmax(potential - costs(problem.test) / epsilon, axis=1) @ treated).astype(np.float32)

    def notes(self) -> dict[str, Any]:
        """See `DrugBaseline.notes`."""
        return dict(self._notes)
