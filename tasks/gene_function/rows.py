"""From the scores of folds to metric rows: a row per fold, a row per class, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics import row
from harness.results import MetricRow
from tasks.gene_function.classifiers import class_scores
from tasks.gene_function.folds import KINDS, GeneFold
from tasks.gene_function.labels import GeneLabels
from tasks.gene_function.scores import fold_scores

#: Names of the scores of a fold; each also with the ending of `KINDS`.
SCORES = ("auroc", "auprc", "auprc_micro", "macro_auprc", "accuracy", "macro_f1", "fmax", "fmax_published")
METRICS = (*(name + end for end in KINDS.values() for name in SCORES), "attribute_learning_index")


@dataclass(frozen=True)
class Found:
    """What a head got in a fold; `classes` is average precision by class."""

    head: str
    fold: GeneFold
    scores: Mapping[str, float]
    classes: Mapping[str, float]


def test_fold(head: str, vectors: np.ndarray, labels: GeneLabels, fold: GeneFold, positive: int, seed: int) -> Found:
    """Train a head on the training genes of a fold, and score it on the others."""
    from sklearn import config_context

    with config_context(assume_finite=True, skip_parameter_validation=True):  # half of the time of so small fits
        said = class_scores(head, vectors, labels.member, fold.train, fold.test, labels.exclusive, seed)
        return Found(head, fold, *fold_scores(labels.of(fold.test), said, positive))


def metric_rows(found: Sequence[Found]) -> list[MetricRow]:
    """Each score by fold, and its mean over those folds in which it is defined; average precision also by class."""
    rows = []
    groups: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        groups.setdefault((each.head, each.fold.kind), []).append(each)
    for (head, kind), members in groups.items():
        end = KINDS[kind]
        for name in members[0].scores:
            units = [
                row(name + end, m.scores[name], head=head, scope="per-resample", key=m.fold.key, n=len(m.fold.test))
                for m in members
            ]
            values = [unit.value for unit in units if unit.value is not None]
            mean = float(np.mean(values)) if values else float("nan")
            rows += [row(name + end, mean, head=head, n=sum(len(m.fold.test) for m in members)), *units]
        for name in sorted({name for m in members for name in m.classes}):
            values = [m.classes[name] for m in members if name in m.classes]
            rows.append(
                row("auprc" + end, float(np.mean(values)), head=head, scope="per-class", key=name, n=len(values))
            )
    return rows
