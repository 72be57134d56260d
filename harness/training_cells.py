"""The cells a network is fine-tuned on: tokenized batch by batch, read from disk again where they are many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from harness.embedding import checked_match
from harness.tokens import TokenBatch

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.model import ModelAdapter

#: Counts are kept in memory up to so many stored values (8 bytes each).
KEEP_NNZ = 100_000_000
#: Batches whose cells are sorted by length together. Few, so that hardly two epochs see the same batch.
WINDOW = 4


class TrainingCells:
    """Some cells of a data set; nothing of the others is kept, or can reach a batch.

    Parameters
    ----------
    rows
        int (n,), which cells, in any order; below, a cell goes by its place in `rows`.
    seed
        Of the tokens, for models that draw: a cell's are the same in every epoch, and those it is read with later.
    """

    def __init__(self, model: ModelAdapter, data: CellData, rows: np.ndarray, seed: int = 0):
        self.model, self.data, self.seed = model, data, seed
        self.rows, self._match = np.asarray(rows, np.int64), checked_match(model, data)
        #: Longest token sequence of each cell, int64 (n,); 0 where the model can read nothing.
        self.lengths = np.zeros(len(self.rows), np.int64)
        order = np.argsort(self.rows, kind="stable")
        kept: list[sp.csr_matrix] | None = []
        nnz = 0
        for block in data.block_slices():
            here = order[slice(*np.searchsorted(self.rows[order], [block.start, block.stop]))]
            if not len(here):
                continue
            counts = data.rows(block.start, block.stop)[self.rows[here] - block.start]
            self.lengths[here] = model.tokenize(counts, self._match, seed=seed).lengths()
            nnz += counts.nnz
            kept = None if kept is None or nnz > KEEP_NNZ else [*kept, counts]
        self._kept = None if kept is None else sp.vstack(kept, format="csr")[np.argsort(order)]

    def __len__(self) -> int:
        return len(self.rows)

    def tokens(self, cells: np.ndarray) -> TokenBatch:
        """The tokens of some cells, a row for each."""
        counts = self._read(self.rows[cells]) if self._kept is None else self._kept[cells]
        return self.model.tokenize(counts, self._match, seed=self.seed)

    def _read(self, rows: np.ndarray) -> sp.csr_matrix:
        wanted, place = np.unique(rows, return_inverse=True)
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
        return sp.vstack([self.data.rows(run[0], run[-1] + 1) for run in runs], format="csr")[place]

    def epoch(self, cells: np.ndarray, batch_cells: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """The given cells in batches of similar length, in random order: little padding is computed."""
        order, window = rng.permutation(cells), batch_cells * WINDOW
        batches = []
        for start in range(0, len(order), window):
            part = order[start : start + window]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + batch_cells] for i in range(0, len(part), batch_cells)]
        for i in rng.permutation(len(batches)):
            yield batches[i]


def validation_part(strata: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which cells to set apart: bool (n,), `share` of them, drawn in proportion from every group of `strata` (n,).

    A group is never set apart as a whole.
    """
    _, group, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    order = np.lexsort([rng.random(len(group)), group])
    # Every 1/share-th of the cells, group after group, from a random start.
    steps = np.floor(np.arange(len(order) + 1) * share + rng.random())
    chosen = np.zeros(len(group), bool)
    chosen[order[np.diff(steps) > 0]] = True
    last = order[np.cumsum(sizes) - 1]
    whole = np.bincount(group, chosen, len(sizes)) == sizes
    chosen[last[whole]] = False
    return chosen
