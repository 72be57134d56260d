"""Gene function: is what a gene does told by the vector a model has of it?

CellFM paper, "CellFM improves the accuracy of gene function prediction". A small classifier reads the vectors; nothing
of the network is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.gene_matrix import SOURCES
from harness.metrics import row
from harness.registry import register_task
from harness.results import content_id
from harness.task import Split, Task, TaskResult
from tasks.gene_function.attribute_learning import attribute_learning_index, chance_index, cluster_genes
from tasks.gene_function.baselines import PermutedLabels
from tasks.gene_function.classifiers import HEADS, SHUFFLED, shuffled
from tasks.gene_function.families import families, read_families
from tasks.gene_function.folds import KINDS, folds
from tasks.gene_function.gene_lists import read_gene_list
from tasks.gene_function.genes import LabelledGenes, labelled_genes
from tasks.gene_function.labels import GeneLabels, read_labels
from tasks.gene_function.rows import METRICS, metric_rows, test_fold
from tasks.gene_function.specificity import specificity_labels
from tasks.gene_function.vectors import gene_vectors
from tasks.gene_names import some

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject

TAU = "tau"
MISSING = ("mean", "drop")


@register_task("gene_function")
class GeneFunction(Task):
    """Classes or functions of genes, predicted from their vectors in repeated folds.

    Two classes: AUROC and average precision of the rarer one (or `positive`); more: their means over classes; both:
    accuracy and macro F1. Functions: average precision over all pairs and by function, Fmax. Each number comes twice:
    by folds at random, and by folds that keep families of genes together (`_family`). The board ranks by the latter: in
    folds at random a classifier passes by recognising paralogues.

    Parameters
    ----------
    labels
        `bundled`, a table or gene sets (see `tasks.gene_function.labels.read_labels`), or `tau`: whether a gene is
        tissue specific in the reference cells.
    gene_column, label_column
        Of a table.
    positive
        The class that AUROC and average precision are of; None: the one with fewer genes.
    n_functions
        Of gene sets, so many of the most frequent.
    heads
        Of `tasks.gene_function.classifiers.HEADS`.
    folds
        `random`, `family` or both.
    n_folds, fold_seeds
        A repeat per seed; what a run's own seed stands for is the checkpoint, and the classifier's draws.
    families
        A table of genes and families; None: by the stems of symbols.
    embedding
        `static`: the network's own table; `contextual`: in the reference cells that express a gene.
    reference_cells
        At most so many cells are read for contextual vectors; genes that these do not express have none.
    among
        Data sets or files: genes that are not in each of them take no part. All compared models are asked the same.
    missing
        Genes without a vector: `mean` gives them the mean vector (all rows are asked the same genes), `drop` leaves
        them out of this row alone, which is then flagged.
    tissue
        Role of the column that `labels=tau` reads.
    layout
        Whether to lay the vectors out in the plane, where classes exclude each other.
    """

    name = "gene_function"
    title = "Gene function"
    version = "2"
    headline = tuple(
        (metric + KINDS[kind], head)
        for kind in ("family", "random")
        for head in HEADS
        for metric in ("auroc", "auprc_micro")
        if not head.endswith(SHUFFLED)
    )
    controls: ClassVar = {"floor": ("random_embedding", "permuted_gene_labels")}
    answered_by = ("heads", "embedding", "reference_cells")

    def __init__(
        self,
        labels: str = "bundled",
        gene_column: str | None = None,
        label_column: str = "label",
        positive: str | None = None,
        n_functions: int = 10,
        heads: Sequence[str] = ("logreg",),
        folds: Sequence[str] = ("random", "family"),
        n_folds: int = 5,
        fold_seeds: Sequence[int] = (0, 1, 2, 3, 4),
        families: str | None = None,
        embedding: str = "static",
        reference_cells: int = 300,
        among: Sequence[str] = (),
        missing: str = "mean",
        tissue: str = "cell_type",
        layout: bool = True,
    ):
        heads, kinds, lists = (
            _listed(key, said) for key, said in (("heads", heads), ("folds", folds), ("among", among))
        )
        columns = {"gene_column": None if gene_column is None else str(gene_column), "label_column": str(label_column)}
        positive = None if positive is None else str(positive)  # Hydra reads 1 as a number
        self.labels = None if labels == TAU else read_labels(labels, **columns)
        self.families = None if families is None else read_families(families)
        self.among = [read_gene_list(each) for each in lists]
        super().__init__(
            labels=TAU if self.labels is None else self.labels.content,
            positive=positive,
            n_functions=n_functions,
            heads=heads,
            folds=kinds,
            n_folds=n_folds,
            fold_seeds=list(fold_seeds) if isinstance(fold_seeds, Sequence) else fold_seeds,
            families=None if self.families is None else content_id(sorted(self.families.items()), 32),
            embedding=embedding,
            reference_cells=reference_cells,
            among=[content_id([t.names.tolist(), t.symbols.tolist(), t.ensembl.tolist()], 32) for t in self.among],
            missing=missing,
            tissue=tissue,
            **({} if layout else {"layout": False}),  # it is in no number
        )
        for key, said, known in (("heads", heads, HEADS), ("folds", kinds, tuple(KINDS))):
            if not said or any(each not in known for each in said):
                raise InputError(f"task.{key}={said}: expected some of {', '.join(known)}")
        for key, value, known in (("embedding", embedding, SOURCES), ("missing", missing, MISSING)):
            if value not in known:
                raise InputError(f"task.{key}={value}: expected {' or '.join(known)}")
        for key, value, least in (
            ("n_folds", n_folds, 2),
            ("n_functions", n_functions, 1),
            ("reference_cells", reference_cells, 2),
        ):
            if type(value) is not int or value < least:
                raise InputError(f"task.{key}={value}: expected a whole number from {least}")
        seeds = self.config["fold_seeds"]
        whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds):
            raise InputError(f"task.fold_seeds={seeds}: expected a list of different whole numbers, [0,1,2]")
        if self.labels is not None and positive is not None and positive not in self.labels.classes:
            raise InputError(f"task.positive={positive}: the classes are {some(self.labels.classes)}")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Nothing of the cells but their counts; the tissue for `labels=tau`."""
        return (self.config["tissue"],) if self.labels is None else ()

    def dataset_name(self, data: CellData) -> str:
        """What the numbers are of: the labels."""
        return f"{TAU}_{data.name}" if self.labels is None else self.labels.name

    def split(self, data: CellData, seed: int) -> Split:
        """All cells are reference cells; the folds are of genes."""
        name = f"{len(self.config['fold_seeds'])}x{self.config['n_folds']}-fold, {data.name}"
        return Split(name, np.array([], np.int64), np.arange(data.n_obs))

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Train and test in every fold."""
        asked, result = self._asked(data), TaskResult()
        result.notes |= asked.notes
        positive = self._positive(asked.labels)
        config = self.config
        vectors, said = gene_vectors(subject, data, asked, config["embedding"], config["reference_cells"], seed)
        result.notes |= said
        known = ~np.isnan(vectors).any(axis=1)
        if not known.all():
            done = "the mean vector in their place" if config["missing"] == "mean" else "left out"
            result.notes["genes without a vector"] = f"{(~known).sum()}: {some(asked.symbols[~known])}: {done}"
        if config["missing"] == "drop" and not known.all():
            asked, vectors = asked.of(np.flatnonzero(known)), vectors[known]
            result.flags.append("own-genes")
            if (asked.labels.member.sum(axis=0) < config["n_folds"]).any():
                raise NotApplicableError(
                    f"{subject.spec.title} has vectors of {len(vectors)} of these genes, too few in a class; "
                    "task.missing=mean keeps them all"
                )
        vectors = np.where(np.isnan(vectors), np.nanmean(vectors, axis=0), vectors)
        labels, names = asked.labels, families(asked.symbols.tolist(), self.families)
        if subject.spec.kind == "predictor" and isinstance(subject.model, PermutedLabels):
            labels = labels.of(np.random.default_rng([seed, 73]).permutation(len(labels.genes)))
        kinds = self._kinds(labels, names, result)
        result.notes |= _base_rate(labels, positive)
        found = []
        for head in self.config["heads"]:
            own = shuffled(vectors, seed) if head.endswith(SHUFFLED) else vectors
            for kind in kinds:
                for fold in folds(labels, kind, self.config["n_folds"], self.config["fold_seeds"], names):
                    found.append(test_fold(head, own, labels, fold, positive, seed))
        result.metrics = metric_rows(found)
        self._clusters(subject, asked, labels, vectors, seed, result)
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS

    def _positive(self, labels: GeneLabels) -> int:
        """Number of the class that AUROC and average precision are of."""
        said = self.config["positive"]
        if said is None:
            return int(labels.member.sum(axis=0).argmin())
        if said not in labels.classes:
            raise InputError(f"task.positive={said}: the classes with enough genes are {some(labels.classes)}")
        return labels.classes.index(said)

    def _asked(self, data: CellData) -> LabelledGenes:
        labels = specificity_labels(data, self.config["tissue"]) if self.labels is None else self.labels
        config = self.config
        return labelled_genes(
            labels, data, least=config["n_folds"], n_functions=config["n_functions"], among=self.among
        )

    def _kinds(self, labels: GeneLabels, names: np.ndarray, result: TaskResult) -> list[str]:
        """The kinds of folds that can be made; what families do to them is said.

        Raises
        ------
        InputError
            None can.
        """
        sizes, n_folds = np.bincount(names), self.config["n_folds"]
        alone = [c for c, own in zip(labels.classes, labels.member.T, strict=True) if len(np.unique(names[own])) == 1]
        result.notes["families"] = f"{len(sizes)} of {len(names)} genes, the largest of {sizes.max()}"
        if alone:
            result.notes["classes of one family, which no fold by family can test"] = some(alone)
        kinds = [kind for kind in self.config["folds"] if kind == "random" or len(sizes) >= n_folds]
        if not kinds:
            raise InputError(
                f"task.folds=[family]: the genes of {labels.name} are of {len(sizes)} families, and {n_folds} needed, "
                "as many as task.n_folds; say task.folds=[random], or give task.families=FILE"
            )
        if len(kinds) < len(self.config["folds"]):
            result.notes["folds by family"] = "not made: there are fewer families than folds"
        return kinds

    def _clusters(
        self,
        subject: Subject,
        asked: LabelledGenes,
        labels: GeneLabels,
        vectors: np.ndarray,
        seed: int,
        result: TaskResult,
    ) -> None:
        """Attribute Learning Index and picture, of classes that exclude each other."""
        if not labels.exclusive:
            return
        clusters = cluster_genes(vectors, len(labels.classes), seed)
        index = attribute_learning_index(clusters, labels.codes)
        result.metrics.append(row("attribute_learning_index", index, head="none", n=len(vectors)))
        by_chance = chance_index(clusters, labels.codes, seed)
        result.notes["attribute learning index of permuted labels"] = round(by_chance, 4)
        if self.config.get("layout", True) and subject.spec.kind != "predictor":
            import pandas as pd

            xy = subject.layout(vectors)
            names = np.array(labels.classes)[labels.codes]
            result.tables["umap"] = pd.DataFrame({"name": asked.symbols, "x": xy[:, 0], "y": xy[:, 1], "class": names})


def _base_rate(labels: GeneLabels, positive: int) -> dict[str, Any]:
    """What average precision is by chance."""
    if labels.exclusive and len(labels.classes) == 2:
        return {"positive class": f"{labels.classes[positive]}, base rate {labels.member[:, positive].mean():.3f}"}
    return {"base rate": round(float(labels.member.mean()), 4)}


def _listed(key: str, said: Any) -> list[str]:
    """A setting that is a list of names; a name alone is a list of one."""
    if isinstance(said, str):
        return [said]
    if not isinstance(said, Sequence):
        raise InputError(f"task.{key}={said}: expected a list of names, [A,B]")
    return list(map(str, said))
