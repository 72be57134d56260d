"""CellFM's head for cell types (`Net` of the authors' annotation tutorials): classes that ask the cell's genes.

CLS and one learned vector per class go through two layers of retention, first among themselves, then reading the
gene vectors. What a class vector has become is its logit.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks import empty
from models.cellfm.layers import GatedBilinear, LayerNorm, Retention

LAYERS = 2
DROPOUT = 0.1


class CrossRetention(nn.Module):
    """Retention among the classes, from the genes, and a gated bilinear unit; each x + f(x), normalised after."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.attn1 = Retention(width, heads)
        self.attn2 = Retention(width, heads)
        self.ffn = GatedBilinear(width)
        for name in ("post_norm1", "post_norm2", "post_norm3"):
            setattr(self, name, LayerNorm(width))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def asking(self, x: Tensor) -> Tensor:
        """What is about to read the genes."""
        return self.post_norm1(x + self._drop(self.attn1(x, None)))

    def forward(self, x: Tensor, genes: Tensor, keys: Tensor) -> Tensor:
        x = self.asking(x)
        x = self.post_norm2(x + self._drop(self.attn2(x, keys, genes)))
        return self.post_norm3(x + self._drop(self.ffn(x)))


class AnnotationHead(nn.Module):
    """Logits of cell types from a cell's vector and its genes' vectors.

    Below, `cell` (n, d) is the CLS vector, `tokens` (n, L, d) the contextual gene vectors, `mask` bool (n, L) True
    where a gene is expressed. Parameters carry the authors' names.

    Parameters
    ----------
    width, heads
        As in the network.
    classes
        Number of cell types.
    """

    def __init__(self, width: int, heads: int, classes: int, dropout: float = DROPOUT):
        super().__init__()
        self.cluster_emb = nn.Parameter(torch.empty(classes, width))
        self.query_layer = nn.ModuleList(CrossRetention(width, heads, dropout) for _ in range(LAYERS))
        self.classifier = nn.Linear(width, 1, bias=False)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> Self:
        """Fresh parameters, drawn from `generator` alone, by the initialisers of the network's like parts.

        The authors' own are known for those parts only; of the head we assume them.
        """
        gain = (8 * LAYERS) ** -0.25
        for name, tensor in self.state_dict().items():
            kind = name.split(".")[-2] if "." in name else name
            if name == "cluster_emb":
                nn.init.xavier_normal_(tensor, 0.5, generator)
            elif kind in ("q_proj", "k_proj"):
                nn.init.xavier_normal_(tensor, 1.0, generator)
            elif kind.endswith("_proj"):
                nn.init.xavier_normal_(tensor, gain, generator)
            elif name.endswith(".weight"):
                nn.init.uniform_(tensor, -(tensor.shape[1] ** -0.5), tensor.shape[1] ** -0.5, generator)
            else:
                nn.init.constant_(tensor, 1.0 if name.endswith(".gamma") else 0.0)
        return self

    def _classes(self, cell: Tensor) -> Tensor:
        return torch.cat([cell[:, None], self.cluster_emb.expand(len(cell), -1, -1).to(cell.dtype)], 1)

    def logits(self, cell: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """By the class vectors, which predict, and by the cell's vector, which only trains; (n, classes) each."""
        x, keys = self._classes(cell), mask.float()
        for layer in self.query_layer:
            x = layer(x, tokens, keys)
        return self.classifier(x[:, 1:]).squeeze(-1), x[:, 0] @ self.cluster_emb.T.to(x.dtype)

    def forward(self, cell: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, classes) of the prediction."""
        return self.logits(cell, tokens, mask)[0]

    def loss(self, cell: Tensor, tokens: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """The sum of both mean cross entropies; `labels` int64 (n,)."""
        by_gene, by_cell = self.logits(cell, tokens, mask)
        return F.cross_entropy(by_gene.float(), labels) + F.cross_entropy(by_cell.float(), labels)

    def cell_scores(self, cell: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """relu(q)·relu(k) of CLS with each gene where the last layer reads the genes, (n, heads, L); at padding 0.

        What the authors' lncRNA tutorial ranks genes by: see `models.cellfm.attention`.
        """
        x, keys = self._classes(cell), mask.float()
        *others, last = self.query_layer
        for layer in others:
            x = layer(x, tokens, keys)
        return last.attn2.scores(last.asking(x)[:, :1], keys, tokens)[:, :, 0]


def annotation_head(width: int, heads: int, classes: int, generator: torch.Generator) -> AnnotationHead:
    """A fresh head, to be trained, on the CPU."""
    return empty(lambda: AnnotationHead(width, heads, classes)).initialise(generator)
