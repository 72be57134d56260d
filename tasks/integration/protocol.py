"""Batch integration: does the embedding keep cell types together and batches apart no more?

CellFM paper, section on batch effects; metrics by scib-metrics, its version recorded with each number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.counts import principal_components
from harness.errors import InputError
from harness.metrics import row
from harness.registry import register_task
from harness.subsample import stratified
from harness.task import Split, Task, TaskResult
from tasks.integration.design import Design, judge
from tasks.integration.scib import BATCH, BIO, batch_correction, bio_conservation, neighbour_graph, per_type
from tasks.integration.vectors import layout, vectors_of
from tasks.labels import enough_cells

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject


@register_task("integration")
class Integration(Task):
    """scib-metrics of an embedding: bio conservation always, batch correction where there is more than one batch.

    Parameters
    ----------
    neighbors
        Of the neighbour graph.
    min_cells
        Cell types with fewer cells are left out, and counted.
    subsample
        Score at most so many cells, stratified by cell type and batch and drawn by the seed; None or `none`: all.
    """

    name = "integration"
    title = "Batch integration"
    version = "3"
    needs = ("cell_type",)
    headline = (
        ("avg_bio", "none"),
        ("avg_batch", "none"),
        ("overall", "none"),
        ("macro_silhouette_label", "none"),
        ("bras", "none"),
        ("nmi_leiden", "none"),
        ("ari_leiden", "none"),
    )
    #: A random embedding mixes batches perfectly, so that batch correction has a floor of its own.
    controls: ClassVar = {
        "floor": ("random_embedding", "shuffled_types", "batch_embedding"),
        "ceiling": ("perfect_embedding",),
    }

    def __init__(self, neighbors: int = 90, min_cells: int = 5, subsample: int | str | None = 10000):
        subsample = None if subsample == "none" else subsample
        super().__init__(neighbors=neighbors, min_cells=min_cells, subsample=subsample)
        if neighbors < 2:
            raise InputError(f"task.neighbors={neighbors}: expected at least 2")
        if subsample is not None and (not isinstance(subsample, int) or subsample < 2):
            raise InputError(f"task.subsample={subsample}: expected a number of cells of at least 2, or none")

    def split(self, data: CellData, seed: int) -> Split:
        """All cells that have a label of a large enough type, and a batch where one is named; nothing is trained."""
        labels = data.labels("cell_type")
        strata, unbatched = [labels], np.zeros(len(labels), bool)
        if data.has("batch"):
            batches = data.labels("batch")
            strata.append(batches)
            unbatched = (batches == "") & (labels != "") & (batches != "").any()
            labels = np.where(unbatched, "", labels)
        rows, excluded = enough_cells(labels, max(2, self.config["min_cells"]), data.name)
        if unbatched.any():
            excluded["cells without a label"] -= int(unbatched.sum())
            excluded["cells without a batch"] = int(unbatched.sum())
        wanted = self.config["subsample"]
        if wanted is not None and len(rows) > wanted:
            sample = stratified(rows, strata, wanted, seed)
            excluded["cells beyond the subsample"] = len(rows) - len(sample)
            rows = sample
        return Split("all", np.array([], np.int64), rows, {why: n for why, n in excluded.items() if n})

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Score the embedding."""
        vectors = vectors_of(subject, data, seed)
        cells = split.test[~np.isnan(vectors[split.test]).any(axis=1)]
        labels = data.labels("cell_type")[cells]
        if len(set(labels)) < 2:
            raise InputError(f"{subject.spec.name} reads cells of fewer than two cell types of {data.name}")
        batches = data.labels("batch")[cells] if data.has("batch") else np.full(len(cells), "")
        design = judge(labels, batches, data.labels("condition")[cells] if data.has("condition") else None)
        result = TaskResult(flags=list(design.flags), notes=_notes(design, split, cells))
        x = np.ascontiguousarray(vectors[cells], np.float32)
        several = not design.unscored
        scores, types = _scores(x, labels, batches if several else None, self.config["neighbors"], seed, data, cells)
        sizes = dict(zip(*np.unique(labels, return_counts=True), strict=True))
        result.metrics = [row(name, value, n=len(cells)) for name, value in scores.items()]
        result.metrics += [
            row(name, value, scope="per-class", key=str(kind), n=int(sizes[kind]))
            for name, values in types.items()
            for kind, value in values.items()
        ]
        whole = "cells beyond the subsample" not in split.excluded
        result.tables["umap"] = layout(subject, data, vectors, None if whole else cells, seed)
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        one_start = ("nmi_kmeans", "ari_kmeans")
        return (*BIO, *one_start, "avg_bio", "macro_silhouette_label", *BATCH, "avg_batch", "overall")


def _notes(design: Design, split: Split, cells: np.ndarray) -> dict[str, Any]:
    """What a reader must know: how many cells, which not, and what the design lets batch correction mean."""
    notes: dict[str, Any] = {}
    if len(cells) < len(split.test):
        notes["cells the model cannot read"] = len(split.test) - len(cells)
    left_out = split.excluded.get("cells beyond the subsample")
    if left_out:
        notes["scored on a subsample"] = (
            f"{len(split.test)} of {len(split.test) + left_out} cells, stratified by cell type and batch, drawn by the "
            "seed; all: task.subsample=none"
        )
    notes |= design.notes
    if design.unscored:
        notes["batch correction"] = design.unscored
    return {**notes, "cells scored": len(cells)}


def _scores(
    x: np.ndarray,
    labels: np.ndarray,
    batches: np.ndarray | None,
    neighbors: int,
    seed: int,
    data: CellData,
    cells: np.ndarray,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Scores of all cells, and of each type; `batches` None where batch correction is not scored."""
    graph = neighbour_graph(x, neighbors)
    scores = bio_conservation(x, labels, batches, graph, seed)
    scores["avg_bio"] = _mean(scores, BIO)
    types = per_type(x, labels, batches, graph)
    scores["macro_silhouette_label"] = float(np.mean(list(types["silhouette_label"].values())))
    if batches is not None:
        before = principal_components(data.counts(cells))
        scores |= batch_correction(x, labels, batches, graph, before, types["kbet"])
        scores["avg_batch"] = _mean(scores, BATCH)
        scores["overall"] = 0.6 * scores["avg_bio"] + 0.4 * scores["avg_batch"]
    return scores, types


def _mean(scores: dict[str, float], names: tuple[str, ...]) -> float:
    """Mean of the scores that are there: isolated labels need several batches, kBET types of ten cells."""
    return float(np.mean([scores[name] for name in names if scores.get(name, np.nan) == scores.get(name, np.nan)]))
