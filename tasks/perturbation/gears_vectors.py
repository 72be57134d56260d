"""Gene vectors of a model, as GEARS takes them in: one table, or one table per control cell, read when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.errors import InputError

#: Control cells that the centre and scale of contextual vectors are taken from.
SAMPLE = 16


class GraftedVectors:
    """Vectors of the measured genes for a batch of control cells.

    Parameters
    ----------
    source
        (G, d), rows of NaN for genes without a vector; or contextual ones: an array-like (n_control, G, d) that is
        only indexed by sorted rows (a memory map, an HDF5 data set), or a callable from places among the control cells,
        int (B,), to (B, G, d). The whole is never held.
    n_genes, n_control
        Sizes.
    standardise
        Centre the dimensions and scale all of them to a mean squared length of 1, so that no model gains by the scale
        of its vectors.
    device
        Of the tensors.

    Raises
    ------
    InputError
        The shape is another, or no gene has a vector.
    """

    def __init__(self, source: Any, n_genes: int, n_control: int, *, standardise: bool, device: str = "cpu"):
        self.source, self.device = source, device
        shape = getattr(source, "shape", None)
        self.static = shape is not None and len(shape) == 2
        if shape is not None and tuple(shape[:-1]) not in ((n_genes,), (n_control, n_genes)):
            raise InputError(
                f"gene vectors for GEARS have the shape {tuple(shape)}; ({n_genes}, d) is expected for the measured "
                f"genes, or ({n_control}, {n_genes}, d) for the control cells too"
            )
        places = np.unique(np.linspace(0, n_control - 1, SAMPLE).astype(np.int64))
        sample = np.asarray(source)[None] if self.static else self._rows(places)
        if sample.ndim != 3 or sample.shape[1] != n_genes:
            raise InputError(f"gene vectors for GEARS: (B, {n_genes}, d) is expected of B cells, found {sample.shape}")
        known = ~np.isnan(sample).any(axis=-1)
        if not known.any():
            raise InputError("GEARS was given gene vectors, and no measured gene has one: do the gene names match?")
        self.width = sample.shape[-1]
        # Which genes a cell lacks is known once it is read: any of them may need a learned vector to fall back on.
        self.without = ~known[0] if self.static else np.ones(n_genes, bool)
        self.centre, self.scale = np.zeros(self.width, np.float32), np.float32(1)
        if standardise:
            self.centre = sample[known].mean(axis=0, dtype=np.float64).astype(np.float32)
            lengths = np.square(sample[known] - self.centre, dtype=np.float64).sum(axis=1)
            self.scale = np.float32(np.sqrt(lengths.mean()) or 1)
        self._table = self._tensor(sample) if self.static else None

    def __call__(self, places: np.ndarray) -> torch.Tensor:
        """Vectors for these control cells, float32 (1 or B, G, d)."""
        if self._table is not None:
            return self._table
        rows, back = np.unique(places, return_inverse=True)
        return self._tensor(self._rows(rows)[back])

    def _rows(self, places: np.ndarray) -> np.ndarray:
        read: Callable[[np.ndarray], Any] = self.source if callable(self.source) else self.source.__getitem__
        return np.asarray(read(places), np.float32)

    def _tensor(self, vectors: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((vectors - self.centre) / self.scale).astype(np.float32)).to(self.device)
