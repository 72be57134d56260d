"""Calls into scib-metrics, with the choices it leaves open stated once.

A metric of its name is the number of scib-metrics. Its k-means has one start of a fixed seed, and another seed may
give an NMI that is 0.1 higher: the best of ten starts (scikit-learn) stands beside it, and in AvgBio for it. kBET
takes the types in alphabetical order (a renamed type can move the third decimal), graph connectivity counts strong
components of the directed graph of neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Metrics that are averaged into avg_bio and avg_batch.
BIO = (
    "isolated_labels",
    "nmi_kmeans_starts",
    "ari_kmeans_starts",
    "nmi_leiden",
    "ari_leiden",
    "silhouette_label",
    "clisi",
)
BATCH = ("bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison")


#: Neighbours each metric reads, as in scib-metrics' Benchmarker; LISI reads all of the graph.
CLUSTERING_NEIGHBORS, KBET_NEIGHBORS = 15, 50
KMEANS_STARTS = 10


def _nearest(graph: Any, n: int) -> Any:
    return graph.subset_neighbors(min(n, graph.n_neighbors))


def neighbour_graph(x: np.ndarray, neighbors: int) -> Any:
    """scib-metrics' NeighborsResult of exact Euclidean neighbours, each cell its own first."""
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    k = min(neighbors, len(x))
    distances, indices = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(x)
    # Among identical cells any of them may come first; the metrics expect the cell itself there.
    own = np.arange(len(x))[:, None]
    for i in np.flatnonzero(indices[:, 0] != own[:, 0]):
        at = np.flatnonzero(indices[i] == i)
        if len(at):
            indices[i, [0, at[0]]] = indices[i, [at[0], 0]]
        else:
            indices[i, -1], distances[i, -1] = indices[i, 0], distances[i, 0]
            indices[i, 0], distances[i, 0] = i, 0.0
    return NeighborsResults(indices=indices, distances=distances.astype(np.float32))


def bio_conservation(
    x: np.ndarray, labels: np.ndarray, batches: np.ndarray | None, graph: Any, seed: int
) -> dict[str, float]:
    """Bio-conservation metrics of an embedding.

    Parameters
    ----------
    x
        Float32 (n, d).
    labels
        Cell types (n,).
    batches
        Batches (n,), or None where there is one: isolated labels are then not defined.
    graph
        Of `neighbour_graph`.
    """
    import scib_metrics as scib

    scores: dict[str, float] = {}
    if batches is not None:
        scores["isolated_labels"] = scib.isolated_labels(x, labels, batches)
    kmeans = scib.nmi_ari_cluster_labels_kmeans(x.copy(), labels)  # it centres its input in place
    leiden = scib.nmi_ari_cluster_labels_leiden(_nearest(graph, CLUSTERING_NEIGHBORS), labels, seed=seed)
    scores |= {"nmi_kmeans": kmeans["nmi"], "ari_kmeans": kmeans["ari"]}
    scores["nmi_kmeans_starts"], scores["ari_kmeans_starts"] = _kmeans_of_starts(x, labels)
    scores |= {"nmi_leiden": leiden["nmi"], "ari_leiden": leiden["ari"]}
    scores["silhouette_label"] = scib.silhouette_label(x, labels)
    scores["clisi"] = scib.clisi_knn(graph, labels)
    return {name: float(value) for name, value in scores.items()}


def _kmeans_of_starts(x: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """NMI and ARI of the k-means, of several starts, with the least inertia; labels have no say in which."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the same clusters on any machine
        clusters = KMeans(len(np.unique(labels)), n_init=KMEANS_STARTS, random_state=0).fit_predict(x)
    return normalized_mutual_info_score(labels, clusters), adjusted_rand_score(labels, clusters)


def batch_correction(
    x: np.ndarray, labels: np.ndarray, batches: np.ndarray, graph: Any, unintegrated: np.ndarray, kbet: dict[str, float]
) -> dict[str, float]:
    """Batch-correction metrics; `unintegrated` float (n, p) is what PCR compares with, `kbet` that of each type."""
    import scib_metrics as scib

    scores = {
        "bras": scib.bras(x, labels, batches),
        "ilisi": scib.ilisi_knn(graph, batches),
        "kbet": np.mean(list(kbet.values())) if kbet else np.nan,
        "graph_connectivity": scib.graph_connectivity(_nearest(graph, CLUSTERING_NEIGHBORS), labels),
        "pcr_comparison": scib.pcr_comparison(unintegrated, x, batches, categorical=True),
        "silhouette_batch": scib.silhouette_batch(x, labels, batches),
    }
    return {name: float(value) for name, value in scores.items()}


def per_type(x: np.ndarray, labels: np.ndarray, batches: np.ndarray | None, graph: Any) -> dict[str, dict[str, float]]:
    """Metric -> cell type -> score, of the metrics that are made of scores of types.

    `bras`, `silhouette_batch`, `kbet` and `graph_connectivity` are by definition the mean over the types for which
    they are defined, and that mean is what scib-metrics gives for all cells. `silhouette_label` is a mean over cells;
    the mean over its types is `macro_silhouette_label`. The others (NMI, ARI, medians of LISI, PCR) have no parts.

    Parameters
    ----------
    x, labels, batches, graph
        As `bio_conservation` and `batch_correction` take them; batches None where there is one.
    """
    import scib_metrics as scib
    from scib_metrics.utils import silhouette_samples

    types = np.unique(labels)
    width = (np.asarray(silhouette_samples(x, labels)) + 1) / 2
    found = {"silhouette_label": {t: float(width[labels == t].mean()) for t in types}}
    if batches is None:
        return found
    near = _nearest(graph, CLUSTERING_NEIGHBORS).knn_graph_distances
    found["graph_connectivity"] = {t: _connected(near[labels == t][:, labels == t]) for t in types}
    _, kbet = scib.kbet_per_label(_nearest(graph, KBET_NEIGHBORS), batches, labels, return_df=True)
    found["kbet"] = {t: float(v) for t, v in zip(kbet["cluster"], kbet["kBET"], strict=True) if v == v}
    mixed = [t for t in types if 1 < len(set(batches[labels == t])) < (labels == t).sum()]
    for name, score in (("bras", scib.bras), ("silhouette_batch", scib.silhouette_batch)):
        found[name] = {t: float(score(x[labels == t], labels[labels == t], batches[labels == t])) for t in mixed}
    return found


def _connected(graph: Any) -> float:
    """Share of the cells of a type that lie in its largest connected component."""
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(graph, connection="strong")
    return float(np.bincount(component).max() / len(component))
