"""scVI: a variational model of the counts that is told the batch of each cell."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from harness.batch_correction import BatchCorrection
from harness.counts import highly_variable, log_normalise
from harness.errors import InputError
from harness.registry import register_model
from harness.spec import ModelSpec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@register_model("scvi")
class ScVI(BatchCorrection):
    """The latent means of scVI, trained on the raw counts of HVGs with the batch as covariate; no label is read.

    Lopez et al., Nature Methods 2018, by scvi-tools (the `scvi` extra), written from its documented API.
    """

    spec = ModelSpec(
        name="scvi",
        title="scVI",
        kind="embedding",
        gene_ids="any",
        readouts=("latent",),
        reads_batches=True,
        paper="Lopez et al., Nature Methods 2018, doi:10.1038/s41592-018-0229-2",
        code_licence="BSD-3-Clause",
        commercial_use=True,
    )

    def __init__(self, n_top_genes: int = 2000, n_latent: int = 30, n_layers: int = 2, max_epochs: int | None = None):
        self.n_top_genes, self.n_latent, self.n_layers, self.max_epochs = n_top_genes, n_latent, n_layers, max_epochs

    def correct(self, counts: csr_matrix, batches: np.ndarray, seed: int) -> np.ndarray:
        """Train on all cells.

        Raises
        ------
        InputError
            scvi-tools is not installed.
        """
        if find_spec("scvi") is None:
            raise InputError(
                "model=scvi: scvi-tools is not installed here. Install it: pip install 'cellfm-bench[scvi]', or take "
                "another baseline (model=harmony)"
            )
        import anndata
        import pandas as pd
        import scvi

        scvi.settings.seed = seed
        obs = pd.DataFrame({"batch": pd.Categorical(batches)}, index=[str(i) for i in range(len(batches))])
        genes = highly_variable(log_normalise(counts), self.n_top_genes)
        cells = anndata.AnnData(counts[:, genes], obs=obs)
        scvi.model.SCVI.setup_anndata(cells, batch_key="batch")
        model = scvi.model.SCVI(cells, n_latent=self.n_latent, n_layers=self.n_layers, gene_likelihood="nb")
        model.train(max_epochs=self.max_epochs, early_stopping=True, enable_progress_bar=False)
        return np.asarray(model.get_latent_representation())
