"""Fine-tuning: one loop for every model and every supervised objective.

A copy of the network is trained, whole (`full`) or by low-rank additions and its norms (`lora`), together with a head
that reads it; the loaded model stays as it was. A part of the training cells is set apart to say when to stop, and the
state with the lowest loss on it is what comes back. Other cells are never read here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data import CellData
from harness.embedding import BATCH_TOKENS, autocast, embed_cells
from harness.errors import InputError, NotApplicableError
from harness.lora import add_lora
from harness.model import ModelAdapter
from harness.objective import Objective
from harness.progress import track
from harness.tokens import CellOutput, TokenBatch
from harness.torch_learner import clip_gradients, make_optimizer, recomputing, training_mode
from harness.training_cells import TrainingCells, validation_part
from harness.tuning import FEWEST_STEPS, Tuning

#: Cells tokenized together where nothing is trained.
BLOCK_CELLS = 1024
#: Training cells a head is scaled by.
SCALE_CELLS = 2048


@dataclass
class Finetuned:
    """A network after fine-tuning, and how it went.

    Parameters
    ----------
    model
        A copy of the adapter with the trained network: low-rank additions stand beside their layers
        (`harness.lora.merge_lora` adds them up).
    head, head_name, n_outputs
        What reads it.
    learning_rate
        The highest it came to by the schedule.
    n_trained_params
        Parameters that a gradient reached: parts of a network that no cell vector passes are not trained.
    steps, epochs, best_epoch
        Optimiser steps and passes made, and the pass after which validation was best (the last one without it).
    n_training, n_validation, n_unreadable
        Cells trained on, set apart, and left out because the model can read nothing of them.
    losses
        Of each step.
    curve
        For each epoch: steps so far, mean training loss, validation loss.
    """

    model: ModelAdapter
    head: nn.Module
    head_name: str
    n_outputs: int
    learning_rate: float
    n_trained_params: int = 0
    steps: int = 0
    epochs: int = 0
    best_epoch: int = 0
    n_training: int = 0
    n_validation: int = 0
    n_unreadable: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    @property
    def smoke(self) -> bool:
        """Whether it was too short to say anything."""
        return self.steps < FEWEST_STEPS

    def read(self, data: CellData, *, seed: int = 0, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Cell vectors (n_obs, d) and outputs (n_obs, n_outputs), float32, in order; see `harness.embed_cells`.

        Rows of NaN are cells the model cannot read.
        """
        width = self.model.embedding_size

        def both(batch: TokenBatch) -> Tensor:
            output, mask = _forward(self.model, batch)
            read = self.head(output.cell, output.tokens, mask)
            return torch.cat([output.cell.float(), read.float()], dim=1)

        found = embed_cells(self.model, data, seed=seed, progress=progress, forward=both, width=width + self.n_outputs)
        return found[:, :width], found[:, width:]


def finetune(
    model: ModelAdapter,
    data: CellData,
    rows: np.ndarray,
    targets: np.ndarray,
    objective: Objective,
    tuning: Tuning,
    *,
    strata: np.ndarray | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Finetuned:
    """Train a copy of `model` to give `targets` for the cells `rows` of `data`.

    Parameters
    ----------
    rows
        int (n,), the training cells.
    targets
        (n, …), int64 for classes, float32 for numbers.
    strata
        (n,), groups in proportion to which the validation part is drawn; None: at random.
    seed
        Of head, low-rank matrices, dropout, order of the cells and validation part; the global generators are left as
        they were.

    Raises
    ------
    NotApplicableError
        The network is not PyTorch's, or the model names no layers for LoRA.
    InputError
        Fewer than two training cells can be read, or the loss became infinite.
    """
    if not isinstance(model.network, nn.Module):
        raise NotApplicableError(f"{model.spec.title}: this network is not PyTorch's; it is fine-tuned by torch only")
    if tuning.setting == "lora" and not model.lora_targets:
        raise NotApplicableError(f"{model.spec.title} names no layers for LoRA")
    started = time.perf_counter()
    cells = TrainingCells(model, data, rows, seed)
    readable = np.flatnonzero(cells.lengths > 0)
    if len(readable) < 2:
        raise InputError(f"{model.spec.name} reads {len(readable)} of {len(cells)} training cells of {data.name}")
    rng = np.random.default_rng(seed)
    apart = validation_part(np.zeros(len(readable)) if strata is None else strata[readable], tuning.validation, rng)
    training, validation = readable[~apart], readable[apart]
    some = rng.permutation(training)[:SCALE_CELLS]
    result = _prepared(model, objective, tuning, cells, some, seed)
    result.n_training, result.n_validation = len(training), len(validation)
    result.n_unreadable = len(cells) - len(readable)
    goal = torch.as_tensor(targets, device=model.device)
    loop = _Loop(result, objective, tuning, cells, goal)
    both = nn.ModuleList([result.model.network, result.head])
    with ExitStack() as stack:
        stack.enter_context(training_mode(both, seed, str(model.device)))
        if tuning.recipe.recompute:
            stack.enter_context(recomputing(both[0]))
        loop.run(both, training, validation, rng, progress)
    result.seconds = time.perf_counter() - started
    return result


def _prepared(
    model: ModelAdapter, objective: Objective, tuning: Tuning, cells: TrainingCells, some: np.ndarray, seed: int
) -> Finetuned:
    """A copy of the model with what is to be trained wanting a gradient, and a fresh head scaled by `some` cells."""
    generator = torch.Generator().manual_seed(seed)
    tuned = copy.copy(model)
    tuned.network = copy.deepcopy(model.network)
    with training_mode(tuned.network, seed, str(model.device)):  # as the head will see them
        tuned.network.train(tuning.dropout)
        vectors = torch.cat([output.cell.float().cpu() for _, output, _ in _read(tuned, cells, some)])
    tuned.network.requires_grad_(tuning.setting == "full")
    if tuning.setting == "lora":
        add_lora(tuned.network, model.lora_targets, tuning.lora_rank, generator)
        if tuning.train_norms:
            for norm in norms_of(tuned.network):
                norm.requires_grad_(True)
    head = objective.head(tuned, tuning.head, vectors, generator).to(model.device).requires_grad_(True)
    return Finetuned(tuned, head, tuning.head, objective.n_outputs, tuning.recipe.learning_rate)


def norms_of(network: nn.Module) -> list[nn.Module]:
    """The normalisation layers: those whose class is called so (`LayerNorm`, `RMSNorm`, a model's own)."""
    return [module for module in network.modules() if type(module).__name__.endswith("Norm")]


def _forward(model: ModelAdapter, batch: TokenBatch) -> tuple[CellOutput, Tensor]:
    return model.forward(batch), torch.as_tensor(batch.mask, dtype=torch.bool, device=model.device)


def _read(
    model: ModelAdapter, cells: TrainingCells, some: np.ndarray
) -> Iterator[tuple[np.ndarray, CellOutput, Tensor]]:
    """What the network gives for some cells, without gradients, in buckets of similar length: cells, output, mask."""
    budget = BATCH_TOKENS.get(str(model.device).split(":")[0], 16_384)
    for start in range(0, len(some), BLOCK_CELLS):
        block = some[start : start + BLOCK_CELLS]
        for places, part in cells.tokens(block).buckets(budget):
            with torch.inference_mode(), autocast(model):
                output, mask = _forward(model, part)
            yield block[places], output, mask


@dataclass
class _Loop:
    """Steps and epochs over the cells of one fine-tuning."""

    result: Finetuned
    objective: Objective
    tuning: Tuning
    cells: TrainingCells
    targets: Tensor
    finished: bool = False

    def run(
        self,
        both: nn.ModuleList,
        training: np.ndarray,
        validation: np.ndarray,
        rng: np.random.Generator,
        progress: bool,
    ) -> None:
        """Train until the budget is spent or validation gets no better; the best state stays."""
        result, total = self.result, self.tuning.steps(len(training))
        parameters: list[Tensor] = [p for p in both.parameters() if p.requires_grad]
        state = [*parameters, *result.head.buffers()]
        recipe, of_head = self.tuning.recipe, set(result.head.parameters())
        groups = [
            {"params": [p for p in parameters if p not in of_head], "times": 1.0},
            {
                "params": [p for p in parameters if p in of_head],
                "times": self.tuning.head_learning_rate / recipe.learning_rate,
            },
        ]
        optimizer = make_optimizer(groups, recipe)  # type: ignore[arg-type]
        both[0].train(self.tuning.dropout)
        best, kept = np.inf, None
        batches = track(
            self._batches(training, rng),
            total=total,
            label=f"{result.model.spec.name} · {self.tuning.setting}",
            note=lambda: f"loss {np.mean(result.losses[-20:]):.3f}",
            on=progress,
        )
        for last, batch in batches:
            for group in optimizer.param_groups:
                group["lr"] = group["times"] * recipe.rate_at(result.steps / total)
            optimizer.zero_grad(set_to_none=True)
            result.losses.append(self._gradients(batch))
            if not result.steps:
                result.n_trained_params = sum(p.numel() for p in parameters if p.grad is not None)
            clip_gradients(parameters, recipe)
            optimizer.step()
            result.steps += 1
            if not (last or result.steps == total):
                continue
            loss = self._end_epoch(both, validation)
            if loss is None or loss < best:
                best, result.best_epoch = loss or 0.0, result.epochs
                kept = None if loss is None else [tensor.detach().clone() for tensor in state]
            waited, patience = result.epochs - result.best_epoch, self.tuning.patience
            tired = patience is not None and waited >= patience and result.steps >= FEWEST_STEPS
            self.finished = tired or result.steps == total
        if kept is not None:
            with torch.no_grad():
                for tensor, value in zip(state, kept, strict=True):
                    tensor.copy_(value)

    def _batches(self, training: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[bool, np.ndarray]]:
        """Batches until it is enough, each with whether it is the last of its epoch."""
        while not self.finished:
            batches = list(self.cells.epoch(training, self.tuning.batch_cells, rng))
            for number, batch in enumerate(batches, 1):
                if not self.finished:
                    yield number == len(batches), batch

    def _gradients(self, batch: np.ndarray) -> float:
        """Add up the gradient of the mean loss over a batch, part by part; the loss."""
        total = 0.0
        for part in np.array_split(batch, min(self.tuning.recipe.accumulate, len(batch))):
            with autocast(self.result.model):
                output, mask = _forward(self.result.model, self.cells.tokens(part))
                loss = self.objective.loss(self.result.head, output, mask, self.targets[part])
            share = len(part) / len(batch)
            (loss * share).backward()
            total += float(loss.detach()) * share
        return self._finite(total)

    def _finite(self, loss: float) -> float:
        if not np.isfinite(loss):
            name, steps = self.result.model.spec.name, self.result.steps
            raise InputError(f"{name}: the loss became {loss} after {steps} steps; lower finetune.learning_rate")
        return loss

    def _end_epoch(self, both: nn.ModuleList, validation: np.ndarray) -> float | None:
        """Note an epoch on the curve; its validation loss, None without a validation part."""
        result = self.result
        result.epochs += 1
        before = result.curve[-1]["steps"] if result.curve else 0
        loss = None
        if len(validation):
            both.eval()
            loss = self._validation_loss(validation)
            both.train()
            both[0].train(self.tuning.dropout)
        mean = float(np.mean(result.losses[before:]))
        result.curve.append(
            {"epoch": result.epochs, "steps": result.steps, "training_loss": mean, "validation_loss": loss}
        )
        return loss

    def _validation_loss(self, validation: np.ndarray) -> float:
        total = 0.0
        for some, output, mask in _read(self.result.model, self.cells, validation):
            with torch.inference_mode(), autocast(self.result.model):
                loss = self.objective.loss(self.result.head, output, mask, self.targets[some])
            total += float(loss) * len(some)
        return self._finite(total / len(validation))
