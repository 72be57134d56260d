"""scGPT's `TransformerGenerator`: perturbed expression from control values and flags of the perturbed genes.

Cui et al. 2024, Methods, "Perturbation response prediction". Modules are named as in the authors' files. There is no
`<cls>`; values are log-normalised expression, not bins; every gene attends to every gene.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.networks import seeded
from harness.recipe import Recipe
from harness.torch_learner import clip_gradients
from models.scgpt.network import Encoder, ExpressionDecoder, GeneEncoder, Network, Sizes, ValueEncoder

#: What is taken from a scGPT network; everything else begins anew.
BACKBONE = ("encoder.", "value_encoder.", "transformer_encoder.")
#: Rows of the flag table: not perturbed (always a zero vector), perturbed, and one that the authors never use.
N_FLAGS = 3


class AffineDecoder(nn.Module):
    """coeff * x + bias, both read off the contextual vector of a gene by decoders of their own."""

    def __init__(self, width: int):
        super().__init__()
        self.coeff_decoder = ExpressionDecoder(width)
        self.bias_decoder = ExpressionDecoder(width)

    def forward(self, tokens: Tensor, values: Tensor) -> Tensor:
        return self.coeff_decoder(tokens) * values + self.bias_decoder(tokens)


class Generator(nn.Module):
    """Predicted expression (n, L) of genes, given their control values and which of them are perturbed.

    Parameters
    ----------
    sizes
        Of the backbone.
    pad
        Token id of `<pad>`, whose vector is not trained.
    """

    def __init__(self, sizes: Sizes, pad: int):
        super().__init__()
        self.encoder = GeneEncoder(sizes.n_tokens, sizes.width)
        self.encoder.embedding.padding_idx = pad
        self.value_encoder = ValueEncoder(sizes.width, sizes.dropout)
        self.pert_encoder = nn.Embedding(N_FLAGS, sizes.width, padding_idx=0)
        self.transformer_encoder = Encoder(sizes)
        self.decoder = AffineDecoder(sizes.width)

    def forward(self, ids: Tensor, values: Tensor, flags: Tensor) -> Tensor:
        """Of token ids (L,), control values (n, L), and flags int64 (n, L), 1 where a gene is perturbed."""
        x = self.encoder(ids) + self.value_encoder(values) + self.pert_encoder(flags)
        return self.decoder(self.transformer_encoder(x, None), values)


def from_network(source: Network, pad: int, seed: int, dropout: float = 0.0) -> Generator:
    """A generator on the backbone of `source`, which is copied; flags and decoder are drawn from `seed`."""
    generator = seeded(lambda: Generator(replace(source.sizes, dropout=dropout), pad), seed)
    state = {key: value for key, value in source.state_dict().items() if key.startswith(BACKBONE)}
    fresh = {key: value for key, value in generator.state_dict().items() if not key.startswith(BACKBONE)}
    generator.load_state_dict({**state, **fresh})
    return generator.eval().requires_grad_(False)


def squared_error(predicted: Tensor, observed: Tensor) -> Tensor:
    """The loss: mean over all cells and genes."""
    return torch.mean((predicted.float() - observed) ** 2)


def training_step(
    generator: Generator,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    cells: tuple[Tensor, Tensor, Tensor, Tensor],
    around: AbstractContextManager[None] | None = None,
) -> float:
    """One optimiser step; the loss before it.

    Parameters
    ----------
    recipe
        How gradients are clipped.
    cells
        Token ids (L,), control values (n, L), flags (n, L), values once perturbed (n, L).
    around
        Autocast of the forward pass.
    """
    ids, before, flags, after = cells
    optimizer.zero_grad(set_to_none=True)
    with around or nullcontext():
        predicted = generator(ids, before, flags)
    loss = squared_error(predicted, after)
    loss.backward()
    clip_gradients([p for group in optimizer.param_groups for p in group["params"]], recipe)
    optimizer.step()
    return float(loss.detach())
