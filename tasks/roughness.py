"""ROGI: how rough cell types are over an embedding. Smooth is low, and easy to learn from few cells.

Aldeghi et al., J. Chem. Inf. Model. 2022 (ROGI) and Graff et al., J. Chem. Inf. Model. 2023 (ROGI-XD): how fast the
spread of a property shrinks while cells are merged into ever larger clusters. Both are defined for one number per
cell. Wu et al., Genome Biology 2025 use it for cell types: numbering the types (`rogi_published`) makes the score
depend on the order of the numbers, so that `rogi` is the mean over types of one type against the rest, and `rogi_xd`
likewise: the one to compare embeddings of different width by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from harness.metrics import row

if TYPE_CHECKING:
    from harness.results import MetricRow

#: Merge heights closer than this to the last one kept are skipped.
MIN_STEP = 0.01
#: All pairs of cells are held in memory: above this many a sample is scored.
MAX_CELLS = 2000


@dataclass(frozen=True)
class Roughness:
    """The coarse-graining curve of some properties.

    Parameters
    ----------
    thresholds, clusters
        Height and number of clusters of each step, (t,), from single cells to one cluster.
    spread
        Twice the standard deviation of the cluster means, (t, p).
    """

    thresholds: np.ndarray
    clusters: np.ndarray
    spread: np.ndarray

    def rogi(self) -> np.ndarray:
        """ROGI of each property (p,), 0..1."""
        from scipy.integrate import trapezoid

        return self.spread[0] - trapezoid(self.spread, self.thresholds, axis=0)

    def rogi_xd(self) -> np.ndarray:
        """ROGI-XD of each property (p,), over 1 - log(clusters) / log(cells); 0..1."""
        from scipy.integrate import trapezoid

        along = 1 - np.log(self.clusters) / np.log(max(self.clusters[0], 2))
        return self.spread[0] - trapezoid(self.spread, along, axis=0)


def roughness(x: np.ndarray, properties: np.ndarray, min_step: float = MIN_STEP) -> Roughness | None:
    """Merge cells by complete linkage of their Euclidean distances, and follow the spread of their properties.

    Parameters
    ----------
    x
        Float (n, d). Distances are divided by the diagonal of its bounding box.
    properties
        Float (n, p), each scaled to 0..1; a constant one stays 0.

    Returns
    -------
    None where all cells lie at one point, or there is one cell.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    x = np.asarray(x, np.float64)
    y = np.asarray(properties, np.float64).reshape(len(x), -1)
    diagonal = float(np.linalg.norm(np.ptp(x, axis=0))) if len(x) > 1 else 0.0
    if diagonal == 0:
        return None
    y = y - y.min(axis=0)
    span = y.max(axis=0)
    y = np.divide(y, span, out=np.zeros_like(y), where=span > 0)
    tree = linkage(pdist(x) / diagonal, "complete")
    steps = [(0.0, np.arange(len(x)))]
    last = -np.inf  # the first merge always counts
    for height in np.unique(tree[:, 2]):
        if height - last >= min_step:
            steps.append((float(height), fcluster(tree, height, "distance") - 1))
            last = float(height)
    steps.append((1.0, np.zeros(len(x), np.int64)))
    spread = np.stack([_spread(y, cluster) for _, cluster in steps])
    counts = np.array([cluster.max() + 1 for _, cluster in steps])
    return Roughness(np.array([height for height, _ in steps]), counts, spread)


def _spread(y: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Twice the standard deviation of the cluster means of each column, weighted by size."""
    sizes = np.bincount(cluster)
    member = sp.csr_matrix((np.ones(len(y)), (cluster, np.arange(len(y)))))
    means = np.asarray(member @ y) / sizes[:, None]
    share = (sizes / len(y))[:, None]
    centre = (share * means).sum(axis=0)
    return 2 * np.sqrt((share * (means - centre) ** 2).sum(axis=0))


def rogi_rows(embedding: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[list[MetricRow], dict[str, object]]:
    """`rogi`, `rogi_xd` and `rogi_published` of cell types, `rogi` and `rogi_xd` of each type, and notes.

    Parameters
    ----------
    embedding
        Float (n, d), no NaN.
    labels
        Cell types (n,).
    seed
        Of the sample, where there are more than `MAX_CELLS` cells, and of the shuffled labels in the notes.
    """
    rng = np.random.default_rng(seed)
    x, labels = np.asarray(embedding), np.asarray(labels)
    notes: dict[str, object] = {}
    if len(x) > MAX_CELLS:
        rows = np.sort(rng.choice(len(x), MAX_CELLS, replace=False))
        x, labels = x[rows], labels[rows]
        notes["cells sampled for ROGI"] = f"{MAX_CELLS} of {len(embedding)}"
    types, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(types) < 2:
        return [], {**notes, "ROGI": "not applicable: one cell type"}
    one_hot = np.eye(len(types))[code]
    curve = roughness(x, np.column_stack([one_hot, one_hot[rng.permutation(len(x))], code]))
    if curve is None:
        return [], {**notes, "ROGI": "undefined: all cells lie at one point"}
    k, n = len(types), len(x)
    each, wide = curve.rogi(), curve.rogi_xd()
    notes["ROGI of shuffled types"] = f"{each[k : 2 * k].mean():.3f} (ROGI-XD {wide[k : 2 * k].mean():.3f})"
    found = [
        row("rogi", each[:k].mean(), n=n),
        row("rogi_xd", wide[:k].mean(), n=n),
        row("rogi_published", each[-1], n=n),
    ]
    for name, values in (("rogi", each), ("rogi_xd", wide)):
        found += [
            row(name, value, scope="per-class", key=str(kind), n=int(size))
            for kind, value, size in zip(types, values[:k], sizes, strict=True)
        ]
    return found, notes
