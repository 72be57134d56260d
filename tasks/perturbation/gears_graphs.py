"""The two graphs of GEARS: perturbable genes that share GO terms, and measured genes that are expressed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tasks.gene_sets import GeneSets

#: Neighbours of a gene beside itself, in both graphs.
NEIGHBOURS = 20
#: Least Jaccard index of two genes' terms, and least absolute correlation, both exclusive.
JACCARD, CORRELATION = 0.1, 0.4
#: Rows of a matrix of likeness, and cells, that are held at a time.
ROWS, CELLS = 512, 4096


@dataclass(frozen=True)
class Graph:
    """Weighted directed edges between named nodes.

    Parameters
    ----------
    nodes
        Names, (n,).
    source, target
        Int64 (e,), places in `nodes`.
    weight
        Float32 (e,).
    """

    nodes: tuple[str, ...]
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray

    def normalised(self) -> sp.csr_matrix:
        """Symmetrically normalised adjacency, float32 (n, n), target × source.

        D^-1/2 A D^-1/2 with D the sum of incoming weights (Kipf & Welling 2017). A node without an edge to itself gets
        one of weight 1; an edge to itself that is there keeps its weight, as in PyTorch Geometric's `gcn_norm`.
        """
        n = len(self.nodes)
        alone = np.setdiff1d(np.arange(n), self.source[self.source == self.target])
        source, target = np.append(self.source, alone), np.append(self.target, alone)
        weight = np.append(self.weight, np.ones(len(alone))).astype(np.float64)
        degree = np.bincount(target, weight, minlength=n)
        root = np.divide(1.0, np.sqrt(degree), out=np.zeros(n), where=degree > 0)
        values = (root[source] * weight * root[target]).astype(np.float32)
        return sp.csr_matrix((values, (target, source)), shape=(n, n))

    def with_nodes(self, names: Sequence[str]) -> Graph:
        """The same with further nodes that have no edge."""
        known = set(self.nodes)
        return Graph((*self.nodes, *(n for n in names if n not in known)), self.source, self.target, self.weight)


def reached(adjacency: sp.csr_matrix, nodes: np.ndarray, steps: int) -> np.ndarray:
    """Nodes from which `nodes` are reached in at most `steps`, sorted; a network of so many layers reads no other."""
    found = np.zeros(adjacency.shape[0], bool)
    found[nodes] = True
    for _ in range(steps):
        found[adjacency[found].indices] = True
    return np.flatnonzero(found)


def go_graph(sets: GeneSets, genes: Sequence[str], k: int = NEIGHBOURS, threshold: float = JACCARD) -> Graph:
    """For each gene the `k` + 1 genes, itself included, whose terms are most alike by Jaccard index above `threshold`.

    Parameters
    ----------
    genes
        The nodes; those without terms have no edge.
    """
    names = tuple(genes)
    terms = sets.incidence(list(names)).astype(np.float32)
    sizes = np.asarray(terms.sum(axis=1)).ravel()
    transposed = terms.T.tocsr()
    rows = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for start in range(0, len(names), ROWS):
        shared = (terms[start : start + ROWS] @ transposed).tocoo()
        likeness = shared.data / (sizes[start + shared.row] + sizes[shared.col] - shared.data)
        kept = likeness > threshold
        rows.append((shared.col[kept], start + shared.row[kept], likeness[kept]))
    source, target, weight = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return strongest(names, source, target, weight, k)


def strongest(
    nodes: Sequence[str], source: np.ndarray, target: np.ndarray, weight: np.ndarray, k: int = NEIGHBOURS
) -> Graph:
    """The `k` + 1 heaviest edges into each node; of equals the first source."""
    order = np.lexsort((source, -weight, target))
    sorted_target = target[order]
    starts = np.searchsorted(sorted_target, sorted_target)
    kept = order[np.arange(len(order)) - starts <= k]
    return Graph(
        tuple(nodes), source[kept].astype(np.int64), target[kept].astype(np.int64), weight[kept].astype(np.float32)
    )


def coexpression_graph(
    values: sp.csr_matrix, genes: Sequence[str], k: int = NEIGHBOURS, threshold: float = CORRELATION
) -> Graph:
    """For each gene the `k` + 1 genes, itself included, of the largest absolute Pearson correlation above `threshold`.

    Parameters
    ----------
    values
        Log-normalised expression of the training cells, CSR (n, g). A gene that never varies has no edge.
    """
    n, n_genes = values.shape
    mean = np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()
    product = np.zeros((n_genes, n_genes))
    for start in range(0, n, CELLS):
        block = values[start : start + CELLS].toarray() - mean.astype(np.float32)
        product += block.T @ block
    spread = np.sqrt(product.diagonal())
    varies = spread > 1e-6 * np.sqrt(n)
    inverse = np.divide(1.0, spread, out=np.zeros(n_genes), where=varies)
    rows = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    most = min(k + 1, n_genes)
    for start in range(0, n_genes, ROWS):
        likeness = np.abs(product[start : start + ROWS] * inverse[start : start + ROWS, None] * inverse)
        source = np.argpartition(likeness, -most, axis=1)[:, -most:]
        weight = np.take_along_axis(likeness, source, axis=1).ravel()
        target = np.repeat(np.arange(start, start + len(likeness)), most)
        kept = weight > threshold
        rows.append((source.ravel()[kept], target[kept], weight[kept]))
    return strongest(genes, *(np.concatenate(parts) for parts in zip(*rows, strict=True)), k)
