"""Batch integration: does the embedding keep cell types together and batches apart no more?

CellFM paper, section on batch effects; metrics by scib-metrics, its version recorded with each number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.metrics import row
from harness.registry import register_task
from harness.task import Split, Task, TaskResult
from tasks.integration.scib import BATCH, BIO, batch_correction, bio_conservation, neighbour_graph, per_type
from tasks.labels import enough_cells, umap_table

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
    """

    name = "integration"
    title = "Batch integration"
    version = "2"
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
    controls: ClassVar = {"floor": ("random_embedding", "batch_embedding"), "ceiling": ("perfect_embedding",)}

    def __init__(self, neighbors: int = 90, min_cells: int = 5):
        super().__init__(neighbors=neighbors, min_cells=min_cells)
        if neighbors < 2:
            raise InputError(f"task.neighbors={neighbors}: expected at least 2")

    def split(self, data: CellData, seed: int) -> Split:
        """All cells that have a label of a large enough type; nothing is trained."""
        rows, excluded = enough_cells(data.labels("cell_type"), max(2, self.config["min_cells"]), data.name)
        return Split("all", np.array([], np.int64), rows, excluded)

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Score the embedding."""
        if subject.spec.kind == "predictor":
            raise NotApplicableError(f"{subject.spec.title} predicts labels; there is no embedding to score")
        vectors = subject.cells()
        cells = split.test[~np.isnan(vectors[split.test]).any(axis=1)]
        result = TaskResult()
        if len(cells) < len(split.test):
            result.notes["cells the model cannot read"] = len(split.test) - len(cells)
        labels = data.labels("cell_type")[cells]
        batches = data.labels("batch")[cells] if data.has("batch") else np.full(len(cells), "")
        if len(set(labels)) < 2:
            raise InputError(f"{subject.spec.name} reads cells of fewer than two cell types of {data.name}")
        x = np.ascontiguousarray(vectors[cells], np.float32)
        graph = neighbour_graph(x, self.config["neighbors"])
        several = len(set(batches)) > 1
        scores = bio_conservation(x, labels, batches if several else None, graph, seed)
        scores["avg_bio"] = _mean(scores, BIO)
        types = per_type(x, labels, batches if several else None, graph)
        scores["macro_silhouette_label"] = float(np.mean(list(types["silhouette_label"].values())))
        if several:
            scores |= batch_correction(x, labels, batches, graph, _unintegrated(data, cells), types["kbet"])
            scores["avg_batch"] = _mean(scores, BATCH)
            scores["overall"] = 0.6 * scores["avg_bio"] + 0.4 * scores["avg_batch"]
        else:
            result.notes["batch correction"] = "one batch: nothing to correct, bio conservation only"
        sizes = dict(zip(*np.unique(labels, return_counts=True), strict=True))
        result.metrics = [row(name, value, n=len(cells)) for name, value in scores.items()]
        result.metrics += [
            row(name, value, scope="per-class", key=str(kind), n=int(sizes[kind]))
            for name, values in types.items()
            for kind, value in values.items()
        ]
        result.tables["umap"] = umap_table(subject, data)
        result.notes["cells scored"] = len(cells)
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return (*BIO, "avg_bio", "macro_silhouette_label", *BATCH, "avg_batch", "overall")


def _mean(scores: dict[str, float], names: tuple[str, ...]) -> float:
    """Mean of the scores that are there (isolated labels need several batches)."""
    return float(np.mean([scores[name] for name in names if name in scores]))


def _unintegrated(data: CellData, cells: np.ndarray) -> np.ndarray:
    """Principal components of log-normalised counts: what PCR compares the embedding with."""
    from sklearn.decomposition import PCA

    from harness.counts import highly_variable, log_normalise

    values = log_normalise(data.counts(cells))
    values = values[:, highly_variable(values, 2000)]
    return PCA(min(50, min(values.shape) - 1), svd_solver="arpack", random_state=0).fit_transform(values)
