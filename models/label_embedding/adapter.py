"""Embeddings made of labels: what every task on cell vectors could reach at most, and what it must not reward."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data import ROLES, CellData
from harness.draws import normal
from harness.errors import InputError, NotApplicableError
from harness.model import Embedder
from harness.registry import register_model
from harness.spec import ModelSpec

#: Standard deviation of the jitter: a hundredth of the distance between two labels. Without it all neighbours tie.
JITTER = 0.01 * np.sqrt(2)


def _spec(name: str, title: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=title,
        kind="embedding",
        gene_ids="any",
        readouts=("labels",),
        control=True,
        reads_labels=True,
        code_licence="MIT",
        commercial_use=True,
    )


class LabelEmbedding(Embedder):
    """The label of a role as a one-hot vector, and jitter drawn from the cell's own content and the run's seed.

    A cell without a label lies at the origin. openproblems controls batch integration so (`embed_cell_types_jittered`;
    Luecken et al. 2025, "Defining and benchmarking open problems in single-cell analysis").
    """

    #: Role of the obs column that is read.
    role: str

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """See `Embedder.embed_cells`; float32 (n_obs, number of labels).

        Raises
        ------
        InputError
            No column is named for the role.
        NotApplicableError
            It holds one label: there is nothing to tell apart.
        """
        data = CellData.of(adata)
        found = data.labels(self.role)
        labels = np.unique(found[found != ""])
        if len(labels) < 2:
            raise NotApplicableError(
                f"{data.name} has {len(labels)} {self.role.replace('_', ' ')}: nothing to tell apart"
            )
        vectors = (found[:, None] == labels[None, :]) + JITTER * normal(data.cell_hashes, len(labels), seed=seed)
        return vectors.astype(np.float32)

    @property
    def n_params(self) -> int:
        """Nothing is learned."""
        return 0


@register_model("perfect_embedding")
class PerfectEmbedding(LabelEmbedding):
    """Cell types apart and nothing else: the ceiling of annotation and integration.

    Parameters
    ----------
    role
        Role of the labels that the task asks for, where it is not the cell type (see `harness.data.ROLES`).
    """

    spec = _spec("perfect_embedding", "Label-perfect embedding")

    def __init__(self, role: str = "cell_type"):
        if role not in ROLES:
            raise InputError(f"model.role={role}: expected one of {', '.join(ROLES)}")
        self.role = role


@register_model("batch_embedding")
class BatchEmbedding(LabelEmbedding):
    """Batches apart and nothing else: the floor of integration, where a random embedding mixes batches perfectly."""

    role = "batch"
    spec = _spec("batch_embedding", "Batches alone")

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """See `LabelEmbedding.embed_cells`; not applicable where no batches are named."""
        data = CellData.of(adata)
        if not data.has(self.role):
            raise NotApplicableError(f"{data.name} has no batches: dataset.batch= names no column")
        return super().embed_cells(data, seed=seed, progress=progress)
