"""Cell-type annotation: heads on frozen embeddings, or networks fine-tuned, within a data set or across batches.

CellFM paper, section "Cell type annotation with CellFM".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.registry import register_task
from harness.task import Split, Task, TaskResult
from harness.tuning import HEADS as TUNED_HEADS
from harness.tuning import SETTINGS
from tasks.annotation.heads import HEADS
from tasks.annotation.ontology import OntologyScores
from tasks.annotation.predictions import NO_HEAD, Prediction, predict
from tasks.annotation.rejection import choose_held_out, max_probability, rejection_rows, without_types
from tasks.annotation.scores import confusion_table, focus_rows, over_folds, prediction_rows, prediction_table
from tasks.annotation.splits import GROUPS, by_column, leave_out, n_groups, stratified
from tasks.labels import umap_table
from tasks.roughness import rogi_rows

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject

#: What can be annotated: a role of the data set.
TARGETS = ("cell_type", "label")
#: Splits that leave no group out, or find out by themselves.
WITHOUT_GROUPS = ("auto", "stratified", "given")


@register_task("annotation")
class Annotation(Task):
    """Accuracy, macro F1, macro AUPRC and AUROC of each head, and F1, accuracy and AUPRC of each class.

    With `setting=frozen` the heads below read the cell vectors; with `lora` and `full` the network is trained together
    with the one head that `finetune.head` names, on the same split. A protocol of several folds is scored fold by fold,
    and the number of a run is the mean over its folds.

    Parameters
    ----------
    heads
        Of `tasks.annotation.heads.HEADS`, for `setting=frozen`.
    split
        `stratified`; `batch`, `donor`, `condition` or `label`: each of them is left out in turn; `given`: the column
        `dataset.split` says; `auto`: by donor, or else by batch, or else stratified, as the data allow.
    folds
        Some of the groups that are left out; all by default.
    test_size
        Share of test cells, per cell type, of the stratified split.
    min_train_cells
        Cell types with fewer training cells are left out, and counted (10 in the paper).
    neighbors
        Of the knn head.
    target
        What is annotated: `cell_type`, or any other column as `label` (cancer or not, responder or not).
    focus
        Close types (exhausted and activated CD8 T cells): accuracy among the cells of these alone.
    reject
        Share of the cell types taken out of a second training, whose cells should be recognised as unknown; 0: none.
    ontology, terms
        Cell Ontology (`.obo` or a table of is_a edges), and a table of cell types and their ids (or the column
        `dataset.cell_ontology`): how far off the mistakes are, and whether neighbours in the embedding are related.
    layout
        Whether to lay the cells out in the plane (UMAP): most of the time of a small grid, and in no number.
    """

    name = "annotation"
    title = "Cell-type annotation"
    version = "2"
    headline = (
        *(("macro_f1", head) for head in dict.fromkeys((*HEADS, *TUNED_HEADS))),
        ("macro_f1", NO_HEAD),
        ("accuracy", "logreg"),
        ("macro_auprc", "logreg"),
    )
    settings = SETTINGS
    controls: ClassVar = {"floor": ("random_embedding", "permuted_labels"), "ceiling": ("perfect_embedding",)}

    def __init__(
        self,
        heads: Sequence[str] = ("knn", "logreg", "mlp"),
        split: str = "stratified",
        folds: Sequence[str] | None = None,
        test_size: float = 0.3,
        min_train_cells: int = 10,
        neighbors: int = 10,
        target: str = "cell_type",
        focus: Sequence[str] = (),
        reject: float = 0.0,
        ontology: str | None = None,
        terms: str | None = None,
        layout: bool = True,
    ):
        heads, focus = list(heads), sorted(map(str, focus))
        folds = None if folds is None else sorted(map(str, folds))
        self.ontology = OntologyScores(ontology, terms)
        super().__init__(
            heads=heads,
            split=split,
            folds=folds,
            test_size=test_size,
            min_train_cells=min_train_cells,
            neighbors=neighbors,
            target=target,
            focus=focus,
            reject=reject,
            ontology=self.ontology.content,
            **({} if layout else {"layout": False}),  # so that ids are those of before it could be switched off
        )
        unknown = [head for head in heads if head not in HEADS]
        if unknown or not heads:
            raise InputError(f"task.heads={heads}: expected some of {', '.join(HEADS)}")
        if split not in (*WITHOUT_GROUPS, *GROUPS):
            raise InputError(f"task.split={split}: expected {', '.join((*WITHOUT_GROUPS, *GROUPS))}")
        if folds is not None and split in ("stratified", "given"):
            raise InputError(f"task.folds={folds}: only task.split={', '.join(GROUPS)} have folds")
        if not 0 < test_size < 1:
            raise InputError(f"task.test_size={test_size}: expected a share between 0 and 1")
        if not (isinstance(min_train_cells, int) and min_train_cells >= 1):
            raise InputError(f"task.min_train_cells={min_train_cells}: expected a whole number from 1")
        if target not in TARGETS:
            raise InputError(f"task.target={target}: expected {' or '.join(TARGETS)}")
        if not 0 <= reject < 1:
            raise InputError(f"task.reject={reject}: expected a share from 0 to under 1")
        if split == target:
            raise InputError(f"task.split={split}: the {target} that is annotated cannot be left out")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The annotated column, and that of the split."""
        role = {"stratified": (), "auto": (), "given": ("split",)}.get(self.config["split"], (self.config["split"],))
        return (self.config["target"], *role)

    def split(self, data: CellData, seed: int) -> Split:
        """The split of the protocol; only the stratified one depends on the seed."""
        labels, config = data.labels(self.config["target"]), self.config
        least, how = config["min_train_cells"], config["split"]
        if how == "auto":
            how = next((role for role in ("donor", "batch") if n_groups(data, role) > 1), "stratified")
        if how == "given":
            return by_column(data, labels, min_train_cells=least)
        if how in GROUPS:
            return leave_out(data, labels, how, min_train_cells=least, only=config["folds"])
        return stratified(data, labels, seed, test_size=config["test_size"], min_train_cells=least)

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Train on the training cells, score on the test cells, fold by fold."""
        labels, result = data.labels(self.config["target"]), TaskResult()
        folds: list[tuple[Split, list[Prediction]]] = []
        for fold in split.each():
            folds.append((fold, self._predict(subject, data, fold, labels, seed, result)))
        rows = [(fold.name, prediction_rows(labels, found)) for fold, found in folds]
        result.metrics = rows[0][1] if not split.folds else over_folds(rows, labels, [found for _, found in folds])
        pooled = [prediction for _, found in folds for prediction in found]
        result.metrics += focus_rows(labels, pooled, self.config["focus"])
        result.tables["predictions"] = prediction_table(data.obs_names, labels, folds)
        result.tables["confusion"] = confusion_table(labels, pooled)
        tested = np.unique(np.concatenate([prediction.rows for prediction in pooled]))
        result.notes["training cells"] = len(split.train) if not split.folds else f"{len(split.folds)} folds"
        result.notes["test cells"] = len(tested)
        lost = sum(len(fold.test) for fold in split.each()) - sum(len(found[0].rows) for _, found in folds)
        if lost:
            result.notes["test cells the model cannot read"] = lost
        if self.config["reject"]:
            self._reject(subject, data, split, labels, seed, result)
        vectors = None if subject.tuning is not None or subject.spec.kind == "predictor" else subject.cells()
        if vectors is not None:
            if self.config.get("layout", True):
                result.tables["umap"] = umap_table(subject, data)
            known = ~np.isnan(vectors).any(axis=1) & (labels != "")
            rough, notes = rogi_rows(vectors[known], labels[known], seed)
            result.metrics += rough
            result.notes |= notes
        self.ontology.add(data, labels, pooled, vectors, seed, result)
        return result

    def _predict(
        self, subject: Subject, data: CellData, split: Split, labels: np.ndarray, seed: int, result: TaskResult
    ) -> list[Prediction]:
        config = self.config
        return predict(subject, data, split, labels, seed, result, heads=config["heads"], neighbors=config["neighbors"])

    def _reject(
        self, subject: Subject, data: CellData, split: Split, labels: np.ndarray, seed: int, result: TaskResult
    ) -> None:
        """Train again without some types, in the first fold, and ask for which cells the head is unsure."""
        if subject.tuning is not None:
            result.notes["rejection"] = "not applicable: a second fine-tuning for it is not made"
            return
        if subject.spec.kind == "predictor" and not hasattr(subject.model, "predict_scores"):
            result.notes["rejection"] = f"not applicable: {subject.spec.title} gives no confidence"
            return
        fold = split.each()[0]
        try:
            held_out = choose_held_out(labels, fold, self.config["reject"], seed)
        except InputError as error:
            result.notes["rejection"] = f"not applicable: {error}"
            return
        result.notes["types held out for rejection"] = ", ".join(held_out)
        try:
            found = self._predict(subject, data, without_types(fold, labels, held_out), labels, seed, result)
        except (InputError, NotApplicableError) as error:
            result.notes["rejection"] = f"not applicable: {error}"
            return
        for prediction in found:
            if prediction.scores is not None:
                sure = max_probability(prediction.scores)
                result.metrics += rejection_rows(labels[prediction.rows], sure, held_out, prediction.head)

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        names = ["accuracy", "macro_f1", "f1", "macro_auprc", "auroc", "auprc", "class_accuracy"]
        names += ["assigned_share", "accuracy_assigned", "rogi", "rogi_xd", "rogi_published"]
        names += ["focus_accuracy", "focus_macro_f1"] if self.config["focus"] else []
        names += ["rejection_auroc"] if self.config["reject"] else []
        return (*names, *self.ontology.metric_names)
