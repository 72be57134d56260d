"""Geneformer's pretraining objective: predict 15 % of the genes of a cell from the others.

Theodoris et al. 2023, Methods; the masking of BERT (Devlin et al. 2019) as the Hugging Face collator draws it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.draws import CellDraws
from harness.tokens import TokenBatch
from models.geneformer.network import MaskedGeneModel

SELECTED = 0.15
#: Of the selected positions these are shown as `<mask>`, and this share of the rest as a random token.
MASKED, RANDOM = 0.8, 0.5
IGNORED = -100


def draw_masks(
    batch: TokenBatch, *, pad: int, mask_token: int, vocab_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Corrupted ids and labels, both int64 (n, L); labels are -100 where nothing is predicted. Tensors on the CPU.

    Each real position is selected with probability 0.15; of these 80 % become `<mask>`, 10 % a token drawn from
    the whole vocabulary, 10 % stay. As with the authors' collator only `<pad>` and `<mask>` are never selected:
    `<cls>` and `<eos>` can be, and a random token can be a special one.
    """
    draws = CellDraws(batch, generator)
    ids, mask = batch.gene_ids, batch.mask
    selected = (draws.tokens() < SELECTED) & mask & (ids != pad) & (ids != mask_token)
    masked = (draws.tokens() < MASKED) & selected
    swapped = (draws.tokens() < RANDOM) & selected & ~masked
    other = (draws.tokens().double() * vocab_size).long()
    shown = ids.masked_fill(masked, mask_token)
    return torch.where(swapped, other, shown), ids.masked_fill(~selected, IGNORED)


def masked_gene_loss(network: MaskedGeneModel, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy of the positions with a label; logits are computed nowhere else."""
    predicted = labels != IGNORED
    logits = network.logits(network(ids, mask)[predicted])
    return F.cross_entropy(logits.float(), labels[predicted], reduction="sum")
