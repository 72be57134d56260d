"""Contextual gene vectors: what a network makes of a gene in the cells that express it, averaged over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from harness.embedding import embed_cells
from harness.errors import InternalError, NotApplicableError
from harness.genes import GeneTable
from harness.model import ModelAdapter
from harness.tokens import GeneEmbedding, TokenBatch

if TYPE_CHECKING:
    from harness.data import CellData

#: Token vectors added at a time, as float64.
CHUNK = 8_192


def contextual_genes(
    model: ModelAdapter,
    cells: CellData,
    genes: GeneTable | Sequence[str],
    *,
    seed: int = 0,
    progress: bool = False,
    block_nnz: int | None = None,
) -> GeneEmbedding:
    """The mean over cells of `ModelAdapter.embed_tokens`, without holding the vectors of more than one batch.

    Genes are matched to tokens by the model's own mapping, so they need not be called as in `cells`. Each cell that has
    a gene among its tokens counts once, also where the gene stands in it several times.

    Parameters
    ----------
    cells
        Raw counts.
    block_nnz
        How much is read at a time.

    Returns
    -------
    float32 vectors, added as float64; `missing` are genes that the vocabulary lacks, or that no cell has.

    Raises
    ------
    NotApplicableError
        The model has no token level with this read-out.
    InputError
        As `ModelAdapter.embed_cells`.
    """
    match = model.match_genes(genes if isinstance(genes, GeneTable) else list(genes))
    tokens, slot = np.unique(match.ids[match.columns], return_inverse=True)
    means = _Means(model, tokens)
    # The engine's loop over cells, asked for a vector per cell that says nothing: the sums are what is wanted.
    embed_cells(model, cells, seed=seed, progress=progress, block_nnz=block_nnz, forward=means.add, width=1)
    found = means.times[slot] > 0
    known = np.zeros(len(match.table), bool)
    known[match.columns[found]] = True
    return GeneEmbedding(means.matrix()[slot[found]], match.table.names[known], match.table.names[~known])


class _Means:
    """Running sums over cells of the vectors of some tokens.

    Parameters
    ----------
    tokens
        Token ids, distinct.
    """

    def __init__(self, model: ModelAdapter, tokens: np.ndarray):
        self.model = model
        self.slot_of = np.full(len(model.token_names), -1, np.int64)
        self.slot_of[tokens] = np.arange(len(tokens))
        #: Cells that have each token.
        self.times = np.zeros(len(tokens), np.int64)
        self.sums: np.ndarray | None = None

    def add(self, batch: TokenBatch) -> np.ndarray:
        """Add the cells of a batch; a zero for each."""
        output = self.model.forward(batch)
        if output.tokens is None:
            spec = self.model.spec
            raise NotApplicableError(f"{spec.title} has no token level with readout={self.model.readout}")
        vectors: Any = output.tokens.detach().flatten(0, 1)
        mask = np.asarray(batch.mask)
        slots = np.where(mask, self.slot_of[np.where(mask, np.asarray(batch.gene_ids), 0)], -1)
        row, column = np.nonzero(slots >= 0)
        slot, n = slots[row, column], len(self.times)
        pair, inverse, repeats = np.unique(row * n + slot, return_inverse=True, return_counts=True)
        weight, place = 1.0 / repeats[inverse], row * slots.shape[1] + column
        used, at = np.unique(slot, return_inverse=True)
        sums = np.zeros((len(used), vectors.shape[1]))
        for start in range(0, len(place), CHUNK):
            part = slice(start, start + CHUNK)
            chosen = vectors[place[part]].float().cpu().numpy().astype(np.float64)
            sums += sp.csr_matrix((weight[part], (at[part], np.arange(len(chosen)))), (len(used), len(chosen))) @ chosen
        # Only now, all at once: a batch that ran out of memory comes again in halves.
        if self.sums is None:
            self.sums = np.zeros((n, vectors.shape[1]))
        self.sums[used] += sums
        np.add.at(self.times, pair % max(n, 1), 1)
        return np.zeros((len(mask), 1), np.float32)

    def matrix(self) -> np.ndarray:
        """Means, float32 (n_tokens, d); rows of tokens that no cell has are not defined."""
        sums = np.zeros((len(self.times), self.model.embedding_size)) if self.sums is None else self.sums
        if not np.isfinite(sums).all():
            raise InternalError(f"{self.model.spec.name} gave a non-finite token vector")
        return (sums / np.maximum(self.times, 1)[:, None]).astype(np.float32)
