"""Pretraining: one loop for every model, measured in gene tokens, resumable to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.corpus import Corpus
from harness.data import CellData
from harness.embedding import autocast
from harness.errors import InputError, InternalError
from harness.model import ModelAdapter
from harness.progress import track
from harness.results import atomic_path
from harness.tokens import TokenBatch

WARM_UP = 0.1
CLIP_NORM = 1.0


@dataclass
class TrainingLog:
    """What happened in a pretraining: gene tokens seen, optimiser steps, loss of each step, and where it stands.

    `epoch` and `batch` say which batch of the corpus comes next.
    """

    tokens: int = 0
    steps: int = 0
    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)


def pretrain(
    model: ModelAdapter,
    corpus: CellData | Corpus,
    *,
    tokens: int,
    batch_cells: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
    state: Path | None = None,
    save_every: int = 200,
    on_step: Callable[[TrainingLog], None] = lambda log: None,
) -> TrainingLog:
    """Train `model` by its own objective until it has seen `tokens` gene tokens of the corpus.

    AdamW, linear warm-up over a tenth of the budget, cosine decay to zero, gradients clipped to norm 1.

    Parameters
    ----------
    state
        File for everything that is needed to go on after a kill: written every `save_every` steps and read at the
        start where it is there. None: nothing is kept.
    on_step
        Called after each step.

    Raises
    ------
    InputError
        No cell of the corpus has a gene of the model's vocabulary, or `state` belongs to another training.
    InternalError
        The loss became non-finite.
    """
    import torch

    corpus = Corpus.of(corpus)
    what: dict[str, Any] = {"tokens": tokens, "batch_cells": batch_cells, "learning_rate": learning_rate, "seed": seed}
    what |= {"corpus": corpus.content_hash, "model": model.spec.name, "n_params": model.n_params}
    generator = torch.Generator(device="cpu").manual_seed(seed)
    parameters = list(model.network.parameters())
    log = TrainingLog()
    with _training(model, seed):
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-5)
        if state is not None and state.is_file():
            log = _restore(state, what, model, optimizer, generator)
        batches = corpus.batches(model, batch_cells, seed, epoch=log.epoch, skip=log.batch)
        for batch, n in track(
            _until(batches, tokens, model.token_names != "", log),
            total=tokens - log.tokens,
            step=lambda item: item[1],
            label=f"{model.spec.name} · pretrain",
            note=lambda: f"loss {np.mean(log.losses[-20:]):.3f}" if log.losses else "",
            on=progress,
        ):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule((log.tokens - n) / tokens)
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
            if state is not None and log.steps % save_every == 0:
                _keep(state, what, model, optimizer, generator, log)
            on_step(log)
    return log


@contextmanager
def _training(model: ModelAdapter, seed: int) -> Iterator[None]:
    """The network in training mode; afterwards it, and the global generator, are as they were."""
    import torch

    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # dropout draws from the global generator
    model.network.train().requires_grad_(True)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        model.network.eval().requires_grad_(False)


def _schedule(done: float) -> float:
    if done < WARM_UP:
        return max(done, WARM_UP / 20) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - WARM_UP) / (1 - WARM_UP))))


def _until(
    batches: Iterator[tuple[int, int, TokenBatch]], tokens: int, is_gene: np.ndarray, log: TrainingLog
) -> Iterator[tuple[TokenBatch, int]]:
    while log.tokens < tokens:
        log.epoch, log.batch, batch = next(batches)
        n = int((is_gene[np.asarray(batch.gene_ids)] & np.asarray(batch.mask)).sum())
        log.tokens += n
        yield batch, n


def _keep(state: Path, what: dict[str, Any], model: Any, optimizer: Any, generator: Any, log: TrainingLog) -> None:
    import torch

    with atomic_path(state) as temporary:
        torch.save(
            {
                "what": what,
                "network": model.network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "global_generator": torch.get_rng_state(),
                "log": asdict(log),
            },
            temporary,
        )


def _restore(state: Path, what: dict[str, Any], model: Any, optimizer: Any, generator: Any) -> TrainingLog:
    import torch

    from harness.checkpoints import read_torch

    kept = read_torch(state)
    other = [key for key in what if kept["what"].get(key) != what[key]]
    if other:
        found = ", ".join(f"{key}={kept['what'].get(key)} (now {what[key]})" for key in other)
        raise InputError(f"{state} is of another pretraining: {found}. Say another out=DIR, or remove it to begin anew")
    model.network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    generator.set_state(kept["generator"])
    torch.set_rng_state(kept["global_generator"])
    return TrainingLog(**kept["log"])
