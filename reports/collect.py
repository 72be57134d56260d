"""Run records -> sections and entries: what belongs together, and which of two runs counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

from harness.results import RunRecord, content_id
from reports.entries import Column, Entry, Score, Section, defined, fine_tuning, trained


def sections(records: Iterable[RunRecord]) -> list[Section]:
    """Sort records into sections and entries; every record ends in exactly one place."""
    records = list(records)
    found: dict[Hashable, Section] = {}
    for record in records:
        if record.status == "ok":
            key = (record.task, record.dataset, record.split, record.provenance.dataset_sha256)
            section = found.setdefault(key, Section(*key))
            _entry(section, record).runs.append(record)
    for section in found.values():
        for entry in section.entries:
            section.superseded += _keep_newest(entry)
    for record in records:
        if record.status != "ok":
            _place_missing(found, record)
    for section in found.values():
        section.entries.sort(key=lambda entry: (entry.label, entry.about.run_id))
        _tell_apart(section.entries)
        for entry in section.entries:
            entry.missing.sort(key=lambda record: (record.seed, record.run_id))
            entry.scores = _scores(entry.runs)
    return [found[key] for key in sorted(found, key=str)]


def _identity(record: RunRecord) -> Hashable:
    """What two runs of one entry share: everything that can change a number, but the seed.

    A scratch checkpoint is one per seed, so that its hash is no part of it; its label names size and corpus.
    """
    source = record.provenance
    return (
        record.track,
        record.model,
        record.variant,
        record.label,
        record.setting,
        content_id(fine_tuning(record)),
        record.readout,
        "smoke" in record.flags,
        source.backend,
        source.precision,
        source.device.split(":")[0],
        source.checkpoint_sha256 if record.track == "published" else None,
    )


def _entry(section: Section, record: RunRecord) -> Entry:
    for entry in section.entries:
        if _identity(entry.about) == _identity(record):
            return entry
    section.entries.append(entry := Entry(missing=[]))
    return entry


def _keep_newest(entry: Entry) -> list[RunRecord]:
    """Leave one run per seed, the newest; give the others."""
    newest: dict[int, RunRecord] = {}
    for run in sorted(entry.runs, key=lambda run: (run.provenance.started_at, run.run_id)):
        newest[run.seed] = run
    older = [run for run in entry.runs if newest[run.seed] is not run]
    entry.runs = [newest[seed] for seed in sorted(newest)]
    return older


def _place_missing(found: dict[Hashable, Section], record: RunRecord) -> None:
    """Put a run without numbers beside the runs it would have belonged to.

    It may have ended before its split, data hash, label or read-out were known: blanks match anything.
    """
    sha256 = record.provenance.dataset_sha256
    homes = [
        section
        for section in found.values()
        if (section.task, section.dataset) == (record.task, record.dataset)
        and record.split in ("", section.split)
        and sha256 in ("", section.dataset_sha256)
    ]
    if not homes:
        key = (record.task, record.dataset, record.split, sha256)
        homes = [found.setdefault(key, Section(*key))]
    for section in homes[:1]:
        near = [
            entry
            for entry in section.entries
            if (entry.track, entry.about.model, entry.about.setting) == (record.track, record.model, record.setting)
            and record.variant in ("", entry.about.variant)
            and record.readout in ("", entry.about.readout)
            and fine_tuning(record) in ({}, fine_tuning(entry.about))
        ]
        same = [entry for entry in near if entry.about.label == record.label]
        if not (same or near):
            section.entries.append(entry := Entry())
            near = [entry]
        (same or near)[0].missing.append(record)


def _scores(runs: list[RunRecord]) -> dict[Column, Score]:
    scores: dict[Column, Score] = {}
    for run in runs:
        for row in run.metrics:
            if row.scope != "overall":
                continue
            column = Column(row.name, row.head, row.version)
            score = scores.setdefault(column, Score({}, row.higher_is_better))
            score.by_seed[run.seed] = defined(row.value)
    for score in scores.values():
        score.n_units = score.n_seeds
    return scores


#: What may tell two entries of one name apart; all that do are shown.
_MARKS: tuple[Callable[[RunRecord], str], ...] = (
    lambda record: record.model,
    lambda record: record.variant,
    lambda record: record.readout,
    lambda record: "smoke" if "smoke" in record.flags else "",
    lambda record: record.provenance.backend,
    lambda record: record.provenance.precision,
    lambda record: record.provenance.device.split(":")[0],
    lambda record: (record.provenance.checkpoint_sha256 or "")[:8],
)


def _tell_apart(entries: list[Entry]) -> None:
    """Add to the names what sets rows of one name apart; how a network was fine-tuned stands there always."""
    groups: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.track, entry.label), []).append(entry)
    for group in groups.values():
        marks = [mark for mark in _MARKS if len({mark(entry.about) for entry in group}) > 1]
        told: dict[Entry, tuple[str, ...]] = {}
        for entry in group:
            words = [trained(entry.about), *_tuned(entry, group), *(mark(entry.about) for mark in marks)]
            told[entry] = tuple(filter(None, words))
        times = Counter(told.values())
        for entry, shown in told.items():
            more = (entry.about.run_id[:8],) if times[shown] > 1 else ()
            entry.suffix = "".join(f" · {text}" for text in (*shown, *more))


def _tuned(entry: Entry, group: list[Entry]) -> list[str]:
    """Fine-tuning settings, but the head, in which rows of one name and setting differ: `lora rank 8`."""
    alike = [fine_tuning(each.about) for each in group if each.about.setting == entry.about.setting]
    own = fine_tuning(entry.about)
    return [
        f"{name.replace('_', ' ')} {value}"
        for name, value in own.items()
        if name != "head" and any(other.get(name) != value for other in alike)
    ]
