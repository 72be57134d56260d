"""The scGPT network (Cui et al. 2024) in stock PyTorch, its modules named as in the released files.

Gene and binned value are embedded apart and added; post-norm encoder layers without positions follow, so
that a cell is a set of genes. Dropout is off in eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Values above this are cut before they are embedded.
MAX_VALUE = 512.0


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network; `flag` says whether it has the pretraining flag embedding."""

    n_tokens: int
    width: int
    heads: int
    feed_forward: int
    layers: int
    dropout: float = 0.0
    flag: bool = True


class GeneEncoder(nn.Module):
    """LN(embedding[id]), which is also the static gene embedding."""

    def __init__(self, n_tokens: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width)
        self.enc_norm = nn.LayerNorm(width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(ids))


class ValueEncoder(nn.Module):
    """LN(W2 relu(W1 v + b1) + b2) of the bin v as a real number; the -2 of `<cls>` goes the same way."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        hidden = F.relu(self.linear1(values.unsqueeze(-1).clamp(max=MAX_VALUE)))
        return self.dropout(self.norm(self.linear2(hidden)))


class SelfAttention(nn.Module):
    """Multi-head attention; rows of `Wqkv` are [q; k; v], heads contiguous inside each."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.Wqkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Tensor, allowed: Tensor | None, projected: int | None = None) -> Tensor:
        """Attend where `allowed` (bool, broadcast to (n, heads, L, L)) is true.

        Only the first `projected` positions pass `out_proj`: the pretraining code leaves generated ones out.
        """
        n, length, width = x.shape
        q, k, v = self.Wqkv(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, dropout_p=self.dropout if self.training else 0.0
        )
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        if projected is None:
            return self.out_proj(mixed)
        perceived = self.out_proj(mixed[:, :projected])
        return torch.cat([perceived, mixed[:, projected:].to(perceived.dtype)], dim=1)


class EncoderLayer(nn.Module):
    """Post-norm: a = LN1(x + Attn(x)), then LN2(a + W2 relu(W1 a))."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.self_attn = SelfAttention(sizes.width, sizes.heads, sizes.dropout)
        self.linear1 = nn.Linear(sizes.width, sizes.feed_forward)
        self.linear2 = nn.Linear(sizes.feed_forward, sizes.width)
        self.norm1 = nn.LayerNorm(sizes.width)
        self.norm2 = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, allowed: Tensor | None, projected: int | None = None) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x, allowed, projected)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class Encoder(nn.Module):
    """The stack of layers; no norm after it."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor, allowed: Tensor | None, projected: int | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, allowed, projected)
        return x


class ExpressionDecoder(nn.Module):
    """Bin predicted from the contextual vector of a gene."""

    def __init__(self, width: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(tokens).squeeze(-1)


class CellDecoder(nn.Module):
    """Bin of a gene predicted from the cell vector ("mvc"): (W q) . cell, q = sigmoid(gene2query(gene))."""

    def __init__(self, width: int):
        super().__init__()
        self.gene2query = nn.Linear(width, width)
        self.W = nn.Linear(width, width, bias=False)

    def forward(self, cell: Tensor, genes: Tensor) -> Tensor:
        query = torch.sigmoid(self.gene2query(genes))
        return (self.W(query) @ cell.unsqueeze(-1)).squeeze(-1)


class Network(nn.Module):
    """The pretrained model: backbone, its two decoders and the flag of generated genes."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.encoder = GeneEncoder(sizes.n_tokens, sizes.width)
        # Files saved by the authors' main branch lack it; only pretraining reads it.
        self.flag_encoder = nn.Embedding(2, sizes.width) if sizes.flag else None
        self.value_encoder = ValueEncoder(sizes.width, sizes.dropout)
        self.transformer_encoder = Encoder(sizes)
        self.decoder = ExpressionDecoder(sizes.width)
        self.mvc_decoder = CellDecoder(sizes.width)

    def forward(self, ids: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Contextual vectors (n, L, d) of gene ids, bins and the mask of real tokens; zeros elsewhere."""
        allowed = None if bool(mask.all()) else _with_a_key(mask)[:, None, None, :]
        tokens = self.transformer_encoder(self.encoder(ids) + self.value_encoder(values), allowed)
        return tokens.masked_fill(~mask.unsqueeze(-1), 0.0)

    def generate(
        self,
        ids: Tensor,
        values: Tensor,
        mask: Tensor,
        generated_ids: Tensor,
        cell: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Contextual vectors of perceived genes (n, P, d) and of those to be generated (n, G, d).

        Perceived tokens attend to perceived ones; a generated token to those and to itself.

        Parameters
        ----------
        ids, values, mask
            Perceived tokens, `<cls>` first.
        generated_ids
            Genes whose value is to be generated.
        cell
            (n, d): takes the place of the embedded `<cls>` token.
        """
        perceived = self.encoder(ids) + self.value_encoder(values)
        if cell is not None:
            perceived = torch.cat([cell.to(perceived.dtype).unsqueeze(1), perceived[:, 1:]], dim=1)
        flag = self.flag_encoder(torch.ones_like(generated_ids))
        x = torch.cat([perceived, (self.encoder(generated_ids) + flag).to(perceived.dtype)], dim=1)
        n, n_perceived, n_generated = len(ids), ids.shape[1], generated_ids.shape[1]
        length = n_perceived + n_generated
        itself = torch.eye(length, dtype=torch.bool, device=ids.device)
        itself[:n_perceived] = False
        allowed = itself.expand(n, length, length).clone()
        allowed[:, :, :n_perceived] |= _with_a_key(mask)[:, None, :]
        x = self.transformer_encoder(x, allowed[:, None], projected=n_perceived)
        return x[:, :n_perceived], x[:, n_perceived:]


def _with_a_key(mask: Tensor) -> Tensor:
    """`mask`, but rows without a real token get one, so that their softmax is defined."""
    first = torch.zeros_like(mask)
    first[:, :1] = True
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def read_out(tokens: Tensor, values: Tensor, mask: Tensor, readout: str) -> Tensor:
    """Cell vectors (n, d) of contextual vectors (n, L, d) with zeros where `mask` is false.

    `cls`: the first token, L2-normalised; `cls-raw`: before the norm; `avg-pool`: mean over the real tokens;
    `w-pool`: sum weighted by the values (`<cls>` weighs -2), L2-normalised. Rows without a real token are
    NaN.
    """
    tokens = tokens.float()
    if readout in ("cls", "cls-raw"):
        cell = tokens[:, 0]
    elif readout == "avg-pool":
        cell = tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    else:
        cell = (tokens * values.unsqueeze(-1)).sum(dim=1)
    if readout in ("cls", "w-pool"):
        cell = F.normalize(cell, dim=1)
    return cell.masked_fill(~mask.any(dim=1, keepdim=True), float("nan"))
