"""The objective of a classifier: heads that read a network, and their cross entropy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicableError
from harness.model import ModelAdapter
from harness.networks import seeded
from harness.tokens import CellOutput

HIDDEN = 128
DROPOUT = 0.1
#: What is added to each deviation, in those of all (root mean square).
FLAT = 0.1
#: How far the running mean and variance follow a batch.
MOMENTUM = 0.1


class Standardise(nn.Module):
    """Each dimension to mean 0 and deviation 1: of the batch in training, of the last batches afterwards.

    Cells have most of their vector in common (all but 0.4 % of it in a small CellFM), and a step of the network moves
    that by more than cells differ; a head that is given it learns little else. Batches do away with the shift.

    Parameters
    ----------
    vectors
        Of some training cells, float32 (m, d): where the running mean and variance begin.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, vectors: Tensor):
        super().__init__()
        self.register_buffer("mean", vectors.mean(0))
        self.register_buffer("variance", vectors.var(0, correction=0))
        # A dimension that hardly varies is not blown up.
        self.least = FLAT**2 * float(self.variance.mean()) or 1.0

    def forward(self, x: Tensor) -> Tensor:
        batch = self.training and len(x) > 1
        return F.batch_norm(x, self.mean, self.variance, training=batch, momentum=MOMENTUM, eps=self.least)


class CellHead(nn.Module):
    """Layers on the standardised cell vector, one hidden or none; it looks at no token."""

    def __init__(self, vectors: Tensor, n_outputs: int, hidden: int | None):
        super().__init__()
        width = vectors.shape[1]
        inner: list[nn.Module] = [nn.Linear(width, n_outputs)]
        if hidden is not None:
            inner = [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(hidden, n_outputs)]
        self.layers = nn.Sequential(Standardise(vectors), *inner)

    def forward(self, cell: Tensor, tokens: Tensor | None, mask: Tensor) -> Tensor:
        return self.layers(cell.float())


class Classification:
    """One of `n_classes` classes per cell; targets are their numbers, int64 (n,), outputs their logits.

    Heads are those of `harness.tuning.HEADS`. A model's own is what `ModelAdapter.classifier` gives; it is trained by
    its own `loss(cell, tokens, mask, targets)`, where it has one.
    """

    def __init__(self, n_classes: int):
        self.n_outputs = n_classes

    def head(self, model: ModelAdapter, kind: str, vectors: Tensor, generator: torch.Generator) -> nn.Module:
        """See `harness.objective.Objective.head`.

        Raises
        ------
        NotApplicableError
            The model has no classifier of its own.
        """
        if kind == "native":
            make = getattr(model, "classifier", None)
            if make is None:
                raise NotApplicableError(
                    f"{model.spec.title} has no classifier of its own here; finetune.head=mlp is for every model"
                )
            return make(self.n_outputs, generator)
        hidden = HIDDEN if kind == "mlp" else None
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return seeded(lambda: CellHead(vectors, self.n_outputs, hidden), seed)

    def loss(self, head: nn.Module, output: CellOutput, mask: Tensor, targets: Tensor) -> Tensor:
        """The mean cross entropy; see `harness.objective.Objective.loss`."""
        own: Callable[..., Tensor] | None = getattr(head, "loss", None)
        if own is not None:
            return own(output.cell, output.tokens, mask, targets)
        return F.cross_entropy(head(output.cell, output.tokens, mask).float(), targets)
