"""scmap: cells are labelled by similarity to the types, or to the nearest cells, of a reference.

Kiselev et al., Nature Methods 2018; written from the description of its R package 1.9.3, none of its code. Input is
log2 of normalised counts plus one. `tasks/annotation/scmap_models.py` makes baselines of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError

#: What a cell without a label is called.
UNASSIGNED = "unassigned"
#: Query cells compared with the whole reference at once.
BLOCK = 256


def feature_scores(logs: sp.csr_matrix, counts: sp.csr_matrix | None = None) -> np.ndarray:
    """How much more often a gene is zero than its mean expression lets expect, float (g,).

    The residual of log2(percentage of zero cells) in a linear fit on the mean over all cells. NaN for genes that are
    zero everywhere or nowhere.

    Parameters
    ----------
    logs
        Log expression (n, g).
    counts
        Raw counts (n, g), of which zeros are counted; None: of `logs`.
    """
    n = logs.shape[0]
    dropout = 100 * (1 - np.asarray((sp.csr_matrix(logs if counts is None else counts) != 0).sum(axis=0)).ravel() / n)
    mean = np.asarray(sp.csr_matrix(logs).mean(axis=0, dtype=np.float64)).ravel()
    usable = (dropout > 0) & (dropout < 100)
    scores = np.full(len(mean), np.nan)
    if usable.any():
        x, y = mean[usable], np.log2(dropout[usable])
        x = x - x.mean()
        slope = (x @ y) / (x @ x) if (x @ x) > 0 else 0.0
        scores[usable] = y - y.mean() - slope * x
    return scores


def select_features(scores: np.ndarray, n_features: int = 500) -> np.ndarray:
    """Columns of the largest scores, ascending; all that have one where there are fewer."""
    order = np.argsort(-scores, kind="stable")[: min(n_features, int((~np.isnan(scores)).sum()))]
    return np.sort(order)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; NaN where a row is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _centred(rows: np.ndarray) -> np.ndarray:
    """Rows minus their mean; exactly zero where a row is constant."""
    constant = np.ptp(rows, axis=1, keepdims=True) == 0
    return np.where(constant, 0.0, rows - rows.mean(axis=1, keepdims=True))


# -- scmap-cluster ------------------------------------------------------------------------------------


def cluster_index(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Types (k,) and the median of each feature in each (k, f); a type of which all medians are zero is left out.

    Raises
    ------
    InputError
        None is left.
    """
    types = np.unique(labels)
    medians = np.stack([np.median(x[labels == kind], axis=0) for kind in types])
    kept = (medians != 0).any(axis=1)
    if not kept.any():
        raise InputError("scmap-cluster: every feature is zero in most cells of every type; take more features")
    return types[kept], medians[kept]


def cluster_similarities(x: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Cosine, Pearson and Spearman similarity of cells (n, f) and types (k, f): (n, 3, k), NaN where undefined."""
    from scipy.stats import rankdata

    ranks = rankdata(x, axis=1), rankdata(medians, axis=1)
    pairs = ((x, medians), (_centred(x), _centred(medians)), tuple(map(_centred, ranks)))
    return np.stack([_unit(cells) @ _unit(types).T for cells, types in pairs], axis=1)


def cluster_labels(
    similarities: np.ndarray, types: np.ndarray, threshold: float = 0.7
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and similarities (n,): two of the three measures must agree on a type and one reach the threshold.

    The R package breaks ties between types at random; here the first type is taken.
    """
    undefined = np.isnan(similarities).any(axis=(1, 2))
    filled = np.where(undefined[:, None, None], -np.inf, similarities)
    best, votes = filled.max(axis=2), filled.argmax(axis=2)
    first, second, third = votes.T
    chosen = np.where((first == second) | (first == third), first, second)
    agree = votes == chosen[:, None]
    assigned = (agree.sum(axis=1) >= 2) & ~undefined
    similarity = np.where(assigned, np.where(agree, best, -np.inf).max(axis=1), np.nan)
    labels = np.where(assigned & (similarity >= threshold), types[chosen], UNASSIGNED)
    return labels, similarity


# -- scmap-cell ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellIndex:
    """A reference by product quantisation: each chunk of features of a cell is replaced by a centre near it.

    Parameters
    ----------
    features
        Columns of each chunk, int (m, c).
    centres
        Unit vectors, float (m, k, c).
    members
        Centre of each reference cell, int (m, n).
    """

    features: np.ndarray
    centres: np.ndarray
    members: np.ndarray

    @cached_property
    def cells(self) -> np.ndarray:
        """The reference cells as they are remembered, (n, m * c)."""
        return np.hstack([centres[members] for centres, members in zip(self.centres, self.members, strict=True)])

    def similarities(self, x: np.ndarray) -> np.ndarray:
        """Approximate cosine of cells (q, f) and reference cells (n,): (q, n). Features a query lacks are zero."""
        norm = np.linalg.norm(x, axis=1) * np.sqrt(len(self.centres))
        return x[:, self.features.ravel()] @ self.cells.T / np.where(norm > 0, norm, 1.0)[:, None]


def cell_index(x: np.ndarray, seed: int = 0) -> CellIndex:
    """Cut the features into chunks and cluster the cells in each by k-means, k the root of the number of cells.

    R's k-means starts at random; here at cells drawn with `seed`. A chunk with fewer distinct cells than k is left out.

    Parameters
    ----------
    x
        Reference cells (n, f) over the selected features.

    Raises
    ------
    InputError
        No chunk is left.
    """
    from sklearn.cluster import KMeans

    n, n_features = x.shape
    n_chunks = 100 if n_features > 1000 else max(1, n_features // 10)
    width, k = n_features // n_chunks, int(np.sqrt(n))
    scaled = np.nan_to_num(_unit(np.asarray(x, np.float64)))
    chunks, centres, members = [], [], []
    for chunk in range(n_chunks):
        columns = np.arange(chunk * width, (chunk + 1) * width)
        part = scaled[:, columns]
        if len(np.unique(part, axis=0)) < k:
            continue
        fitted = KMeans(k, init="random", n_init=1, max_iter=50, random_state=seed + chunk).fit(part)
        chunks.append(columns)
        centres.append(np.nan_to_num(_unit(fitted.cluster_centers_)))
        members.append(fitted.labels_)
    if not chunks:
        raise InputError(f"scmap-cell: {n} reference cells are too alike over {n_features} features to be clustered")
    return CellIndex(np.stack(chunks), np.stack(centres), np.stack(members))


def nearest(similarities: np.ndarray, neighbors: int = 10) -> np.ndarray:
    """Rows of the most similar reference cells (q, w), the nearest first; of equals the first in the reference."""
    w = min(neighbors, similarities.shape[1])
    return np.argsort(-similarities, axis=1, kind="stable")[:, :w]


def nearest_as_published(similarities: np.ndarray, neighbors: int = 10) -> np.ndarray:
    """The most similar reference cells in the order the published code leaves them in, (q, w).

    Reference cells are gone through in order; one that is more similar than the least similar of the list takes its
    place, so that the list is not sorted.
    """
    q, n = similarities.shape
    w = min(neighbors, n)
    rows = np.arange(q)
    found = np.tile(np.arange(w), (q, 1))
    kept = similarities[:, :w].copy()
    for cell in range(w, n):
        worst = kept.argmin(axis=1)
        better = similarities[:, cell] > kept[rows, worst]
        found[rows[better], worst[better]] = cell
        kept[rows[better], worst[better]] = similarities[better, cell]
    return found


def neighbour_labels(
    similarities: np.ndarray, found: np.ndarray, labels: np.ndarray, agree: int = 3, threshold: float = 0.5
) -> np.ndarray:
    """Labels (q,): that of the first `agree` neighbours if they have one, and the nearest is above the threshold.

    Parameters
    ----------
    similarities
        To the reference cells, (q, n).
    found
        Neighbours (q, w), of `nearest` or `nearest_as_published`.
    labels
        Of the reference cells (n,).
    """
    types, code = np.unique(labels, return_inverse=True)
    votes = code[found[:, :agree]]
    sure = np.take_along_axis(similarities, found, axis=1).max(axis=1) > threshold
    return np.where(sure & (votes == votes[:, :1]).all(axis=1), types[votes[:, 0]], UNASSIGNED)


def cosine(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Exact cosine of cells (q, f) and reference cells (n, f), (q, n); 0 for a cell without any feature."""
    return np.nan_to_num(_unit(x)) @ np.nan_to_num(_unit(reference)).T
