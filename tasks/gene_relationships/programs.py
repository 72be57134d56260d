"""Gene programs: communities of the graph in which each gene is linked to those most similar to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from tasks.gene_relationships.directions import Directions

if TYPE_CHECKING:
    import igraph

#: Genes of the smallest group that is called a program (and of the smallest set that is tested).
SMALLEST = 5


@dataclass(frozen=True)
class SimilarityGraph:
    """Genes, each linked to its nearest neighbours by cosine.

    Parameters
    ----------
    genes
        The genes and their directions.
    edges
        int (m, 2), places of the genes, the smaller first, sorted; one edge where either is a neighbour of the other.
    """

    genes: Directions
    edges: np.ndarray

    def cosine(self, edges: np.ndarray) -> np.ndarray:
        """Cosines of some edges, float64 (m,)."""
        unit = self.genes.unit
        return np.einsum("ij,ij->i", unit[edges[:, 0]], unit[edges[:, 1]])

    def igraph(self) -> igraph.Graph:
        """The same for igraph."""
        import igraph

        return igraph.Graph(len(self.genes), self.edges.tolist())


def similarity_graph(genes: Directions, n_neighbors: int) -> SimilarityGraph:
    """Link each gene to its `n_neighbors` nearest, exactly.

    Edges have no weight: every model's graph, and that of co-expression, has the same number of neighbours, however
    narrow the range of its cosines.

    Raises
    ------
    InputError
        There are not more genes than neighbours.
    """
    if len(genes) <= n_neighbors:
        raise InputError(
            f"task.n_neighbors={n_neighbors}: a graph needs more genes than that, and {len(genes)} have a vector; "
            "take fewer neighbours, or data with more genes"
        )
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine", algorithm="brute").fit(genes.unit)
    near = search.kneighbors(return_distance=False)
    edges = np.stack([np.repeat(np.arange(len(genes)), n_neighbors), near.ravel()], axis=1)
    return SimilarityGraph(genes, np.unique(np.sort(edges, axis=1), axis=0))


def leiden(graph: igraph.Graph, resolution: float, seed: int) -> np.ndarray:
    """Community of each gene, int (n,): Leiden (Traag et al. 2019) on modularity with a resolution."""
    import leidenalg

    kind = leidenalg.RBConfigurationVertexPartition
    found = leidenalg.find_partition(graph, kind, resolution_parameter=float(resolution), seed=int(seed))
    return np.asarray(found.membership, np.int64)


def programs(community: np.ndarray, genes: Directions, smallest: int = SMALLEST) -> list[np.ndarray]:
    """Places of the genes of each program, the largest program first, within it the most central gene first.

    A gene's centrality is its cosine with the sum of the program's directions.
    """
    found = [np.flatnonzero(community == one) for one in np.unique(community)]
    found = sorted((p for p in found if len(p) >= smallest), key=lambda p: (-len(p), int(p[0])))
    return [p[np.argsort(-(genes.unit[p] @ genes.unit[p].sum(axis=0)), kind="stable")] for p in found]
