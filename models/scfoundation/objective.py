"""scFoundation's pretraining objective: read-depth-aware masked regression (Hao et al. 2024, Methods).

There is no public training code. Counts are down-sampled, values hidden, and the network is asked for the values the
cell had before; T tells it the depth to recover, S the depth it is given. What is assumed stands in README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from harness.draws import CellDraws
from harness.tokens import TokenBatch
from models.scfoundation.network import Network
from models.scfoundation.tokenizer import SCALE

#: Cells of more counts than this are down-sampled, each with this chance.
MIN_COUNTS, DOWN_SAMPLED = 1000, 0.5
#: Shares of the expressed and of the other genes that are hidden: `value_mask_prob`, `zero_mask_prob` of the config.
HIDDEN, HIDDEN_ZEROS = 0.3, 0.03


@dataclass(frozen=True)
class MaskedCells:
    """What the network is shown, and what it should find.

    Parameters
    ----------
    ids, values, mask
        (n, L), tokens of the encoder: genes that are not hidden, T, S.
    hidden
        bool (n, P), positions whose value is predicted; P is genes, T, S.
    targets
        float32 (n, P), the values; read where `hidden`.
    """

    ids: Tensor
    values: Tensor
    mask: Tensor
    hidden: Tensor
    targets: Tensor

    def to(self, device: Any) -> Self:
        """The same on `device`."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))

    def __getitem__(self, rows: slice) -> Self:
        """Some of the cells."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw(batch: TokenBatch, n_genes: int, config: Mapping[str, Any], generator: torch.Generator) -> MaskedCells:
    """Down-sample and hide at random, by `harness.draws.CellDraws`.

    Parameters
    ----------
    batch
        Tokens of raw counts of single cells, as tensors on the CPU. T is not read.
    config
        The flat config of the network: its masking shares.
    """
    draws = CellDraws(batch, generator)
    ids, mask = batch.gene_ids, batch.mask
    n, genes = len(ids), mask & (ids < n_genes)
    raw_totals = (10 ** (batch.values * (mask & (ids == n_genes + 1))).sum(1, keepdim=True)).round()
    counts = (batch.values.expm1() * raw_totals / SCALE).round() * genes

    # The middle one of three uniform numbers is Beta(2, 2) distributed.
    rate = draws.cells(3).median(dim=1, keepdim=True).values
    fewer = draws.binomial(counts, rate)
    chosen = (draws.cells(1) < DOWN_SAMPLED) & (raw_totals > MIN_COUNTS) & (fewer.sum(1, keepdim=True) > 1)
    counts = torch.where(chosen, fewer, counts)
    totals = counts.sum(1, keepdim=True)
    values = torch.log1p(counts / totals.clamp(min=1) * SCALE)
    values = torch.where(ids == n_genes, raw_totals.log10(), torch.where(ids == n_genes + 1, totals.log10(), values))

    # Dense over the vocabulary, one column more for the padding.
    ids = ids.masked_fill(~mask, n_genes + 2)
    empty = batch.values.new_zeros(n, n_genes + 3)
    expressed = empty.scatter(1, ids, counts) > 0
    targets = empty.scatter(1, ids, batch.values)[:, :-1]
    share = torch.where(expressed, config.get("value_mask_prob", HIDDEN), config.get("zero_mask_prob", HIDDEN_ZEROS))
    hidden = (draws.cells(n_genes + 3) < share) & mask.any(1, keepdim=True)
    hidden[:, n_genes:] = False

    shown = mask & (~genes | (counts > 0)) & ~hidden.gather(1, ids)
    width = int(shown.sum(1).max())
    order = (~shown).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    return MaskedCells(ids.gather(1, order), values.gather(1, order), shown.gather(1, order), hidden[:, :-1], targets)


def predict(network: Network, cells: MaskedCells) -> Tensor:
    """Predicted value (n, P) of every position."""
    encoded = network.encode(cells.ids, cells.values, cells.mask)
    decoded = network.decode(encoded, cells.ids, cells.mask, cells.hidden)
    return network.to_final(decoded).squeeze(-1).float()


def squared_errors(network: Network, cells: MaskedCells) -> Tensor:
    """Sum of squared errors at the hidden positions.

    A few cells at a time; where there are several portions, what the decoder computed is not kept but computed
    again for the gradient, so that memory does not grow with the vocabulary times the batch.
    """

    def errors(portion: MaskedCells) -> Tensor:
        found = predict(network, portion)
        return ((found - portion.targets).square() * portion.hidden).sum()

    portions = [cells[rows] for rows in network.portions(len(cells.ids))]
    if len(portions) == 1:
        return errors(portions[0])
    return torch.stack([checkpoint(errors, part, use_reentrant=False) for part in portions]).sum()
