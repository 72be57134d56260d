"""The vectors of the labelled genes: of a network, of an embedding of cells, or of a baseline of the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import NotApplicableError
from harness.subsample import subsample
from tasks.gene_function.baselines import GeneBaseline
from tasks.gene_function.genes import LabelledGenes

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject


def gene_vectors(
    subject: Subject, data: CellData, asked: LabelledGenes, source: str, cells: int, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Float32 (n_genes, d), rows of NaN are genes without a vector; and where they are from, in words.

    Parameters
    ----------
    source
        `static` or `contextual`, for networks.
    cells
        Cells a network reads for contextual vectors; what else reads cells reads all, as genes are asked by all.

    Raises
    ------
    NotApplicableError
        The model gives no vectors of genes, or none of those that are asked.
    """
    if subject.spec.kind == "predictor" and isinstance(subject.model, GeneBaseline):
        vectors = subject.model.predict(asked.table, asked.columns, data, seed)
        return vectors, {"gene vectors": f"of {data.n_obs} cells of {data.name}"}
    network = subject.spec.kind == "foundation"
    reference = subsample(data, cells) if network else data
    # Of all genes: every set of labels then finds them in the cache.
    vectors = subject.genes(data.genes, source=source, reference=reference)[asked.columns]
    if np.isnan(vectors).any(axis=1).all():
        raise NotApplicableError(f"{subject.spec.title} has a vector of none of the {len(vectors)} genes asked")
    where = f"{reference.n_obs} cells of {data.name}"
    if subject.spec.kind == "precomputed":  # of no cells
        return vectors, {"gene vectors": "made elsewhere"}
    said = f"of {where}" if not network else f"contextual, in {where}" if source == "contextual" else source
    return vectors, {"gene vectors": said}
