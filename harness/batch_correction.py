"""Embedders that are told the batch of each cell: integration methods, whose vectors any task on cells may read."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data import CellData
from harness.errors import NotApplicableError
from harness.model import Embedder

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class BatchCorrection(Embedder):
    """A method that removes batches; a subclass has `correct`, and `reads_batches` in its spec.

    It reads all cells of a data set at once, their counts and batches and never their types: its vectors depend on the
    other cells by design, and test cells are among those it reads.
    """

    @abstractmethod
    def correct(self, counts: csr_matrix, batches: np.ndarray, seed: int) -> np.ndarray:
        """Vectors (n, d) of raw counts (n, g) of cells of the given batches (n,)."""

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """Float32 (n_obs, d); rows of NaN are cells without a count or without a batch.

        Raises
        ------
        NotApplicableError
            There are no batches, or there is one.
        """
        from threadpoolctl import threadpool_limits

        data = CellData.of(adata)
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

    @property
    def n_params(self) -> int | None:
        """Not counted."""
        return None
