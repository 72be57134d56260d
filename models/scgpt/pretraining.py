"""scGPT's pretraining objective: generate the values of some genes of a cell from the others.

One pass predicts them from each generated gene's own vector (GEP) and from the cell vector (GEPC); a second
one predicts them again with the cell vector in the place of `<cls>` (Cui et al. 2024, Methods; branch
`dev-temp` of the authors' code). The authors start the second pass after 1000 iterations; here it is always
on, so that the loss is a function of weights and batch alone and a short budget trains it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from harness.draws import CellDraws
from harness.tokens import TokenBatch
from models.scgpt.network import Network
from models.scgpt.tokenizer import SpecialTokens


@dataclass(frozen=True)
class Division:
    """Cells divided into perceived tokens (n, P), `<cls>` first, and generated genes (n, G).

    `*_values` are bins; those of the generated genes are the targets.
    """

    perceived_ids: Tensor
    perceived_values: Tensor
    perceived_mask: Tensor
    generated_ids: Tensor
    generated_values: Tensor
    generated_mask: Tensor


@dataclass(frozen=True)
class Predictions:
    """Bins (n, G) predicted at the generated genes, by the three terms of the loss."""

    gep: Tensor
    gepc: Tensor
    generative: Tensor


#: Terms of the loss.
TERMS = tuple(field.name for field in fields(Predictions))


def divide(batch: TokenBatch, special: SpecialTokens, ratios: Sequence[float], generator: torch.Generator) -> Division:
    """Draw one ratio for the batch, and int(ratio * genes) random genes of every cell to be generated.

    Parameters
    ----------
    batch
        Tensors; position 0 holds `<cls>`.
    """
    ids = batch.gene_ids
    choice = torch.randint(len(ratios), (1,), generator=generator, device=generator.device)
    keys = CellDraws(batch, generator).tokens().to(ids.device)
    genes = batch.mask.clone()
    genes[:, :1] = False
    n_genes = genes.sum(dim=1, keepdim=True)
    n_generated = (n_genes.double() * float(ratios[int(choice)])).long()
    n_perceived = n_genes - n_generated
    order = keys.masked_fill(~genes, 2.0).argsort(dim=1)

    def pick(places: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            ids.gather(1, places).masked_fill(~mask, special.pad),
            batch.values.gather(1, places).masked_fill(~mask, special.pad_value),
            mask,
        )

    step = torch.arange(int(n_generated.max()), device=ids.device).expand(len(ids), -1)
    generated = pick(order.gather(1, step), step < n_generated)
    step = torch.arange(int(n_perceived.max()), device=ids.device).expand(len(ids), -1)
    places = order.gather(1, (n_generated + step).clamp(max=ids.shape[1] - 1))
    first = torch.zeros_like(ids[:, :1])
    perceived = pick(torch.cat([first, places], dim=1), torch.cat([first == 0, step < n_perceived], dim=1))
    return Division(*perceived, *generated)


def predict(network: Network, division: Division) -> Predictions:
    """Both passes over a division."""
    perceived = division.perceived_ids, division.perceived_values, division.perceived_mask
    seen, generated = network.generate(*perceived, division.generated_ids)
    cell = seen[:, 0]
    _, again = network.generate(*perceived, division.generated_ids, cell=cell.detach())
    return Predictions(
        gep=network.decoder(generated),
        gepc=network.mvc_decoder(cell, network.encoder(division.generated_ids)),
        generative=network.decoder(again),
    )


def squared_errors(predictions: Predictions, division: Division) -> dict[str, Tensor]:
    """Squared errors at the generated genes: term -> sum."""
    mask = division.generated_mask
    return {
        name: ((predicted.float() - division.generated_values)[mask] ** 2).sum()
        for name, predicted in vars(predictions).items()
    }
