"""What integration methods share: they read the batch of each cell, never its type, and give a vector per cell."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.errors import NotApplicableError
from harness.model import TaskBaseline

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.data import CellData


class BatchCorrection(TaskBaseline):
    """A method that removes batches; a subclass has `correct`."""

    @abstractmethod
    def correct(self, counts: csr_matrix, batches: np.ndarray, seed: int) -> np.ndarray:
        """Vectors (n, d) of raw counts (n, g) of cells of the given batches (n,)."""

    def predict(self, data: CellData, seed: int) -> np.ndarray:
        """Float32 (n_obs, d); rows of NaN are cells without a count or without a batch.

        Raises
        ------
        NotApplicableError
            There are no batches, or there is one.
        """
        from threadpoolctl import threadpool_limits

        if not data.has("batch"):
            raise NotApplicableError(f"{data.name} has no batches: dataset.batch= names no column")
        counts, batches = data.counts(), data.labels("batch")
        rows = np.flatnonzero((np.diff(counts.indptr) > 0) & (batches != ""))
        if len(set(batches[rows])) < 2:
            raise NotApplicableError(f"{data.name} has one batch: {self.spec.title} has nothing to correct")
        # One thread: the same numbers on any machine.
        with threadpool_limits(1):
            vectors = self.correct(counts[rows], batches[rows], seed)
        result = np.full((data.n_obs, vectors.shape[1]), np.nan, np.float32)
        result[rows] = vectors
        return result


def components(counts: csr_matrix, n_top_genes: int = 2000, n_components: int = 50) -> np.ndarray:
    """Principal components of log-normalised HVGs, (n, n_components): the unintegrated analysis (`model=pca`).

    It is what PCR compares an embedding with, and what Harmony corrects.
    """
    from sklearn.decomposition import PCA

    values = log_normalise(counts)
    values = values[:, highly_variable(values, n_top_genes)]
    n = min(n_components, min(values.shape) - 1)
    if n < 1:
        return values.toarray()
    return PCA(n, svd_solver="arpack", random_state=0).fit_transform(values)
