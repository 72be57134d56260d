"""Cell-type annotation: heads on frozen embeddings, or networks fine-tuned, by a stratified 70/30 split.

CellFM paper, section "Cell type annotation with CellFM" (intra-dataset protocol).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError
from harness.registry import register_task
from harness.task import Split, Task, TaskResult
from harness.tuning import SETTINGS
from tasks.annotation.finetune import finetuned_labels
from tasks.annotation.heads import HEADS, make_head
from tasks.annotation.scores import classification_rows, confusion_table, prediction_table
from tasks.labels import enough_cells, umap_table

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject


@register_task("annotation")
class Annotation(Task):
    """Accuracy, macro F1 and per-class F1 of each head.

    With `setting=frozen` the heads below read the cell vectors; with `lora` and `full` the network is trained together
    with the one head that `finetune.head` names, on the same split.

    Parameters
    ----------
    heads
        Of `tasks.annotation.heads.HEADS`, for `setting=frozen`.
    test_size
        Share of test cells, per cell type.
    min_cells
        Cell types with fewer cells are left out, and counted.
    neighbors
        Of the knn head.
    """

    name = "annotation"
    title = "Cell-type annotation"
    version = "1"
    needs = ("cell_type",)
    headline = (
        ("macro_f1", "knn"),
        ("macro_f1", "centroid"),
        ("macro_f1", "logreg"),
        ("macro_f1", "mlp"),
        ("macro_f1", "linear"),
        ("macro_f1", "native"),
        ("macro_f1", "svm"),
        ("accuracy", "logreg"),
    )
    settings = SETTINGS
    controls: ClassVar = {"floor": ("random_embedding", "permuted_labels"), "ceiling": ("perfect_embedding",)}

    def __init__(
        self,
        heads: Any = ("knn", "logreg", "mlp"),
        test_size: float = 0.3,
        min_cells: int = 5,
        neighbors: int = 10,
    ):
        heads = list(heads)
        super().__init__(heads=heads, test_size=test_size, min_cells=min_cells, neighbors=neighbors)
        unknown = [head for head in heads if head not in HEADS]
        if unknown or not heads:
            raise InputError(f"task.heads={heads}: expected some of {', '.join(HEADS)}")
        if not 0 < test_size < 1:
            raise InputError(f"task.test_size={test_size}: expected a share between 0 and 1")

    def split(self, data: CellData, seed: int) -> Split:
        """Stratified split of the cells that have a label of a large enough type."""
        from sklearn.model_selection import train_test_split

        labels = data.labels("cell_type")
        rows, excluded = enough_cells(labels, max(2, self.config["min_cells"]), data.name)
        test_size = self.config["test_size"]
        try:
            train, test = train_test_split(rows, test_size=test_size, random_state=seed, stratify=labels[rows])
        except ValueError as error:
            raise InputError(
                f"{data.name}: {len(rows)} cells of {len(set(labels[rows]))} cell types cannot be split "
                f"{1 - test_size:.0%}/{test_size:.0%} ({error}); raise task.min_cells to leave small types out"
            ) from None
        name = f"stratified-{round(100 * (1 - test_size))}/{round(100 * test_size)}"
        return Split(name, np.sort(train), np.sort(test), excluded)

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Train on the training cells, score on the test cells."""
        labels = data.labels("cell_type")
        result = TaskResult()
        if subject.tuning is not None:
            predicted, test = finetuned_labels(subject, data, split, labels, result)
        elif subject.spec.kind == "predictor":
            predicted = {subject.spec.name: subject.model.predict(data, split, labels, seed)}
            test = split.test
        else:
            predicted, test = self._by_heads(subject, data, split, labels, seed, result)
        for head, labels_found in predicted.items():
            result.metrics += classification_rows(labels[test], labels_found, head)
        result.tables["predictions"] = prediction_table(data.obs_names[test], labels[test], predicted)
        result.tables["confusion"] = confusion_table(labels[test], predicted)
        result.notes["training cells"], result.notes["test cells"] = len(split.train), len(test)
        return result

    def _by_heads(
        self, subject: Subject, data: CellData, split: Split, labels: np.ndarray, seed: int, result: TaskResult
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Labels predicted by each head from frozen vectors, and the test cells they are of."""
        from threadpoolctl import threadpool_limits

        vectors = subject.cells()
        readable = ~np.isnan(vectors).any(axis=1)
        train, test = split.train[readable[split.train]], split.test[readable[split.test]]
        lost = len(split.train) + len(split.test) - len(train) - len(test)
        if lost:
            result.notes["cells the model cannot read"] = lost
        if len(set(labels[train])) < 2 or not len(test):
            raise InputError(
                f"{subject.spec.name} reads too few cells of {data.name}: {len(train)} training cells of "
                f"{len(set(labels[train]))} types and {len(test)} test cells are left"
            )
        predicted = {}
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a head that stops before converging is scored as it is
            for name in self.config["heads"]:
                head = make_head(name, len(train), self.config["neighbors"], seed)
                predicted[name] = head.fit(vectors[train], labels[train]).predict(vectors[test])
        result.tables["umap"] = umap_table(subject, data)
        return predicted, test

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return ("accuracy", "macro_f1", "f1")
