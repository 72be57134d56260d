"""Influence by deletion: how far every gene's vector moves when one gene is taken out of a cell.

The in-silico deletion of Geneformer (Theodoris et al. 2023, Methods), for every network with a token level: the counts
of the gene become zero, so that what reads ranks loses its token, and what reads values sees the others as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from harness.data import CellData
from harness.embedding import checked_match
from harness.progress import track

if TYPE_CHECKING:
    from harness.genes import GeneTable
    from harness.model import ModelAdapter
    from harness.tokens import TokenEmbedding

#: Values of token vectors held at a time, of either version of the cells.
VALUES = 16_000_000


def deletion_influence(
    model: ModelAdapter,
    cells: CellData,
    columns: np.ndarray,
    *,
    seed: int = 0,
    progress: bool = False,
    values: int = VALUES,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over cells that have a gene of 1 - cosine(its vector before, after the deletion).

    Both versions of a cell are read alike, with the same seed; where the model draws genes at random (because a cell
    has more than it can read, or by its nature: UCE) the draws depend on the counts and are others. Genes that stand
    in one version alone have no part.

    Parameters
    ----------
    cells
        Cells that express the deleted gene.
    columns
        Columns that are deleted, int.
    values
        How many values are held at a time; it changes no result.

    Returns
    -------
    influence : float64 (n_vars,), NaN where no cell has the gene before and after
    times : int64 (n_vars,), cells that have it

    Raises
    ------
    InputError
        The model knows too few of the cells' genes.
    NotApplicableError
        It has no token level with its read-out.
    """
    checked_match(model, cells)
    genes, counts = _distinct(cells.genes), cells.counts()
    column_of = {name: i for i, name in enumerate(genes.names.tolist())}
    total, times = np.zeros(cells.n_vars), np.zeros(cells.n_vars, np.int64)
    longest = min(int(np.diff(counts.indptr).max(initial=1)), model.context_length)
    step = max(1, values // max(longest * model.embedding_size, 1))
    starts = range(0, cells.n_obs, step)
    for start in track(starts, total=len(starts), step=lambda _: 1, label=f"{model.spec.name} · delete", on=progress):
        part = counts[start : start + step]
        before, after = (
            model.embed_tokens(_as_data(each, genes), seed=seed) for each in (part, without(part, columns))
        )
        keys = _keys(before, column_of)
        _, one, other = np.intersect1d(keys, _keys(after, column_of), assume_unique=True, return_indices=True)
        moved = 1 - _cosine(before.matrix[one].astype(np.float64), after.matrix[other].astype(np.float64))
        gene, known = keys[one] % len(column_of), ~np.isnan(moved)
        total += np.bincount(gene[known], moved[known], len(total))
        times += np.bincount(gene[known], minlength=len(times))
    return np.divide(total, times, out=np.full(len(total), np.nan), where=times > 0), times


def without(counts: sp.csr_matrix, columns: np.ndarray) -> sp.csr_matrix:
    """The same counts with zero in some columns, none of them stored."""
    left = counts.copy()
    left.data[np.isin(left.indices, columns)] = 0
    left.eliminate_zeros()
    return left


def _as_data(counts: sp.csr_matrix, genes: GeneTable) -> CellData:
    """Cells of a part; whether the model knows enough of their counts was judged on the whole."""
    import anndata

    return CellData(anndata.AnnData(counts), genes=genes, min_coverage=0.0, warn_coverage=0.0)


def _distinct(genes: GeneTable) -> GeneTable:
    """The same genes, with names of which none is another's: token vectors come by name."""
    first = np.zeros(len(genes), bool)
    first[np.unique(genes.names, return_index=True)[1]] = True
    if first.all():
        return genes
    names = [name if own else f"{name}\x1f{i}" for i, (name, own) in enumerate(zip(genes.names, first, strict=True))]
    return replace(genes, names=np.asarray(names, np.str_))


def _keys(tokens: TokenEmbedding, column_of: dict[str, int]) -> np.ndarray:
    """A number for each cell and gene, int64 (n_tokens,)."""
    cell = np.repeat(np.arange(len(tokens.indptr) - 1), np.diff(tokens.indptr))
    gene = np.array([column_of[name] for name in tokens.genes.tolist()], np.int64)
    return cell * len(column_of) + gene


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of two matrices; NaN where one is zero."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), lengths, out=np.full(len(a), np.nan), where=lengths > 0)
