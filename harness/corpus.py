"""A pretraining corpus: one or many files, read in shuffled blocks, never whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.sparse import csr_matrix

from harness.data import CellData
from harness.embedding import checked_match
from harness.errors import InputError
from harness.genes import GeneMatch, GeneTable
from harness.ranks import Ranks
from harness.tokens import TokenBatch

if TYPE_CHECKING:
    from harness.model import ModelAdapter

#: Batches whose cells are sorted by length together, so that little padding is computed.
WINDOW = 16
#: Stored values per block: what is shuffled together.
CORPUS_BLOCK_NNZ = 8_000_000


@dataclass(frozen=True)
class Portion:
    """A batch, or one process' part of it.

    Parameters
    ----------
    epoch, number
        Where the corpus stands: the number of the next batch of the epoch.
    batch
        Tokens of cells that the model can read.
    weight
        0 where this process has no cell of the batch, and these are another's.
    gene_tokens
        Expressed genes of all cells of the batch, in all processes: what the corpus holds, and not what a tokenizer
        makes of it, so that one budget is the same cells and the same number for every architecture.
    """

    epoch: int
    number: int
    batch: TokenBatch
    weight: float
    gene_tokens: int


class Corpus:
    """Cells to pretrain on.

    The order of the cells depends on the corpus and the seed alone, so every architecture sees the same cells.

    Parameters
    ----------
    parts
        The files.
    name
        For messages and records.
    """

    def __init__(self, parts: Sequence[CellData], name: str):
        if not parts:
            raise InputError(f"the corpus {name} holds no file")
        self.parts, self.name = list(parts), name

    @classmethod
    def of(cls, cells: CellData | Corpus) -> Self | Corpus:
        """`cells` itself if it is a corpus, else the corpus of that one data set."""
        return cells if isinstance(cells, Corpus) else cls([cells], cells.name)

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return sum(part.n_obs for part in self.parts)

    @cached_property
    def genes(self) -> GeneTable:
        """The union of the files' genes, in order of first appearance."""
        if len(self.parts) == 1:
            return self.parts[0].genes
        seen: dict[str, tuple[str, str]] = {}
        for part in self.parts:
            table = part.genes
            for name, symbol, ensembl in zip(
                table.names.tolist(), table.symbols.tolist(), table.ensembl.tolist(), strict=True
            ):
                seen.setdefault(name, (symbol, ensembl))
        symbols, ensembl_ids = zip(*seen.values(), strict=True)
        return GeneTable(np.array(list(seen), np.str_), np.array(symbols, np.str_), np.array(ensembl_ids, np.str_))

    @cached_property
    def content_hash(self) -> str:
        """Hash of the cells, file by file."""
        if len(self.parts) == 1:
            return self.parts[0].content_hash
        return hashlib.sha256("".join(part.content_hash for part in self.parts).encode()).hexdigest()

    @cached_property
    def cell_hashes(self) -> np.ndarray:
        """A hash of each cell's counts, uint64 (n_obs,)."""
        return np.concatenate([part.cell_hashes for part in self.parts])

    def batches(
        self,
        model: ModelAdapter,
        batch_cells: int,
        seed: int,
        *,
        epoch: int = 0,
        skip: int = 0,
        ranks: Ranks | None = None,
    ) -> Iterator[Portion]:
        """Endless batches of tokenized cells; of each, this process' portion.

        Blocks of all files come in random order, cells are shuffled within a block, and each epoch is tokenized
        anew. `epoch` and `skip` begin where an earlier run left off; what is skipped is not tokenized.

        Parameters
        ----------
        batch_cells
            Cells of a batch for each process.
        ranks
            The processes; a batch is the same cells as in one process with as many cells as all have together.

        Raises
        ------
        InputError
            No cell has a gene of the model's vocabulary.
        """
        ranks = ranks or Ranks()
        batch_cells *= ranks.world
        matches = [checked_match(model, part) for part in self.parts]
        blocks = [(i, rows) for i, part in enumerate(self.parts) for rows in part.block_slices(CORPUS_BLOCK_NNZ)]
        while True:
            found, number = False, 0
            for block in np.random.default_rng([seed, epoch]).permutation(len(blocks)):
                part, rows = blocks[block]
                n_batches = _n_batches(rows.stop - rows.start, batch_cells)
                if number + n_batches <= skip:
                    number, found = number + n_batches, True
                    continue
                counts = self.parts[part].rows(rows.start, rows.stop)
                for cells in _shuffled(counts, batch_cells, np.random.default_rng([seed, epoch, int(block)])):
                    number += 1
                    if number <= skip:
                        found = True
                        continue
                    chosen = counts[cells]
                    portion = _portion(model, chosen, matches[part], seed + epoch, ranks)
                    if portion is not None:
                        found = True
                        yield Portion(epoch, number, *portion, chosen.nnz)
            if not found:
                raise InputError(f"no cell of {self.name} has a gene of {model.spec.name}'s vocabulary")
            epoch, skip = epoch + 1, 0


def _portion(
    model: ModelAdapter, counts: csr_matrix, match: GeneMatch, seed: int, ranks: Ranks
) -> tuple[TokenBatch, float] | None:
    """This process' readable cells and weight 1; some cell and weight 0 where only others have any; else None."""
    batch = model.tokenize(counts[ranks.rank :: ranks.world], match, seed=seed)
    real = np.flatnonzero(np.asarray(batch.mask).any(axis=1))
    if len(real):
        return batch.take(real), 1.0
    if ranks.world == 1:
        return None
    batch = model.tokenize(counts, match, seed=seed)
    real = np.flatnonzero(np.asarray(batch.mask).any(axis=1))
    return (batch.take(real[:1]), 0.0) if len(real) else None


def _n_batches(n_cells: int, batch_cells: int) -> int:
    whole, rest = divmod(n_cells, batch_cells * WINDOW)
    return whole * WINDOW + -(-rest // batch_cells)


def _shuffled(counts: csr_matrix, batch_cells: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rows of a block in batches of cells of similar length, in random order."""
    order = rng.permutation(counts.shape[0])
    lengths = np.diff(counts.indptr)
    window = batch_cells * WINDOW
    batches = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_cells] for i in range(0, len(rows), batch_cells)]
    for i in rng.permutation(len(batches)):
        yield batches[i]
