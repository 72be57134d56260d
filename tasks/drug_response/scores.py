"""Predicted treated cells against the observed ones: their means, their spread, and all of them together.

`response_scores` is what the board shows; `published_scores` is the family of CellOT's evaluation (Bunne et al. 2023)
by its own names. What is undefined is NaN: a correlation with a constant, a deviation of one cell, anything over no
gene, anything of a prediction that is not finite.
"""

from __future__ import annotations

import numpy as np

from tasks import profiles
from tasks.distances import EVALUATION_GAMMAS, e_distance, mmd_rbf

#: What `response_scores` gives.
METRICS = (
    "l2_means",
    "l2_means_all",
    "pearson_means",
    "pearson_delta",
    "pearson_delta_markers",
    "r2_means",
    "mmd",
    "e_distance",
    "l2_stds",
)
#: What `published_scores` gives. `r2-` is a Pearson correlation there.
PUBLISHED_METRICS = (
    "l2-means",
    "l2-stds",
    "r2-means",
    "r2-stds",
    "r2-pairwise_feat_corrs",
    "l2-pairwise_feat_corrs",
    "mmd",
    "enrichment-k50",
    "enrichment-k100",
)
#: Cells of either side that distances are taken between: the most that CellOT's evaluation draws.
DISTANCE_CELLS = 1500
#: From so many genes on, CellOT's evaluation takes no distances between cells.
MOST_GENES = 1000
#: Cells nearest to a predicted one, itself included.
NEIGHBOURS = 251


def response_scores(
    predicted: np.ndarray,
    treated: np.ndarray,
    control: np.ndarray,
    markers: np.ndarray,
    *,
    most: int = DISTANCE_CELLS,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of one prediction, by metric (`METRICS`).

    Parameters
    ----------
    predicted, treated
        Log-normalised expression of predicted and of observed treated cells, (k, g) and (m, g).
    control
        Untreated cells, (n, g): what changes are counted from.
    markers
        The genes of `l2_means`, `pearson_means`, `pearson_delta_markers`, `r2_means`, `mmd`, `e_distance` and
        `l2_stds`, int (≤ g,).
    most, seed
        At most so many cells of each side are in `mmd` and `e_distance`, drawn by the seed; means are of all cells.
        With 0 these two, which take by far the longest, are left out (NaN).

    Notes
    -----
    `l2_means` and `pearson_means` are CellOT's l2-means and r2-means, and CellFM's l2 and PCC. `r2_means` is the share
    of the variance over genes of the observed mean that is explained. `e_distance` is Euclidean and uncorrected, as
    cell-eval takes it.
    """
    markers = np.asarray(markers, np.int64)
    found = dict.fromkeys(METRICS, float("nan"))
    if not (_whole(predicted) and _whole(treated)):
        return found
    guess, truth = (cells.mean(axis=0, dtype=np.float64) for cells in (predicted, treated))
    near, own = (_genes(cells, markers) for cells in (predicted, treated))
    found |= {
        "l2_means": _one(profiles.l2(guess[None], truth[None], markers)),
        "l2_means_all": _one(profiles.l2(guess[None], truth[None])),
        "pearson_means": _pearson(guess[markers], truth[markers]),
        "r2_means": _one(profiles.r2_delta(guess[None], truth[None], np.zeros_like(truth), markers)),
        "l2_stds": _l2(_stds(near), _stds(own)),
    }
    if _whole(control):
        start = control.mean(axis=0, dtype=np.float64)
        found |= {
            "pearson_delta": _pearson(guess - start, truth - start),
            "pearson_delta_markers": _pearson((guess - start)[markers], (truth - start)[markers]),
        }
    if len(markers) and most:
        pair = _some(near, most, seed), _some(own, most, seed)
        found |= {"mmd": mmd_rbf(*pair, EVALUATION_GAMMAS), "e_distance": e_distance(*pair)}
    return found


def published_scores(
    predicted: np.ndarray, treated: np.ndarray, markers: np.ndarray, *, most: int = DISTANCE_CELLS, seed: int = 0
) -> dict[str, float]:
    """CellOT's evaluation on the cells that are given, by its own names (`PUBLISHED_METRICS`).

    It repeats itself on draws of 100 to 1500 cells; this is one evaluation, of all cells. CellFM's l2 and PCC are
    `l2-means` and `r2-means`.

    Parameters
    ----------
    predicted, treated
        Log-normalised expression, (k, g) and (m, g).
    markers
        Genes that are compared, int (≤ g,). The distances between cells are NaN for `MOST_GENES` or more.
    most, seed
        At most so many cells of each side are in `mmd` and the enrichments, drawn by the seed.

    Notes
    -----
    `*-pairwise_feat_corrs` compare the correlations of pairs of genes over cells: r2 over the pairs defined on both
    sides; l2 is NaN where a pair is defined on one side alone. `enrichment-k` is the share of predicted cells among the
    k nearest neighbours of predicted cells, in as many predicted as treated cells: 0.5 is best, 1 says that the two
    lie apart.
    """
    markers = np.asarray(markers, np.int64)
    found = dict.fromkeys(PUBLISHED_METRICS, float("nan"))
    if not (_whole(predicted) and _whole(treated) and len(markers)):
        return found
    near, own = (_genes(cells, markers) for cells in (predicted, treated))
    pairs = _pairs_of_genes(near), _pairs_of_genes(own)
    both, either = (how(*(~np.isnan(side) for side in pairs)) for how in (np.logical_and, np.logical_or))
    found |= {
        "l2-means": _l2(near.mean(axis=0), own.mean(axis=0)),
        "l2-stds": _l2(_stds(near), _stds(own)),
        "r2-means": _pearson(near.mean(axis=0), own.mean(axis=0)),
        "r2-stds": _pearson(_stds(near), _stds(own)),
        "r2-pairwise_feat_corrs": _pearson(pairs[0][both], pairs[1][both]),
        "l2-pairwise_feat_corrs": _l2(pairs[0][either], pairs[1][either]),
    }
    if len(markers) < MOST_GENES:
        found["mmd"] = mmd_rbf(_some(near, most, seed), _some(own, most, seed), EVALUATION_GAMMAS)
        n = min(most, len(near), len(own))
        mixed = _predicted_neighbours(_some(near, n, seed), _some(own, n, seed))
        if mixed.size:
            found |= {f"enrichment-k{k}": float(mixed[:, :k].mean()) for k in (50, 100)}
    return found


def _whole(cells: np.ndarray) -> bool:
    """Whether there are cells, and all of them are numbers."""
    return len(cells) > 0 and bool(np.isfinite(cells).all())


def _genes(cells: np.ndarray, markers: np.ndarray) -> np.ndarray:
    return cells[:, markers].astype(np.float64)


def _some(cells: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` of the cells; of groups of one size the same rows, so that equal groups stay equal."""
    if len(cells) <= most:
        return cells
    return cells[np.sort(np.random.default_rng([seed, 21]).permutation(len(cells))[:most])]


def _stds(cells: np.ndarray) -> np.ndarray:
    """Sample deviation of each gene; NaN for one cell."""
    return cells.std(axis=0, ddof=1) if len(cells) > 1 else np.full(cells.shape[1], np.nan)


def _pairs_of_genes(cells: np.ndarray) -> np.ndarray:
    """Correlation over cells of every pair of genes, float64 (g (g - 1) / 2,); NaN for a gene that does not vary."""
    genes = profiles.standardised(cells.T)
    return (genes @ genes.T)[np.triu_indices(len(genes), 1)]


def _predicted_neighbours(predicted: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Whether the neighbours of predicted cells are predicted, the nearest first, bool (n, at most NEIGHBOURS - 1)."""
    from sklearn.neighbors import NearestNeighbors

    n = len(predicted)
    joint = NearestNeighbors(n_neighbors=min(NEIGHBOURS, n)).fit(np.concatenate([predicted, treated]))
    nearest = joint.kneighbors(predicted, return_distance=False)
    return nearest[:, 1:] < n  # the first is the cell itself


def _l2(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b)) if len(a) else float("nan")


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(profiles.rows_pearson(a, b))


def _one(values: np.ndarray) -> float:
    """The value of the only row."""
    return float(values[0])
