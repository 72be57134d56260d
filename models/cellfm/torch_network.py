"""CellFM's network in PyTorch (Zeng et al., Nat Commun 2025, doi 10.1038/s41467-025-59926-5, Methods).

A token is a gene's embedding plus an encoding of its value; a CLS token leads. Layers are ERetNet: linear
attention without decay, a gated bilinear unit, DeepNorm (`layers.py`). Parameters carry the names of the MindSpore
files, so a state dict is the content of a checkpoint.

Padding is never computed: it could only be read as a key, and every path below gives it no weight there.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks import empty
from models.cellfm.config import CellFMConfig
from models.cellfm.layers import LAYERS, LayerNorm

LEAKY_SLOPE = 0.2  # MindSpore's default, not torch's


class ScalarEncoder(nn.Module):
    """A scalar to a vector: a soft choice among `bins` learned ones."""

    def __init__(self, width: int, bins: int):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1, 1))
        self.w1 = nn.Linear(1, bins, bias=False)
        self.w3 = nn.Linear(bins, bins, bias=False)
        self.table = nn.Linear(bins, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Counts are small whole numbers: a batch holds few distinct values, and each is encoded once.
        distinct, which = torch.unique(x, return_inverse=True)
        h = F.leaky_relu(self.w1(distinct[:, None]), LEAKY_SLOPE)
        return F.embedding(which, self.table(torch.softmax(self.w3(h) + self.a * h, dim=-1)))


class ValueEncoder(nn.Module):
    """Expression values to vectors; a hidden value reads `mask_emb`."""

    def __init__(self, width: int, bins: int):
        super().__init__()
        self.mask_emb = nn.Parameter(torch.zeros(1, 1, width))
        self.value_enc = ScalarEncoder(width, bins)

    def forward(self, values: Tensor, visible: Tensor | None = None) -> Tensor:
        encoded = self.value_enc(values)
        return encoded if visible is None else torch.where(visible[..., None], encoded, self.mask_emb)


class ValueDecoder(nn.Module):
    """Gene-wise head: a contextual vector to the gene's value, and whether it is expressed."""

    def __init__(self, width: int, add_zero: bool):
        super().__init__()
        self.w1 = nn.Linear(width, width, bias=False)
        self.w2 = nn.Linear(width, 1, bias=False)
        if add_zero:
            self.zero_logit = nn.Sequential(
                nn.Linear(width, width),
                nn.LeakyReLU(LEAKY_SLOPE),
                nn.Linear(width, width),
                nn.LeakyReLU(LEAKY_SLOPE),
                nn.Linear(width, 1),
            )

    def forward(self, genes: Tensor) -> Tensor:
        return self.w2(F.leaky_relu(self.w1(genes), LEAKY_SLOPE)).squeeze(-1)

    def expressed(self, genes: Tensor) -> Tensor:
        return torch.sigmoid(self.zero_logit(genes)).squeeze(-1)


class CellwiseDecoder(nn.Module):
    """Cell-wise head: the same from the cell vector and the genes' static embeddings."""

    def __init__(self, width: int, add_zero: bool):
        super().__init__()
        self.map = nn.Linear(width, width, bias=False)
        if add_zero:
            self.zero_logit = nn.Linear(width, width)

    def forward(self, cell: Tensor, static: Tensor) -> Tensor:
        return _dot(torch.sigmoid(self.map(static)), cell)

    def expressed(self, cell: Tensor, static: Tensor) -> Tensor:
        return torch.sigmoid(_dot(self.zero_logit(static), cell))


def _dot(genes: Tensor, cell: Tensor) -> Tensor:
    return (genes @ cell[:, :, None].to(genes.dtype)).squeeze(-1)


class CellFMNetwork(nn.Module):
    """The whole network, and the ways it is run.

    Below, `ids` int64 (n, L) are gene ids, `values` float32 (n, L) log-normalised expression, `mask` bool
    (n, L) is True where a gene is expressed and False in padding. Vectors come back as (n, d) for the cell and
    (n, L, d) for the genes; what stands at padding means nothing.
    """

    def __init__(self, config: CellFMConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.gene_emb = nn.Parameter(torch.zeros(config.rows, width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        # Read only where sequences are filled with unexpressed genes; a buffer, since nothing here trains that.
        self.register_buffer("zero_emb", torch.zeros(1, 1, width))
        self.value_enc = ValueEncoder(width, config.value_bins)
        self.encoder = nn.ModuleList(LAYERS[config.norm](config, index) for index in range(config.layers))
        if config.norm == "prenorm":
            self.final_norm = LayerNorm(width)
        self.value_dec = ValueDecoder(width, config.add_zero)
        if config.loss_cls:
            self.cellwise_dec = CellwiseDecoder(width, config.add_zero)

    @classmethod
    def allocate(cls, config: CellFMConfig) -> Self:
        """A network whose tensors are not yet set: load a state or call `initialise`."""
        return empty(lambda: cls(config)).requires_grad_(False).eval()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> Self:
        """Fresh parameters by the official initialisers, drawn from `generator` alone."""
        depth_gain = (8 * self.config.layers) ** -0.25
        for name, tensor in self.state_dict().items():
            kind = name.split(".")[-2] if "." in name else name
            if name in ("gene_emb", "cls_token"):
                nn.init.xavier_normal_(tensor, 0.5, generator)
            elif kind in ("q_proj", "k_proj"):
                nn.init.xavier_normal_(tensor, 1.0, generator)
            elif kind in ("v_proj", "u_proj", "o_proj", "up_proj", "down_proj"):
                nn.init.xavier_normal_(tensor, depth_gain, generator)
            elif name.endswith(".weight"):
                bound = 1 / math.sqrt(tensor.shape[1])
                nn.init.uniform_(tensor, -bound, bound, generator)
            else:
                nn.init.constant_(tensor, 1.0 if name.endswith(".gamma") else 0.0)
        self.gene_emb[0] = 0
        return self

    # -- parts ----------------------------------------------------------------------------------------

    def static(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.gene_emb)

    def tokens(self, ids: Tensor, values: Tensor) -> Tensor:
        """What enters the first layer where nothing is hidden, (n, 1 + L, d): CLS, then the genes."""
        return self._with_cls(self.static(ids) + self.value_enc(values))

    def _with_cls(self, *others: Tensor) -> Tensor:
        return torch.cat([self.cls_token.expand(len(others[0]), 1, -1), *others], 1)

    def _run(self, x: Tensor, first: Tensor | None, second: Tensor | None) -> Tensor:
        """All layers; `first` weighs the keys of the first half of them, `second` those of the rest."""
        for index, layer in enumerate(self.encoder):
            x = layer(x, first if index < self.config.layers // 2 else second)
        return self._finish(x)

    def _finish(self, x: Tensor) -> Tensor:
        return self.final_norm(x) if self.config.norm == "prenorm" else x

    # -- ways to run it -------------------------------------------------------------------------------

    def embed(self, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The official embedding (`Backbone`): every layer reads the expressed genes and CLS.

        With a mask of ones and a fixed panel, zeros included, this is also the encoder of the authors'
        chemical-perturbation model.
        """
        keys = _cls_and(mask)
        x = self._run(self.tokens(ids, values), keys, keys)
        return x[:, 0], x[:, 1:]

    def embed_cls(self, ids: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """The cell vectors of `embed` alone: only CLS goes all the way through the last layer."""
        keys = _cls_and(mask)
        x = self.tokens(ids, values)
        *others, last = self.encoder
        for layer in others:
            x = layer(x, keys)
        return self._finish(last(x[:, :1], keys, x))[:, 0]

    def layer_inputs(self, ids: Tensor, values: Tensor, mask: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """What goes into a layer on the way of `embed`, (n, 1 + L, d), CLS first; and the key weights (n, 1 + L)."""
        x, keys = self.tokens(ids, values), _cls_and(mask)
        for previous in self.encoder[:layer]:
            x = previous(x, keys)
        return x, keys

    def encode(
        self,
        ids: Tensor,
        values: Tensor,
        mask: Tensor,
        visible: Tensor,
        *,
        pad_zero: bool = True,
        special: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The pretraining path (`CellFM.encode`): the first half of the layers does not read hidden genes.

        Parameters
        ----------
        visible
            bool (n, L), False where the value is hidden.
        pad_zero
            False: positions outside `mask` with an id hold genes of zero expression and take part.
        special
            (n, k, d), further tokens between CLS and the genes (`st_tokens.py`), always read.
        """
        value = self.value_enc(values, visible)
        present = mask
        if not pad_zero:
            present = ids > 0
            value = torch.where((visible & ~mask)[..., None], self.zero_emb, value)
        genes = self.static(ids) + value
        x = self._with_cls(genes) if special is None else self._with_cls(special, genes)
        first = x.shape[1] - ids.shape[1]
        x = self._run(x, _cls_and(visible & present, first), _cls_and(present, first))
        return x[:, 0], x[:, first:]

    def encode_padded(self, ids: Tensor, values: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """What `CellFM.encode` gives for plain values padded to `length`, where padding leaks into a cell.

        There the first half of the layers reads padding too. All padding tokens of a cell are equal (zero at
        first), so one of them is computed and counts as many times as it occurs.
        """
        genes = (self.static(ids) + self.value_enc(values)) * mask[..., None]
        x = self._with_cls(F.pad(genes, (0, 0, 0, 1)))
        keys = _cls_and(mask)
        padding = (length - mask.sum(1, keepdim=True)).to(keys.dtype)
        x = self._run(x, torch.cat([keys, padding], 1), F.pad(keys, (0, 1)))
        return x[:, 0], x[:, 1:-1]

    def contextual_genes(self, ids: Tensor, values: Tensor) -> Tensor:
        """Gene vectors for GEARS (`get_gene_emb.py`): a fixed panel, zeros included, no CLS, no mask."""
        return self._run(self.static(ids) + self.value_enc(values), None, None)

    def decode(self, cell: Tensor, genes: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        """Predicted log-normalised values (n, L), from the gene vectors and, with `loss_cls`, from the cell vector."""
        by_gene = self.value_dec(genes)
        return (by_gene, self.cellwise_dec(cell, self.static(ids))) if self.config.loss_cls else (by_gene,)

    def decode_expressed(self, cell: Tensor, genes: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        """Predicted probabilities (n, L) that a gene is expressed, likewise; needs the `add_zero` heads."""
        by_gene = self.value_dec.expressed(genes)
        return (by_gene, self.cellwise_dec.expressed(cell, self.static(ids))) if self.config.loss_cls else (by_gene,)


def _cls_and(mask: Tensor, first: int = 1) -> Tensor:
    """Key weights float32 (n, first + L): what stands before the genes, CLS first of all, is always read."""
    return F.pad(mask.float(), (first, 0), value=1.0)
