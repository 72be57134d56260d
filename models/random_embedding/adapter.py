"""The floor of every task on cell vectors: a random vector per cell, which holds nothing of its biology."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.sparse import csr_matrix

from harness.data import CellData
from harness.draws import cell_keys, normal
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec


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
        names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in data.genes.names.tolist()]
        self.genes, self.seed = np.frombuffer(b"".join(names), dtype="<u8"), seed

    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Float32 (n, n_components)."""
        keys = cell_keys(counts.indptr, self.genes[counts.indices], counts.data)
        return normal(keys, self.n_components, seed=self.seed).astype(np.float32)
