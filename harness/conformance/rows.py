"""Checks that a cell's embedding depends on that cell alone: not on order, batch, chunk, padding or company."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.conformance.cells import cells_with, concatenated, unknown_genes
from harness.conformance.trial import SEED, Trial, require, same
from harness.data import CellData
from harness.embedding import embed_cells
from harness.errors import NotApplicableError
from harness.genes import GeneTable
from harness.model import FittedEmbedder
from harness.tokens import TokenBatch

#: The cells that are embedded without the others.
ALONE = ("ordinary-0", "crowded", "ties", "deep", "one-gene")


def check_shape(trial: Trial) -> None:
    """Float32 (n_obs, embedding_size), finite where the model can read the cell, NaN elsewhere."""
    found = trial.model.embed_cells(trial.cells, seed=SEED)
    require(isinstance(found, np.ndarray), f"embed_cells gave a {type(found).__name__}, not an array")
    require(found.dtype == np.float32, f"embed_cells gave {found.dtype}, not float32")
    width = getattr(trial.model, "embedding_size", found.shape[-1])
    require(
        found.shape == (trial.cells.n_obs, width),
        f"embed_cells gave shape {found.shape}, expected {(trial.cells.n_obs, width)}",
    )
    finite = np.isfinite(found).all(axis=1)
    wrong = np.flatnonzero(finite != trial.readable)
    what = "NaN for a cell it can read" if len(wrong) and trial.readable[wrong[0]] else "numbers for no count"
    require(not len(wrong), f"{what}: {', '.join(trial.names[row] for row in wrong)}")
    real = found[finite]
    spread = np.abs(real - real[0]).max() if len(real) else 0
    require(spread > 0, "all cells have the same vector")


def check_row_order(trial: Trial) -> None:
    """Permuted cells give permuted rows."""
    order = np.random.default_rng(1).permutation(trial.cells.n_obs)
    found = trial.embed(trial.cells[order].copy(), refit=False)
    same(found, trial.reference[order], np.asarray(trial.names)[order], "with the cells in another order")


def check_batch_size(trial: Trial) -> None:
    """One cell per forward pass, or all of them: the same."""
    for batch_tokens, words in ((1, "one cell per forward pass"), (10**9, "the largest possible batches")):
        found = embed_cells(trial.adapter, CellData(trial.cells), seed=SEED, batch_tokens=batch_tokens)
        same(found, trial.reference, trial.names, f"with {words}")


def check_chunking(trial: Trial) -> None:
    """Blocks of one cell, or of a few, as they are read from a file: the same."""
    if isinstance(trial.model, FittedEmbedder):
        parts = np.array_split(np.arange(trial.cells.n_obs), 5)
        found = np.concatenate([trial.embed(trial.cells[part].copy(), refit=False) for part in parts])
        same(found, trial.reference, trial.names, "transformed in five parts")
        return
    widest = int(np.diff(trial.cells.X.indptr).max())
    for block_nnz, words in ((1, "one cell"), (3 * widest, "three cells")):
        found = embed_cells(trial.adapter, CellData(trial.cells), seed=SEED, block_nnz=block_nnz)
        same(found, trial.reference, trial.names, f"read in blocks of {words}")


def check_companions(trial: Trial) -> None:
    """A cell alone, and the same cell among others, has the same embedding."""
    rows = trial.rows(*ALONE)
    alone = np.concatenate([trial.embed(trial.cells[[row]].copy(), refit=False) for row in rows])
    same(alone, trial.reference[rows], ALONE, "embedded alone")
    others = trial.rows("two-genes", "ordinary-7")
    mixed = np.concatenate([np.concatenate([[row], others]) for row in rows])
    found = trial.embed(trial.cells[mixed].copy(), refit=False)
    same(found, trial.reference[mixed], np.asarray(trial.names)[mixed], "in other company")
    twin = trial.rows("twin", "ordinary-3")
    same(trial.reference[twin[:1]], trial.reference[twin[1:]], ["twin"], "as the copy of another cell")


def _tokens(trial: Trial, rows: np.ndarray) -> TokenBatch:
    counts = CellData(trial.cells).counts(rows)
    return trial.adapter.tokenize(counts, GeneTable.from_var(trial.cells.var), seed=SEED)


def _forward(trial: Trial, batch: TokenBatch) -> tuple[np.ndarray, Any]:
    import torch

    with torch.inference_mode():
        output = trial.adapter.forward(batch)
    return _array(output.cell), None if output.tokens is None else _array(output.tokens)


def _array(tensor: Any) -> np.ndarray:
    return tensor.float().cpu().numpy() if hasattr(tensor, "cpu") else np.asarray(tensor, np.float32)


def check_padding(trial: Trial) -> None:
    """Seven more padded positions change nothing, whatever stands in them; their token vectors are zero."""
    rows = trial.rows("ordinary-0", "ordinary-1", "ties", "two-genes", "one-gene")
    batch = _tokens(trial, rows)
    names = [trial.names[row] for row in rows]
    cell, tokens = _forward(trial, batch)
    same(cell, trial.reference[rows], names, "padded to the longest of five cells")
    width = batch.gene_ids.shape[1]
    first = np.asarray(batch.gene_ids)[:, :1]
    for filler, words in ((np.zeros_like(first), "token 0"), (first, "a copy of the first token")):
        wider = batch.replace(
            gene_ids=np.concatenate([batch.gene_ids, np.repeat(filler, 7, axis=1)], axis=1),
            values=None if batch.values is None else np.pad(batch.values, ((0, 0), (0, 7))),
            mask=np.pad(np.asarray(batch.mask), ((0, 0), (0, 7))),
        )
        cell_wide, tokens_wide = _forward(trial, wider)
        same(cell_wide, cell, names, f"with 7 padded positions more ({words})")
        if tokens is None:
            continue
        require(tokens_wide.shape[:2] == wider.mask.shape, f"tokens have shape {tokens_wide.shape}")
        same(tokens_wide[:, :width], tokens, names, f"with 7 padded positions more ({words}), at token level,")
        held = np.abs(tokens_wide[~wider.mask]).max(initial=0)
        require(held == 0, f"token vectors of padded positions are not zero: {held:.2g}")


def check_masked_rows(trial: Trial) -> None:
    """A row without any real token does not crash the network nor change the other rows."""
    rows = trial.rows("ordinary-0", "ordinary-1", "ordinary-2")
    batch = _tokens(trial, rows)
    mask = np.array(batch.mask)
    mask[1] = False
    cell, _ = _forward(trial, batch.replace(mask=mask))
    kept = np.array([0, 2])
    same(cell[kept], trial.reference[rows[kept]], ["ordinary-0", "ordinary-2"], "beside a row without tokens")


def _with_unknown_genes(trial: Trial, depth: float) -> Any:
    genes, extra = GeneTable.from_var(trial.cells.var), unknown_genes(7, start=100)
    rng = np.random.default_rng(2)
    counts = rng.poisson(depth * rng.uniform(0.5, 2.0, (trial.cells.n_obs, 7)))
    counts[~trial.readable] = 0
    order = np.insert(np.arange(len(genes)), [0, 0, 3, 40, 40, len(genes), len(genes)], len(genes) + np.arange(7))
    table = concatenated(genes, extra)
    table = GeneTable(table.names[order], table.symbols[order], table.ensembl[order])
    matrix = sp.csr_matrix(sp.hstack([trial.cells.X, sp.csr_matrix(counts.astype(np.float32))], format="csr")[:, order])
    return cells_with(matrix, table, trial.names)


def _has_vocabulary(trial: Trial) -> None:
    if trial.adapter.spec.gene_ids == "any":
        raise NotApplicableError("it has no vocabulary")


def check_unknown_genes(trial: Trial) -> None:
    """Columns of unknown genes, all zero, among the others change nothing."""
    _has_vocabulary(trial)
    same(trial.embed(_with_unknown_genes(trial, 0)), trial.reference, trial.names, "with 7 unknown genes more")


def check_unknown_counts(trial: Trial) -> None:
    """Counts in unknown genes change nothing. A model whose definition uses a cell's whole depth declares it."""
    _has_vocabulary(trial)
    cells = CellData(_with_unknown_genes(trial, 50_000), min_coverage=0)  # which would be refused for that share
    found = trial.embed(cells)
    same(found, trial.reference, trial.names, "with very many counts in 7 unknown genes")


def check_gene_order(trial: Trial) -> None:
    """Columns in another order change nothing."""
    _has_vocabulary(trial)
    order = np.random.default_rng(3).permutation(trial.cells.n_vars)
    found = trial.embed(trial.cells[:, order].copy())
    same(found, trial.reference, trial.names, "with the genes in another order")
