"""The UCE network (Rosen et al. 2023) in stock PyTorch, its modules named as in the released files.

A token is the protein embedding of a gene (or a fixed random vector of a chromosome), L2-normalised, mapped to
the model's width and given a position; post-norm encoder layers follow, and a decoder at every position.

The authors add 1 to the attention logits of padding where they mean to exclude it, so that their embedding of
a cell depends on how far its batch is padded. Here padding is excluded: the numbers are theirs for a cell alone.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.uce.config import Sizes


class TokenTable(nn.Module):
    """A vector per token: frozen ESM2 embeddings, or a table that is trained."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        weight = torch.randn(sizes.rows, sizes.token_dim)
        if sizes.learned_table:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of token ids, as stored."""
        return F.embedding(ids, self.weight)


class Positions(nn.Module):
    """Sinusoidal code of the place in a sentence."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        place = torch.arange(sizes.positions).unsqueeze(1)
        rate = torch.exp(torch.arange(0, sizes.width, 2) * (-math.log(10000.0) / sizes.width))
        code = torch.zeros(sizes.positions, 1, sizes.width)
        code[:, 0, 0::2] = torch.sin(place * rate)
        code[:, 0, 1::2] = torch.cos(place * rate)[:, : sizes.width // 2]
        self.register_buffer("pe", code)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[: x.shape[1], 0]


class SelfAttention(nn.Module):
    """Multi-head attention; rows of `in_proj` are [q; k; v], heads contiguous inside each."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.in_proj = nn.Linear(sizes.width, 3 * sizes.width)
        self.out_proj = nn.Linear(sizes.width, sizes.width)
        self.heads, self.dropout = sizes.heads, sizes.dropout

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.in_proj(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).reshape(n, length, width))


class EncoderLayer(nn.Module):
    """Post-norm: a = LN1(x + Attn(x)), then LN2(a + W2 relu(W1 a))."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.self_attn = SelfAttention(sizes)
        self.linear1 = nn.Linear(sizes.width, sizes.feed_forward)
        self.linear2 = nn.Linear(sizes.feed_forward, sizes.width)
        self.norm1 = nn.LayerNorm(sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, mask)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class Encoder(nn.Module):
    """The stack of layers; no norm after it."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


def _projection(sizes: Sizes) -> nn.Sequential:
    """Protein embedding -> width: linear, GELU, norm."""
    return nn.Sequential(nn.Linear(sizes.token_dim, sizes.width), nn.GELU(), nn.LayerNorm(sizes.width))


def _decoder(width: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Blocks of linear, norm, GELU, dropout, and a last linear map."""
    blocks = [
        nn.Sequential(nn.Linear(before, after), nn.LayerNorm(after), nn.GELU(), nn.Dropout(dropout))
        for before, after in pairwise((width, *widths[:-1]))
    ]
    return nn.Sequential(*blocks, nn.Linear(widths[-2], widths[-1]))


class Network(nn.Module):
    """The pretrained model, its two decoders, and the token table."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.pe_embedding = TokenTable(sizes)
        self.encoder = _projection(sizes)
        self.pos_encoder = Positions(sizes)
        self.dropout = nn.Dropout(sizes.dropout)
        self.transformer_encoder = Encoder(sizes)
        self.decoder = _decoder(sizes.width, sizes.decoder, sizes.dropout)
        self.gene_embedding_layer = _projection(sizes)
        self.binary_decoder = _decoder(sizes.decoder[-1] + sizes.width, sizes.binary_decoder, sizes.dropout)

    def proteins(self, ids: Tensor) -> Tensor:
        """L2-normalised vectors of the token table."""
        return F.normalize(self.pe_embedding(ids), dim=-1)

    def embed(self, ids: Tensor) -> Tensor:
        """What the transformer reads, (n, L, width)."""
        # A gene stands in many cells, and several times in one: each is projected once.
        distinct, which = torch.unique(ids, return_inverse=True)
        projected = self.encoder(self.proteins(distinct)) * math.sqrt(self.sizes.width)
        return self.dropout(self.pos_encoder(F.embedding(which, projected)))

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Output of the transformer, (n, L, width); what stands at padding means nothing."""
        allowed = None if bool(mask.all()) else _with_a_key(mask)[:, None, None, :]
        return self.transformer_encoder(self.embed(ids), allowed)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Contextual vectors (n, L, d), the decoder's output at every token; zeros where `mask` is false."""
        return self.decoder(self.encode(ids, mask)).masked_fill(~mask.unsqueeze(-1), 0.0)

    def expression_logits(self, cells: Tensor, proteins: Tensor) -> Tensor:
        """Logit that a gene is expressed in a cell, (n, q), of cell vectors (n, d) and proteins (n, q, token_dim)."""
        genes = self.gene_embedding_layer(proteins)
        cells = cells.unsqueeze(1).expand(-1, genes.shape[1], -1)
        return self.binary_decoder(torch.cat([cells, genes.to(cells.dtype)], dim=-1)).squeeze(-1)


def _with_a_key(mask: Tensor) -> Tensor:
    """`mask`, but rows without a real token get one, so that their softmax is defined."""
    first = torch.zeros_like(mask)
    first[:, :1] = True
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def read_out(tokens: Tensor, genes: Tensor, mask: Tensor, readout: str) -> Tensor:
    """Cell vectors (n, d) of contextual vectors (n, L, d) with zeros where `mask` is false.

    `cls`: the first token, L2-normalised; `cls-raw`: before the norm; `mean`: over the tokens that `genes` marks,
    a gene as often as it was drawn. Rows without a real token are NaN.
    """
    tokens = tokens.float()
    if readout == "mean":
        genes = genes.unsqueeze(-1)
        cell = (tokens * genes).sum(dim=1) / genes.sum(dim=1)
    else:
        cell = tokens[:, 0]
    if readout == "cls":
        cell = F.normalize(cell, dim=1)
    return cell.masked_fill(~mask.any(dim=1, keepdim=True), float("nan"))
