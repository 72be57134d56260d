"""cellfm-bench pretrain model=NAME corpus.path=FILE|DIR out=DIR [model.size=tiny|…] [model.checkpoint=PATH]

  cellfm-bench pretrain model=cellfm corpus.path=corpus/ model.size=tiny out=mine

Train a model by its own objective, from scratch or on from a checkpoint (model.checkpoint=), on one .h5ad or a folder
of them, streamed from disk in shuffled blocks. out=DIR then holds a checkpoint in the official layout, which the other
commands read (track=scratch model.checkpoint=DIR), and pretraining.json with the budget and the loss of every step.

  corpus.tokens=N          gene tokens to see (default 1200000)
  corpus.batch_cells=N     cells per step, in each process
  training=NAME            default, or cellfm_paper; training.learning_rate=, .optimizer=, .accumulate=, .recompute= …:
                           see conf/training/default.yaml
  held_out=FILE            cells to measure the objective on, before and after; they must not be in the corpus
  save_every=N             steps between checkpoints of the training itself (default 200)
  seed= device= precision=fp32|bf16, and the model's own options

Killed, the same command goes on from the last of these and ends as if it had never stopped. On several devices:
  torchrun --nproc_per_node=N -m harness pretrain …   (training.shard=true divides the network among them)
  msrun --worker_num=N --local_worker_num=N python -m harness pretrain … model.backend=mindspore
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import RunConfig, compose_without_task, key_of
from harness.corpus import Corpus
from harness.devices import device_for, processes_for
from harness.errors import InputError, NotApplicableError
from harness.ranks import Ranks
from harness.recipe import Recipe
from harness.registry import MODELS
from harness.results import atomic_path
from harness.sources import CELLS, LOG
from harness.vocabulary import vocabulary

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.provenance import CostMeter
    from harness.training import TrainingLog

STATE = ".training.pt"


def main(arguments: list[str]) -> int:
    """Pretrain, write the checkpoint, say where it is."""
    own: dict[str, str | None] = {"out": None, "save_every": "200", "held_out": None}
    overrides = []
    for argument in arguments:
        if key_of(argument) in own:
            own[key_of(argument)] = argument.partition("=")[2]
        else:
            overrides.append(argument)
    if not own["out"]:
        raise InputError("where to? Say out=DIR")
    if not str(own["save_every"]).isdigit() or int(str(own["save_every"])) < 1:
        raise InputError(f"save_every={own['save_every']}: expected a whole number of steps")
    out = Path(own["out"])
    if (out / LOG).is_file():
        raise InputError(f"out={out} holds a finished pretraining; say another directory")
    config = compose_without_task(["track=scratch", *overrides])
    corpus = open_files(config)
    held_out = _held_out(own["held_out"], corpus)
    cls = MODELS.get(config.model["name"])
    device = device_for(cls, config.model, config.device)
    with processes_for(cls, config.model, device) as ranks:
        if device in ("cuda", "npu") and ranks.world > 1:
            device = f"{device}:{ranks.local}"
        _train(_model(config, corpus, device), corpus, held_out, config, out, int(str(own["save_every"])), ranks)
    return 0


def _held_out(path: str | None, corpus: Corpus) -> CellData | None:
    from harness.loading import load_dataset

    if path is None:
        return None
    cells = load_dataset(path)
    seen = int(np.isin(cells.cell_hashes, corpus.cell_hashes).sum())
    if seen:
        raise InputError(f"held_out={path}: {seen} of its {cells.n_obs} cells are in the corpus {corpus.name}")
    return cells


def open_files(config: RunConfig) -> Corpus:
    """The corpus a config names: a file, every .h5ad of a folder, or a registered corpus.

    Raises
    ------
    InputError
        None is named, or the folder holds no .h5ad.
    """
    from harness.loading import load_dataset
    from harness.runner import open_corpus

    path = config.corpus.get("path")
    if path and Path(path).is_dir():
        files = sorted(Path(path).glob("*.h5ad"))
        if not files:
            raise InputError(f"corpus.path={path} holds no .h5ad")
        return Corpus([load_dataset(file) for file in files], Path(path).name)
    if path and not Path(path).is_file():
        raise InputError(f"corpus.path={path}: no such file or directory")
    cells = open_corpus(config)
    return Corpus([cells], cells.name)


def _model(config: RunConfig, corpus: Corpus, device: str) -> Any:
    from harness.sources import find_checkpoint, options_of

    node = config.model
    cls = MODELS.get(node["name"])
    if cls.spec.kind != "foundation":
        raise InputError(f"{node['name']} is a baseline: there is nothing to pretrain")
    options = options_of(cls, node)
    if node.get("checkpoint"):
        path = find_checkpoint(config, cls.spec)
        model = cls.from_checkpoint(path, variant=node.get("variant"), readout=node.get("readout"), **options)
    else:
        size = node.get("size") or "tiny"
        genes = vocabulary(config.corpus.get("genes"), corpus.genes)
        model = cls.from_scratch(genes, size=size, seed=config.seed, readout=node.get("readout"), **options)
        model.calibrate(corpus)
    return model.to(device, config.precision)


def _train(
    model: Any,
    corpus: Corpus,
    held_out: CellData | None,
    config: RunConfig,
    out: Path,
    save_every: int,
    ranks: Ranks,
) -> None:
    from harness.provenance import CostMeter
    from harness.training import objective_error, pretrain

    out.mkdir(parents=True, exist_ok=True)
    budget = {key: config.corpus[key] for key in ("tokens", "batch_cells")}
    state = out / STATE
    if ranks.first:
        print(
            f"{model.spec.name}: {model.n_params / 1e6:.2f}M parameters, {corpus.n_obs} cells of {len(corpus.parts)} "
            f"file{'s' if len(corpus.parts) > 1 else ''}, {budget['tokens']} gene tokens"
            + (f", {ranks.world} processes" if ranks.world > 1 else "")
            + (", going on from the last checkpoint" if state.is_file() else ""),
            flush=True,
        )
    errors: dict[str, dict[str, float]] = {}
    try:
        if held_out is not None:
            errors["before"] = objective_error(model, held_out)
        with CostMeter() as cost:
            log = pretrain(
                model,
                corpus,
                recipe=Recipe.of(config.training),
                seed=config.seed,
                progress=True,
                state=state,
                save_every=save_every,
                ranks=ranks,
                **budget,
            )
        if held_out is not None:
            errors["after"] = objective_error(model, held_out)
        if ranks.first:
            model.save(out)
    except NotApplicableError as error:
        raise InputError(f"{model.spec.name} cannot be pretrained here: {error}") from None
    if ranks.first:
        _write(out, log, cost, corpus, errors, config, budget, ranks)
        state.unlink(missing_ok=True)


def _write(
    out: Path,
    log: TrainingLog,
    cost: CostMeter,
    corpus: Corpus,
    errors: dict[str, dict[str, float]],
    config: RunConfig,
    budget: dict[str, Any],
    ranks: Ranks,
) -> None:
    """What was done, beside the checkpoint, and in a line."""
    from harness.provenance import git_commit, hardware, versions

    about = {
        "tokens": log.tokens,
        "steps": log.steps,
        "epochs": log.epoch,
        "seconds": cost.seconds,
        "tokens_per_s": log.tokens / cost.seconds,
        "peak_rss_mb": cost.peak_rss_mb,
        "losses": log.losses,
        "held_out": errors,
        "corpus": {"name": corpus.name, "sha256": corpus.content_hash, "cells": corpus.n_obs, **budget},
        "processes": ranks.world,
        "config": config.as_dict(),
        "git_commit": git_commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    np.save(out / CELLS, corpus.cell_hashes)
    with atomic_path(out / LOG) as temporary:
        temporary.write_text(json.dumps(about, indent=1, default=str))
    first, last = sum(log.losses[:10]) / len(log.losses[:10]), sum(log.losses[-10:]) / len(log.losses[-10:])
    print(f"{out}: {log.steps} steps, loss {first:.4g} -> {last:.4g}, {about['tokens_per_s']:.0f} gene tokens/s")
    for name, before in errors.get("before", {}).items():
        print(f"held-out cells, {name}: {before:.4g} -> {errors['after'][name]:.4g}")
