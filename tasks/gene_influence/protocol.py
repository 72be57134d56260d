"""Gene influence: are the genes that a network moves most, when one is taken away, the known targets of that one?

CellFM paper, "genes most affected by perturbations", which counts how many of the 20 most influenced genes ChIP-Atlas
has as targets. Here the count stands beside draws of as many genes, at random and of like expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.metrics import row
from harness.provenance import CostMeter
from harness.registry import register_task
from harness.subsample import STRATA, stratified, subsample
from harness.task import Split, Task, TaskResult
from tasks.gene_influence.attention import attention_influence, attention_table, lncrna_table
from tasks.gene_influence.baselines import mean_expression
from tasks.gene_influence.deletion import deletion_influence
from tasks.gene_influence.influenced import Influenced, Overlap
from tasks.gene_influence.tables import Biotypes, Targets, read_biotypes, read_targets
from tasks.gene_names import gene_names, some

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.model import ModelAdapter
    from harness.subject import Subject

METHODS = ("deletion", "attention")
METRICS = ("target_precision", "target_lift", "target_auprc")


@register_task("gene_influence")
class GeneInfluence(Task):
    """The genes most influenced by a perturbed gene, and their overlap with its known targets.

    Parameters
    ----------
    perturbed
        Symbols of the genes whose influence is asked for.
    targets
        A table (regulator, target); None: the influenced genes are listed and not scored.
    method
        `deletion`: how far a gene's vector moves when the perturbed one is taken out of the cell; `attention`: how much
        it reads the perturbed one, where a model gives its attention. With it come the genes each cell type reads.
    top
        So many of the most influenced genes are looked at.
    cells
        At most so many of the cells that express the gene, always the same ones.
    min_cells
        Genes in fewer of these cells take no part: a mean over one cell says little.
    draws
        Of each kind.
    biotypes
        A table (symbol, biotype): how many lncRNAs are among the genes that each cell type reads.
    """

    name = "gene_influence"
    title = "Gene influence"
    headline = tuple((metric, "none") for metric in METRICS)
    controls: ClassVar = {"floor": ("influence_random",)}
    answered_by = ("method",)

    def __init__(
        self,
        perturbed: Sequence[str] | str = (),
        targets: str | None = None,
        method: str = "deletion",
        top: int = 20,
        cells: int = 200,
        min_cells: int = 5,
        draws: int = 1000,
        biotypes: str | None = None,
    ):
        genes = [perturbed] if isinstance(perturbed, str) else list(map(str, perturbed))
        self.perturbed = sorted(set(genes))
        self.targets: Targets | None = None if targets is None else read_targets(targets)
        self.biotypes: Biotypes | None = None if biotypes is None else read_biotypes(biotypes)
        super().__init__(
            perturbed=self.perturbed,
            targets=None if self.targets is None else self.targets.content,
            method=method,
            top=top,
            cells=cells,
            min_cells=min_cells,
            draws=draws,
            biotypes=None if self.biotypes is None else self.biotypes.content,
        )
        if method not in METHODS:
            raise InputError(f"task.method={method}: expected {' or '.join(METHODS)}")
        for name, value in (("top", top), ("cells", cells), ("min_cells", min_cells), ("draws", draws)):
            if type(value) is not int or value < 1:
                raise InputError(f"task.{name}={value}: expected a whole number from 1")

    def split(self, data: CellData, seed: int) -> Split:
        """All cells; nothing is trained."""
        return Split("all", np.array([], np.int64), np.arange(data.n_obs))

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Rank the genes for every perturbed one, and count the targets."""
        spec, result = subject.spec, TaskResult()
        if not self.perturbed and self.config["method"] == "deletion":
            raise InputError("task.perturbed=[]: name the genes whose influence is asked for, task.perturbed=[GATA1]")
        network = None if spec.kind == "predictor" else self._network(subject)
        if self.perturbed:
            self._perturbed(subject, network, data, seed, result)
        elif network is None:
            raise NotApplicableError(f"{spec.title} has no attention; it needs task.perturbed=[GENE]")
        if network is not None and self.config["method"] == "attention":
            self._by_type(network, data, seed, result)
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS

    def _network(self, subject: Subject) -> ModelAdapter:
        """The network, which its cost and its row are told of."""
        if subject.spec.kind != "foundation":
            raise NotApplicableError(f"{subject.spec.title} has no vectors of genes in a cell, and no attention")
        with CostMeter() as loading:  # and pretraining, where it is still to be done
            model: ModelAdapter = subject.model
        subject.embedding_seconds += loading.seconds
        subject.about = {"n_params": model.n_params, "variant": model.variant, "readout": self.config["method"]}
        if model.pretraining:
            subject.about["pretraining"] = {k: v for k, v in model.pretraining.items() if k != "losses"}
        return model

    def _perturbed(
        self, subject: Subject, network: ModelAdapter | None, data: CellData, seed: int, result: TaskResult
    ) -> None:
        """Influenced genes of each perturbed one; those that cannot be scored are named."""
        import pandas as pd

        names, left, found = gene_names(data.genes), dict[str, list[str]](), list[Influenced]()
        expressed = _expressed(data, names, self.perturbed)
        for gene in self.perturbed:
            columns, rows = np.flatnonzero(names == gene), np.flatnonzero(expressed[gene])
            why: Influenced | str | None = self._unscored(gene, columns, rows, names)
            if why is None:
                strata = [data.labels(role) for role in STRATA if data.has(role)] or [np.zeros(data.n_obs, np.str_)]
                cells = data.subset(stratified(rows, strata, self.config["cells"]))
                why = self._influence(subject, network, data, cells, gene, columns, seed)
            if isinstance(why, Influenced):
                found.append(why)
            else:
                left.setdefault(why, []).append(gene)
        for why, genes in left.items():
            result.notes[f"perturbed genes {why}"] = f"{len(genes)}: {some(genes)}"
        if not found:
            reasons = "; ".join(f"{why}: {some(genes)}" for why, genes in left.items())
            if list(left) == [_unknown(subject.spec.title)]:
                raise NotApplicableError(f"no perturbed gene can be asked for: {reasons}")
            raise InputError(f"task.perturbed: none of the genes can be asked for in {data.name} ({reasons})")
        result.notes["perturbed genes"] = f"{len(found)} of {len(self.perturbed)}"
        result.notes["cells read"] = some(f"{each.perturbed} {each.cells}" for each in found)
        result.tables["influenced_genes"] = pd.concat([self._listed(each) for each in found], ignore_index=True)
        if self.targets is not None:
            overlaps = [each.overlap(self.config["top"], self.config["draws"], seed) for each in found]
            result.tables["influence_draws"] = pd.DataFrame([each.line() for each in overlaps])
            result.notes["targets"] = self.targets.name
            self._rows(overlaps, result)

    def _unscored(self, gene: str, columns: np.ndarray, rows: np.ndarray, names: np.ndarray) -> str | None:
        """Why a gene is left out before any model is asked; None if it is not."""
        if not len(columns):
            return "not measured"
        if not len(rows):
            return "expressed in no cell"
        if self.targets is None:
            return None
        own = self.targets.of.get(gene, frozenset())
        if not own:
            return f"without targets in {self.targets.name}"
        return None if own & set(names.tolist()) else "of whose targets none is measured"

    def _influence(
        self,
        subject: Subject,
        network: ModelAdapter | None,
        data: CellData,
        cells: CellData,
        gene: str,
        columns: np.ndarray,
        seed: int,
    ) -> Influenced | str:
        """The genes that one influences, or why it cannot be asked for."""
        if network is None:
            influence = np.asarray(subject.model.predict(data, cells, columns, seed), np.float64)
            times = np.bincount(cells.counts().indices, minlength=cells.n_vars)
        else:
            ids = network.match_genes(cells.genes).ids
            if not (ids[columns] >= 0).any():
                return _unknown(subject.spec.title)
            if self.config["method"] == "attention":
                influence, times = attention_influence(network, cells, columns, seed=seed)
            else:  # also under the other names that the model knows it by
                columns = np.union1d(columns, np.flatnonzero(np.isin(ids, ids[columns][ids[columns] >= 0])))
                influence, times = deletion_influence(network, cells, columns, seed=seed, progress=subject.progress)
        influence = np.where(times >= self.config["min_cells"], influence, np.nan)
        influence[columns] = np.nan
        own = frozenset() if self.targets is None else self.targets.of[gene]
        found = Influenced.of(gene, cells.n_obs, gene_names(cells.genes), influence, mean_expression(cells), own)
        if len(found.names) < self.config["top"]:
            return f"with fewer than task.top={self.config['top']} other genes in task.min_cells of their cells"
        if self.targets is not None and not found.target.any():
            return "of whose targets none is among the genes that take part"
        return found

    def _listed(self, found: Influenced) -> Any:
        """The most influenced genes of a perturbed one, as a table."""
        import pandas as pd

        top = found.top(self.config["top"])
        return pd.DataFrame(
            {
                "perturbed": found.perturbed,
                "place": np.arange(1, len(top) + 1),
                "name": found.names[top],
                "influence": found.influence[top],
                "target": found.target[top] if self.targets is not None else "",
                "expression": found.expression[top],
            }
        )

    def _rows(self, overlaps: list[Overlap], result: TaskResult) -> None:
        """Metrics of each perturbed gene, and their means."""
        for metric, part in zip(METRICS, ("precision", "lift", "auprc"), strict=True):
            values = {each.of.perturbed: float(getattr(each, part)) for each in overlaps}
            known = [value for value in values.values() if value == value]
            if len(known) < len(values):
                undefined = [gene for gene, value in values.items() if value != value]
                result.notes[f"{metric} not defined"] = f"{some(undefined)}: draws of like expression find no target"
            result.metrics.append(row(metric, float(np.mean(known)) if known else None, n=len(known)))
            for each in overlaps:
                key = each.of.perturbed
                result.metrics.append(row(metric, values[key], scope="per-gene", key=key, n=each.k))

    def _by_type(self, network: ModelAdapter, data: CellData, seed: int, result: TaskResult) -> None:
        """What the cells of each type read, and how many lncRNAs are in it."""
        cells = subsample(data, self.config["cells"])
        typed = data.has("cell_type")
        types = cells.labels("cell_type") if typed else np.full(cells.n_obs, "all cells")
        if (types == "").any():
            result.notes["cells without a type, left out of attention"] = int((types == "").sum())
            cells, types = cells.subset(np.flatnonzero(types != "")), types[types != ""]
        scores = network.attention_by_type(cells, types.tolist(), seed=seed)
        result.tables["attention_genes"] = attention_table(scores, self.biotypes, self.config["min_cells"])
        result.notes["attention of the cell"] = f"{cells.n_obs} cells" + ("" if typed else ", dataset.cell_type=COLUMN")
        few = [kind for kind in scores.types.tolist() if not scores.top(kind, 1, min_cells=self.config["min_cells"])]
        if few:
            result.notes["types without a gene in task.min_cells of their cells"] = f"{len(few)}: {some(few)}"
        if self.biotypes is not None:
            table = lncrna_table(scores, self.biotypes, self.config["min_cells"])
            result.tables["attention_lncrnas"] = table
            result.notes["lncRNAs among the genes read most"] = "; ".join(
                f"{line['cell_type']} {line['lncrnas']} ({line['expected']:.1f} by chance)"
                for line in table.to_dict("records")
                if line["expressed"]
            )


def _unknown(title: str) -> str:
    return f"not in the vocabulary of {title}"


def _expressed(data: CellData, names: np.ndarray, genes: Sequence[str]) -> dict[str, np.ndarray]:
    """Which cells have a count of each gene, bool (n_obs,)."""
    found = {gene: np.zeros(data.n_obs, bool) for gene in genes}
    for rows, counts in data.blocks():
        for gene in genes:
            found[gene][rows] = counts[:, np.flatnonzero(names == gene)].getnnz(axis=1) > 0
    return found
