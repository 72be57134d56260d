"""scGraph-OntoRWR: are the cell types arranged in an embedding as they are in the ontology?

Wu et al., Genome Biology 2025 (scFM-Bench, PMID 41044630), after scGraph of Islander. Per cell type, the distances of
its centroid from the others are correlated with its distances in the ontology. The published score includes each
type's zero distance from itself, which alone brings noise to 0.86; `onto_rwr` leaves it out and is set beside the same
score for types that are exchanged at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from harness.metrics import row

if TYPE_CHECKING:
    from harness.results import MetricRow
    from tasks.ontology.graph import Ontology
    from tasks.ontology.mapping import TermMapping

#: Types with fewer cells have no centroid; below this many types a correlation says nothing.
MIN_CELLS, MIN_TYPES = 10, 10
#: The published constants: restart, width of the diffusion embedding, end of the walk, share cut off each tail.
RESTART, WIDTH, TOLERANCE, MAX_STEPS, TRIM = 0.7, 256, 1e-4, 49, 0.2


def edge_weights(ontology: Ontology, text_vectors: np.ndarray | None = None) -> np.ndarray:
    """Weight of each edge, float (e,): cosine of the text vectors (n, d) of its terms, as published; 1 without them.

    A cosine that is not positive would make a walk without probabilities; it counts as no edge.
    """
    if text_vectors is None:
        return np.ones(len(ontology.edges))
    unit = text_vectors / np.linalg.norm(text_vectors, axis=1, keepdims=True)
    return np.maximum((unit[ontology.edges[:, 0]] * unit[ontology.edges[:, 1]]).sum(axis=1), 0.0)


def random_walk(ontology: Ontology, weights: np.ndarray) -> np.ndarray:
    """Random walk with restart from every term over the undirected graph, float (n, n), rows of sum 1."""
    n = len(ontology)
    child, parent = ontology.edges.T
    graph = sp.csr_matrix((weights, (child, parent)), shape=(n, n))
    graph = graph + graph.T
    alone = np.asarray(graph.sum(axis=1)).ravel() == 0
    graph = graph + sp.diags(alone.astype(float))
    step = sp.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    turned = sp.csr_matrix(step.T)
    walk = np.eye(n)
    for _ in range(MAX_STEPS):
        moved = (1 - RESTART) * (turned @ walk.T).T
        moved[np.diag_indices(n)] += RESTART
        change = np.linalg.norm(moved - walk)
        walk = moved
        if change < TOLERANCE:
            break
    return walk


def term_coordinates(walk: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """Diffusion embedding of the terms, float (n, width): left singular vectors times the root of the values.

    The width is less than the number of terms in a small ontology.
    """
    from scipy.linalg import eigh

    n = len(walk)
    logs = np.log1p(walk * float(n) ** 2)
    # Left singular vectors and squared values are those of M Mᵀ: faster than an SVD, and the same every time.
    squares, left = eigh(logs @ logs.T, subset_by_index=(max(0, n - width), n - 1))
    return left * np.maximum(squares, 0.0) ** 0.25


@cache
def _unweighted(ontology: Ontology, width: int) -> np.ndarray:
    """Coordinates with unit edge weights; seconds for the Cell Ontology, so once per process."""
    return term_coordinates(random_walk(ontology, edge_weights(ontology)), width)


def term_distances(
    ontology: Ontology, terms: np.ndarray, text_vectors: np.ndarray | None = None, width: int = WIDTH
) -> np.ndarray:
    """Euclidean distances of terms (k,) in the diffusion embedding of the whole ontology, float (k, k)."""
    from scipy.spatial.distance import cdist

    if text_vectors is None:
        points = _unweighted(ontology, width)
    else:
        points = term_coordinates(random_walk(ontology, edge_weights(ontology, text_vectors)), width)
    points = points[ontology.rows(terms)]
    return cdist(points, points)


def centroid_distances(embedding: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Types with enough cells (k,), and Euclidean distances of their means trimmed by 20 % per tail (k, k)."""
    from scipy.spatial.distance import cdist
    from scipy.stats import trim_mean

    types, sizes = np.unique(labels, return_counts=True)
    types = types[sizes >= MIN_CELLS]
    if not len(types):
        return types, np.zeros((0, 0))
    wide = np.asarray(embedding, np.float64)
    centres = np.stack([trim_mean(wide[labels == kind], TRIM, axis=0) for kind in types])
    return types, cdist(centres, centres)


def standard_columns(distances: np.ndarray, diagonal: bool) -> np.ndarray:
    """Columns of a matrix (k, k) centred and of length 1, with or without the diagonal, which then is 0.

    Products of two such columns add up to their Pearson correlation. A column of equal distances is NaN: none is
    defined for it.
    """
    keep = np.ones(distances.shape, bool) if diagonal else ~np.eye(len(distances), dtype=bool)
    mean = np.where(keep, distances, 0).sum(axis=0) / keep.sum(axis=0)
    centred = np.where(keep, distances - mean, 0)
    length = np.linalg.norm(centred, axis=0)
    # Equal distances differ by rounding.
    flat = length <= 1e-12 * np.abs(distances).max() * np.sqrt(len(distances))
    return centred / np.where(flat, np.nan, length)


@dataclass(frozen=True)
class OntoRWR:
    """Scores of one embedding.

    Parameters
    ----------
    types
        Terms scored (k,).
    per_type, per_type_published
        Correlation of each, without and with its distance from itself (k,).
    null_mean, null_sd, p
        `score` of the types exchanged at random, and the share of exchanges that do as well (itself counted).
    """

    types: np.ndarray
    per_type: np.ndarray
    per_type_published: np.ndarray
    null_mean: float
    null_sd: float
    p: float

    @property
    def score(self) -> float:
        """Mean over the types for which it is defined, -1..1; NaN if for none."""
        return _mean(self.per_type)

    @property
    def published(self) -> float:
        """The published score, -1..1."""
        return float(self.per_type_published.mean()) if len(self.types) else float("nan")


def onto_rwr(
    embedding: np.ndarray,
    terms: np.ndarray,
    ontology: Ontology,
    *,
    text_vectors: np.ndarray | None = None,
    width: int = WIDTH,
    permutations: int = 1000,
    seed: int = 0,
) -> OntoRWR:
    """Score an embedding (n, d) of cells of known terms (n,)."""
    types, apart = centroid_distances(embedding, terms)
    if len(types) < 3:
        empty = np.full(len(types), np.nan)
        return OntoRWR(types, empty, empty, *[float("nan")] * 3)
    related = term_distances(ontology, types, text_vectors, width)
    cells, graph = standard_columns(apart, diagonal=False), standard_columns(related, diagonal=False)
    each = (cells * graph).sum(axis=0)
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(types)) for _ in range(permutations))
    null = np.array([_mean((cells * graph[np.ix_(order, order)]).sum(axis=0)) for order in orders])
    published = standard_columns(apart, diagonal=True) * standard_columns(related, diagonal=True)
    score = _mean(each)
    return OntoRWR(
        types,
        each,
        published.sum(axis=0),
        _mean(null),
        float(np.nanstd(null)) if not np.isnan(null).all() else float("nan"),
        (1 + int((null >= score - 1e-12).sum())) / (1 + permutations) if score == score else float("nan"),
    )


def onto_rwr_rows(
    embedding: np.ndarray, labels: np.ndarray, mapping: TermMapping, ontology: Ontology, seed: int = 0
) -> tuple[list[MetricRow], dict[str, object]]:
    """`onto_rwr` of an embedding and of each type, and `onto_rwr_published` with unit edge weights; with notes.

    No row where fewer than ten types with a term have ten cells: the notes then say "too few".

    Parameters
    ----------
    embedding
        Float (n, d), no NaN.
    labels
        Cell types (n,). Types of one term count as one.
    """
    terms = mapping.of(labels)
    known = terms != ""
    notes: dict[str, object] = dict(mapping.notes)
    kinds, sizes = np.unique(terms[known], return_counts=True)
    enough = int((sizes >= MIN_CELLS).sum())
    if enough < MIN_TYPES:
        notes["scGraph-OntoRWR"] = (
            f"too few: {enough} cell types have an ontology term and {MIN_CELLS} cells, {MIN_TYPES} are needed"
        )
        return [], notes
    found = onto_rwr(np.asarray(embedding)[known], terms[known], ontology, seed=seed)
    notes["scGraph-OntoRWR of exchanged types"] = f"{found.null_mean:.3f} ± {found.null_sd:.3f}, p = {found.p:.3g}"
    undefined = int(np.isnan(found.per_type).sum())
    if undefined:
        notes["types without a defined scGraph-OntoRWR"] = undefined
    size = dict(zip(kinds.tolist(), sizes.tolist(), strict=True))
    n = int(sum(size[kind] for kind in found.types.tolist()))
    rows = [row("onto_rwr", found.score, n=n), row("onto_rwr_published", found.published, n=n)]
    rows += [
        row("onto_rwr", value, scope="per-class", key=str(kind), n=size[str(kind)])
        for kind, value in zip(found.types, found.per_type, strict=True)
    ]
    return rows, notes


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
