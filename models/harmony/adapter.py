"""Harmony: principal components moved, cluster by cluster, until clusters hold all batches.

Written from the paper (Korsunsky et al., Nature Methods 2019, online methods); no code of the package was read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.batch_correction import BatchCorrection
from harness.counts import principal_components
from harness.errors import InputError
from harness.registry import register_model
from harness.spec import ModelSpec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Relative change of the objective below which a clustering, and the whole, has converged.
CLUSTERING_TOLERANCE, TOLERANCE = 1e-5, 1e-4
MAX_CLUSTERING_ROUNDS = 20
#: Share of the cells whose clusters are updated at once.
BLOCK = 0.05


@register_model("harmony")
class Harmony(BatchCorrection):
    """Harmony on the principal components of log-normalised HVGs that `pca` gives.

    Parameters
    ----------
    theta
        Strength of the diversity penalty.
    sigma
        Width of the soft clusters.
    ridge
        Penalty on a batch's shift within a cluster.
    max_rounds
        Of clustering and correction.
    """

    spec = ModelSpec(
        name="harmony",
        title="Harmony",
        kind="embedding",
        gene_ids="any",
        readouts=("components",),
        reads_batches=True,
        paper="Korsunsky et al., Nature Methods 2019, doi:10.1038/s41592-019-0619-0",
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(
        self,
        n_top_genes: int = 2000,
        n_components: int = 50,
        theta: float = 2.0,
        sigma: float = 0.1,
        ridge: float = 1.0,
        max_rounds: int = 10,
    ):
        if sigma <= 0 or ridge <= 0 or theta < 0 or max_rounds < 1:
            raise InputError(
                f"model.theta={theta}, sigma={sigma}, ridge={ridge}, max_rounds={max_rounds}: expected theta of at "
                "least 0, sigma and ridge above 0, max_rounds of at least 1"
            )
        self.n_top_genes, self.n_components = n_top_genes, n_components
        self.options = {"theta": theta, "sigma": sigma, "ridge": ridge, "max_rounds": max_rounds}

    def correct(self, counts: csr_matrix, batches: np.ndarray, seed: int) -> np.ndarray:
        """See `BatchCorrection.correct`."""
        before = principal_components(counts, self.n_top_genes, self.n_components)
        return harmonise(before, batches, seed=seed, **self.options)


def harmonise(
    z: np.ndarray,
    batches: np.ndarray,
    *,
    theta: float = 2.0,
    sigma: float = 0.1,
    ridge: float = 1.0,
    max_rounds: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """Corrected coordinates, float64 (n, d), of coordinates (n, d) and batches (n,)."""
    rng = np.random.default_rng(seed)
    z = np.asarray(z, np.float64)
    names, batch = np.unique(batches, return_inverse=True)
    members = [np.flatnonzero(batch == b) for b in range(len(names))]
    share = np.bincount(batch) / len(z)
    unit = _unit(z)
    centres = _unit(_initial_centres(unit, seed))
    r = _soft(unit, centres, sigma)
    corrected, before = z, math.inf
    for _ in range(max_rounds):
        r, objective = _cluster(unit, r, batch, share, theta, sigma, rng)
        corrected = _correct(z, r, members, ridge)
        unit = _unit(corrected)
        if abs(before - objective) < TOLERANCE * abs(objective):
            break
        before = objective
    return corrected


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def _initial_centres(unit: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    distinct = len(np.unique(unit, axis=0))
    clusters = max(1, min(100, round(len(unit) / 30), distinct))
    return KMeans(clusters, n_init=10, max_iter=25, random_state=seed).fit(unit).cluster_centers_


def _soft(unit: np.ndarray, centres: np.ndarray, sigma: float) -> np.ndarray:
    """Soft assignment (n, k) by cosine distance."""
    score = -2 * (1 - unit @ centres.T) / sigma
    r = np.exp(score - score.max(axis=1, keepdims=True))
    return r / r.sum(axis=1, keepdims=True)


def _cluster(
    unit: np.ndarray,
    r: np.ndarray,
    batch: np.ndarray,
    share: np.ndarray,
    theta: float,
    sigma: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Soft k-means (n, k) that favours clusters of many batches, and its objective.

    A cell's assignment is weighed by (expected / observed) ** theta of its batch in each cluster; the tables
    follow after every block of cells, and one is added to both so that none is zero.
    """
    n = len(unit)
    indicator = np.eye(len(share))[batch]
    observed = r.T @ indicator
    mass = r.sum(axis=0)
    before = objective = math.inf
    for _ in range(MAX_CLUSTERING_ROUNDS):
        centres = _unit(r.T @ unit)
        distance = 2 * (1 - unit @ centres.T)
        near = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / sigma)
        for block in np.array_split(rng.permutation(n), max(1, min(n, round(1 / BLOCK)))):
            observed -= r[block].T @ indicator[block]
            mass -= r[block].sum(axis=0)
            weight = ((np.outer(mass, share) + 1) / (observed + 1)) ** theta
            new = near[block] * weight.T[batch[block]]
            r[block] = new / new.sum(axis=1, keepdims=True)
            observed += r[block].T @ indicator[block]
            mass += r[block].sum(axis=0)
        entropy = (r * np.log(np.maximum(r, 1e-300))).sum()
        diversity = (observed * np.log((observed + 1) / (np.outer(mass, share) + 1))).sum()
        objective = float((r * distance).sum() + sigma * entropy + sigma * theta * diversity)
        if abs(before - objective) < CLUSTERING_TOLERANCE * abs(objective):
            break
        before = objective
    return r, objective


def _correct(z: np.ndarray, r: np.ndarray, members: list[np.ndarray], ridge: float) -> np.ndarray:
    """Take from each cell the shift of its batch, a mixture over clusters of ridge regressions on the batch.

    The regression of a cluster has an intercept, which is kept and not penalised.
    """
    weight = np.stack([r[rows].sum(axis=0) for rows in members], axis=1)
    sums = np.stack([r[rows].T @ z[rows] for rows in members], axis=1)
    k, b = weight.shape
    left = np.zeros((k, b + 1, b + 1))
    left[:, 0, 0] = weight.sum(axis=1) + 1e-12  # an empty cluster moves nothing, and must not be singular
    left[:, 0, 1:] = left[:, 1:, 0] = weight
    left[:, range(1, b + 1), range(1, b + 1)] = weight + ridge
    right = np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)
    shifts = np.linalg.solve(left, right)[:, 1:]
    result = z.copy()
    for i, rows in enumerate(members):
        result[rows] -= r[rows] @ shifts[:, i]
    return result
