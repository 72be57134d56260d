"""What a network is fine-tuned to do: the contract between the loop and a task's labels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from harness.model import ModelAdapter
from harness.tokens import CellOutput


class Objective(Protocol):
    """What a network is trained to say of a cell; `harness.classification.Classification` is one."""

    #: Width of what the head gives.
    n_outputs: int

    def head(self, model: ModelAdapter, kind: str, vectors: Tensor, generator: torch.Generator) -> nn.Module:
        """A fresh module: cell vectors (n, d), token vectors (n, L, t) or None, mask (n, L) -> (n, n_outputs).

        Parameters
        ----------
        kind
            Of `harness.tuning.HEADS`.
        vectors
            Of some training cells before the first step, float32 (m, d) on the CPU, to scale by.
        generator
            All that is drawn is drawn from it.
        """
        ...

    def loss(self, head: nn.Module, output: CellOutput, mask: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of some cells, a scalar."""
        ...
