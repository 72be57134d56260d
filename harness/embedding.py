"""The embed loop, written once for every model: row blocks in, buckets of equal length, rows out in order."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from harness.coverage import CoverageMeter, sample_coverage
from harness.data import CellData
from harness.errors import InputError, InternalError, NotApplicableError
from harness.genes import GeneMatch, refuse_other_species
from harness.model import FittedEmbedder, ModelAdapter
from harness.progress import track
from harness.tokens import TokenBatch, TokenEmbedding

log = logging.getLogger(__name__)

#: Stored values per block while coverage is judged on a sample.
SAMPLE_NNZ = 500_000
#: Padded positions per forward pass; halved when the device runs out of memory.
BATCH_TOKENS = {"cpu": 16_384, "cuda": 262_144, "npu": 131_072}


def embed_cells(
    model: ModelAdapter,
    data: CellData,
    *,
    seed: int = 0,
    progress: bool = False,
    batch_tokens: int | None = None,
    out: np.ndarray | None = None,
    block_nnz: int | None = None,
    forward: Callable[[TokenBatch], Any] | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Cell vectors, float32 (n_obs, d), in input order; NaN rows for cells that cannot be embedded.

    Parameters
    ----------
    out
        Array (or memory map) to write into, for data sets whose embedding does not fit in memory.
    batch_tokens, block_nnz
        How much is computed, and read, at a time; neither changes a result.
    forward, width
        Another vector per cell than the model's, and its width d.
    """
    forward, width = forward or model.forward_cells, width or model.embedding_size
    result = np.empty((data.n_obs, width), np.float32) if out is None else out
    empty = 0
    for rows, batch in _token_blocks(model, data, checked_match(model, data), seed, progress, block_nnz):
        block = np.full((len(batch), width), np.nan, np.float32)
        for index, cells in _forward(model, batch, batch_tokens, forward):
            if tuple(cells.shape) != (len(index), width):
                raise InternalError(
                    f"{model.spec.name}: forward gave cell vectors of shape {tuple(cells.shape)}, "
                    f"expected {(len(index), width)}"
                )
            block[index] = _numpy(cells)
        real = np.asarray(batch.mask).any(axis=1)
        empty += int((~real).sum())
        if not np.isfinite(block[real]).all():
            row = rows.start + int(np.flatnonzero(real & ~np.isfinite(block).all(axis=1))[0])
            raise InternalError(f"{model.spec.name} gave a non-finite vector for cell {data.obs_names[row]}")
        result[rows] = block
    report_empty(model, data, empty)
    return result


def embed_tokens(
    model: ModelAdapter,
    data: CellData,
    *,
    genes: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = False,
    batch_tokens: int | None = None,
) -> TokenEmbedding:
    """Contextual vectors of each cell's expressed genes, in the order of the data set's columns.

    Special tokens are left out, a gene that stands in a cell twice is averaged, `genes` restricts to some
    (names of the data set's `var` index; unknown ones are refused).
    """
    match = checked_match(model, data)
    column_of = _column_of_token(match, model.token_names)
    if genes is not None:
        unknown = sorted(set(map(str, genes)) - set(match.table.names[match.columns].tolist()))
        if unknown:
            raise InputError(f"genes={', '.join(unknown[:8])}: not a gene of {data.name} that {model.spec.name} knows")
        keep = np.isin(match.table.names, np.asarray(list(map(str, genes))))
        column_of = np.where((column_of >= 0) & keep[column_of], column_of, -1)
    vectors: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for _, batch in _token_blocks(model, data, match, seed, progress, None):
        cells: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for index, output in _forward(model, batch, batch_tokens, model.forward):
            if output.tokens is None:
                raise NotApplicableError(f"{model.spec.title} has no token level with readout={model.readout}")
            part, tokens = batch.take(index), _numpy(output.tokens)
            ids, mask = np.asarray(part.gene_ids), np.asarray(part.mask)
            where = np.where(mask, column_of[np.where(mask, ids, 0)], -1)
            for i, row in enumerate(index):
                cells[int(row)] = _average_repeats(where[i], tokens[i])
        for row in range(len(batch)):
            found, matrix = cells.get(row, (np.zeros(0, np.int64), None))
            columns.append(found)
            sizes.append(np.asarray([len(found)]))
            if matrix is not None:  # a token's vector need not be as wide as the cell's
                vectors.append(matrix)
    matrix = np.concatenate(vectors) if vectors else np.zeros((0, model.embedding_size), np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return TokenEmbedding(matrix, match.table.names[np.concatenate(columns)], indptr)


def fit_and_embed(
    model: FittedEmbedder, data: CellData, *, seed: int = 0, rows: np.ndarray | None = None
) -> np.ndarray:
    """Fit a baseline to the cells `rows` (None: all), then transform all cells, block by block."""
    model.fit(data if rows is None else data.subset(rows), seed)
    parts, empty = [], 0
    for _, counts in data.blocks():
        block = np.array(model.transform(counts), np.float32)
        if block.ndim != 2 or len(block) != counts.shape[0]:
            raise InternalError(
                f"{model.spec.name}: transform gave an array of shape {block.shape} for {counts.shape[0]} cells of "
                f"{data.name}; a row for each, in their order, is expected"
            )
        nothing = np.diff(counts.indptr) == 0
        block[nothing] = np.nan
        empty += int(nothing.sum())
        parts.append(block)
    report_empty(model, data, empty)
    return np.concatenate(parts)


def checked_match(model: ModelAdapter, data: CellData) -> GeneMatch:
    """The model's gene match of a data set, judged on a sample of its cells before anything is computed.

    Raises
    ------
    InputError
        Genes of a species the model does not cover, or too few counts in genes that it knows.
    """
    source = f"{data.name} for {model.spec.name}"
    refuse_other_species(
        model.spec.name, model.spec.species, data.genes, source=data.name, gene_ids=model.spec.gene_ids
    )
    match = model.match_genes(data.genes)
    sample = sample_coverage(model.spec.name, match, data.blocks(SAMPLE_NNZ), vocabulary=model.vocabulary)
    sample.enforce(source=source, refuse=data.min_coverage, warn=0.0)
    return match


def _token_blocks(
    model: ModelAdapter, data: CellData, match: GeneMatch, seed: int, progress: bool, block_nnz: int | None
) -> Iterator[tuple[slice, TokenBatch]]:
    meter = CoverageMeter(model.spec.name, match, vocabulary=model.vocabulary)
    blocks = data.blocks(block_nnz) if block_nnz else data.blocks()
    for rows, counts in track(
        blocks,
        total=data.n_obs,
        step=lambda b: b[1].shape[0],
        label=f"{model.spec.name} · embed",
        on=progress,
    ):
        meter.add(counts)
        batch = model.tokenize(counts, match, seed=seed)
        if len(batch) != counts.shape[0]:
            raise InternalError(f"{model.spec.name}: tokenize gave {len(batch)} rows for {counts.shape[0]} cells")
        yield rows, batch
    model.last_coverage = meter.result()
    source = f"{data.name} for {model.spec.name}"
    model.last_coverage.enforce(source=source, refuse=data.min_coverage, warn=data.warn_coverage)


def _forward(
    model: ModelAdapter, batch: TokenBatch, batch_tokens: int | None, forward: Callable[[TokenBatch], Any]
) -> Iterator[tuple[np.ndarray, Any]]:
    """What `forward` gives for buckets of equal length, and whose it is; it backs off when memory runs out."""
    import torch

    budget = batch_tokens or BATCH_TOKENS.get(str(model.device).split(":")[0], 16_384)
    pending = list(batch.buckets(budget))
    while pending:
        rows, part = pending.pop(0)
        try:
            with torch.inference_mode(), autocast(model):
                output = forward(part)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            log.warning("%s: out of memory with %d cells, halving", model.spec.name, len(rows))
            halves = np.array_split(np.arange(len(rows)), 2)
            pending[:0] = [(rows[half], part.take(half)) for half in halves]
            continue
        yield rows, output


def autocast(model: ModelAdapter) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast on the model's device when its precision asks for it."""
    import torch

    if model.precision == "bf16":
        return torch.autocast(str(model.device).split(":")[0], torch.bfloat16)
    return contextlib.nullcontext()


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().float().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor, np.float32)


def _column_of_token(match: GeneMatch, token_names: np.ndarray) -> np.ndarray:
    """The data set's column for each token id, -1 for special and absent tokens.

    Where several columns have one token (an old id beside the current one), the column that is called as the
    token is comes before the others.
    """
    column_of = np.full(len(token_names), -1, np.int64)
    table, columns = match.table, match.columns[::-1]
    wanted = token_names[match.ids[columns]]
    same = [getattr(table, kind)[columns] == wanted for kind in ("names", "symbols", "ensembl")]
    columns = columns[np.argsort(np.any(same, axis=0), kind="stable")]
    column_of[match.ids[columns]] = columns  # the last one written stays
    return column_of


def _average_repeats(columns: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    genes = np.flatnonzero(columns >= 0)
    found, inverse, times = np.unique(columns[genes], return_inverse=True, return_counts=True)
    total = np.zeros((len(found), tokens.shape[1]), np.float64)
    np.add.at(total, inverse, tokens[genes])
    return found, (total / times[:, None]).astype(np.float32)


def report_empty(model: Any, data: CellData, empty: int) -> None:
    """Say how many cells have no vector.

    Raises
    ------
    InputError
        There are some, and `dataset.on_empty_cell=error`.
    """
    if not empty:
        return
    message = f"{model.spec.name}: {empty} of {data.n_obs} cells of {data.name} hold no gene it can read"
    if data.on_empty_cell == "error":
        raise InputError(f"{message}. Remove them, or let them be rows of NaN: dataset.on_empty_cell=nan")
    log.warning("%s; they are rows of NaN", message)
