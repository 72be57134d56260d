"""The floor of every task on cell vectors: a random vector per cell, which holds nothing of its biology."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from harness.data import CellData
from harness.draws import cell_keys, normal
from harness.genes import GeneTable
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import GeneEmbedding


@register_model("random_embedding")
class RandomEmbedding(FittedEmbedder):
    """Independent standard normal numbers, drawn from the cell's own content and the run's seed.

    Identical cells get identical vectors, so that what a split leaks shows here too: above chance, the floor says
    how much of a score identical cells alone can give.
    """

    spec = ModelSpec(
        name="random_embedding",
        title="Random embedding",
        kind="embedding",
        gene_ids="any",
        readouts=("vector",),
        control=True,
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_components: int = 50):
        self.n_components = n_components

    def fit(self, data: CellData, seed: int = 0) -> None:
        """Remember the genes' names, by which a cell's content is known, and the seed."""
        self.genes, self.seed = _keys(data.genes.names), seed

    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Float32 (n, n_components)."""
        keys = cell_keys(counts.indptr, self.genes[counts.indices], counts.data)
        return normal(keys, self.n_components, seed=self.seed).astype(np.float32)

    def embed_genes(
        self, genes: GeneTable | Sequence[str], *, reference: CellData | None = None, seed: int = 0
    ) -> GeneEmbedding:
        """Standard normal numbers drawn from the gene's name and the seed."""
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        vectors = normal(_keys(table.names), self.n_components, seed=seed)
        return GeneEmbedding(vectors.astype(np.float32), table.names, table.names[:0])


def _keys(names: np.ndarray) -> np.ndarray:
    """A number of each name, uint64 (n,)."""
    return np.frombuffer(b"".join(hashlib.blake2b(n.encode(), digest_size=8).digest() for n in names.tolist()), "<u8")
