"""CellFM's layers (paper, Methods): retention, gated bilinear unit, DeepNorm; and what each can be exchanged for.

Parameters carry the names of the MindSpore files (`gamma`, `beta`, `[out, in]` matrices without bias).

The alternatives are those of the paper's ablations: a plain feed-forward network, pre-norm residuals, softmax
attention. Neither the released code nor the weights hold them, so their details are ours, and each class says
which. They are for networks from scratch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.cellfm.config import CellFMConfig

NORM_EPS = 1e-7  # MindSpore's default, not torch's
RMS_FLOOR = 1e-12


class LayerNorm(nn.Module):
    """Layer norm with the names and the epsilon of MindSpore."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, NORM_EPS)


def lowered(x: Tensor) -> Tensor:
    """`x` in the precision of autocast, where it is on: cast once, and not again by each projection."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class Retention(nn.Module):
    """Linear attention: relu(Q) (relu(K)ᵀ V) per head, RMS-normalised, gated by silu(U).

    The original also divides Q and K by √dh and V by √n. The norm has no epsilon and cancels both exactly, so
    they are left out.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "u_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, keys: Tensor | None, source: Tensor | None = None) -> Tensor:
        """What the positions of `x` read, (n, S, d).

        Parameters
        ----------
        x
            (n, S, d), the positions that read.
        keys
            (n, T), how many times each position of `source` is read; None: once.
        source
            (n, T, d), the positions that are read; None: those of `x`.
        """
        x = lowered(x)
        source = x if source is None else lowered(source)
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        o = self.normalise(self.mix(q, k, v, keys))
        return self.o_proj(o.transpose(1, 2).flatten(-2) * F.silu(self.u_proj(x)))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """Σⱼ score(i, j) vⱼ of every head, (n, heads, S, dh), without ever having the scores."""
        q, k = torch.relu(q), torch.relu(k)
        if keys is not None:
            k = k * keys[:, None, :, None].to(k.dtype)
        return q @ (k.transpose(-1, -2) @ v)

    def normalise(self, o: Tensor) -> Tensor:
        """Divide by the root mean square over a head's width."""
        # The clamp comes before the root: a head that reads nothing has o = 0 and must keep a finite gradient.
        return o * o.float().square().mean(-1, keepdim=True).clamp(min=RMS_FLOOR**2).rsqrt().to(o.dtype)

    def scores(self, x: Tensor, keys: Tensor, source: Tensor) -> Tensor:
        """relu(qᵢ)·relu(kⱼ), the weight of vⱼ in what i reads before the norm; (n, heads, S, T), at padding 0."""
        q, k = torch.relu(self._split(self.q_proj(x))), torch.relu(self._split(self.k_proj(source)))
        return (q @ k.transpose(-1, -2)) * keys[:, None, None, :]


class SoftmaxAttention(Retention):
    """`attention=softmax`: scaled dot products and a softmax over the keys; gate and projections as before.

    Our assumptions: the gate by silu(U) stays, so that the parameters are the same; the RMS norm goes, since the
    weights already sum to one. A position read m times counts m times in the softmax.
    """

    def mix(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None) -> Tensor:
        """See `Retention.mix`."""
        bias = None if keys is None else keys.log()[:, None, None, :].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def normalise(self, o: Tensor) -> Tensor:
        """Nothing to do."""
        return o

    def scores(self, x: Tensor, keys: Tensor, source: Tensor) -> Tensor:
        """The softmax weights, (n, heads, S, T); at padding 0."""
        q, k = self._split(self.q_proj(x)), self._split(self.k_proj(source))
        logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return torch.softmax(logits + keys.log()[:, None, None, :], -1)


class GatedBilinear(nn.Module):
    """Feed-forward without activation (SGLU): the product of two projections, projected."""

    def __init__(self, width: int):
        super().__init__()
        for name in ("u_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = lowered(x)
        return self.o_proj(self.u_proj(x) * self.v_proj(x))


class FeedForward(nn.Module):
    """`ffn=ffn`: two layers with a GELU between.

    Our assumptions: the hidden layer is 1.5 times as wide as the cell vector, so that there are as many parameters
    as in the gated unit, and there is no bias.
    """

    def __init__(self, width: int):
        super().__init__()
        self.up_proj = nn.Linear(width, 3 * width // 2, bias=False)
        self.down_proj = nn.Linear(3 * width // 2, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x)))


class DeepNormLayer(nn.Module):
    """Post-norm residual branches, the residual scaled by alpha = (2 · layers)^¼."""

    def __init__(self, config: CellFMConfig, index: int):
        super().__init__()
        self.alpha = (2 * config.layers) ** 0.25
        self.dropout = config.dropout * index / config.layers
        self.attn = ATTENTIONS[config.attention](config.width, config.heads)
        self.ffn = FEED_FORWARDS[config.ffn](config.width)
        self.post_norm1 = LayerNorm(config.width)
        self.post_norm2 = LayerNorm(config.width)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def attended(self, x: Tensor) -> Tensor:
        """What the attention is given of the layer's input."""
        return x

    def forward(self, x: Tensor, keys: Tensor | None, source: Tensor | None = None) -> Tensor:
        """The layer's output at the positions `x`, which read `source` (None: each other); see `Retention`."""
        x = self.post_norm1(torch.add(self._drop(self.attn(x, keys, source)), x, alpha=self.alpha))
        return self.post_norm2(torch.add(self._drop(self.ffn(x)), x, alpha=self.alpha))


class PreNormLayer(nn.Module):
    """`norm=prenorm`: x + f(LN(x)), as in today's transformers; the network ends with one more norm.

    Our assumption: initialisers and dropout stay as they are.
    """

    def __init__(self, config: CellFMConfig, index: int):
        super().__init__()
        self.dropout = config.dropout * index / config.layers
        self.attn = ATTENTIONS[config.attention](config.width, config.heads)
        self.ffn = FEED_FORWARDS[config.ffn](config.width)
        # Names of their own: weights of the one kind cannot be read as the other.
        self.pre_norm1 = LayerNorm(config.width)
        self.pre_norm2 = LayerNorm(config.width)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def attended(self, x: Tensor) -> Tensor:
        """What the attention is given of the layer's input."""
        return self.pre_norm1(x)

    def forward(self, x: Tensor, keys: Tensor | None, source: Tensor | None = None) -> Tensor:
        """See `DeepNormLayer.forward`."""
        source = None if source is None else self.pre_norm1(source)
        x = x + self._drop(self.attn(self.pre_norm1(x), keys, source))
        return x + self._drop(self.ffn(self.pre_norm2(x)))


ATTENTIONS = {"linear": Retention, "softmax": SoftmaxAttention}
FEED_FORWARDS = {"sglu": GatedBilinear, "ffn": FeedForward}
LAYERS = {"deepnorm": DeepNormLayer, "prenorm": PreNormLayer}
