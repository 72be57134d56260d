"""Gene relationships: do similar gene vectors mean regulation and shared function?

The graph analyses of the CellFM paper ("Deciphering gene relationships") as a scored task: TF-target pairs by
similarity (the scores of BEELINE, Pratapa et al. 2020), and gene programs tested against gene sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.gene_matrix import SOURCES
from harness.metrics import row
from harness.registry import register_task
from harness.task import Split, Task, TaskResult
from tasks.gene_names import some
from tasks.gene_relationships.directions import Directions
from tasks.gene_relationships.enrichment import KnownSets, enrichment, known_sets
from tasks.gene_relationships.measured import MeasuredGenes, measured_genes
from tasks.gene_relationships.network_scores import network_scores, tf_average_precision
from tasks.gene_relationships.pair_ranks import parse_pairs, ranks_of
from tasks.gene_relationships.programs import leiden, programs, similarity_graph
from tasks.gene_relationships.regulation import Regulation, Universe, read_regulation
from tasks.gene_relationships.tables import Resolved, curve_table, network_tables, programs_table, similarity_table
from tasks.gene_sets import read_gene_sets

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.subject import Subject

HEADS = ("cosine", "cosine_shuffled")
METRICS = (
    "tf_auprc",
    "tf_auprc_ratio",
    "tf_average_precision",
    "early_precision",
    "early_precision_ratio",
    "enriched_sets",
)


@register_task("gene_relationships")
class GeneRelationships(Task):
    """Similarity (cosine) of gene vectors, as a network of regulation and as a graph of programs.

    Parameters
    ----------
    heads
        Of `HEADS`; the shuffled one gives each gene the vector of another.
    embedding
        `static` or `contextual`, see `harness.subject.Subject.genes`.
    reference_cells, n_top_genes
        Which genes take part, see `tasks.gene_relationships.measured`; those of the table and the pairs always do.
    regulation
        A table of TF-target pairs; None: not scored.
    min_targets
        TFs with fewer measured targets have no score of their own.
    gene_sets
        GMT files; none: programs are found and not tested.
    n_neighbors, resolutions
        Of the graph, and of Leiden.
    pairs
        `A-B` or `[A, B]`: pairs whose ranks are wanted.
    """

    name = "gene_relationships"
    title = "Gene relationships"
    headline = tuple(
        (metric, head)
        for metric in ("tf_average_precision", "tf_auprc_ratio", "early_precision_ratio", "enriched_sets")
        for head in HEADS
    )
    controls: ClassVar = {"floor": ("random_embedding",)}
    answered_by = ("heads", "embedding")

    def __init__(
        self,
        heads: Sequence[str] = ("cosine",),
        embedding: str = "static",
        reference_cells: int = 300,
        regulation: str | None = None,
        min_targets: int = 5,
        gene_sets: Sequence[str] | str = (),
        n_top_genes: int | None = 3000,
        n_neighbors: int = 15,
        resolutions: Sequence[float] = (1, 5, 10, 20, 40),
        pairs: Sequence[Any] = (),
    ):
        heads, files = list(heads), [gene_sets] if isinstance(gene_sets, str) else list(gene_sets)
        self.regulation: Regulation | None = None if regulation is None else read_regulation(regulation)
        self.gene_sets = [read_gene_sets(file, "task.gene_sets") for file in files]
        self.pairs = parse_pairs(pairs)
        self.resolutions = sorted({float(value) for value in resolutions})
        super().__init__(
            heads=heads,
            embedding=embedding,
            reference_cells=reference_cells,
            regulation=None if self.regulation is None else self.regulation.content,
            min_targets=min_targets,
            gene_sets=[sets.content for sets in self.gene_sets],
            n_top_genes=n_top_genes,
            n_neighbors=n_neighbors,
            resolutions=self.resolutions,
            pairs=[list(pair) for pair in self.pairs],
        )
        unknown = [head for head in heads if head not in HEADS]
        if unknown or not heads:
            raise InputError(f"task.heads={heads}: expected some of {', '.join(HEADS)}")
        if embedding not in SOURCES:
            raise InputError(f"task.embedding={embedding}: expected {' or '.join(SOURCES)}")
        if not self.resolutions or self.resolutions[0] <= 0:
            raise InputError(f"task.resolutions={list(resolutions)}: expected numbers above zero")
        for name, least in (("reference_cells", 2), ("min_targets", 1), ("n_top_genes", 1), ("n_neighbors", 1)):
            value = self.config[name]
            if not (isinstance(value, int) and value >= least) and not (value is None and name == "n_top_genes"):
                raise InputError(f"task.{name}={value}: expected a whole number from {least}")

    def split(self, data: CellData, seed: int) -> Split:
        """All cells; nothing is trained."""
        return Split("all", np.array([], np.int64), np.arange(data.n_obs))

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Score the similarities of one model's gene vectors."""
        wanted = {gene for pair in self.pairs for gene in pair}
        wanted |= set() if self.regulation is None else self.regulation.genes
        measured = measured_genes(data, self.config["reference_cells"], self.config["n_top_genes"], wanted)
        result = TaskResult(notes=measured.notes())
        if self.regulation is not None:
            result.notes |= self.regulation.notes(measured.expressed.tolist())
            if not len(self.regulation.universe(measured.table.names.tolist()).tfs):
                raise InputError(
                    f"{self.regulation.name}: {data.name} expresses no TF together with a target of its "
                    f"(it has {some(measured.table.names.tolist())}); gene symbols of the same species are expected"
                )
        genes = self._genes(subject, measured, result)
        universe = self._universe(subject, genes, result)
        sets = known_sets(self.gene_sets, genes.names.tolist()) if self.gene_sets else None
        if sets is not None:
            result.notes["gene sets tested"] = f"{len(sets.names)}, of {', '.join(s.name for s in self.gene_sets)}"
        tables: dict[str, list[pd.DataFrame]] = {}
        for head in self.config["heads"]:
            of_head = genes if head == HEADS[0] else genes.shuffled(seed)
            if universe is not None:
                self._score_network(head, of_head, universe, result)
            for kind, table in self._programs(head, of_head, sets, seed, result).items():
                tables.setdefault(kind, []).append(table)
            if self.pairs:
                ranks = ranks_of(of_head, self.pairs)
                ranks.insert(0, "head", head)
                tables.setdefault("pair_ranks", []).append(ranks)
        import pandas as pd

        result.tables = {kind: pd.concat(parts, ignore_index=True) for kind, parts in tables.items()}
        return result

    def _genes(self, subject: Subject, measured: MeasuredGenes, result: TaskResult) -> Directions:
        """The gene vectors of a model, or of the task's own baseline."""
        if subject.spec.kind == "predictor":
            matrix = subject.model.predict(measured.table, measured.reference)
        else:
            matrix = subject.genes(measured.table, source=self.config["embedding"], reference=measured.reference)
            result.notes["gene vectors"] = self.config["embedding"] if subject.spec.kind == "foundation" else "own"
        genes = Directions.of(measured.table.names, matrix)
        without = measured.table.names[~np.isin(measured.table.names, genes.names)]
        result.notes["genes with a vector"] = f"{len(genes)} of {len(measured.table)}"
        if len(without):
            result.notes["genes without a vector"] = some(without.tolist())
        absent = sorted({gene for pair in self.pairs for gene in pair} - set(genes.names.tolist()))
        if absent:
            result.notes["pairs left out, of genes not expressed or without a vector"] = some(absent)
        return genes

    def _universe(self, subject: Subject, genes: Directions, result: TaskResult) -> Universe | None:
        """The TF-target pairs of genes that have a vector."""
        if self.regulation is None:
            return None
        universe = self.regulation.universe(genes.names.tolist())
        if not len(universe.tfs):
            raise NotApplicableError(
                f"{subject.spec.title} has vectors of no TF of {self.regulation.name} together with a target"
            )
        enough = int((universe.true.sum(axis=1) >= self.config["min_targets"]).sum())
        n, k = int(universe.scored.sum()), int(universe.true.sum())
        result.notes["TFs scored"] = f"{len(universe.tfs)}, {enough} of them with {self.config['min_targets']} targets"
        result.notes["pairs scored"] = f"{n}, {k} of them in {self.regulation.name} (share {k / n:.3g})"
        return universe

    def _score_network(self, head: str, genes: Directions, universe: Universe, result: TaskResult) -> None:
        """Add the rows of TF-target pairs ranked by similarity."""
        weight = genes.unit[universe.tfs] @ genes.unit[universe.candidates].T
        scores = network_scores(weight[universe.scored], universe.true[universe.scored])
        for name, value in (
            ("tf_auprc", scores.auprc),
            ("tf_auprc_ratio", scores.auprc_ratio),
            ("early_precision", scores.early_precision),
            ("early_precision_ratio", scores.early_precision_ratio),
        ):
            result.metrics.append(row(name, value, head=head, n=scores.n_possible))
        of_tf = tf_average_precision(weight, universe.true, universe.scored, self.config["min_targets"])
        has = np.flatnonzero(~np.isnan(of_tf))
        mean = float(of_tf[has].mean()) if len(has) else None
        result.metrics.append(row("tf_average_precision", mean, head=head, n=len(has)))
        for i in has.tolist():
            key, n = str(genes.names[universe.tfs[i]]), int(universe.true[i].sum())
            result.metrics.append(
                row("tf_average_precision", float(of_tf[i]), head=head, scope="per-gene", key=key, n=n)
            )

    def _programs(
        self, head: str, genes: Directions, sets: KnownSets | None, seed: int, result: TaskResult
    ) -> dict[str, pd.DataFrame]:
        """The tables of programs at each resolution; the row of enriched sets is added."""
        graph = similarity_graph(genes, self.config["n_neighbors"])
        drawn, found = graph.igraph(), []
        for resolution in self.resolutions:
            own = programs(leiden(drawn, resolution, seed), genes)
            found.append(Resolved(head, resolution, own, None if sets is None else enrichment(own, sets)))
        if sets is not None:
            enriched = [each.tested.n_enriched for each in found if each.tested is not None]
            result.metrics.append(row("enriched_sets", float(np.mean(enriched)), head=head, n=len(sets.names)))
        nodes, edges = network_tables(graph, found[len(found) // 2], seed)
        return {
            "enrichment_curve": curve_table(found),
            "gene_programs": programs_table(found, genes.names, sets),
            "gene_network": nodes,
            "gene_edges": edges,
            "gene_similarity": similarity_table(genes, found[len(found) // 2]),
        }

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS
