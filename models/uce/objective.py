"""UCE's pretraining objective: tell from the cell vector which genes are expressed in a cell.

A fifth of the expressed genes is hidden from the sentence. The cell vector and the protein of a gene then go
through the binary decoder; as many expressed genes (hidden ones among them) as unexpressed ones are asked about
(Rosen et al. 2023, Methods). The authors published the decoder, not the training code: README.md says what is
reconstructed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.draws import CellDraws
from harness.tokens import TokenBatch
from models.uce.genome import N_SPECIAL, PAD
from models.uce.network import Network

#: Share of the expressed genes that the network does not see.
HIDDEN = 0.2


def hide(batch: TokenBatch, chromosome_offset: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences (n, L) without a random fifth of their genes, and their masks.

    All repeats of a gene go together, a chromosome of which nothing is left goes too, and what remains moves up.

    Parameters
    ----------
    batch
        Tensors.
    chromosome_offset
        First token of the chromosomes.
    """
    ids, mask = batch.gene_ids, batch.mask
    draws = CellDraws(batch, generator).tokens().to(ids.device)
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    # Repeats of a gene are adjacent: the first of them draws for all.
    repeats = torch.zeros_like(mask)
    repeats[:, 1:] = ids[:, 1:] == ids[:, :-1]
    draws = draws.gather(1, place.masked_fill(repeats, 0).cummax(dim=1).values)
    genes = mask & (ids >= N_SPECIAL) & (ids < chromosome_offset)
    shown = genes & (draws >= HIDDEN)
    chromosome = (ids >= chromosome_offset).long().cumsum(dim=1)  # 0: CLS, which stays
    left = torch.zeros(len(ids), ids.shape[1] + 1, device=ids.device, dtype=torch.long)
    left = left.scatter_add(1, chromosome, shown.long()).gather(1, chromosome)
    kept = mask & torch.where(genes, shown, (chromosome == 0) | (left > 0))
    order = (~kept).long().argsort(dim=1, stable=True)
    width = int(kept.sum(dim=1).max())
    kept = kept.gather(1, order)[:, :width]
    return ids.gather(1, order)[:, :width].masked_fill(~kept, PAD), kept


def losses(network: Network, ids: Tensor, mask: Tensor, questions: Tensor, labels: Tensor) -> Tensor:
    """Summed binary cross entropy of questions (n, q), tokens of genes (padding: no question).

    Parameters
    ----------
    ids, mask
        Sentences.
    labels
        Whether each gene is expressed, (n, q) or (q,).
    """
    hidden = network.encode(ids, mask)
    cells = F.normalize(network.decoder(hidden[:, :1]).squeeze(1).float(), dim=1)
    logits = network.expression_logits(cells, network.proteins(questions)).float()
    asked = questions != PAD
    each = F.binary_cross_entropy_with_logits(logits, labels.to(logits).expand_as(logits), reduction="none")
    return each[asked].sum()
