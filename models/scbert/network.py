"""The scBERT network (Yang et al. 2022) in stock PyTorch, its modules named as in the released files.

Every gene of the panel is a token, expressed or not: its level of expression and its gene2vec vector, added. One more
token stands behind them, of level 0 and without a gene. A performer follows; what comes out is read as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.scbert.config import Sizes
from models.scbert.performer import Layer, take

#: Random features of a head, for all cells that are computed together: as many as stay in the cache of a CPU, as many
#: as are kept for a gradient. A cell of the released size has 4.5 million and is always computed alone.
IN_CACHE, FEATURES = 2**18, 2**22


class Positions(nn.Module):
    """A vector per gene of the panel and one of the token behind them: frozen gene2vec, or a table that is trained."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        weight = torch.randn(sizes.n_positions, sizes.width)
        weight[-1] = 0
        self.emb = nn.Module()
        if sizes.learned_positions:
            self.emb.weight = nn.Parameter(weight)
        else:
            self.emb.register_buffer("weight", weight)

    @property
    def weight(self) -> Tensor:
        """The table (N + 1, D)."""
        return self.emb.weight  # type: ignore[return-value]


class AnnotationHead(nn.Module):
    """Logits of cell types from the output at every position; the head of fine-tuned networks."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        assert sizes.head is not None
        first, second, classes = sizes.head
        self.conv1 = nn.Conv2d(1, 1, (1, sizes.width))
        self.fc1 = nn.Linear(sizes.n_positions, first)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, classes)

    def positions(self, x: Tensor) -> Tensor:
        """A number for each position, (n, N + 1): a weighted sum of its vector's numbers."""
        return F.relu(self.conv1(x.unsqueeze(1))).flatten(1)

    def hidden(self, x: Tensor) -> Tensor:
        """The first hidden layer."""
        return F.relu(self.fc1(self.positions(x)))

    def vector(self, x: Tensor) -> Tensor:
        """The second hidden layer, the nearest there is to a learned cell vector."""
        return F.relu(self.fc2(self.hidden(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.vector(x))


class Network(nn.Module):
    """Performer over the panel, and a head: tokens of the genes, or cell types.

    Below, `levels` int64 (n, N + 1) are the tokens of whole panels, the appended 0 included.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.token_emb = nn.Embedding(sizes.tokens, sizes.width)
        self.pos_emb = Positions(sizes)
        layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.depth))
        self.performer = nn.ModuleDict({"net": nn.ModuleDict({"layers": layers})})
        # The authors count training steps here, to draw the features anew every 1000; ours stay.
        self.performer.register_buffer("calls_since_last_redraw", torch.tensor(0))
        self.norm = nn.LayerNorm(sizes.width)
        self.to_out = nn.Linear(sizes.width, sizes.tokens) if sizes.head is None else AnnotationHead(sizes)

    @property
    def layers(self) -> Any:
        """The layers of the performer."""
        return self.performer.get_submodule("net.layers")

    def panel(self, ids: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        """Levels (n, N + 1) of whole panels, of positions (n, L) and their levels: 0 at all others."""
        whole = levels.new_zeros(len(ids), self.sizes.n_positions + 1)
        ids = ids.masked_fill(~mask, self.sizes.n_positions)  # padding goes behind the last position
        return whole.scatter(1, ids, levels)[:, :-1]

    def embed(self, levels: Tensor) -> Tensor:
        """What the performer reads, (n, N + 1, D)."""
        return self.token_emb(levels) + self.pos_emb.weight

    def encode(self, levels: Tensor, at: Tensor | None = None) -> Tensor:
        """Contextual vectors (n, N + 1, D); with `at` int64 (n, K), those of some positions, (n, K, D)."""
        x = self.embed(levels)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x)
        return self.norm(last(x, at))

    def attention_sums(self, levels: Tensor) -> Tensor:
        """How much each position is read, (n, N + 1), mean over layers, heads and reading positions.

        The authors' `attn_sum_save.py`. The attention of a layer is taken of its input after its attention was added to
        that, as there.
        """
        x, shares = self.embed(levels), []
        for number, layer in enumerate(self.layers):
            x = layer.attend(self.layers[number - 1].feed(x) if number else x)
            shares.append(layer.shares(x))
        mean = torch.stack(shares).mean(0)
        return mean / mean.sum(1, keepdim=True)

    def cells(self, levels: Tensor, readout: str) -> Tensor:
        """Cell vectors (n, d), computing no more than the read-out asks for."""
        if readout == "attention":
            return self.attention_sums(levels)
        last = levels.new_full((len(levels), 1), self.sizes.n_genes) if readout == "last-token" else None
        return self.read_out(self.encode(levels, last), levels, readout)

    def read_out(self, x: Tensor, levels: Tensor, readout: str) -> Tensor:
        """Cell vectors (n, d) of contextual vectors (n, N + 1, D); `last-token` needs the last of them only."""
        genes = x[:, :-1]
        if readout == "last-token":
            return x[:, -1]
        if readout == "mean-all":
            return x.mean(1)
        if readout == "max-genes":
            return genes.amax(1)
        if readout == "mean-expressed":
            some = levels[:, :-1, None] > 0
            return (genes * some).sum(1) / some.sum(1).clamp(min=1)
        if readout == "annotation":
            return self.to_out.vector(x)  # type: ignore[operator,union-attr]
        return genes.mean(1)

    def portions(self, n: int) -> Iterator[slice]:
        """Of n cells those that are computed together, at least one."""
        cached = self.norm.weight.device.type == "cpu" and not torch.is_grad_enabled()
        most = IN_CACHE if cached else FEATURES
        step = max(1, most // (self.sizes.n_positions * self.sizes.features))
        return (slice(start, start + step) for start in range(0, n, step))

    def in_portions(self, compute: Callable[..., tuple[Tensor, ...]], *cells: Tensor) -> tuple[Tensor, ...]:
        """`compute` for a few of the cells at a time, its results put together.

        Where there are several portions, what was computed is not kept but computed again for the gradient, so that
        memory does not grow with the panel times the batch.
        """
        parts = [[tensor[rows] for tensor in cells] for rows in self.portions(len(cells[0]))]
        if len(parts) == 1 or not torch.is_grad_enabled():
            found = [compute(*part) for part in parts]
        else:
            found = [checkpoint(compute, *part, use_reentrant=False) for part in parts]
        return tuple(torch.cat(pieces) for pieces in zip(*found, strict=True))


def token_vectors(x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Contextual vectors (n, L, D) of the tokens of a batch, zeros at padding, of those of whole panels."""
    return take(x, ids.masked_fill(~mask, 0)).masked_fill(~mask.unsqueeze(-1), 0.0)
