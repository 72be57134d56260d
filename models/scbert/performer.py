"""The performer of scBERT: attention by random features, linear in the number of genes.

FAVOR+ (Choromanski et al. 2021) over all genes of the panel, modules named as in the released files. The authors
subtract the largest key of the whole batch for stability; together with the 1e-4 that is added to every feature this
makes a cell depend on its companions. Here it is the largest key of the cell: what their code gives for one cell at a
time, as their scripts run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.scbert.config import Sizes

FEATURE_FLOOR = 1e-4
#: Tokens of a cell whose features are computed together.
PIECE = 1024


def key_maximum(maxima: Tensor) -> Tensor:
    """Largest score of each cell (n, 1, 1, 1, 1), of the largest ones of its heads and pieces (n, h, pieces, 1, 1)."""
    return maxima.amax(dim=(1, 2), keepdim=True)


def orthogonal_features(n: int, width: int) -> Tensor:
    """Random directions (n, width), orthogonal in blocks of `width`, of the lengths of Gaussian vectors."""
    blocks = [torch.linalg.qr(torch.randn(width, width))[0].T for _ in range(-(-n // width))]
    return torch.cat(blocks)[:n] * torch.randn(n, width).norm(dim=1, keepdim=True)


def take(x: Tensor, at: Tensor) -> Tensor:
    """Rows `at` (n, K) of x (n, L, d), (n, K, d)."""
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class FastAttention(nn.Module):
    """softmax(q kᵀ / √d) v, approximated: φ(q) (φ(k)ᵀ v) / φ(q) Σ φ(k), φ(x) = exp(P x − |x|² / 2) + 1e-4.

    The features φ are by far the largest thing in the network: 45 million numbers for a cell of the released size. So
    they are made a piece at a time; the maximum they are relative to is put right afterwards, and the 1e-4 is added to
    sums over them. The authors' factor 1/√m stands in numerator and denominator alike, and is left out.
    """

    projection_matrix: Tensor

    def __init__(self, features: int, dim_head: int):
        super().__init__()
        self.register_buffer("projection_matrix", orthogonal_features(features, dim_head))

    def _features(self, x: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """exp(P x − |x|² / 2 − maximum) (n, L, m) of a piece (n, L, d), and the maximum of P x over some axes."""
        x = x * x.shape[-1] ** -0.25
        scores = x @ self.projection_matrix.T
        maximum = scores.amax(dim=over, keepdim=True)
        return (scores - (x.square().sum(-1, keepdim=True) / 2 + maximum)).exp_(), maximum

    def _sums(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """φ(k)ᵀ v (n, h, m, d), divided by exp of the cell's maximum; and the maximum, (n, 1, 1)."""
        parts, maxima = [], []
        for (_, keys), (_, values) in zip(pieces(k), pieces(v), strict=True):
            features, maximum = self._features(keys, (1, 2))
            parts.append(features.transpose(-1, -2) @ values)
            maxima.append(maximum)
        by_head = (k.shape[1], -1)
        largest = torch.stack(maxima, 1).unflatten(1, by_head)
        of_cell = key_maximum(largest)
        sums = (torch.stack(parts, 1).unflatten(1, by_head) * (largest - of_cell).exp()).sum(2)
        return sums + FEATURE_FLOOR * v.sum(-2, keepdim=True), of_cell.flatten(1)[:, :1, None]

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Mixed values (n, h, K, d) for queries (n, h, K, d), keys and values (n, h, L, d)."""
        sums, _ = self._sums(k, F.pad(v, (0, 1), value=1.0))  # the column of ones comes to be the denominator
        mixed = [self._features(queries, (2,))[0] @ sums[:, head] for head, queries in pieces(q)]
        mixed_ = torch.cat(mixed, 1).unflatten(1, q.shape[1:3]) + FEATURE_FLOOR * sums.sum(-2, keepdim=True)
        return mixed_[..., :-1] / mixed_[..., -1:]

    def shares(self, q: Tensor, k: Tensor) -> Tensor:
        """How much each key is read, (n, h, L), mean over the queries: column means of the attention matrix.

        By associativity, without the matrix: the authors build it by giving the identity as values.
        """
        sums, of_cell = self._sums(k, k.new_ones((*k.shape[:-1], 1)))
        weights = [k.new_zeros(())] * k.shape[1]
        for head, queries in pieces(q):
            asking = self._features(queries, (2,))[0] + FEATURE_FLOOR
            weights[head] = weights[head] + (asking / (asking @ sums[:, head])).sum(1).unsqueeze(-1) / q.shape[2]
        found = []
        for head, keys in pieces(k):
            features, maximum = self._features(keys, (1, 2))
            found.append((features * (maximum - of_cell).exp() + FEATURE_FLOOR) @ weights[head])
        return torch.cat(found, 1).unflatten(1, k.shape[1:3]).squeeze(-1)


def pieces(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Head by head, and on a CPU so many tokens at a time that their features stay in its cache: (n, L, d) each."""
    size = PIECE if x.device.type == "cpu" else x.shape[2]
    for head in range(x.shape[1]):
        for part in x[:, head].split(size, dim=1):
            yield head, part


class SelfAttention(nn.Module):
    """Heads around `FastAttention`; together they need not be as wide as a token."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        inner = sizes.heads * sizes.dim_head
        self.heads = sizes.heads
        self.fast_attention = FastAttention(sizes.features, sizes.dim_head)
        self.to_q, self.to_k, self.to_v = (nn.Linear(sizes.width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, sizes.width)

    def _split(self, x: Tensor) -> Tensor:
        # Sums over seventeen thousand keys: in float32 whatever the precision of the rest.
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).float()

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """What tokens `asking` (n, K, D) read of `asked` (n, L, D)."""
        q, k, v = self._split(self.to_q(asking)), self._split(self.to_k(asked)), self._split(self.to_v(asked))
        with torch.autocast(q.device.type, enabled=False):
            mixed = self.fast_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(-2))

    def shares(self, x: Tensor) -> Tensor:
        """How much each token is read, (n, L), mean over queries and heads; adds up to 1."""
        q, k = self._split(self.to_q(x)), self._split(self.to_k(x))
        with torch.autocast(q.device.type, enabled=False):
            return self.fast_attention.shares(q, k).mean(1)


class FeedForward(nn.Module):
    """W2 gelu(W1 x); one level deeper than need be, as the released files have it."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        w1, w2 = nn.Linear(sizes.width, sizes.feed_forward), nn.Linear(sizes.feed_forward, sizes.width)
        self.fn = nn.ModuleDict({"w1": w1, "w2": w2})

    def forward(self, x: Tensor) -> Tensor:
        return self.fn["w2"](F.gelu(self.fn["w1"](x)))


class Normed(nn.Module):
    """A norm and what reads its output."""

    def __init__(self, width: int, fn: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn


class Layer(nn.ModuleList):
    """x + attention(LN(x)), then x + W2 gelu(W1 LN(x)); a list, as in the names of the released files."""

    def __init__(self, sizes: Sizes):
        super().__init__(Normed(sizes.width, part(sizes)) for part in (SelfAttention, FeedForward))

    def attend(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        """The first half, at all tokens (n, L, D), or at some (n, K) of them, which still read all."""
        attention: Any = self[0]
        asked = attention.norm(x)
        if at is None:
            return x + attention.fn(asked, asked)
        return take(x, at) + attention.fn(take(asked, at), asked)

    def feed(self, x: Tensor) -> Tensor:
        """The second half."""
        feed_forward: Any = self[1]
        return x + feed_forward.fn(feed_forward.norm(x))

    def shares(self, x: Tensor) -> Tensor:
        """How much each token of x is read, (n, L)."""
        attention: Any = self[0]
        return attention.fn.shares(attention.norm(x))

    def forward(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        return self.feed(self.attend(x, at))
