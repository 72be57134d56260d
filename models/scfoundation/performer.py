"""The performer decoder of scFoundation: attention by random features, linear in the number of tokens.

FAVOR+ (Choromanski et al. 2021) over all genes of a cell at once, modules named as in the released files. The
authors subtract the largest key of the whole batch for stability; together with the 1e-4 that is added to every
feature this makes a cell depend on its companions. Here it is the largest key of the cell, which is what their code
gives for one cell at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.scfoundation.config import Stack

FEATURE_FLOOR = 1e-4


def key_maximum(scores: Tensor) -> Tensor:
    """Largest score (n, 1, 1, 1) of each cell over heads, tokens and features (n, h, L, m)."""
    return scores.amax(dim=(1, 2, 3), keepdim=True)


def orthogonal_features(n: int, width: int) -> Tensor:
    """Random directions (n, width), orthogonal in blocks of `width`, of the lengths of Gaussian vectors."""
    blocks = [torch.linalg.qr(torch.randn(width, width))[0].T for _ in range(-(-n // width))]
    return torch.cat(blocks)[:n] * torch.randn(n, width).norm(dim=1, keepdim=True)


class FastAttention(nn.Module):
    """softmax(q kᵀ / √d) v, approximated: φ(q) (φ(k)ᵀ v) / φ(q) Σ φ(k), φ(x) = exp(P x − |x|² / 2)."""

    projection_matrix: Tensor

    def __init__(self, features: int, dim_head: int):
        super().__init__()
        self.register_buffer("projection_matrix", orthogonal_features(features, dim_head))

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x * x.shape[-1] ** -0.25
        return x @ self.projection_matrix.T, x.square().sum(-1, keepdim=True) / 2

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores, half = self._scores(q)
        q = torch.exp(scores - half - scores.amax(-1, keepdim=True)) + FEATURE_FLOOR
        scores, half = self._scores(k)
        k = torch.exp(scores - half - key_maximum(scores)) + FEATURE_FLOOR
        # The factor 1/√m of both features cancels.
        return (q @ (k.transpose(-1, -2) @ v)) / (q @ k.sum(-2).unsqueeze(-1))


class PerformerAttention(nn.Module):
    """Heads around `FastAttention`; together they need not be as wide as a token."""

    def __init__(self, stack: Stack):
        super().__init__()
        inner = stack.heads * stack.dim_head
        self.heads = stack.heads
        self.fast_attention = FastAttention(stack.features, stack.dim_head)
        self.to_q, self.to_k, self.to_v = (nn.Linear(stack.width, inner) for _ in range(3))
        self.to_out = nn.Linear(inner, stack.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        # Sums over twenty thousand keys: in float32 whatever the precision of the rest.
        with torch.autocast(x.device.type, enabled=False):
            mixed = self.fast_attention(q.float(), k.float(), v.float())
        return self.to_out(mixed.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """W2 gelu(W1 x); one level deeper than need be, as the released files have it."""

    def __init__(self, width: int):
        super().__init__()
        self.fn = nn.ModuleDict({"w1": nn.Linear(width, 4 * width), "w2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        return self.fn["w2"](F.gelu(self.fn["w1"](x)))


class Residual(nn.Module):
    """x + f(LN(x))."""

    def __init__(self, width: int, fn: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(self.norm(x))


class Performer(nn.Module):
    """The stack of layers, nested as in the released files; no mask, no order."""

    def __init__(self, stack: Stack):
        super().__init__()
        layers = nn.ModuleList(
            nn.ModuleList(
                [Residual(stack.width, PerformerAttention(stack)), Residual(stack.width, FeedForward(stack.width))]
            )
            for _ in range(stack.depth)
        )
        self.performer = nn.ModuleDict({"net": nn.ModuleDict({"layers": layers})})
        # The authors count training steps here, to draw the features anew every 1000; ours stay.
        self.performer.register_buffer("calls_since_last_redraw", torch.tensor(0))
        self.norm = nn.LayerNorm(stack.width)

    def forward(self, x: Tensor) -> Tensor:
        for attention, feed_forward in self.performer["net"]["layers"]:
            x = feed_forward(attention(x))
        return self.norm(x)
