"""scANVI: a variational model of the counts that is trained with the labels of the training cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.registry import register_model
from tasks.annotation.expression import ExpressionClassifier
from tasks.baselines import baseline_spec, check_scvi_tools

if TYPE_CHECKING:
    import anndata
    from scipy.sparse import csr_matrix

#: What a cell without a label is called inside the model.
UNLABELLED = "(a cell without a label)"


@register_model("scanvi")
class ScANVI(ExpressionClassifier):
    """scVI on the training cells' HVGs, then scANVI with their labels; test cells are predicted and never trained on.

    Xu et al., Molecular Systems Biology 2021, by scvi-tools (the `scvi` extra). No batch is given to it: a test cell
    may be of a batch that was left out.
    """

    spec = baseline_spec(
        "annotation",
        "scanvi",
        "scANVI",
        paper="Xu et al., Molecular Systems Biology 2021, doi:10.15252/msb.20209620",
        code_licence="BSD-3-Clause",
    )

    def __init__(
        self, n_top_genes: int = 2000, n_latent: int = 30, max_epochs: int | None = None, scanvi_epochs: int = 20
    ):
        self.n_top_genes, self.n_latent = n_top_genes, n_latent
        self.max_epochs, self.scanvi_epochs = max_epochs, scanvi_epochs

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Train both models.

        Raises
        ------
        InputError
            scvi-tools is not installed.
        """
        check_scvi_tools("scanvi", "another baseline")
        import scvi

        scvi.settings.seed = seed
        self.genes = highly_variable(log_normalise(counts), self.n_top_genes)
        cells = self._cells(counts, labels)
        scvi.model.SCVI.setup_anndata(cells)
        base = scvi.model.SCVI(cells, n_latent=self.n_latent, n_layers=2, gene_likelihood="nb")
        base.train(max_epochs=self.max_epochs, early_stopping=True, enable_progress_bar=False)
        self.model = scvi.model.SCANVI.from_scvi_model(
            base, unlabeled_category=UNLABELLED, labels_key="cell_type", adata=cells
        )
        self.model.train(max_epochs=self.scanvi_epochs, n_samples_per_label=100, enable_progress_bar=False)
        self.classes = np.unique(labels)

    def _cells(self, counts: csr_matrix, labels: np.ndarray) -> anndata.AnnData:
        import anndata
        import pandas as pd

        index = [str(i) for i in range(counts.shape[0])]
        obs = pd.DataFrame({"cell_type": pd.Categorical(labels)}, index=index)
        return anndata.AnnData(counts[:, self.genes], obs=obs)

    def scores(self, counts: csr_matrix) -> np.ndarray:
        """Probabilities of the classes."""
        cells = self._cells(counts, np.full(counts.shape[0], UNLABELLED))
        return self.model.predict(cells, soft=True)[list(self.classes)].to_numpy()
