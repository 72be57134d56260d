"""CellFM's pretraining objective: hide expression values and predict them, from the gene and from the cell.

Mean squared errors of log-normalised values (paper, equations 10 to 12), over all counted genes of the batch
together, as in the authors' code, and not cell by cell, as in the paper's formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.draws import CellDraws

if TYPE_CHECKING:
    from harness.tokens import TokenBatch
    from models.cellfm.torch_network import CellFMNetwork


def draw_masks(batch: TokenBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which values are visible, and which genes count in the loss; both bool (n, L), on the CPU.

    A fifth of a cell's genes count; of these four fifths are hidden and the others keep their value. In a cell
    of fewer than five genes all count and none is hidden.

    Parameters
    ----------
    batch
        Numpy arrays or tensors; its mask is True where a gene is expressed.
    generator
        What is drawn from; see `harness.draws.CellDraws`.
    """
    mask = torch.as_tensor(batch.mask, dtype=torch.bool).cpu()
    score = CellDraws(batch, generator).tokens()
    rank = score.masked_fill(~mask, 2.0).argsort(dim=1).argsort(dim=1)
    counted = mask.sum(1, keepdim=True) // 5
    hidden = counted * 4 // 5
    return mask & (rank >= hidden), mask & ((rank < counted) | (counted == 0))


def masked_losses(
    network: CellFMNetwork,
    ids: Tensor,
    values: Tensor,
    mask: Tensor,
    visible: Tensor,
    counted: Tensor,
    *,
    targets: Tensor | None = None,
    pad_zero: bool = True,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Term -> (sum of squared errors, number of counted genes), for given masks.

    Parameters
    ----------
    ids, values, mask, visible, pad_zero
        As for `CellFMNetwork.encode`.
    counted
        bool (n, L), the genes in the loss.
    targets
        float32 (n, L), what is predicted; by default the values, hidden ones included. (The authors' fine-tuning
        gives the network values of a down-sampled cell.)

    Returns
    -------
    Terms `gene` and, with `loss_cls`, `cell`; with the `add_zero` heads and `pad_zero` False also `zero_gene` and
    `zero_cell`, the cross entropies of "is it expressed". Their sums run over every position of the batch, as the
    authors' do, while their counts are those of the counted genes.
    """
    cell, genes = network.encode(ids, values, mask, visible, pad_zero=pad_zero)
    targets = values if targets is None else targets
    return prediction_losses(network, cell, genes, ids, mask, counted, targets, pad_zero=pad_zero)


def prediction_losses(
    network: CellFMNetwork,
    cell: Tensor,
    genes: Tensor,
    ids: Tensor,
    mask: Tensor,
    counted: Tensor,
    targets: Tensor,
    *,
    pad_zero: bool,
) -> dict[str, tuple[Tensor, Tensor]]:
    """The terms of `masked_losses` from encoded cells: `cell` (n, d) and `genes` (n, L, d)."""
    weight = counted.float()
    decoded, names = network.decode(cell, genes, ids), ("gene", "cell")  # one of them without loss_cls
    terms = {
        name: (((predicted.float() - targets).square() * weight).sum(), weight.sum())
        for name, predicted in zip(names, decoded, strict=False)
    }
    if network.config.add_zero and not pad_zero:
        chances, names = network.decode_expressed(cell, genes, ids), ("zero_gene", "zero_cell")
        for name, chance in zip(names, chances, strict=False):
            entropy = torch.nn.functional.binary_cross_entropy(chance.float(), mask.float(), reduction="sum")
            terms[name] = (entropy, weight.sum())
    return terms
