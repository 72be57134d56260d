"""Who reads whom: CellFM's attention scores, gene to gene and CLS to gene.

Linear attention never has its scores, but they can be had: what position i reads in a head, before the RMS norm, is
Σⱼ sᵢⱼ vⱼ with sᵢⱼ = relu(qᵢ)·relu(kⱼ). These sᵢⱼ are the raw scores, at least zero. The norm that follows rescales a
row as a whole and takes its scale away, so that only the proportions within a row mean something: the shares, which
sum to one over everything that i reads, CLS included. With `attention=softmax` both are the softmax weights.

Scores belong to the embedding path, where every layer reads CLS and the expressed genes. Padding gets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.tokens import TokenBatch, TypeScores

if TYPE_CHECKING:
    from torch import Tensor

    from models.cellfm.adapter import CellFM
    from models.cellfm.annotation_head import AnnotationHead

#: Scores computed at a time where types of cells are summed up.
BATCH_TOKENS = 16_384
#: Genes whose scores of everything in a cell are held at a time.
READERS = 32
TINY = 1e-30


@dataclass(frozen=True)
class AttentionScores:
    """Scores of some cells in one layer.

    Parameters
    ----------
    gene_to_gene
        float32 (n, heads, G, G): how much the gene of the row reads the gene of the column.
    cls_to_gene
        float32 (n, heads, G): how much the cell reads a gene.
    genes
        Unicode names of the G genes: (G,) where they were asked for, then NaN stands where a cell does not express
        one; else (n, G), those of the batch in its order, then "" and 0 stand at padding.
    """

    gene_to_gene: np.ndarray
    cls_to_gene: np.ndarray
    genes: np.ndarray


def attention(
    model: CellFM, batch: TokenBatch, layer: int = -1, *, genes: Sequence[str] | None = None, share: bool = False
) -> AttentionScores:
    """Scores of a batch in one layer, head by head.

    All genes of a cell against all are heads · L² numbers (48 heads, 2,048 genes: 0.8 GB a cell); `genes` restricts
    both sides, while a share stays one of everything that is read.

    Parameters
    ----------
    layer
        0 is the first, -1 the last.
    genes
        Names, as in the vocabulary.
    share
        Divide by the sum of the row: shares instead of raw scores. A row of zeros stays one.

    Raises
    ------
    InputError
        There is no such layer, or the vocabulary has no such gene.
    """
    import torch

    batch = batch.tensors(model.device)
    ids, names = batch.gene_ids, model.token_names
    if genes is None:
        at = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        there, called = batch.mask, np.where(batch.mask.cpu().numpy(), names[ids.cpu().numpy()], "")
    else:
        wanted = torch.as_tensor(_ids_of(model, genes), device=ids.device)
        matches = (ids[:, None] == wanted[:, None]) & batch.mask[:, None]
        there, at = matches.any(-1), matches.int().argmax(-1) if ids.shape[1] else matches.any(-1).long()
        called = np.asarray(list(genes), np.str_)
    with torch.inference_mode():
        x, keys, read = _layer(model, batch, layer)
        rows = torch.cat([at.new_zeros(len(at), 1), at + 1], 1)
        asking = x.gather(1, rows[..., None].expand(-1, -1, x.shape[-1]))
        scores = read(asking, keys, x)
        if share:
            scores = scores / scores.sum(-1, keepdim=True).clamp(min=TINY)
        columns = rows[:, None, None, 1:].expand(-1, scores.shape[1], scores.shape[2], -1)
        scores = scores.gather(-1, columns)
        absent = 0.0 if genes is None else torch.nan
        scores = scores.masked_fill(~there[:, None, None, :], absent)
        between = scores[:, :, 1:].masked_fill(~there[:, None, :, None], absent)
    return AttentionScores(between.float().cpu().numpy(), scores[:, :, 0].float().cpu().numpy(), called)


def cls_attention(model: CellFM, batch: TokenBatch, layer: int = -1) -> np.ndarray:
    """Share of each gene in what CLS reads in a layer, mean over the heads; float32 (n, L), 0 at padding."""
    import torch

    with torch.inference_mode():
        x, keys, read = _layer(model, batch.tensors(model.device), layer)
        scores = read(x[:, :1], keys, x)[:, :, 0]
        shares = scores / scores.sum(-1, keepdim=True).clamp(min=TINY)
    return shares[:, :, 1:].mean(1).float().cpu().numpy()


def gene_attention(model: CellFM, batch: TokenBatch, gene: str, layer: int = -1) -> np.ndarray:
    """Share of one gene in what each gene of a cell reads in a layer, mean over the heads; float32 (n, L).

    NaN at padding, and in cells that do not have the gene. What `attention` gives with `share=True` in the gene's
    column, without holding the scores of all genes against all.

    Raises
    ------
    InputError
        There is no such layer, or the vocabulary has no such gene.
    """
    import torch

    batch = batch.tensors(model.device)
    here = (batch.gene_ids == int(_ids_of(model, [gene])[0])) & batch.mask
    parts = []
    with torch.inference_mode():
        x, keys, read = _layer(model, batch, layer)
        column = here.int().argmax(-1)[:, None, None, None] + 1
        for start in range(1, x.shape[1], READERS):
            scores = read(x[:, start : start + READERS], keys, x)
            of_gene = scores.gather(-1, column.expand(-1, *scores.shape[1:3], 1))[..., 0]
            parts.append((of_gene / scores.sum(-1).clamp(min=TINY)).mean(1))
        shares = torch.cat(parts, 1).masked_fill(~(batch.mask & here.any(-1, keepdim=True)), torch.nan)
    return shares.float().cpu().numpy()


def head_attention(model: CellFM, head: AnnotationHead, batch: TokenBatch) -> np.ndarray:
    """Ranks of the genes by what CLS reads in the annotation head (the authors' lncRNA tutorial); float32 (n, L).

    Scores of the last layer's second retention, CLS row; within a head their ranks, divided by the number of genes a
    cell can have (2,048), so that the gene that is read most has 1; mean over the heads. Padding, which the original
    ranks lowest, has 0 here. Equal scores share their mean rank.
    """
    import torch
    from scipy.stats import rankdata

    batch = batch.tensors(model.device)
    with torch.inference_mode():
        cell, tokens = _network(model).embed(batch.gene_ids, batch.values, batch.mask)
        scores = head.cell_scores(cell, tokens, batch.mask).float().cpu().numpy()
    mask, most = batch.mask.cpu().numpy(), model.config.max_genes
    ranks = rankdata(np.where(mask[:, None], scores, -1.0), axis=-1) + (most - mask.shape[1])
    return np.where(mask, ranks.mean(1) / most, 0).astype(np.float32)


def attention_by_type(
    model: CellFM,
    adata: Any,
    types: Sequence[str],
    *,
    layer: int = -1,
    head: AnnotationHead | None = None,
    read: str | None = None,
    seed: int = 0,
) -> TypeScores:
    """What CLS reads, averaged over the cells of each type: `cls_attention`, or `head_attention` with a head.

    Parameters
    ----------
    adata
        AnnData with raw counts, or `CellData`.
    types
        Type of each cell.
    read
        A gene of the vocabulary: how much the other genes read this one (`gene_attention`), in cells that have it.

    Raises
    ------
    InputError
        Not one type per cell, or the vocabulary has no such gene.
    """
    from harness.data import CellData
    from harness.embedding import checked_match

    data = CellData.of(adata)
    names, codes = np.unique(np.asarray(types, np.str_), return_inverse=True)
    if len(codes) != data.n_obs:
        raise InputError(f"{len(codes)} types were given for the {data.n_obs} cells of {data.name}")
    match, width = checked_match(model, data), len(model.token_names)
    total, cells = np.zeros((len(names), width)), np.zeros((len(names), width), np.int64)
    token = None if read is None else _ids_of(model, [read])[0]
    for rows, counts in data.blocks():
        block = model.tokenize(counts, match, seed=seed)
        for index, part in block.buckets(BATCH_TOKENS):
            if read is not None:
                found = gene_attention(model, part, read, layer)
            else:
                found = cls_attention(model, part, layer) if head is None else head_attention(model, head, part)
            mask, ids = np.asarray(part.mask), np.asarray(part.gene_ids)
            if read is not None:
                mask = mask & (mask & (ids == token)).any(axis=1, keepdims=True)
            place = (codes[rows][index][:, None] * width + ids)[mask]
            total += np.bincount(place, found[mask], total.size).reshape(total.shape)
            cells += np.bincount(place, minlength=total.size).reshape(total.shape)
    some = cells.any(axis=0)
    total, cells = total[:, some], cells[:, some]
    means = np.divide(total, cells, out=np.full(total.shape, np.nan), where=cells > 0)
    return TypeScores(means.astype(np.float32), cells, names, model.token_names[some])


def _network(model: CellFM) -> Any:
    if model.backend != "torch":
        raise NotApplicableError("attention scores of CellFM are computed with model.backend=torch")
    return model.network


def _layer(model: CellFM, batch: TokenBatch, layer: int) -> tuple[Tensor, Tensor, Any]:
    """What the attention of a layer is given, its key weights, and what computes its scores."""
    depth = model.config.layers
    if not -depth <= layer < depth:
        raise InputError(f"layer={layer}: the network has {depth}, 0 to {depth - 1}, or from the last, -1 to -{depth}")
    x, keys = _network(model).layer_inputs(batch.gene_ids, batch.values, batch.mask, layer % depth)
    block = model.network.encoder[layer]
    return block.attended(x), keys, block.attn.scores


def _ids_of(model: CellFM, genes: Sequence[str]) -> np.ndarray:
    vocabulary = model.vocabulary
    unknown = [name for name in genes if name not in vocabulary]
    if unknown:
        raise InputError(
            f"genes={', '.join(unknown[:8])}: CellFM's vocabulary ({len(vocabulary)} symbols) has none such"
        )
    return np.array([vocabulary[name] for name in genes], np.int64)
