"""Run records: what one run gives, and the store that keeps one file per run, written atomically."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

Scope = Literal[
    "overall",
    "per-class",
    "per-perturbation",
    "per-drug",
    "per-donor",
    "per-fold",
    "per-batch",
    "per-gene",
    "per-resample",
]
Status = Literal["ok", "failed", "out-of-memory", "timeout", "not-applicable", "skipped"]
#: A run with one of these is not computed again.
FINAL: tuple[Status, ...] = ("ok", "not-applicable")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class MetricRow(_Strict):
    """One number. `value` None means undefined; `key` names the unit in a scope other than `overall`."""

    name: str
    version: str
    head: str = "none"
    value: float | None
    higher_is_better: bool
    scope: Scope = "overall"
    key: str = ""
    n: int | None = None


class Artifact(_Strict):
    """A table the figures are drawn from; `path` is relative to the results directory."""

    kind: str
    path: str
    sha256: str


class Cost(_Strict):
    """What a run took. None means not measured here (a GPU figure on a CPU run)."""

    embed_s: float | None = None
    task_s: float | None = None
    pretrain_s: float | None = None
    cells_per_s: float | None = None
    peak_rss_mb: float | None = None
    peak_gpu_mb: float | None = None
    n_params: int | None = None
    n_trained_params: int | None = None


class Provenance(_Strict):
    """Where a number comes from."""

    command: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    config_hash: str = ""
    git_commit: str | None = None
    dataset_sha256: str = ""
    checkpoint_sha256: str | None = None
    corpus: dict[str, Any] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, Any] = Field(default_factory=dict)
    device: str = ""
    backend: str = "torch"
    precision: str = "fp32"
    started_at: str = ""


class RunRecord(_Strict):
    """One run: model x data set x task x seed."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    status: Status
    error: str | None = None
    model: str
    variant: str = ""
    label: str = ""
    track: str
    task: str
    setting: str = "frozen"
    readout: str = ""
    dataset: str
    split: str = ""
    seed: int
    flags: list[str] = Field(default_factory=list)
    notes: dict[str, Any] = Field(default_factory=dict)
    metrics: list[MetricRow] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    cost: Cost = Field(default_factory=Cost)
    provenance: Provenance = Field(default_factory=Provenance)


def content_id(identity: Any, length: int = 16) -> str:
    """Hash of a JSON-able description, the same whatever the order of its keys."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that becomes it when the block ends well, and vanishes otherwise."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=f".tmp{target.suffix}")
    os.close(handle)
    path = Path(name)
    try:
        yield path
        with path.open("rb") as written:
            os.fsync(written.fileno())
        path.chmod(0o644)
        path.replace(target)
    finally:
        path.unlink(missing_ok=True)


class ResultStore:
    """Records and artifacts under one directory: `<run_id>.json` and `artifacts/<sha256>.csv`."""

    def __init__(self, directory: str | Path):
        self.directory = Path(directory)

    def path(self, run_id: str) -> Path:
        """Where the record of a run is, or will be."""
        return self.directory / f"{run_id}.json"

    def get(self, run_id: str) -> RunRecord | None:
        """The record of a run; None if there is none."""
        path = self.path(run_id)
        return RunRecord.model_validate_json(path.read_bytes()) if path.is_file() else None

    def done(self, run_id: str) -> bool:
        """Whether this run need not be computed again."""
        record = self.get(run_id)
        return record is not None and record.status in FINAL

    @contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Whether this run is ours to compute in the block: False where another process computes it now.

        A baseline is the same run on every track of a grid, and its processes come to it at once. The lock goes with
        the process that holds it, however that ends.
        """
        from filelock import FileLock, Timeout

        path = self.directory / ".running" / run_id
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        except (NotImplementedError, OSError):  # a cluster's disk without locks: at worst a run is computed twice
            log.debug("no lock can be had in %s", path.parent)
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            lock.release()

    def put(self, record: RunRecord) -> Path:
        """Write a record atomically."""
        path = self.path(record.run_id)
        with atomic_path(path) as temporary:
            temporary.write_text(record.model_dump_json(indent=1) + "\n")
        return path

    def put_table(self, kind: str, table: Any) -> Artifact:
        """Write a DataFrame as CSV under its own hash: equal tables are stored once."""
        payload = table.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
        sha256 = hashlib.sha256(payload).hexdigest()
        path = self.directory / "artifacts" / f"{sha256[:24]}.csv"
        if not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_bytes(payload)
        return Artifact(kind=kind, path=str(path.relative_to(self.directory)), sha256=sha256)

    def table(self, artifact: Artifact) -> Any:
        """The DataFrame of an artifact; labels are read as text, never as numbers or missing values."""
        import pandas as pd

        frame = pd.read_csv(self.directory / artifact.path, keep_default_na=False, dtype=str)
        for column in frame.columns:
            if column not in TEXT_COLUMNS:
                frame[column] = pd.to_numeric(frame[column])
        return frame

    def records(self) -> list[RunRecord]:
        """All records, in the order of their ids; a file that is not a record is named in an InputError."""
        from harness.errors import InputError

        found = []
        for path in sorted(self.directory.glob("*.json")):
            try:
                found.append(RunRecord.model_validate_json(path.read_bytes()))
            except ValueError as error:
                raise InputError(f"{path} is no run record ({str(error).splitlines()[0]}); move it away") from None
        return found


#: Columns of artifact tables that hold labels.
TEXT_COLUMNS = frozenset(
    {"name", "true", "predicted", "cell_type", "batch", "donor", "head", "label", "condition", "gene", "key", "fold"}
    | {"genes", "set", "source", "target", "a", "b", "class", "perturbed", "biotype"}
    | {"drug", "held_out", "population", "step", "metric"}
)
