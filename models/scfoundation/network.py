"""The scFoundation network (Hao et al. 2024; xTrimoGene, Gong et al. 2023) in stock PyTorch.

An asymmetric autoencoder: the encoder reads the expressed genes of a cell and two depth tokens, the decoder all
genes. A cell vector comes from the encoder alone. Modules are named as in the released files, but for the
attention's `in_proj` (see `models.scfoundation.release`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.scfoundation.config import Sizes, Stack
from models.scfoundation.performer import Performer

LEAKY_SLOPE = 0.1
DROPOUT = 0.1
#: Positions the decoder reads at a time. A cell of the released size has 19,266 of about 35 kB each.
DECODER_POSITIONS = 32_768


class ValueEncoder(nn.Module):
    """A value to a vector: a soft choice among learned ones ("auto-discretization")."""

    def __init__(self, bins: int, alpha: float, width: int):
        super().__init__()
        self.alpha = alpha
        self.mlp = nn.Linear(1, bins)
        self.mlp2 = nn.Linear(bins, bins)
        self.emb = nn.Embedding(bins, width)
        #: Stands for a value that is to be predicted. (The authors mark it, and padding, by a value: 102 and 103.)
        self.emb_mask = nn.Embedding(1, width)
        # Padding is masked out of everything, so this is kept for the file and never read.
        self.emb_pad = nn.Module()
        self.emb_pad.register_buffer("weight", torch.zeros(1, width))

    def shares(self, values: Tensor) -> Tensor:
        """Weight of each bin (..., B) for values (...)."""
        h = F.leaky_relu(self.mlp(values.unsqueeze(-1)), LEAKY_SLOPE)
        return torch.softmax(self.alpha * h + self.mlp2(h), dim=-1)

    def forward(self, values: Tensor) -> Tensor:
        # A value between bins is lost in bfloat16; this part is cheap.
        with torch.autocast(values.device.type, enabled=False):
            return self.shares(values.float()) @ self.emb.weight


class SelfAttention(nn.Module):
    """Multi-head attention; rows of `in_proj` are [q; k; v], heads contiguous inside each."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        q, k, v = self.in_proj(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = DROPOUT if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class Layer(nn.Module):
    """Post-norm: a = LN1(x + Attn(x)), then LN2(a + W2 relu(W1 a))."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.self_attn = SelfAttention(stack.width, stack.heads)
        self.linear1 = nn.Linear(stack.width, 4 * stack.width)
        self.linear2 = nn.Linear(4 * stack.width, stack.width)
        self.norm1 = nn.LayerNorm(stack.width)
        self.norm2 = nn.LayerNorm(stack.width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, allowed)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class Transformer(nn.Module):
    """The stack of layers and the norm after it."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.transformer_encoder = nn.ModuleList(Layer(stack) for _ in range(stack.depth))
        self.norm = nn.LayerNorm(stack.width)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        for layer in self.transformer_encoder:
            x = layer(x, allowed)
        return self.norm(x)


class Network(nn.Module):
    """One of the sub-models of `models.ckpt`."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        width = sizes.encoder.width
        self.token_emb = ValueEncoder(sizes.bins, sizes.bin_alpha, width)
        #: Rows: genes, T, S, padding.
        self.pos_emb = nn.Embedding(sizes.n_positions + 1, width)
        self.encoder = Transformer(sizes.encoder)
        self.decoder_embed = nn.Linear(width, sizes.decoder.width)
        self.decoder = (Performer if sizes.decoder.kind == "performer" else Transformer)(sizes.decoder)
        self.norm = nn.LayerNorm(sizes.decoder.width)
        self.to_final = nn.Linear(sizes.decoder.width, 1)

    def encode(self, ids: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Contextual vectors (n, L, E) of tokens, their values and the mask of real ones; zeros elsewhere."""
        ids = ids.masked_fill(~mask, self.sizes.n_positions)
        x = self.token_emb(values) + self.pos_emb(ids)
        x = self.encoder(x, None if bool(mask.all()) else _with_a_key(mask)[:, None, None, :])
        return x.masked_fill(~mask.unsqueeze(-1), 0.0)

    def decode(self, encoded: Tensor, ids: Tensor, mask: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Contextual vectors (n, P, D) of all positions: genes, T, S.

        Genes the encoder read bring its vectors; all others have the value zero, or the mask vector. Every
        position gets its `pos_emb`, so those the encoder read have it twice (official).

        Parameters
        ----------
        encoded, ids, mask
            Output and tokens of `encode`.
        hidden
            bool (n, P), positions whose value is to be predicted.
        """
        positions = self.pos_emb.weight[:-1]
        # One vector per position for all cells: what it is where a cell has no count.
        x = self.decoder_embed(self.token_emb(encoded.new_zeros(1)) + positions).expand(len(ids), -1, -1)
        if hidden is not None:
            x = torch.where(hidden.unsqueeze(-1), self.decoder_embed(self.token_emb.emb_mask.weight + positions), x)
        ids = ids.masked_fill(~mask, self.sizes.n_positions)
        read = self.decoder_embed(encoded + self.pos_emb(ids)).to(x.dtype)
        # Padding is put behind the last position, and cut off with it.
        x = F.pad(x, (0, 0, 0, 1)).scatter(1, ids.unsqueeze(-1).expand_as(read), read)[:, :-1]
        return self.norm(self.decoder(x))

    def decode_at(self, encoded: Tensor, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """`decode` at some positions (n, K) of each cell only, (n, K, D), a few cells at a time."""
        parts = []
        for rows in self.portions(len(ids)):
            decoded = self.decode(encoded[rows], ids[rows], mask[rows])
            where = positions[rows].unsqueeze(-1).expand(-1, -1, decoded.shape[-1])
            parts.append(decoded.gather(1, where))
        return torch.cat(parts)

    def portions(self, n: int) -> Iterator[slice]:
        """Cells the decoder reads together: at most `DECODER_POSITIONS` positions, at least one cell."""
        step = max(1, DECODER_POSITIONS // self.sizes.n_positions)
        return (slice(start, start + step) for start in range(0, n, step))


def _with_a_key(mask: Tensor) -> Tensor:
    """`mask`, but rows without a real token get one, so that their softmax is defined."""
    first = torch.zeros_like(mask)
    first[:, :1] = True
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def read_out(tokens: Tensor, ids: Tensor, mask: Tensor, n_genes: int, readout: str) -> Tensor:
    """Cell vectors of contextual vectors (n, L, E).

    `all`: [S, T, largest of the genes, mean of the genes], (n, 4E); `max`: largest of all tokens, T and S
    included, (n, E). Rows without T, S or a gene are NaN.
    """
    tokens = tokens.float()
    genes = mask & (ids < n_genes)
    target, source = mask & (ids == n_genes), mask & (ids == n_genes + 1)

    def largest(where: Tensor) -> Tensor:
        return tokens.masked_fill(~where.unsqueeze(-1), float("-inf")).amax(dim=1)

    def mean(where: Tensor) -> Tensor:
        where = where.unsqueeze(-1)
        return (tokens * where).sum(dim=1) / where.sum(dim=1)

    parts = [largest(mask)] if readout == "max" else [mean(source), mean(target), largest(genes), mean(genes)]
    whole = genes.any(1) & target.any(1) & source.any(1)
    return torch.cat(parts, dim=1).masked_fill(~whole.unsqueeze(-1), float("nan"))
