"""Pretraining: one loop for every model and framework, measured in gene tokens, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.corpus import Corpus, Portion
from harness.data import CellData
from harness.embedding import autocast
from harness.errors import InputError
from harness.model import ModelAdapter
from harness.progress import track
from harness.ranks import Ranks
from harness.recipe import Recipe
from harness.results import atomic_path

#: Raise it when the loop changes what a network becomes.
VERSION = "2"


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
    recipe: Recipe | None = None,
    seed: int = 0,
    progress: bool = False,
    state: Path | None = None,
    save_every: int = 200,
    on_step: Callable[[TrainingLog], None] = lambda log: None,
    ranks: Ranks | None = None,
) -> TrainingLog:
    """Train `model` by its own objective until it has seen `tokens` gene tokens of the corpus.

    A gene token is an expressed gene of a cell (see `harness.corpus.Portion`): with one budget and one seed every
    architecture sees the same cells, in the same batches.

    Parameters
    ----------
    batch_cells
        Cells of a step in each process.
    recipe
        Optimiser, schedule, clipping; by default AdamW, warm-up over a tenth of the budget, cosine decay.
    state
        File for everything that is needed to go on after a kill: written every `save_every` steps and read at the
        start where it is there. None: nothing is kept.
    on_step
        Called after each step.
    ranks
        The processes that train together; all must call this with the same arguments.

    Raises
    ------
    InputError
        No cell of the corpus has a gene of the model's vocabulary, or `state` belongs to another training.
    InternalError
        The loss became non-finite.
    """
    import torch

    corpus, recipe, ranks = Corpus.of(corpus), recipe or Recipe(), ranks or Ranks()
    what: dict[str, Any] = {"tokens": tokens, "batch_cells": batch_cells, "seed": seed, "processes": ranks.world}
    what |= {"corpus": corpus.content_hash, "model": model.spec.name, "n_params": model.n_params, **recipe.model_dump()}
    generator = torch.Generator(device="cpu").manual_seed(seed)
    log = TrainingLog()
    with model.learner(recipe, seed=seed, ranks=ranks) as learner:
        if state is not None and state.is_file():
            kept = _read(state, what)
            learner.restore(kept["learner"])
            generator.set_state(kept["generator"])
            log = TrainingLog(**kept["log"])
        portions = corpus.batches(model, batch_cells, seed, epoch=log.epoch, skip=log.batch, ranks=ranks)
        for portion, n in track(
            _until(portions, tokens, log),
            total=tokens - log.tokens,
            step=lambda item: item[1],
            label=f"{model.spec.name} · pretrain",
            note=lambda: f"loss {np.mean(log.losses[-20:]):.3f}" if log.losses else "",
            on=progress and ranks.first,
        ):
            rate = recipe.rate_at((log.tokens - n) / tokens)
            log.losses.append(learner.step(portion.batch, generator, rate, weight=portion.weight))
            log.steps += 1
            if state is not None and log.steps % save_every == 0:
                kept = {"what": what, "learner": learner.state(), "generator": generator.get_state()}
                if ranks.first:
                    with atomic_path(state) as temporary:
                        torch.save({**kept, "log": asdict(log)}, temporary)
            on_step(log)
    return log


def objective_error(
    model: ModelAdapter, cells: CellData | Corpus, *, batch_cells: int = 32, seed: int = 0
) -> dict[str, float]:
    """The pretraining objective on cells that are not trained on: term -> error per prediction.

    Masks depend on the cells and the seed alone, so two models of one architecture are asked the same.
    """
    import torch

    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for portion in Corpus.of(cells).batches(model, batch_cells, seed):
        if portion.epoch > 0:
            break
        with torch.inference_mode(), autocast(model):
            # The same state for each batch: how cells are batched changes nothing.
            loss = model.pretraining_loss(portion.batch, torch.Generator(device="cpu").manual_seed(seed))
            for name, total in loss.sums().items():
                sums[name] = sums.get(name, 0.0) + float(total)
                counts[name] = counts.get(name, 0.0) + float(loss.counts[name])
    return {name: sums[name] / max(counts[name], 1.0) for name in sums}


def _until(portions: Iterator[Portion], tokens: int, log: TrainingLog) -> Iterator[tuple[Portion, int]]:
    """Portions until the budget is spent, with their gene tokens."""
    while log.tokens < tokens:
        portion = next(portions)
        log.epoch, log.batch = portion.epoch, portion.number
        log.tokens += portion.gene_tokens
        yield portion, portion.gene_tokens


def _read(state: Path, what: dict[str, Any]) -> dict[str, Any]:
    from harness.checkpoints import read_torch

    kept = read_torch(state)
    other = [key for key in what if kept["what"].get(key) != what[key]]
    if other:
        found = ", ".join(f"{key}={kept['what'].get(key)} (now {what[key]})" for key in other)
        raise InputError(f"{state} is of another pretraining: {found}. Say another out=DIR, or remove it to begin anew")
    return kept
