"""Where a model comes from: official weights, a network pretrained here, random weights, or a baseline.

A source knows its identity (what can change a number) before anything is loaded, so that finished runs and
cached embeddings are found without touching the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.cache import Cache, file_digest
from harness.checkpoints import sha256_of
from harness.config import RunConfig
from harness.data import CellData
from harness.devices import device_for
from harness.errors import InputError
from harness.exposure import LABEL_EXPOSURE, exposed_tasks
from harness.loading import locate
from harness.model import ModelAdapter
from harness.options import RESERVED, parameters, takes_any
from harness.places import checkpoint_folders, checkpoints_root, variant_name
from harness.precomputed import contents
from harness.recipe import Recipe
from harness.registry import MODELS
from harness.results import content_id
from harness.spec import ModelSpec
from harness.vocabulary import vocabulary


@dataclass
class ModelSource:
    """One model of a grid, not yet loaded.

    Parameters
    ----------
    spec
        The model's spec.
    track
        `published`, `scratch`, `untrained` or `baseline`.
    identity
        JSON-able; everything about the model that can change a number.
    variant
        As asked, or the size.
    title
        What the row is called, where the model does not say it itself.
    label_exposure
        Tasks whose labels it has read.
    checkpoint_sha256, corpus
        For the record.
    """

    spec: ModelSpec
    track: str
    identity: dict[str, Any]
    build: Callable[[], Any]
    variant: str = ""
    title: str = ""
    label_exposure: frozenset[str] = frozenset()
    device: str = "cpu"
    precision: str = "fp32"
    checkpoint_sha256: str | None = None
    corpus: dict[str, Any] | None = None
    #: Hashes of the cells it was pretrained on here.
    corpus_cells: np.ndarray | None = None
    allow_overlap: bool = False

    @cached_property
    def model(self) -> Any:
        """The model, loaded on first use and kept for all tasks of this process."""
        key = content_id(self.identity, 32)
        if key not in _LOADED:
            _LOADED.clear()  # one set of weights at a time: the next model may need the memory
            model = self.build()
            model.track = self.track
            _LOADED[key] = model
        return _LOADED[key]

    def flags(self, task: str) -> list[str]:
        """Marks on its rows of a task, whatever the numbers are."""
        made_elsewhere = ["precomputed"] if self.spec.kind == "precomputed" else []
        return made_elsewhere + ([LABEL_EXPOSURE] if task in self.label_exposure else [])

    def overlap(self, data: CellData) -> int:
        """How many cells of `data` the model saw in pretraining here, by cell hash."""
        return 0 if self.corpus_cells is None else int(np.isin(data.cell_hashes, self.corpus_cells).sum())


_LOADED: dict[str, Any] = {}

#: Files beside a checkpoint that was pretrained here: its budget and losses, and the cells it has seen.
LOG, CELLS = "pretraining.json", "corpus_cells.npy"


def resolve(config: RunConfig, cache: Cache, corpus_of: Callable[[], CellData]) -> ModelSource:
    """The source a run's configuration asks for.

    Parameters
    ----------
    corpus_of
        Opens the corpus; called for the scratch and untrained tracks only.

    Raises
    ------
    InputError
        `published` without a checkpoint, a path that is not there, a device that is not there.
    """
    node = config.model
    cls = MODELS.get(node["name"])
    spec: ModelSpec = cls.spec
    options = options_of(cls, node)
    readout = node.get("readout")
    if readout and readout not in spec.readouts:
        raise InputError(f"model.readout={readout}: {spec.name} has {', '.join(spec.readouts)}")
    identity: dict[str, Any] = {
        "model": spec.name,
        "adapter": spec.version,
        "options": options,
        "readout": readout,
    }
    package = MODELS.package(spec.name)
    if package:  # two packages may use one name, at different times, and one cache
        identity["package"] = package[0]
    if spec.kind == "precomputed":
        return _from_files(config, cls, identity, cache)
    if spec.kind != "foundation":
        if node.get("checkpoint"):
            raise InputError(f"model.checkpoint: {spec.title} is fitted to the data and reads no checkpoint")
        track = identity["track"] = "control" if spec.control else "baseline"
        exposed = exposed_tasks(spec, node, track)
        return ModelSource(spec, track, identity, lambda: cls(**options), label_exposure=exposed)
    device = device_for(cls, options, config.device)
    named = {option: _file_of(option, options[option]) for option in cls.path_options if options.get(option)}
    identity["options"] = {**options, **contents(named, cache)}
    identity |= {
        "track": config.track,
        "precision": config.precision,
        "device": device.split(":")[0],
        "backend": node.get("backend", "torch"),
    }
    common = {"readout": readout, **options}
    source = ModelSource(spec, config.track, identity, lambda: None, device=device, precision=config.precision)
    source.label_exposure = exposed_tasks(spec, node, config.track)
    own = Path(node.get("checkpoint") or "") / LOG
    if config.track == "published" and own.is_file():
        raise InputError(
            f"{own.parent} was pretrained here and is no released checkpoint: say track=scratch model.checkpoint=…"
        )
    if config.track == "untrained" and node.get("checkpoint"):
        raise InputError("track=untrained has random weights; leave model.checkpoint= out")
    if config.track == "published" or node.get("checkpoint"):
        if config.track == "scratch" and not own.is_file():
            raise InputError(f"track=scratch: {own.parent} was not made by cellfm-bench pretrain (it has no {LOG})")
        path = find_checkpoint(config, spec)
        files = cls.checkpoint_files(path, node.get("variant"))
        source.checkpoint_sha256 = content_id([[f.name, file_digest(f, cache)] for f in files], 64)
        source.variant = node.get("variant") or ""
        identity |= {"variant": node.get("variant"), "checkpoint": source.checkpoint_sha256}
        source.build = lambda: cls.from_checkpoint(path, variant=node.get("variant"), **common).to(
            device, config.precision
        )
        if config.track == "scratch":
            source.corpus_cells = np.load(path / CELLS, allow_pickle=False)
            source.corpus = {**json.loads(own.read_text())["corpus"], "used_for": "pretraining"}
            source.allow_overlap = bool(config.corpus.get("allow_overlap"))
        return source
    corpus = corpus_of()
    genes = vocabulary(config.corpus.get("genes"), corpus.genes)
    size = node.get("size") or "tiny"
    source.variant, source.allow_overlap = size, bool(config.corpus.get("allow_overlap"))
    identity |= {"size": size, "seed": config.seed, "corpus": corpus.content_hash}
    if genes is not corpus.genes:
        identity["vocabulary"] = content_id([genes.names.tolist(), genes.symbols.tolist(), genes.ensembl.tolist()], 32)
    source.corpus = {
        "name": config.corpus["name"] or corpus.name,
        "sha256": corpus.content_hash,
        "cells": corpus.n_obs,
        "genes": len(genes),
        "used_for": "pretraining" if config.track == "scratch" else "vocabulary only",
    }

    def fresh() -> ModelAdapter:
        model = cls.from_scratch(genes, size=size, seed=config.seed, **common)
        model.calibrate(corpus)
        model.variant = _named_after(model.variant, size)
        return model.to(device, config.precision)

    source.build = fresh
    if config.track == "scratch":
        source.corpus_cells = corpus.cell_hashes
        from harness.training import VERSION

        budget = {key: config.corpus[key] for key in ("tokens", "batch_cells")}
        recipe = Recipe.of(config.training)
        identity["training"] = {"loop": VERSION, **budget, **recipe.model_dump()}
        source.corpus |= budget
        folder = cache.folder("pretrained", identity)
        source.build = lambda: pretrained(fresh, folder, cls, corpus, {**budget, "recipe": recipe}, config, common)
    return source


def _from_files(config: RunConfig, cls: Any, identity: dict[str, Any], cache: Cache) -> ModelSource:
    """Vectors made elsewhere: what the files hold is their identity, not where they lie nor what the row is called."""
    options, readout = identity["options"], identity["readout"]
    files = cls.files(options, lambda: locate(config.dataset["path"]))
    held = contents(files, cache)
    identity["options"] = {key: value for key, value in options.items() if key != "title"} | held
    identity["track"] = "published"
    made = {**options, **{key: str(path) for key, path in files.items()}}
    source = ModelSource(cls.spec, "published", identity, lambda: cls(**made, readout=readout))
    source.checkpoint_sha256 = next(iter(held.values())) if len(held) == 1 else content_id(held, 64)
    source.title, source.variant = cls.named(options)
    source.label_exposure = exposed_tasks(cls.spec, config.model, source.track)
    return source


def options_of(cls: Any, node: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own options in its node of the config; InputError for one it does not take."""
    options = {key: value for key, value in node.items() if key not in RESERVED}
    check_options(cls, options)
    return options


def check_options(cls: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that neither way of making the model takes.

    Raises
    ------
    InputError
        With the options there are.
    """
    known = {p.name for p in parameters(cls)}
    if takes_any(cls):
        return
    unknown = sorted(set(options) - known)
    if unknown:
        raise InputError(
            f"{cls.spec.name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )


def pretrained(
    fresh: Callable[[], ModelAdapter],
    folder: Path,
    cls: Any,
    corpus: CellData,
    training: dict[str, Any],
    config: RunConfig,
    options: dict[str, Any],
) -> ModelAdapter:
    """The network of a scratch row: from the cache, or pretrained now and put there."""
    from harness.provenance import CostMeter
    from harness.training import pretrain

    if not folder.is_dir():
        model = fresh()
        with CostMeter() as cost:
            log = pretrain(model, corpus, seed=config.seed, progress=True, **training)
        about = {
            "tokens": log.tokens,
            "steps": log.steps,
            "seconds": cost.seconds,
            "first_loss": float(np.mean(log.losses[:10])),
            "last_loss": float(np.mean(log.losses[-10:])),
            "losses": [round(loss, 5) for loss in log.losses],
        }

        def write(directory: Path) -> None:
            model.save(directory)
            about["checkpoint_sha256"] = sha256_of(path for path in directory.rglob("*") if path.is_file())
            (directory / LOG).write_text(json.dumps(about))

        Cache(config.cache).place(folder, write)
    loaded = cls.from_checkpoint(folder, **options).to(device_for(cls, options, config.device), config.precision)
    loaded.variant = _named_after(loaded.variant, config.model.get("size") or "tiny")
    loaded.pretraining = json.loads((folder / LOG).read_text())
    return loaded


def _named_after(variant: str, size: str) -> str:
    """The size, and what a model adds to it (`tiny, learned gene table`)."""
    return variant if variant.startswith(f"{size},") else size


def _file_of(option: str, value: Any) -> Path:
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise InputError(f"model.{option}={value}: no such file or folder")
    return path


def find_checkpoint(config: RunConfig, spec: ModelSpec) -> Path:
    """The path of the official weights: `model.checkpoint=`, or a folder of `checkpoints=`.

    Raises
    ------
    InputError
        Nothing is there; the message says how to get the weights.
    """
    wanted = config.model.get("checkpoint")
    if wanted:
        path = Path(wanted).expanduser()
        if not path.exists():
            raise InputError(f"model.checkpoint={wanted} does not exist")
        return path
    variant, published = config.model.get("variant"), config.model.get("variants") or {}
    how = (
        "say model.checkpoint=DIR, or checkpoints=ROOT with one folder per model; track=scratch trains a small network "
        "of the same architecture here instead"
    )
    if published:
        named = variant_name(spec.name, variant) if variant and variant in published else spec.name
        how += f". The official release (models/{spec.name}/README.md) comes with: cellfm-bench fetch model {named}"
    root = checkpoints_root(config.checkpoints)
    found = checkpoint_folders(root, spec.name, variant, published)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{root} holds several {spec.name}: {names}; say which: model.checkpoint={found[0]}")
    if not found and not config.checkpoints:
        raise InputError(f"track=published needs the released weights of {spec.name}: {how}")
    if not found:
        present = ", ".join(sorted(p.name for p in root.iterdir())) if root.is_dir() else "no such directory"
        raise InputError(f"no {variant or spec.name} under checkpoints={root} ({present}): {how}")
    return found[0]
