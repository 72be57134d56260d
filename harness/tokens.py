"""What passes between tokenizer, network and engine: token batches in, cell and token vectors out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of some cells, padded on the right.

    Parameters
    ----------
    gene_ids
        int64 (n, L), the model's own token ids, its special tokens in the official order.
    values
        float32 (n, L), or None for models that read no value (Geneformer, UCE).
    mask
        bool (n, L), True where a token is real. A row without any True is a cell the model cannot embed.
    extra
        Arrays of length n along their first axis, for what one model alone needs.
    """

    gene_ids: Any
    values: Any = None
    mask: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.gene_ids.shape[0])

    def lengths(self) -> np.ndarray:
        """Number of columns each row needs: its last real token plus one, int64 (n,)."""
        mask = np.asarray(self.mask)
        if mask.shape[1] == 0:
            return np.zeros(len(mask), np.int64)
        last = mask.shape[1] - mask[:, ::-1].argmax(axis=1)
        return np.where(mask.any(axis=1), last, 0).astype(np.int64)

    def take(self, rows: np.ndarray) -> TokenBatch:
        """The given rows, cut to the longest of them: padding that no row needs is dropped."""
        mask = self.mask[rows]
        width = int(self.lengths()[rows].max(initial=0))
        return TokenBatch(
            self.gene_ids[rows][:, :width],
            None if self.values is None else self.values[rows][:, :width],
            mask[:, :width],
            {name: array[rows] for name, array in self.extra.items()},
        )

    def buckets(self, max_tokens: int) -> Iterator[tuple[np.ndarray, TokenBatch]]:
        """Cells of similar length together, at most `max_tokens` padded positions at a time.

        Yields (rows, batch); cells without a token are in no bucket. Work follows the tokens a cell has,
        not the longest cell of the block.
        """
        lengths = self.lengths()
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 0]
        start = 0
        while start < len(order):
            width = int(lengths[order[start]])
            rows = order[start : start + max(1, max_tokens // width)]
            # A bucket never mixes a cell with one of under three quarters of its length.
            rows = rows[lengths[rows] * 4 >= width * 3]
            yield rows, self.take(rows)
            start += len(rows)

    def tensors(self, device: Any = "cpu") -> TokenBatch:
        """The same batch as torch tensors on `device`; a missing mask means that every position is real."""
        import torch

        ids = torch.as_tensor(self.gene_ids, dtype=torch.int64, device=device)
        mask = torch.ones_like(ids, dtype=torch.bool) if self.mask is None else self.mask
        return TokenBatch(
            ids,
            None if self.values is None else torch.as_tensor(self.values, dtype=torch.float32, device=device),
            torch.as_tensor(mask, dtype=torch.bool, device=device),
            {name: torch.as_tensor(array, device=device) for name, array in self.extra.items()},
        )

    def replace(self, **changes: Any) -> TokenBatch:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class CellOutput:
    """What a network gives for a `TokenBatch`, as tensors.

    Parameters
    ----------
    cell
        (n, d), the official cell vector.
    tokens
        (n, L, d), the contextual vectors in the order of the batch's tokens; None where not asked for.
        Positions that are not real hold zeros.
    """

    cell: Any
    tokens: Any = None


@dataclass(frozen=True)
class GeneEmbedding:
    """Static gene vectors: `matrix` float32 (n, d), `names` (n,) of the genes found, `missing` the others."""

    matrix: np.ndarray
    names: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True)
class TokenEmbedding:
    """Contextual gene vectors of cells, ragged.

    `matrix` float32 (N, d), `genes` (N,), `indptr` int64 (n + 1,): cell i owns rows indptr[i]:indptr[i+1].
    """

    matrix: np.ndarray
    genes: np.ndarray
    indptr: np.ndarray


@dataclass(frozen=True)
class TypeScores:
    """What attention says of genes, by type of cell.

    `scores` float32 (T, G) is the mean over the cells of a type that have the gene, NaN where none does; `cells`
    int64 (T, G) says how many these are. Rows are `types`, columns `genes`, those that any cell has.
    """

    scores: np.ndarray
    cells: np.ndarray
    types: np.ndarray
    genes: np.ndarray

    def top(self, kind: str, k: int = 100, *, min_cells: int = 1) -> list[str]:
        """The `k` genes with the highest scores in a type, of those that at least `min_cells` of its cells have."""
        row = int(np.flatnonzero(self.types == kind)[0])
        scores = np.where(self.cells[row] >= max(min_cells, 1), self.scores[row], -np.inf)
        best = np.argsort(-scores, kind="stable")[:k]
        return self.genes[best[np.isfinite(scores[best])]].tolist()
