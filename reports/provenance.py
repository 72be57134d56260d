"""Where each number comes from: one view per run record, and the environments they share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from harness.results import MetricRow, RunRecord
from reports.entries import Column, defined, fine_tuning
from reports.ranking import Ranked
from reports.wording import NOTHING, STATUSES, head_title, metric_title, quantity, score, seconds


@dataclass(frozen=True)
class Environment:
    """Versions, hardware and commit that runs share; a letter names them."""

    name: str
    commit: str
    versions: str
    hardware: str
    key: str = field(repr=False, default="")


@dataclass(frozen=True)
class RunView:
    """A run as the table of runs prints it."""

    record: RunRecord
    task: str
    label: str
    status: str
    value: float | None
    score: str
    measured_by: str
    facts: list[tuple[str, str]]
    environment: str


def environments(records: list[RunRecord]) -> list[Environment]:
    """The distinct environments, in the order of the first run in each."""
    found: dict[str, Environment] = {}
    for record in sorted(records, key=lambda record: (record.provenance.started_at, record.run_id)):
        key = _environment_key(record)
        if key is not None and key not in found:
            about = record.provenance
            found[key] = Environment(
                name=_letters(len(found)),
                commit=about.git_commit or "not a checkout",
                versions=", ".join(f"{package} {version}" for package, version in about.versions.items()),
                hardware=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.hardware.items()),
                key=key,
            )
    return list(found.values())


def _environment_key(record: RunRecord) -> str | None:
    about = record.provenance
    if not (about.versions or about.hardware):
        return None
    return json.dumps([about.git_commit, about.versions, about.hardware], sort_keys=True, default=str)


def _letters(i: int) -> str:
    return ("" if i < 26 else _letters(i // 26 - 1)) + chr(ord("A") + i % 26)


def run_views(ranked: list[Ranked], places: list[Environment]) -> list[RunView]:
    """Every record once, in the order of the sections."""
    names = {environment.key: environment.name for environment in places}
    views = []
    for each in ranked:
        first = each.headline[0] if each.headline else None
        for entry in each.section.entries:
            for record in [*entry.runs, *entry.missing]:
                views.append(_view(record, each.task.title, entry.label, "", first, names))
        for record in each.section.superseded:
            views.append(_view(record, each.task.title, record.label or record.model, "superseded", first, names))
    return views


def _view(
    record: RunRecord, task: str, label: str, status: str, first: Column | None, names: dict[str, str]
) -> RunView:
    row = _headline_row(record, first)
    value = defined(row.value) if row else None
    return RunView(
        record=record,
        task=task,
        label=label,
        status=status or STATUSES.get(record.status, record.status),
        value=value,
        score=score(value),
        measured_by=" · ".join(filter(None, (metric_title(row.name), head_title(row.head)))) if row else "",
        facts=[(name, said) for name, said in _facts(record) if said not in ("", NOTHING)],
        environment=names.get(_environment_key(record) or "", ""),
    )


def _headline_row(record: RunRecord, first: Column | None) -> MetricRow | None:
    """The number that stands for a run: the first headline metric, by its head or by the run's own; or the first."""
    overall = [row for row in record.metrics if row.scope == "overall"]
    if first is not None:
        named = [row for row in overall if row.name == first.metric]
        overall = [row for row in named if row.head == first.head] or named or overall
    return overall[0] if overall else None


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    about, cost = record.provenance, record.cost
    corpus = json.dumps(about.corpus, ensure_ascii=False, default=str) if about.corpus else ""
    return [
        ("record", f"{record.run_id}.json"),
        ("model", "-".join(filter(None, (record.model, record.variant)))),
        ("setting, read-out", ", ".join(filter(None, (record.setting, record.readout)))),
        ("fine-tuning", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fine_tuning(record).items())),
        ("split", record.split),
        ("config hash", about.config_hash),
        ("data sha256", about.dataset_sha256),
        ("checkpoint sha256", about.checkpoint_sha256 or ""),
        ("corpus", corpus),
        ("device", ", ".join(filter(None, (about.device, about.backend, about.precision)))),
        ("started", about.started_at),
        ("parameters", quantity(cost.n_params)),
        ("seconds", ", ".join(
            f"{name} {seconds(value)}"
            for name, value in (("pretraining", cost.pretrain_s), ("embedding", cost.embed_s), ("task", cost.task_s))
            if value is not None
        )),
        ("peak memory, MB", quantity(cost.peak_rss_mb)),
        ("flags", ", ".join(record.flags)),
        ("notes", json.dumps(record.notes, ensure_ascii=False, default=str) if record.notes else ""),
    ]  # fmt: skip
