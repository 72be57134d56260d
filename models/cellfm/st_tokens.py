"""CellFM with library sizes (`FinetuneModel`, the authors' fine-tuning of the 80M weights, without labels).

Two tokens stand between CLS and the genes: S, for the counts a cell was down-sampled to, and T, for the counts it has.
The network reads the values of the down-sampled cell and predicts those of the whole one. Only the 80M file holds
weights for these tokens; the embedding does not read them, and neither does `CellFMNetwork`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.checkpoints import load_state
from harness.errors import InputError
from harness.networks import empty
from models.cellfm import release
from models.cellfm.objective import prediction_losses
from models.cellfm.torch_network import CellFMNetwork, ScalarEncoder


def size_features(sampled: Tensor, total: Tensor) -> Tensor:
    """What S and T encode: log1p of thousands of counts, float32 (n, 2), from the counts (n,) of each."""
    return torch.log1p(torch.stack([sampled, total], -1).float() / 1000)


class SizeTokens(nn.Module):
    """The tokens S and T; parameters carry the names of the MindSpore file."""

    def __init__(self, width: int, bins: int):
        super().__init__()
        self.ST_emb = nn.Parameter(torch.zeros(1, 2, width))
        self.ST_enc = ScalarEncoder(width, bins)

    @classmethod
    def from_checkpoint(cls, path: Path, variant: str | None = None) -> Self:
        """Out of the weights that `CellFM.from_checkpoint` reads for the same arguments.

        Raises
        ------
        InputError
            The weights hold no such tokens, or the file is missing or damaged.
        """
        weights = release.find_weights(Path(path), variant)
        state = {k: v for k, v in release.read_weights(weights).items() if k.startswith(("ST_emb", "ST_enc."))}
        if not {"ST_emb", "ST_enc.w1.weight"} <= set(state):
            raise InputError(
                f"{weights} holds no ST tokens (ST_emb, ST_enc.*); of the released weights only the 80M do"
            )
        tokens = empty(lambda: cls(state["ST_emb"].shape[-1], len(state["ST_enc.w1.weight"])))
        load_state(tokens, state, weights)
        return tokens.requires_grad_(False).eval()

    def forward(self, features: Tensor) -> Tensor:
        """Tokens (n, 2, d) from `size_features` (n, 2)."""
        return self.ST_emb + self.ST_enc(features)


def with_zero_heads(network: CellFMNetwork, generator: torch.Generator) -> CellFMNetwork:
    """A copy with fresh `add_zero` heads, which the authors' fine-tuning trains and the released weights lack."""
    copy = CellFMNetwork.allocate(replace(network.config, add_zero=True)).initialise(generator)
    copy.load_state_dict(copy.state_dict() | network.state_dict())
    return copy


def encode(
    network: CellFMNetwork,
    tokens: SizeTokens,
    features: Tensor,
    ids: Tensor,
    values: Tensor,
    mask: Tensor,
    visible: Tensor,
    *,
    pad_zero: bool,
) -> tuple[Tensor, Tensor]:
    """`CellFMNetwork.encode` with S and T in the sequence, always read; `features` as from `size_features`."""
    return network.encode(ids, values, mask, visible, pad_zero=pad_zero, special=tokens(features))


def finetune_losses(
    network: CellFMNetwork,
    tokens: SizeTokens,
    features: Tensor,
    ids: Tensor,
    values: Tensor,
    mask: Tensor,
    visible: Tensor,
    counted: Tensor,
    targets: Tensor,
    *,
    pad_zero: bool,
    ecs: float | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Term -> (sum of errors, count), as `models.cellfm.objective.masked_losses` gives them.

    In eval mode the original returns the term `cell` alone, as its mean.

    Parameters
    ----------
    values, targets
        float32 (n, L): of the down-sampled cell, and of the whole one.
    ecs
        A similarity from 0 to 1 (0.8 in the authors' tutorial): adds the term `ecs`, see `similarity_loss`.
    """
    cell, genes = encode(network, tokens, features, ids, values, mask, visible, pad_zero=pad_zero)
    terms = prediction_losses(network, cell, genes, ids, mask, counted, targets, pad_zero=pad_zero)
    if ecs is not None:
        loss = similarity_loss(network.cellwise_dec(cell, network.static(ids)), ecs)
        terms["ecs"] = (loss, torch.ones_like(loss))
    return terms


def similarity_loss(predicted: Tensor, threshold: float) -> Tensor:
    """Mean of 1 - (relu(cos) - threshold)² over the pairs of cells, as in the authors' code.

    Cosines are between the cells' predicted values (n, L), not their vectors, and depend on the companions in the
    batch; a cell with itself counts as cosine 0.
    """
    rows = F.normalize(predicted.float(), dim=1)
    cosines = torch.relu(rows @ rows.T) * (1 - torch.eye(len(rows), device=rows.device))
    return (1 - (cosines - threshold) ** 2).mean()
