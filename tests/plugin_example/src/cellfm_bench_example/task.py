"""A task of another package: are the neighbours of a cell of its own type?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from harness import InputError, MetricCard, Split, Task, TaskResult, register_metric
from harness.metrics import row

UNIT = register_metric(MetricCard("example_agreement", "Agreement of neighbours"))
MEAN = register_metric(MetricCard("macro_example_agreement", "Macro agreement of neighbours"))


class ExampleTask(Task):
    """Share of a cell's nearest neighbours that are of its type, mean over the cells of each type.

    Parameters
    ----------
    neighbors
        How many; an argument with a default is a setting: `task.neighbors=30`.
    """

    name = "example_task"
    title = "Example task"
    needs = ("cell_type",)
    headline = ((MEAN.name, "none"),)
    controls: ClassVar = {"floor": ("random_embedding",), "ceiling": ("perfect_embedding",)}

    def __init__(self, neighbors: int = 15):
        super().__init__(neighbors=neighbors)
        if not (isinstance(neighbors, int) and neighbors >= 1):
            raise InputError(f"task.neighbors={neighbors}: expected a whole number from 1")

    def split(self, data: Any, seed: int) -> Split:
        """All cells with a type; nothing is trained."""
        return Split("all", np.array([], np.int64), np.flatnonzero(data.labels("cell_type") != ""))

    def run(self, subject: Any, data: Any, split: Split, seed: int) -> TaskResult:
        """One number per type, and their mean."""
        from sklearn.neighbors import NearestNeighbors

        vectors = subject.cells()
        cells = split.test[~np.isnan(vectors[split.test]).any(axis=1)]
        labels, k = data.labels("cell_type")[cells], self.config["neighbors"]
        if len(cells) <= k:
            raise InputError(f"task.neighbors={k}: {data.name} has {len(cells)} cells to look among")
        near = NearestNeighbors(n_neighbors=k).fit(vectors[cells]).kneighbors(return_distance=False)
        same = (labels[near] == labels[:, None]).mean(axis=1)
        types = {kind: same[labels == kind] for kind in np.unique(labels)}
        overall = row(MEAN.name, float(np.mean([part.mean() for part in types.values()])), n=len(cells))
        units = [
            row(UNIT.name, float(part.mean()), scope="per-class", key=str(kind), n=len(part))
            for kind, part in types.items()
        ]
        return TaskResult([overall, *units])
