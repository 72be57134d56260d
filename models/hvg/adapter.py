"""Highly variable genes, in full dimension: the baseline that beats many models in zero-shot work."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from harness.counts import highly_variable, log_normalise
from harness.data import CellData
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec


@register_model("hvg")
class HVG(FittedEmbedder):
    """Log-normalised expression of the most variable genes (`seurat` flavour of scanpy), not reduced.

    Kedzierska et al., Genome Biology 2025: HVG in full dimension beat scGPT and Geneformer zero-shot.
    """

    spec = ModelSpec(
        name="hvg",
        title="HVG",
        kind="embedding",
        gene_ids="any",
        readouts=("expression",),
        draws=False,
        paper="Kedzierska et al., Genome Biology 2025, doi:10.1186/s13059-025-03574-x",
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_top_genes: int = 2000):
        self.n_top_genes = n_top_genes

    def fit(self, data: CellData, seed: int = 0) -> None:
        """Select the genes over all cells."""
        self.genes = highly_variable(log_normalise(data.counts()), self.n_top_genes)

    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Dense float32 (n, n_top_genes)."""
        return log_normalise(counts)[:, self.genes].toarray()
