"""One run: configuration in, record out. A run that fails says why and stops nothing else."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.cache import Cache
from harness.config import RunConfig
from harness.data import CellData
from harness.errors import InputError, NotApplicableError, one_line
from harness.exposure import LABEL_EXPOSURE
from harness.leakage import leakage
from harness.loading import load_dataset, load_task
from harness.metrics import card
from harness.precomputed import called
from harness.provenance import CostMeter, git_commit, hardware, versions
from harness.registry import MODELS, TASKS
from harness.results import Provenance, ResultStore, RunRecord, Status, content_id
from harness.sources import ModelSource, resolve
from harness.subject import Subject
from harness.task import Task

log = logging.getLogger(__name__)

_DATA: dict[str, CellData] = {}


@dataclass
class Planned:
    """A run that is ready to be computed, or to be found: `run_id` is known, nothing heavy was loaded."""

    config: RunConfig
    run_id: str
    task: Task
    data: CellData
    source: ModelSource
    cache: Cache


def open_data(node: dict[str, Any]) -> CellData:
    """The data set of a config node, opened once per process."""
    from harness.loading import path_of

    path = path_of(node)
    stat = path.stat()
    key = content_id([node, str(path.resolve()), stat.st_size, stat.st_mtime_ns], 32)
    if key not in _DATA:
        _DATA[key] = load_dataset(node)
    return _DATA[key]


def open_corpus(config: RunConfig) -> CellData:
    """The corpus of the scratch and untrained tracks.

    Raises
    ------
    InputError
        None is named, or its split cannot be made.
    """
    from harness.config import compose_group

    node = config.corpus
    if node.get("dataset"):
        corpus = open_data(compose_group("dataset", node["dataset"]))
    elif node.get("path") or node.get("file"):
        corpus = open_data({**compose_group("dataset", "file"), "path": str(_corpus_file(node))})
    else:
        raise InputError(
            f"track={config.track} needs a corpus to pretrain on, and {config.dataset.get('name') or 'this data set'} "
            "has none of its own: say corpus.path=FILE.h5ad (cells that are not evaluated) or corpus=demo"
        )
    if not node.get("split"):
        return corpus
    key = content_id([node, corpus.content_hash, corpus.labels_hash()], 32)
    if key not in _DATA:
        split = load_task(node["split"]["task"]).split(corpus, int(node["split"]["seed"]))
        _DATA[key] = corpus.subset(split.train, name=node["name"])
    return _DATA[key]


def _corpus_file(node: dict[str, Any]) -> Path:
    """`corpus.path`, or the file of that name under `CELLFM_BENCH_DATA`; InputError where there is none."""
    from harness.places import DATA, data_root

    if node.get("path"):
        path = Path(node["path"]).expanduser()
        if not path.is_file():
            raise InputError(f"corpus.path={node['path']}: no such file")
        return path
    root, name = data_root(), node["file"]
    found = [root / name, *sorted(root.glob(f"*/{name}"))]
    for path in found:
        if path.is_file():
            return path
    raise InputError(
        f"corpus={node['name']} is the file {name}, and there is none under {root}: say corpus.path=FILE, or set "
        f"{DATA} to the folder that holds it"
    )


def plan(config: RunConfig) -> Planned:
    """Everything about a run that is known before anything heavy is loaded, its id included.

    Raises
    ------
    InputError
        The configuration or the data cannot be used.
    """
    cache = Cache(config.cache)
    task: Task = load_task(config.task["name"], **{k: v for k, v in config.task.items() if k != "name"})
    data = open_data(config.dataset)
    for role in task.needs:
        data.labels(role)
    source = resolve(config, cache, lambda: open_corpus(config))
    identity = {
        "source": source.identity,
        "data": [data.content_hash, data.labels_hash()],
        "task": [task.name, task.version, task.config, *TASKS.package(task.name)[:1]],
        "metrics": {name: card(name).version for name in task.metric_names()},
        "setting": config.setting,
        "seed": config.seed,
        "on_empty_cell": data.on_empty_cell,
    }
    if config.tuning is not None:
        identity["finetune"] = config.tuning.identity
    return Planned(config, content_id(identity), task, data, source, cache)


def failure_id(config: RunConfig) -> str:
    """Id of the record of a run that gave no result: its place in the grid, whatever files it was given."""
    return content_id({"failed": config.where_free()})


def execute(config: RunConfig, *, command: str = "", progress: bool = True, strict: bool = False) -> RunRecord:
    """Compute a run, or find it; whatever happens is recorded, nothing is raised but KeyboardInterrupt.

    What another process is computing is left to it: `skipped`, of which no record is kept here.

    Parameters
    ----------
    command
        What a reader types to get this number again.
    strict
        Raise an InputError instead of recording it: a single run with wrong input writes nothing.
    """
    store = ResultStore(config.results)
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def kept(record: RunRecord) -> RunRecord:
        record.provenance.command, record.provenance.started_at = command, started
        store.put(record)
        if record.run_id != failure_id(config):  # what failed before is answered now
            store.path(failure_id(config)).unlink(missing_ok=True)
        return record

    planned = None
    try:
        planned = plan(config)
        if (known := finished(planned, store)) is not None:
            return known
        with store.claim(planned.run_id) as mine:
            if not mine:
                return _without_result(config, planned, RunElsewhereError("another process is computing it"))
            if (known := finished(planned, store)) is not None:  # by another process, a moment ago
                return known
            with time_limit(config.timeout_s):
                record = _run(planned, store, progress)
            return kept(record)
    except Exception as error:
        if strict and isinstance(error, InputError):
            raise
        return kept(_without_result(config, planned, error))


def finished(planned: Planned, store: ResultStore) -> RunRecord | None:
    """The record of a run that need not be computed; None where there is none.

    Its name and what it had read of the labels are no part of a number: it bears those its model is said to have now.
    """
    known = store.get(planned.run_id)
    if known is None or not store.done(planned.run_id):
        return None
    source, now = planned.source, known.model_copy(deep=True)
    if source.title:
        now.label, now.variant = source.title, source.variant
    if known.status == "ok":
        others = [flag for flag in known.flags if flag != LABEL_EXPOSURE]
        now.flags = list(dict.fromkeys([*others, *source.flags(planned.task.name)]))
    if set(now.flags) != set(known.flags) or (now.label, now.variant) != (known.label, known.variant):
        store.put(now)
        return now
    return known


def _run(planned: Planned, store: ResultStore, progress: bool) -> RunRecord:
    config, task, data, source = planned.config, planned.task, planned.data, planned.source
    if config.setting not in task.settings:
        raise NotApplicableError(f"{task.title} trains no network: setting={' or '.join(task.settings)}")
    if data.values == "features" and not task.reads_features:
        raise NotApplicableError(f"{task.title} needs counts, and {data.name} holds features (dataset.values=features)")
    if source.spec.kind == "predictor" and task.name not in source.spec.tasks:
        raise NotApplicableError(f"{source.spec.title} is a baseline of {', '.join(source.spec.tasks)} only")
    subject = Subject(source, data, planned.cache, config.seed, progress, tuning=config.tuning)
    split = task.split(data, config.seed)
    leaked = leakage(data, split)
    with CostMeter() as cost:
        result = task.run(subject, data, split, config.seed)
    task_s = cost.seconds - subject.embedding_seconds
    return RunRecord(
        run_id=planned.run_id,
        status="ok",
        model=source.spec.name,
        variant=subject.variant,
        label=subject.label(),
        track=source.track,
        task=task.name,
        setting=config.setting,
        readout=subject.about.get("readout") or "",
        dataset=task.dataset_name(data),
        split=split.name,
        seed=config.seed,
        flags=[
            *result.flags,
            *subject.flags(),
            *source.flags(task.name),
            *task.control_roles(source.spec.name),
            *leaked.flags,
        ],
        notes={
            **{f"left out: {k}": v for k, v in split.excluded.items()},
            **data.notes,
            **leaked.notes,
            **result.notes,
            **subject.notes(),
        },
        metrics=result.metrics,
        artifacts=[store.put_table(kind, table) for kind, table in result.tables.items()],
        cost=subject.cost(task_s, cost.peak_rss_mb, cost.peak_gpu_mb),
        provenance=_provenance(config, planned, subject),
    )


def _provenance(config: RunConfig, planned: Planned | None = None, subject: Subject | None = None) -> Provenance:
    known: dict[str, Any] = {}
    if planned is not None and subject is not None:
        source = planned.source
        corpus = dict(source.corpus) if source.corpus else None
        seen = subject.about.get("pretraining") or {}
        if corpus is not None and seen:
            corpus["seen"] = seen
        known = {
            "dataset_sha256": planned.task.dataset_hash(planned.data),
            "checkpoint_sha256": source.checkpoint_sha256 or seen.get("checkpoint_sha256"),
            "corpus": corpus,
            "device": source.device,
            "backend": str(source.identity.get("backend", "")),
            "precision": source.precision,
        }
    return Provenance(
        config=config.as_dict(),
        config_hash=content_id(config.where_free()),
        git_commit=git_commit(),
        versions=versions() | _plugins(config),
        hardware=hardware(),
        **known,
    )


def _plugins(config: RunConfig) -> dict[str, str]:
    """The packages that model and task come from, where these are not ours, and their versions."""
    named = [MODELS.package(config.model["name"]), TASKS.package(config.task["name"])]
    return {package[0]: package[1] for package in named if package}


def _without_result(config: RunConfig, planned: Planned | None, error: Exception) -> RunRecord:
    status: Status = "failed"
    reason = one_line(error)
    if isinstance(error, NotApplicableError):
        status = "not-applicable"
    elif isinstance(error, RunElsewhereError):
        status = "skipped"
    elif isinstance(error, RunTimeoutError):
        status = "timeout"
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        status = "out-of-memory"
    elif not isinstance(error, InputError):
        reason = f"{type(error).__name__}: {reason}"
        log.error("%s", "".join(traceback.format_exception(error)))
    final = planned is not None and status == "not-applicable"
    track = planned.source.track if planned else config.track
    name, cells = config.model["name"], config.dataset
    title, variant = called(config.model)
    return RunRecord(
        run_id=planned.run_id if planned and final else failure_id(config),
        status=status,
        error=reason,
        model=name,
        variant=(planned.source.variant if planned else config.model.get("variant")) or variant,
        label=title or _failed_label(name, track, planned),
        track=track,
        task=config.task["name"],
        setting=config.setting,
        dataset=planned.task.dataset_name(planned.data) if planned else cells["name"] or Path(cells["path"] or "").stem,
        seed=config.seed,
        provenance=_provenance(config),
    )


class RunElsewhereError(Exception):
    """Another process is computing this run: nothing is recorded here."""


class RunTimeoutError(Exception):
    """A run took longer than `timeout_s`."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise RunTimeoutError in the block after so many seconds; None: never.

    An alarm, which only the main thread of a Unix process can set: elsewhere a run is not limited.
    """
    if not seconds or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise RunTimeoutError(f"it took longer than timeout_s={seconds:g}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _failed_label(name: str, track: str, planned: Planned | None) -> str:
    if track in ("baseline", "control") and planned is not None:
        return planned.source.spec.title
    return name if track == "published" else f"{name} · {track}"
