"""What a task is given of a model: its embeddings, from the cache where they were computed before."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cache import Cache
from harness.contract import hold
from harness.data import CellData
from harness.errors import InputError, InternalError, NotApplicableError
from harness.gene_matrix import gene_matrix
from harness.genes import GeneTable
from harness.layout import lay_out
from harness.model import Embedder, FittedEmbedder, ModelAdapter
from harness.precomputed import PrecomputedVectors
from harness.provenance import CostMeter
from harness.results import Cost, content_id
from harness.sources import ModelSource
from harness.spec import ModelSpec
from harness.tuning import Tuning

if TYPE_CHECKING:
    from harness.finetuning import Finetuned
    from harness.objective import Objective


#: What vectors cost that were made elsewhere nobody measured: reading a file is no embedding.
NOT_MEASURED = {"embed_s": None, "cells_per_s": None, "peak_rss_mb": None, "peak_gpu_mb": None}


class Subject:
    """One model on one data set.

    Parameters
    ----------
    source
        The model, loaded only when something of it is not in the cache.
    data
        The cells.
    seed
        The run's seed.
    tuning
        How its network is fine-tuned on the task; None: it is not.
    """

    def __init__(
        self,
        source: ModelSource,
        data: CellData,
        cache: Cache,
        seed: int = 0,
        progress: bool = False,
        tuning: Tuning | None = None,
    ):
        self.source, self.data, self.cache, self.seed, self.progress = source, data, cache, seed, progress
        self.tuning = tuning
        #: Description of the embedding, once it was asked for.
        self.about: dict[str, Any] = {}
        #: Seconds spent loading, pretraining and embedding in this run: none where the cache had it.
        self.embedding_seconds = 0.0

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.source.spec

    @property
    def model(self) -> Any:
        """The model itself, loaded."""
        return self.source.model

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What can change a cell vector."""
        seed = self.seed if self.spec.draws else None
        more = {"labels": self.data.labels_hash()} if self.spec.reads_labels else {}
        if self.spec.reads_batches and self.data.has("batch"):
            more["batches"] = content_id(self.data.labels("batch").tolist(), 32)
        if self.spec.kind == "precomputed":  # vectors are found by the names of the cells
            more["names"] = content_id(self.data.obs_names.tolist(), 32)
        return {"source": self.source.identity, "data": self.data.content_hash, "seed": seed, **more}

    def cells(self, fitted_to: np.ndarray | None = None) -> np.ndarray:
        """Cell vectors, float32 (n_obs, d); rows of NaN are cells the model cannot read.

        Parameters
        ----------
        fitted_to
            Rows that a baseline which is fitted to cells may see, where test cells must not shape the space; None: all.

        Raises
        ------
        NotApplicableError
            The model gives predictions, not vectors.
        """
        if self.tuning is not None:
            raise InternalError("with setting=lora|full a task reads what Subject.finetune gives, not frozen vectors")
        if self.spec.kind == "predictor":
            raise NotApplicableError(f"{self.spec.title} predicts for {', '.join(self.spec.tasks)}; it embeds no cell")
        if self.data.values == "features" and self.spec.kind != "precomputed":
            raise NotApplicableError(f"{self.spec.title} reads counts, and {self.data.name} holds features")
        identity = self.identity
        if self.spec.kind != "embedding" or not isinstance(self.model, FittedEmbedder):
            fitted_to = None
        elif fitted_to is not None:
            identity = {**identity, "fitted_to": content_id(fitted_to.tolist(), 32)}
        matrix, self.about = self.cache.array("embeddings", identity, lambda: self._embed(fitted_to))
        return np.asarray(matrix)

    def _embed(self, fitted_to: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._refuse_overlap()
        with CostMeter() as loading:  # and pretraining, where it is still to be done
            model: Embedder = self.model
        with CostMeter() as cost:
            if fitted_to is None:
                matrix = model.embed_cells(self.data, seed=self.seed, progress=self.progress)
            else:
                from harness.embedding import fit_and_embed

                matrix = fit_and_embed(model, self.data, seed=self.seed, rows=fitted_to)  # type: ignore[arg-type]
        with CostMeter() as holding:
            hold(model, self.data, matrix, seed=self.seed)
        self.embedding_seconds += loading.seconds + cost.seconds + holding.seconds
        return matrix.astype(np.float32, copy=False), self._describe(model, matrix, cost)

    def _describe(self, model: Embedder, matrix: np.ndarray, cost: CostMeter) -> dict[str, Any]:
        about = {
            "embed_s": cost.seconds,
            "cells_per_s": self.data.n_obs / cost.seconds,
            "peak_rss_mb": cost.peak_rss_mb,
            "peak_gpu_mb": cost.peak_gpu_mb,
            "n_params": model.n_params,
            "n_cells": self.data.n_obs,
            "n_empty": int(np.isnan(matrix).any(axis=1).sum()),
            "variant": model.variant,
            "readout": model.readout or (self.spec.readouts[0] if self.spec.readouts else ""),
        }
        if coverage := getattr(model, "last_coverage", None):
            about["coverage"] = coverage.as_dict()
        if isinstance(model, ModelAdapter) and model.pretraining:
            about["pretraining"] = {k: v for k, v in model.pretraining.items() if k != "losses"}
        if isinstance(model, PrecomputedVectors):
            about |= NOT_MEASURED | {"notes": dict(model.last_notes)}
        return about

    def genes(self, genes: GeneTable, *, source: str = "static", reference: CellData | None = None) -> np.ndarray:
        """Gene vectors, float32 (n_genes, d); rows of NaN are genes the model has none of.

        Parameters
        ----------
        genes
            Their names, symbols and ids.
        source
            `static`: the network's own table; `contextual`: vectors in cells, averaged over those of `reference` that
            express the gene. Without a meaning for what is no network.
        reference
            Cells that vectors are read off.

        Raises
        ------
        NotApplicableError
            It has no gene vectors.
        """
        read = reference is not None and (source == "contextual" or self.spec.kind != "foundation")
        read &= self.spec.kind != "precomputed"
        identity = {
            "source": self.source.identity,
            "genes": content_id([genes.names.tolist(), genes.symbols.tolist(), genes.ensembl.tolist()], 32),
            "level": source if self.spec.kind == "foundation" else "genes",
            "reference": reference.content_hash if read and reference is not None else None,
            "seed": self.seed if self.spec.draws else None,
        }

        def compute() -> tuple[np.ndarray, dict[str, Any]]:
            with CostMeter() as loading:
                model: Embedder = self.model
            with CostMeter() as cost:
                matrix = gene_matrix(model, genes, source, reference, self.seed, self.progress)
            self.embedding_seconds += loading.seconds + cost.seconds
            about = {
                "embed_s": cost.seconds,
                "peak_rss_mb": cost.peak_rss_mb,
                "n_params": model.n_params,
                "variant": model.variant,
                "readout": source if self.spec.kind == "foundation" else "",
            }
            pretraining = getattr(model, "pretraining", None)
            if pretraining:
                about["pretraining"] = {k: v for k, v in pretraining.items() if k != "losses"}
            return matrix, about | (NOT_MEASURED if isinstance(model, PrecomputedVectors) else {})

        if self.spec.kind == "predictor":
            raise NotApplicableError(f"{self.spec.title} predicts for {', '.join(self.spec.tasks)}; it embeds no gene")
        matrix, self.about = self.cache.array("genes", identity, compute)
        return np.asarray(matrix)

    def finetune(
        self, rows: np.ndarray, targets: np.ndarray, objective: Objective, *, strata: np.ndarray | None = None
    ) -> tuple[Finetuned, np.ndarray]:
        """Train a copy of the network on some cells, by the run's `finetune` settings; what it gives for all cells.

        Parameters
        ----------
        rows
            The training cells, int (n,).
        targets
            What is to be predicted of them, (n, …).
        objective
            Head and loss, `harness.classification.Classification` for one.
        strata
            (n,), groups in proportion to which a validation part is set apart.

        Returns
        -------
        finetuned : the trained copy, and how it went
        outputs : float32 (n_obs, n_outputs); rows of NaN are cells the model cannot read

        Raises
        ------
        NotApplicableError
            There is no network to train, or none that can be trained so.
        """
        if self.tuning is None:
            raise InternalError("Subject.finetune needs setting=lora or setting=full")
        if self.spec.kind != "foundation":
            raise NotApplicableError(f"{self.spec.title} is no pretrained network: it runs with setting=frozen")
        self._refuse_overlap()
        with CostMeter() as loading:
            model: ModelAdapter = self.model
        from harness.finetuning import finetune

        tuned = finetune(
            model,
            self.data,
            rows,
            targets,
            objective,
            self.tuning,
            strata=strata,
            seed=self.seed,
            progress=self.progress,
        )
        with CostMeter() as reading:
            _, outputs = tuned.read(self.data, seed=self.seed, progress=self.progress)
        self.embedding_seconds += loading.seconds + reading.seconds
        self.about = self._describe(tuned.model, outputs, reading)
        self.about |= {"n_params": model.n_params, "n_trained_params": tuned.n_trained_params}
        return tuned, outputs

    def _refuse_overlap(self) -> None:
        seen = self.source.overlap(self.data)
        if seen and not self.source.allow_overlap:
            corpus = (self.source.corpus or {}).get("name")
            raise InputError(
                f"{seen} of the {self.data.n_obs} cells of {self.data.name} are in the corpus {corpus}: a model must "
                "not be tested on what it was pretrained on. Use another corpus, or mark the row: "
                "corpus.allow_overlap=true"
            )

    def umap(self) -> np.ndarray:
        """UMAP of the cell vectors, float32 (n_obs, 2), seed 0; rows of NaN where there is no vector."""
        matrix = self.cells()
        coordinates, _ = self.cache.array("umap", self.identity, lambda: (lay_out(matrix), {}))
        return np.asarray(coordinates)

    def layout(self, vectors: np.ndarray) -> np.ndarray:
        """UMAP of any vectors (n, d), float32 (n, 2), seed 0; computed once for vectors that are the same."""
        identity = {"vectors": content_id([vectors.shape, vectors.tobytes().hex()], 32)}
        coordinates, _ = self.cache.array("umap", identity, lambda: (lay_out(vectors), {}))
        return np.asarray(coordinates)

    def flags(self) -> list[str]:
        """Marks the engine puts on a row."""
        return ["cells-seen"] if self.source.overlap(self.data) else []

    def notes(self) -> dict[str, Any]:
        """What a reader must know of the embedding: unreadable cells, gene coverage."""
        notes: dict[str, Any] = dict(self.about.get("notes") or {})
        if self.spec.reads_batches and self.about:
            notes["vectors"] = "made of all cells at once, counts and batches of test cells among them"
        if self.about.get("n_empty"):
            notes["cells without a readable gene"] = self.about["n_empty"]
        coverage = self.about.get("coverage")
        if coverage:
            notes["genes known"] = f"{coverage['matched']} of {coverage['n_genes']}"
            notes["share of counts known"] = round(coverage["share_of_counts"], 4)
        return notes

    def cost(self, task_s: float, peak_rss_mb: float, peak_gpu_mb: float | None) -> Cost:
        """The cost columns of a run: the embedding's as first measured, the task's as measured now."""
        about = self.about
        n_params = about.get("n_params")
        pretraining = about.get("pretraining") or {}
        return Cost(
            embed_s=about.get("embed_s"),
            cells_per_s=about.get("cells_per_s"),
            peak_rss_mb=max(peak_rss_mb, about.get("peak_rss_mb") or 0),
            peak_gpu_mb=about.get("peak_gpu_mb") or peak_gpu_mb,
            n_params=n_params,
            n_trained_params=about.get("n_trained_params", 0) if n_params is not None else None,
            pretrain_s=pretraining.get("seconds"),
            task_s=task_s,
        )

    @property
    def _own_variant(self) -> str:
        """What a baseline of one task says of itself, such as the space it works in."""
        return self.model.variant if self.spec.kind == "predictor" else ""

    @property
    def variant(self) -> str:
        """Which weights, size or kind of the model it is."""
        return self.about.get("variant") or self.source.variant or self._own_variant

    def label(self) -> str:
        """What the row says of itself: `cellfm · scratch · 0.6M params · 2.6k cells`."""
        track, about = self.source.track, self.about
        if self.source.title:
            return self.source.title
        if track in ("baseline", "control"):
            return " · ".join(filter(None, (self.spec.title, self._own_variant)))
        variant = self.variant
        own = [text for text in variant.split(", ")[1:] if text]  # what a model adds to its size
        if track == "untrained":
            return " · ".join([self.spec.name, "untrained", *own])
        if track == "scratch" and self.source.corpus:
            params, cells = about.get("n_params"), self.source.corpus["cells"]
            size = [*([f"{params / 1e6:.1f}M params"] if params else []), f"{_short(cells)} cells"]
            return " · ".join([self.spec.name, "scratch", *own, *size])
        return variant if variant.lower().startswith(self.spec.name) else f"{self.spec.name} {variant}".strip()


def _short(n: int) -> str:
    return f"{n / 1000:.1f}k" if n >= 1000 else str(n)
