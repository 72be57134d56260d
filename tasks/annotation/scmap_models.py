"""scmap-cluster and scmap-cell as baselines of annotation. A cell they are not sure of is left `unassigned`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.counts import log_normalise
from harness.errors import InputError
from harness.model import TaskBaseline
from harness.registry import register_model
from tasks.annotation import scmap
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy.sparse import csr_matrix

    from harness.data import CellData
    from harness.task import Split

PAPER = "Kiselev et al., Nature Methods 2018, doi:10.1038/nmeth.4644"


class _Scmap(TaskBaseline):
    """What both have in common: features of the training cells, and test cells in blocks."""

    n_features: int

    def predict(self, data: CellData, split: Split, labels: np.ndarray, seed: int) -> np.ndarray:
        """Predicted labels of the test cells, `unassigned` among them.

        Parameters
        ----------
        labels
            Labels of all cells; those of the test cells are not looked at.

        Raises
        ------
        InputError
            A cell type is called as an unassigned cell is, or no gene is zero in some training cells and not in others.
        """
        known = labels[split.train]
        if scmap.UNASSIGNED in known:
            raise InputError(
                f"{data.name}: a cell type is called {scmap.UNASSIGNED!r}, which is scmap's word for a cell without a "
                "label; rename it, or empty the label of these cells"
            )
        train, test = data.counts(split.train), data.counts(split.test)
        logs = _log2(train)
        genes = scmap.select_features(scmap.feature_scores(logs, train), self.n_features)
        if not len(genes):
            raise InputError(f"{data.name}: no gene is zero in some training cells and not in others; scmap needs such")
        assign = self._fitted(logs[:, genes].toarray().astype(np.float64), known, seed)
        starts = range(0, test.shape[0], scmap.BLOCK)
        blocks = (_log2(test[start : start + scmap.BLOCK])[:, genes].toarray().astype(np.float64) for start in starts)
        return np.concatenate([*map(assign, blocks), np.array([], labels.dtype)])

    @abstractmethod
    def _fitted(self, x: np.ndarray, labels: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """What gives labels to test cells (m, g), learned from training cells (n, g)."""


def _log2(counts: csr_matrix) -> csr_matrix:
    return log_normalise(counts) / np.float32(np.log(2))


@register_model("scmap_cluster")
class ScmapCluster(_Scmap):
    """The type whose medians are most similar by two of cosine, Pearson and Spearman, if one reaches the threshold."""

    spec = baseline_spec("annotation", "scmap_cluster", "scmap-cluster", PAPER)

    def __init__(self, n_features: int = 500, threshold: float = 0.7):
        self.n_features, self.threshold = n_features, threshold

    def _fitted(self, x: np.ndarray, labels: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        types, medians = scmap.cluster_index(x, labels)
        return lambda cells: scmap.cluster_labels(scmap.cluster_similarities(cells, medians), types, self.threshold)[0]


@register_model("scmap_cell")
class ScmapCell(_Scmap):
    """The label of the three nearest training cells, if they have one and the nearest is similar enough.

    `exact` compares with the cells themselves rather than with the centres they are quantised to.
    """

    spec = baseline_spec("annotation", "scmap_cell", "scmap-cell", PAPER)
    _nearest: ClassVar = staticmethod(scmap.nearest)

    def __init__(
        self,
        n_features: int = 500,
        neighbors: int = 10,
        agree: int = 3,
        threshold: float = 0.5,
        exact: bool = False,
    ):
        self.n_features, self.neighbors, self.agree = n_features, neighbors, agree
        self.threshold, self.exact = threshold, exact

    def _fitted(self, x: np.ndarray, labels: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        index = None if self.exact else scmap.cell_index(x, seed)

        def assign(cells: np.ndarray) -> np.ndarray:
            similar = scmap.cosine(cells, x) if index is None else index.similarities(cells)
            found = self._nearest(similar, self.neighbors)
            return scmap.neighbour_labels(similar, found, labels, self.agree, self.threshold)

        return assign


@register_model("scmap_cell_published")
class ScmapCellPublished(ScmapCell):
    """scmap-cell as its code does it: the first three of an unsorted list of ten neighbours, not the three nearest."""

    spec = baseline_spec("annotation", "scmap_cell_published", "scmap-cell (as published)", PAPER)
    _nearest: ClassVar = staticmethod(scmap.nearest_as_published)
