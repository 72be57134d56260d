"""GEARS of our own: trained on a split, with learned gene vectors or with those of a foundation model.

Roohani, Huang, Leskovec, Nat Biotechnol 2024, doi 10.1038/s41587-023-01905-6. The network, its loss and its training
are those of cell-gears 0.1.2 and held to its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.devices import resolve_device
from harness.errors import InputError
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.gene_names import some
from tasks.perturbation.cells import TOP_DE
from tasks.perturbation.conditions import CONTROL, Condition
from tasks.perturbation.gears_graphs import CORRELATION, JACCARD, NEIGHBOURS, coexpression_graph, go_graph, reached
from tasks.perturbation.problem import PerturbationBaseline, Problem
from tasks.settings import settings_of

if TYPE_CHECKING:
    from tasks.perturbation.gears_network import GearsNetwork
    from tasks.perturbation.gears_training import Pairs, VectorsOf

#: How a model's gene vectors take the place of the learned ones, see `GearsNetwork._genes`.
GRAFTS = ("projected", "scfoundation", "cellfm")


@dataclass(frozen=True)
class GearsSettings:
    """What is not said is as published.

    Parameters
    ----------
    hidden
        Width H of everything; the same with and without a graft.
    go_layers, coexpress_layers
        Graph convolutions.
    epochs, batch, accumulate, learning_rate
        Of the training; gradients of `accumulate` batches are added for one step.
    graft
        What gene vectors are to the network where some are given: `projected` | `scfoundation` | `cellfm`.
    middle
        Width inside the MLP of graft `cellfm`; None: H.
    k, coexpress_threshold, jaccard_threshold
        Neighbours of a gene in both graphs, and the least weight of an edge.
    coexpress_first
        True: as released, where only the first cell of a batch is reached by the co-expression graph. False: all are.
    direction_lambda, uncertainty, uncertainty_reg
        Of the loss.
    control_cells
        Cells that a predicted mean profile is the mean over, drawn with replacement.
    device
        `cpu`, `cuda`, `auto`.
    """

    hidden: int = 64
    go_layers: int = 1
    coexpress_layers: int = 1
    epochs: int = 20
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    graft: str = "projected"
    middle: int | None = None
    k: int = NEIGHBOURS
    coexpress_threshold: float = CORRELATION
    jaccard_threshold: float = JACCARD
    coexpress_first: bool = True
    direction_lambda: float = 0.1
    uncertainty: bool = False
    uncertainty_reg: float = 1.0
    control_cells: int = 300
    device: str = "cpu"

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> GearsSettings:
        """Settings of a config node; InputError for one there is not."""
        return settings_of(cls, settings, where, "GEARS")

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises
        ------
        InputError
            An unknown graft, or a size that is not positive.
        """
        if self.graft not in GRAFTS:
            raise InputError(f"gears.graft={self.graft}: there is {', '.join(GRAFTS)}")
        for name in ("hidden", "go_layers", "coexpress_layers", "epochs", "batch", "accumulate", "control_cells"):
            if getattr(self, name) < 1:
                raise InputError(f"gears.{name}={getattr(self, name)}: at least 1 is needed")
        if self.batch < 2:
            raise InputError("gears.batch=1: batch statistics need at least two cells")


class FittedGears:
    """GEARS, trained on the training conditions of a problem.

    Parameters
    ----------
    embedding
        Gene vectors that are grafted, see `tasks.perturbation.gears_vectors.GraftedVectors`; None: learned ones.

    Raises
    ------
    InputError
        The graft does not fit the vectors, or the device is not there.
    """

    def __init__(self, problem: Problem, settings: GearsSettings, embedding: Any = None):
        from tasks.perturbation.gears_training import train

        self.problem, self.settings, self.device = problem, settings, resolve_device(settings.device)
        self.controls = problem.cells.rows(CONTROL)
        self.vectors_of: VectorsOf = lambda places: None
        self.network, self.node = self._network(embedding)
        rng = np.random.default_rng(problem.seed)
        pairs = self._pairs(rng)
        checks = self._checks(rng)
        #: Mean loss of each epoch.
        self.losses = train(
            self.network,
            pairs,
            problem.control,
            self.vectors_of,
            rng,
            epochs=settings.epochs,
            batch=settings.batch,
            accumulate=settings.accumulate,
            learning_rate=settings.learning_rate,
            direction=settings.direction_lambda,
            reg=settings.uncertainty_reg,
            validate=(lambda: self._error(checks)) if checks else None,
            progress=problem.progress,
        )

    def predict(self, conditions: Sequence[Condition]) -> np.ndarray:
        """Predicted mean profiles, float64 (n, G), each over control cells drawn with replacement from the seed.

        Their genes are among those of the problem's conditions.
        """
        rng = np.random.default_rng([self.problem.seed, 1])
        places = rng.integers(len(self.controls), size=self.settings.control_cells)
        return np.array([self._profile(condition, places) for condition in conditions]).reshape(
            len(conditions), len(self.problem.genes)
        )

    def _profile(self, condition: Condition, places: np.ndarray) -> np.ndarray:
        from tasks.perturbation.gears_training import mean_profile

        basal = self.problem.cells.values[self.controls[places]].toarray()
        nodes = tuple(self.node[gene] for gene in condition)
        return mean_profile(self.network, basal, places, nodes, self.vectors_of, self.settings.batch)

    def _network(self, embedding: Any) -> tuple[GearsNetwork, dict[str, int]]:
        """The network, and the node of each perturbed gene in its GO graph."""
        from harness.networks import seeded
        from tasks.perturbation.gears_network import GearsNetwork
        from tasks.perturbation.gears_vectors import GraftedVectors

        settings, problem = self.settings, self.problem
        names, go = perturbation_graph(problem, settings)
        trained = [
            i for i, c in enumerate(problem.cells.conditions) if c == CONTROL or (len(c) == 1 and c in problem.train)
        ]
        values = problem.cells.values[np.isin(problem.cells.of_cell, trained)]
        coexpress = coexpression_graph(values, problem.genes, settings.k, settings.coexpress_threshold)
        graft: dict[str, Any] = {"graft": "none"}
        if embedding is not None:
            vectors = GraftedVectors(
                embedding,
                len(problem.genes),
                len(self.controls),
                standardise=settings.graft == "projected",
                device=self.device,
            )
            if settings.graft == "scfoundation" and vectors.width != settings.hidden:
                raise InputError(
                    f"gears.graft=scfoundation puts the vectors in place of the hidden states: gears.hidden="
                    f"{vectors.width} is needed, found {settings.hidden}"
                )
            self.vectors_of = vectors
            graft = {
                "graft": settings.graft,
                "width": vectors.width,
                "without": vectors.without,
                "middle": settings.middle,
            }
        network = seeded(
            lambda: GearsNetwork(
                go,
                coexpress.normalised(),
                settings.hidden,
                go_layers=settings.go_layers,
                coexpress_layers=settings.coexpress_layers,
                uncertainty=settings.uncertainty,
                coexpress_first=settings.coexpress_first,
                **graft,
            ),
            problem.seed,
        )
        return network.to(self.device), {name: i for i, name in enumerate(names)}

    def _pairs(self, rng: np.random.Generator) -> Pairs:
        """The training cells, each with a control cell drawn once; a control cell is its own."""
        from tasks.perturbation.gears_training import Pairs

        cells = self.problem.cells
        conditions = [CONTROL, *self.problem.train]
        rows = [cells.rows(condition) for condition in conditions]
        target, code = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(own) for own in rows])
        place = rng.integers(len(self.controls), size=len(target))
        place[code == 0] = np.arange(len(self.controls))
        retained = np.stack([cells.mean(condition) != 0 for condition in conditions])
        retained[0] = True
        nodes = [tuple(self.node[gene] for gene in condition) for condition in conditions]
        return Pairs(cells.values, self.controls[place], target, place, code, nodes, retained)

    def _checks(self, rng: np.random.Generator) -> list[tuple[Condition, np.ndarray, np.ndarray, np.ndarray]]:
        """What validation compares: condition, the drawn control cells, its top DE genes, their mean expression."""
        cells, checks = self.problem.cells, []
        for condition in self.problem.val:
            n = min(len(cells.rows(condition)), self.settings.control_cells)
            genes = cells.ranked(condition)[:TOP_DE]
            checks.append((condition, rng.integers(len(self.controls), size=n), genes, cells.mean(condition)[genes]))
        return checks

    def _error(self, checks: Sequence[tuple[Condition, np.ndarray, np.ndarray, np.ndarray]]) -> float:
        """Mean squared error of the validation conditions' profiles, over their top DE genes."""
        errors = [np.mean((self._profile(c, places)[genes] - truth) ** 2) for c, places, genes, truth in checks]
        return float(np.mean(errors))


def perturbation_graph(problem: Problem, settings: GearsSettings) -> tuple[list[str], Any]:
    """Names of the nodes and their normalised GO graph, CSR: the perturbed genes and what their states are read from.

    Neighbours are sought among measured and perturbed genes that have terms. A perturbed gene without terms is a node
    that is linked to itself alone.
    """
    from tasks.gene_sets import GeneSets

    sets = problem.go or GeneSets({})
    nodes = sorted({*problem.genes.tolist(), *problem.targets} & set(sets.genes))
    graph = go_graph(sets, nodes, settings.k, settings.jaccard_threshold).with_nodes(problem.targets)
    place = {name: i for i, name in enumerate(graph.nodes)}
    adjacency = graph.normalised()
    kept = reached(adjacency, np.array([place[gene] for gene in problem.targets]), settings.go_layers)
    return [graph.nodes[i] for i in kept], adjacency[kept][:, kept]


def fit_predict(problem: Problem, settings: GearsSettings, embedding: Any = None) -> np.ndarray:
    """Predicted mean profiles of the test conditions, float64 (n_test, G); see `FittedGears`."""
    return FittedGears(problem, settings, embedding).predict(problem.test)


def missing_terms(problem: Problem) -> list[str]:
    """Perturbed genes that no gene set holds: what the GO graph would say of them is not known."""
    known = set() if problem.go is None else set(problem.go.genes)
    return [gene for gene in problem.targets if gene not in known]


def graph_notes(problem: Problem) -> dict[str, Any]:
    """What a reader must know of any GEARS on this problem: perturbed genes that have no place in the GO graph."""
    without = missing_terms(problem)
    if not without:
        return {}
    reason = "no gene sets were given (task.go)" if problem.go is None else f"not in {problem.go.name}"
    return {
        "targets without GO terms": f"{len(without)} of {len(problem.targets)}, {reason}: {some(without)}; each has a "
        "vector of its own and no neighbours"
    }


@register_model("gears")
class Gears(PerturbationBaseline):
    """GEARS with learned gene vectors."""

    spec = baseline_spec(
        "perturbation",
        "gears",
        "GEARS",
        paper="Roohani et al., Nature Biotechnology 2024, doi:10.1038/s41587-023-01905-6",
    )

    def __init__(self, **settings: Any):
        self.settings = GearsSettings.of(settings, "model")

    def predict(self, problem: Problem) -> np.ndarray:
        """See `fit_predict`."""
        return fit_predict(problem, self.settings)

    def notes(self, problem: Problem) -> dict[str, Any]:
        """See `graph_notes`."""
        return graph_notes(problem)
