"""Pretraining: one loop for every model, measured in gene tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from harness.data import CellData
from harness.embedding import autocast, checked_match
from harness.errors import InputError, InternalError
from harness.model import ModelAdapter
from harness.progress import track
from harness.tokens import TokenBatch

#: Batches whose cells are sorted by length together, so that little padding is computed.
WINDOW = 16
WARM_UP = 0.1
CLIP_NORM = 1.0


@dataclass
class TrainingLog:
    """What happened in a pretraining: gene tokens seen, optimiser steps, loss of each step."""

    tokens: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)


def pretrain(
    model: ModelAdapter,
    corpus: CellData,
    *,
    tokens: int,
    batch_cells: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
) -> TrainingLog:
    """Train `model` by its own objective until it has seen `tokens` gene tokens of the corpus.

    The order of the cells depends on the corpus and the seed alone, so every architecture sees the same cells.
    AdamW, linear warm-up over a tenth of the budget, cosine decay to zero, gradients clipped to norm 1.

    Raises
    ------
    InputError
        No cell of the corpus has a gene of the model's vocabulary.
    InternalError
        The loss became non-finite.
    """
    import torch

    generator = torch.Generator(device="cpu").manual_seed(seed)
    parameters = list(model.network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    model.network.train()
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-5)
    log = TrainingLog()
    is_gene = model.token_names != ""
    state = torch.get_rng_state()
    torch.manual_seed(seed)  # dropout draws from the global generator
    try:
        batches = _batches(model, corpus, batch_cells, seed)
        steps = _until(batches, tokens, is_gene, log)
        for batch, n in track(
            steps,
            total=tokens,
            step=lambda item: item[1],
            label=f"{model.spec.name} · pretrain",
            note=lambda: f"loss {np.mean(log.losses[-20:]):.3f}" if log.losses else "",
            on=progress,
        ):
            rate = learning_rate * _schedule((log.tokens - n) / tokens)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(model):
                loss = model.pretraining_loss(batch, generator).total
            if not torch.isfinite(loss):
                raise InternalError(f"{model.spec.name}: loss {float(loss)} at step {log.steps}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
            log.steps += 1
            log.losses.append(float(loss.detach()))
    finally:
        torch.set_rng_state(state)
        model.network.eval()
        for parameter in parameters:
            parameter.requires_grad_(False)
    return log


def _schedule(done: float) -> float:
    if done < WARM_UP:
        return max(done, WARM_UP / 20) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARM_UP) / (1 - WARM_UP))))


def _until(
    batches: Iterator[TokenBatch], tokens: int, is_gene: np.ndarray, log: TrainingLog
) -> Iterator[tuple[TokenBatch, int]]:
    while log.tokens < tokens:
        batch = next(batches)
        n = int((is_gene[np.asarray(batch.gene_ids)] & np.asarray(batch.mask)).sum())
        log.tokens += n
        yield batch, n


def _batches(model: ModelAdapter, corpus: CellData, batch_cells: int, seed: int) -> Iterator[TokenBatch]:
    """Endless batches: blocks of cells in file order, shuffled within, tokenized anew in each epoch."""
    match = checked_match(model, corpus)
    rng = np.random.default_rng(seed)
    epoch = 0
    while True:
        found = False
        for _, counts in corpus.blocks():
            for rows in _shuffled(counts, batch_cells, rng):
                batch = model.tokenize(counts[rows], match, seed=seed + epoch)
                real = np.flatnonzero(np.asarray(batch.mask).any(axis=1))
                if len(real):
                    found = True
                    yield batch.take(real)
        if not found:
            raise InputError(f"no cell of {corpus.name} has a gene of {model.spec.name}'s vocabulary")
        epoch += 1


def _shuffled(counts: csr_matrix, batch_cells: int, rng: Any) -> Iterator[np.ndarray]:
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
