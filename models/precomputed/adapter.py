"""A model that stays where it is: the vectors of cells or genes that it gave are read from files.

Cells by their genes' vectors are those of GenePT-w (Chen and Zou, "GenePT: a simple but effective foundation model for
genes and cells built from ChatGPT", 2024): the mean of the vectors of a cell's genes, weighted by log-normalised
expression, of unit length. scELMo (Liu et al. 2023) takes the weighted mean of its text vectors as it is (there over
all genes, those without a vector counting as zeros; here over those that have one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.counts import log_normalise
from harness.coverage import Coverage, CoverageMeter, sample_coverage
from harness.data import CellData
from harness.embedding import SAMPLE_NNZ, report_empty
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneMatch, GeneTable
from harness.precomputed import PrecomputedVectors
from harness.progress import track
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import GeneEmbedding
from models.precomputed.matching import GeneVectors, rows_of_cells
from models.precomputed.readers import FORMATS, of_cells, read_vectors

#: Ways to read a cell: its own vector; the weighted mean of its genes' vectors, of unit length or as it is.
VECTORS, UNIT, MEAN = "vectors", "weighted_unit", "weighted_mean"
#: Options that name files.
FILES = ("path", "names", "genes", "gene_names")
ASK = (
    f"which vectors? Say model.path=FILE of cells ({FORMATS}), model.key=NAME for an obsm of the data set itself, or "
    "model.genes=FILE of genes"
)


@register_model("precomputed")
class Precomputed(PrecomputedVectors):
    """Vectors of cells, of genes, or of both, from files.

    Parameters
    ----------
    path
        Vectors of cells (`models.precomputed.readers`). None with a `key`: the `obsm` of the data set itself.
    key
        Array of an .npz (default `embeddings`), or key in the `obsm` of an .h5ad.
    names
        A text file with the name of each row's cell, for files that hold none.
    genes, gene_key, gene_names
        The same of genes: symbols or Ensembl ids; of an .h5ad the `varm`.
    title
        Name of the row; by default the key or the name of the file.
    readout
        `vectors`, `weighted_unit` (GenePT-w) or `weighted_mean` (scELMo); by default the vectors of cells where
        there are any, else the weighted mean of unit length.

    Raises
    ------
    InputError
        Nothing is named, there is no such file, or options that do not go together.
    """

    spec = ModelSpec(
        name="precomputed",
        title="Precomputed vectors",
        kind="precomputed",
        gene_ids="any",
        readouts=(VECTORS, UNIT, MEAN),
        draws=False,
        weights_licence="not known here: the vectors were made elsewhere",
    )

    def __init__(
        self,
        path: str | None = None,
        key: str | None = None,
        names: str | None = None,
        genes: str | None = None,
        gene_key: str | None = None,
        gene_names: str | None = None,
        title: str | None = None,
        readout: str | None = None,
    ):
        options = {"path": path, "names": names, "genes": genes, "gene_names": gene_names}
        _refuse_odd({**options, "key": key, "gene_key": gene_key})
        found = {option: _file(option, said) for option, said in options.items() if said}
        self.path, self.genes_path = found.get("path"), found.get("genes")
        self.names_path, self.gene_names_path = found.get("names"), found.get("gene_names")
        self.key, self.gene_key = key, gene_key
        has_cells = bool(path or key)
        self.readout = readout or (VECTORS if has_cells else UNIT)
        if self.readout == VECTORS and not has_cells:
            raise InputError(f"model.readout={VECTORS} needs the vectors of cells: model.path=FILE or model.key=NAME")
        if self.readout != VECTORS and not genes:
            raise InputError(f"model.readout={readout} needs the vectors of genes: model.genes=FILE")
        self.last_notes: dict[str, Any] = {}
        self.last_coverage: Coverage | None = None

    # -- what the engine asks before anything is read -------------------------------------------------

    @classmethod
    def files(cls, options: Mapping[str, Any], cells: Callable[[], Path]) -> dict[str, Path]:
        """See `PrecomputedVectors.files`."""
        _refuse_odd(options)
        found = {option: _file(option, options[option]) for option in FILES if options.get(option)}
        if options.get("key") and "path" not in found:
            found["path"] = cells()
        return found

    @classmethod
    def named(cls, options: Mapping[str, Any]) -> tuple[str, str]:
        """See `PrecomputedVectors.named`: an `obsm` is called by its key, `X_scgpt` is scgpt."""
        key, file, said = options.get("key"), options.get("path") or options.get("genes") or "", options.get("title")
        said, key, file = (None if each is None else str(each) for each in (said, key, file))
        title = str(said or (key or "").removeprefix("X_") or Path(file).name.partition(".")[0])
        return title, ", ".join(filter(None, (said, key))) or title

    @classmethod
    def on_trial(cls, options: Mapping[str, Any], genes: GeneTable, folder: Path) -> dict[str, Any]:
        """Vectors of made genes, which make a cell's vector a function of its counts.

        Raises
        ------
        InputError
            Files are given, which hold none of the made cells and genes.
        """
        if given := [option for option in (*FILES, "key", "gene_key") if options.get(option)]:
            raise InputError(
                f"the checks make cells and vectors of their own: leave model.{given[0]}= out. A file is checked "
                "against the cells it is for, and no more is needed: cellfm-bench run model=precomputed model.path=FILE"
            )
        path = folder / "genes.npz"
        vectors = np.random.default_rng([0, 11]).normal(size=(len(genes), 16)).astype(np.float32)
        np.savez(path, embeddings=vectors, names=genes.symbols)
        return {"genes": str(path)}

    # -- cells ----------------------------------------------------------------------------------------

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """Vectors of cells, float32 (n_obs, d), see `Embedder.embed_cells`.

        Raises
        ------
        InputError
            The file cannot be read, or lacks cells; values that are no counts, where genes are weighted by them.
        """
        data = CellData.of(adata)
        self.last_notes, self.last_coverage = {}, None
        found = self._vectors(data) if self.readout == VECTORS else self._weighted(data, progress)
        report_empty(self, data, int(np.isnan(found).all(axis=1).sum()))
        return found

    def _vectors(self, data: CellData) -> np.ndarray:
        if self.path is None:
            vectors = of_cells(data.adata, self.key, data.name)
        else:
            vectors = read_vectors(self.path, key=self.key, names=self.names_path)
        rows, self.last_notes = rows_of_cells(vectors, data)
        return vectors.rows(rows)

    def _weighted(self, data: CellData, progress: bool) -> np.ndarray:
        """The mean of the vectors of a cell's genes, weighted by log1p of counts per 10,000 of the whole cell."""
        vectors, match = self.genes, self.match_genes(data.genes)
        vectors.refuse_strangers(match, data.name)
        sample = sample_coverage(self.spec.name, match, data.blocks(SAMPLE_NNZ), vocabulary=vectors.symbols)
        source = f"{data.name} for {vectors.where}"
        sample.enforce(source=source, refuse=data.min_coverage, warn=0.0)
        columns, meter = match.columns, CoverageMeter(self.spec.name, match, vocabulary=vectors.symbols)
        table = vectors.matrix[match.ids[columns]]
        found = np.full((data.n_obs, table.shape[1]), np.nan, np.float32)
        for rows, counts in track(
            data.blocks(), total=data.n_obs, step=lambda b: b[1].shape[0], label="weighted means", on=progress
        ):
            meter.add(counts)
            weights = log_normalise(counts)[:, columns]
            sums = np.asarray(weights.sum(axis=1, dtype=np.float64)).ravel()
            read = sums > 0
            means = (weights[read] @ table) / sums[read, None]
            if self.readout == UNIT:
                lengths = np.linalg.norm(means, axis=1, keepdims=True)
                means = np.divide(means, lengths, out=np.zeros_like(means), where=lengths > 0)
            found[rows][read] = means
        self.last_coverage = meter.result()
        self.last_coverage.enforce(source=source, refuse=data.min_coverage, warn=data.warn_coverage)
        return found

    # -- genes ----------------------------------------------------------------------------------------

    @cached_property
    def genes(self) -> GeneVectors:
        """The vectors of genes.

        Raises
        ------
        NotApplicableError
            None are given.
        """
        if self.genes_path is None:
            raise NotApplicableError(
                f"{self.spec.title} of cells alone: vectors of genes are given by model.genes=FILE"
            )
        return GeneVectors.of(read_vectors(self.genes_path, key=self.gene_key, names=self.gene_names_path, genes=True))

    def match_genes(self, genes: GeneTable | Sequence[str]) -> GeneMatch:
        """The row of each gene among the vectors of genes."""
        return self.genes.match(genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes))

    def embed_genes(
        self, genes: GeneTable | Sequence[str], *, reference: CellData | None = None, seed: int = 0
    ) -> GeneEmbedding:
        """The vectors of the given genes, see `Embedder.embed_genes`; no cells are read."""
        match = self.match_genes(genes)
        known, names = match.ids >= 0, match.table.names
        return GeneEmbedding(self.genes.matrix[match.ids[known]], names[known], names[~known])


def _file(option: str, said: str) -> Path:
    path = Path(said).expanduser()
    if not path.exists():
        raise InputError(f"model.{option}={said}: no such file")
    return path


def _refuse_odd(options: Mapping[str, Any]) -> None:
    """Refuse options that name nothing, or a part of what is not named."""
    for option in ("path", "key", "names", "genes", "gene_key", "gene_names"):
        if not isinstance(options.get(option) or "", str | Path):
            raise InputError(f"model.{option}={options[option]}: text is expected; put it in quotes")
    if not any(options.get(option) for option in ("path", "key", "genes")):
        raise InputError(ASK)
    for part, whole in (("names", "path"), ("gene_names", "genes"), ("gene_key", "genes")):
        if options.get(part) and not options.get(whole):
            raise InputError(f"model.{part}= says more of a file that model.{whole}= names, and that is not given")
