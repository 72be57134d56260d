"""scBERT's pretraining objective: masked levels of expression (`pretrain.py` of the authors).

Of the genes whose token is not 0, 15 % are predicted, by cross entropy over all tokens; nine of ten of these are
shown as the mask, the others as they are. Genes of level 0 are never asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.draws import CellDraws
from harness.tokens import TokenBatch
from models.scbert.config import MASK
from models.scbert.network import Network

PREDICTED, SHOWN_AS_MASK = 0.15, 0.9


@dataclass(frozen=True)
class MaskedCells:
    """What the network is shown, and what it should find.

    Parameters
    ----------
    levels
        int64 (n, N + 1), tokens of whole panels with their masks.
    at
        int64 (n, K), positions that are predicted, and others to fill the row.
    targets
        int64 (n, K), the tokens there; `MASK`, which no gene has, where nothing is predicted.
    """

    levels: Tensor
    at: Tensor
    targets: Tensor

    def to(self, device: Any) -> Self:
        """The same on `device`."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def count(self) -> int:
        """How many tokens are predicted."""
        return int((self.targets != MASK).sum())


def draw(batch: TokenBatch, network: Network, generator: torch.Generator) -> MaskedCells:
    """Choose and mask at random, by `harness.draws.CellDraws`; `batch` as tensors on the CPU."""
    draws = CellDraws(batch, generator)
    levels = batch.values.long()
    open_ = batch.mask & (levels > 0) & (levels != MASK)
    wanted = (open_.sum(1, keepdim=True) * PREDICTED).ceil()
    # The places of a random order of the tokens that are open to it.
    rank = draws.tokens().masked_fill(~open_, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    chosen = open_ & (rank < wanted)
    shown = levels.masked_fill(chosen & (draws.tokens() < SHOWN_AS_MASK), MASK)

    width = max(1, int(chosen.sum(1).max()))
    order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    targets = levels.masked_fill(~chosen, MASK).gather(1, order)
    at = batch.gene_ids.masked_fill(~batch.mask, 0).gather(1, order)
    return MaskedCells(network.panel(batch.gene_ids, shown, batch.mask), at, targets)


def cross_entropy(network: Network, cells: MaskedCells) -> Tensor:
    """Sum of the cross entropies of the predicted tokens, a few cells at a time."""

    def of_cells(levels: Tensor, at: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        logits = network.to_out(network.encode(levels, at)).float()
        losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=MASK, reduction="none")
        return (losses.sum(1),)

    return network.in_portions(of_cells, cells.levels, cells.at, cells.targets)[0].sum()
