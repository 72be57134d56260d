"""Vectors of genes as a matrix with a row for every gene that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError, InternalError
from harness.genes import GeneTable
from harness.model import Embedder, ModelAdapter

if TYPE_CHECKING:
    from harness.data import CellData

#: Where a network's gene vectors come from.
SOURCES = ("static", "contextual")


def gene_matrix(
    model: Embedder, genes: GeneTable, source: str, reference: CellData | None, seed: int, progress: bool = False
) -> np.ndarray:
    """Float32 (n_genes, d); rows of NaN are genes the model has no vector of. See `Subject.genes`.

    Raises
    ------
    InputError
        Contextual vectors are asked for without cells to read them off, or no gene is known at all.
    """
    if source == "contextual" and isinstance(model, ModelAdapter):
        from harness.gene_vectors import contextual_genes

        if reference is None:
            raise InputError("contextual gene vectors are read off cells: name a data set, task.reference=NAME or FILE")
        found = contextual_genes(model, reference, genes, seed=seed, progress=progress)
    else:
        found = model.embed_genes(genes, reference=reference, seed=seed)
    if len(found.matrix) != len(found.names) or np.isinf(found.matrix).any():
        raise InternalError(
            f"{model.spec.name}: embed_genes gave {len(found.matrix)} vectors for {len(found.names)} genes"
            if len(found.matrix) != len(found.names)
            else f"{model.spec.name}: embed_genes gave vectors that are not finite"
        )
    if not len(found.names):
        some = ", ".join(genes.names[:3].tolist())
        raise InputError(f"{model.spec.name} knows none of the {len(genes)} genes ({some} …)")
    row = {name: i for i, name in reversed(list(enumerate(found.names.tolist())))}
    at = np.array([row.get(name, -1) for name in genes.names.tolist()], np.int64)
    matrix = np.full((len(genes), found.matrix.shape[1]), np.nan, np.float32)
    matrix[at >= 0] = found.matrix[at[at >= 0]]
    return matrix
