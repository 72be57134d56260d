"""What a model author writes: the contract between a model and the engine.

The engine owns the loop over cells (`harness.embedding`), the cache, the device and the training loop
(`harness.training`); a model says only what is its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from harness.errors import NotApplicableError
from harness.genes import GeneMatch, GeneTable, match_exact
from harness.loss import PretrainingLoss
from harness.spec import ModelSpec
from harness.tokens import CellOutput, GeneEmbedding, TokenBatch, TokenEmbedding, TypeScores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.corpus import Corpus
    from harness.coverage import Coverage
    from harness.data import CellData
    from harness.learner import Learner
    from harness.perturbation_model import PerturbationModel
    from harness.ranks import Ranks
    from harness.recipe import Recipe


class Embedder(ABC):
    """Anything that gives a vector per cell."""

    spec: ClassVar[ModelSpec]
    #: `published`, `scratch`, `untrained` or `baseline`; set by the engine.
    track: str = "baseline"
    #: Name of the weights or of the size; "" where there is only one.
    variant: str = ""
    readout: str = ""
    precision: str = "fp32"
    device: Any = "cpu"

    @abstractmethod
    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """Cell vectors, float32 (n_obs, d), in the order of the input.

        Parameters
        ----------
        adata
            AnnData (raw counts; dense, CSR, CSC or backed) or `CellData`. It is not changed.
        seed
            For models that draw at random; the draws depend on this and on the cell alone.

        Returns
        -------
        A cell that cannot be embedded (no count in any gene of the vocabulary) gets a row of NaN.

        Raises
        ------
        InputError
            NaN, negative or non-integer values, or gene ids of which the vocabulary knows too few.
        """

    def embed_genes(
        self, genes: GeneTable | Sequence[str], *, reference: CellData | None = None, seed: int = 0
    ) -> GeneEmbedding:
        """A vector per gene; `names` are those given that have one, in order, `missing` the others.

        Parameters
        ----------
        reference
            Cells, for what reads gene vectors off expression; a network's static vectors need none.
        seed
            For what is drawn.

        Raises
        ------
        NotApplicableError
            It has no gene vectors.
        """
        raise NotApplicableError(f"{self.spec.title} has no gene vectors")

    @property
    @abstractmethod
    def n_params(self) -> int | None:
        """Number of parameters; 0 where nothing is learned, None where it is not known."""


class ModelAdapter(Embedder):
    """A foundation model.

    A subclass has `spec`, `from_checkpoint`, `tokenize` and `forward`; that is enough to be on the board.
    The others are capabilities: a task that needs a missing one records `not-applicable` with the reason.
    """

    #: The torch module, in eval mode, no parameter requiring a gradient (training switches them on).
    network: Any
    #: Name of each token id, "" for special tokens: the vocabulary in id order.
    token_names: np.ndarray
    #: Longest token sequence, special tokens included.
    context_length: int
    #: Width of the cell vector.
    embedding_size: int
    #: What the vocabulary knew of the data set embedded last.
    last_coverage: Coverage | None = None
    #: For a network pretrained here: tokens, steps, seconds and losses.
    pretraining: dict[str, Any] | None = None

    # -- where a model comes from ---------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def from_checkpoint(cls, path: Path, *, variant: str | None = None, **options: Any) -> Self:
        """Read the official release files under `path` (a directory, or one file of it) as downloaded.

        Sizes are read off what is there. Raises InputError when files are missing, damaged, ambiguous, or
        match the network only in part; the message lists the keys.
        """

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """The files whose content is the identity of a checkpoint; by default all there are under `path`."""
        path = Path(path)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]

    @classmethod
    def from_scratch(cls, genes: GeneTable, *, size: str = "tiny", seed: int = 0, **options: Any) -> Self:
        """A fresh network of the same architecture over the vocabulary `genes`, initialised from `seed`."""
        raise NotApplicableError(f"{cls.spec.title} has no from_scratch")

    def calibrate(self, corpus: CellData | Corpus) -> None:
        """Take from the pretraining corpus what the tokenizer needs of it (Geneformer: gene medians)."""

    def save(self, directory: Path) -> None:
        """Write a checkpoint that `from_checkpoint` reads back, in the official layout."""
        raise NotApplicableError(f"{self.spec.title} cannot be saved")

    # -- what a model does ----------------------------------------------------------------------------

    def match_genes(self, genes: GeneTable | GeneMatch | Sequence[str]) -> GeneMatch:
        """Which token each column is, by the model's own official mapping (default: exact name)."""
        if isinstance(genes, GeneMatch):
            return genes
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        return match_exact(table, self.vocabulary, "ensembl" if self.spec.gene_ids == "ensembl" else "symbol")

    @property
    def vocabulary(self) -> dict[str, int]:
        """Gene name -> token id, special tokens left out."""
        return {name: i for i, name in enumerate(self.token_names.tolist()) if name}

    @abstractmethod
    def tokenize(
        self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str], *, seed: int = 0
    ) -> TokenBatch:
        """Tokens of some cells: pure, vectorised over cells, independent of the other cells.

        Parameters
        ----------
        counts
            Raw counts, float32 CSR (n, n_genes) in canonical form, all columns of the data set.
        genes
            The columns: names, or a table or match of them.
        seed
            For models that draw at random: draw with `harness.draws`, from the cell's own content and this.

        Returns
        -------
        A batch with a row per cell, in order; a cell that cannot be embedded has no True in its mask.
        """

    @abstractmethod
    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell and token vectors of a batch (numpy or tensors), on the model's device, by its `readout`."""

    def forward_cells(self, batch: TokenBatch) -> Any:
        """The cell vectors of `forward` alone, (n, d): a model that can spare the token vectors does so here."""
        return self.forward(batch).cell

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Static gene embeddings: names in the model's id space and float32 (n, d)."""
        raise NotApplicableError(f"{self.spec.title} has no static gene embeddings")

    def attention_by_type(
        self, adata: Any, types: Sequence[str], *, read: str | None = None, seed: int = 0
    ) -> TypeScores:
        """What attention says of genes, averaged over the cells of each type that have them.

        Parameters
        ----------
        adata
            AnnData with raw counts, or `CellData`.
        types
            Type of each cell.
        read
            None: how much the cell reads each gene. A gene, as in the vocabulary: how much each gene reads this one,
            in cells that have both.

        Raises
        ------
        NotApplicableError
            It has no attention scores.
        """
        raise NotApplicableError(f"{self.spec.title} gives no attention scores")

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """The official pretraining objective on a batch.

        A cell's masks depend on the cell and on the state of the torch `generator`, never on the other rows: draw
        them with `harness.draws.CellDraws`. (All parts of a divided batch get a generator in the same state.)
        """
        raise NotApplicableError(f"{self.spec.title} has no pretraining objective here")

    def learner(self, recipe: Recipe, *, seed: int = 0, ranks: Ranks | None = None) -> Learner:
        """What trains the network by its objective; the default is PyTorch's (`harness.torch_learner`)."""
        from harness.torch_learner import TorchLearner

        return TorchLearner(self, recipe, seed, ranks)

    def perturbation_model(self, genes: Sequence[str], *, seed: int = 0, **settings: Any) -> PerturbationModel:
        """The model's own predictor of expression after a perturbation of some of `genes`, still to be fitted."""
        raise NotApplicableError(f"{self.spec.title} has no perturbation predictor of its own")

    #: Options that name a file or folder: what they hold, not where it is, is part of a run's id.
    path_options: ClassVar[tuple[str, ...]] = ()
    #: Names (endings) of the linear modules LoRA wraps.
    lora_targets: tuple[str, ...] = ()

    # -- what the engine adds -------------------------------------------------------------------------

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """See `Embedder.embed_cells`."""
        from harness.data import CellData
        from harness.embedding import embed_cells

        return embed_cells(self, CellData.of(adata), seed=seed, progress=progress)

    def embed_tokens(
        self, adata: Any, *, genes: Sequence[str] | None = None, seed: int = 0, progress: bool = False
    ) -> TokenEmbedding:
        """Contextual vectors of each cell's expressed genes, special tokens left out, repeats averaged."""
        from harness.data import CellData
        from harness.embedding import embed_tokens

        return embed_tokens(self, CellData.of(adata), genes=genes, seed=seed, progress=progress)

    def embed_genes(
        self, genes: GeneTable | Sequence[str], *, reference: CellData | None = None, seed: int = 0
    ) -> GeneEmbedding:
        """Static gene vectors of the given genes; `names` are theirs, in order, `missing` the unknown ones."""
        names, matrix = self.gene_table()
        rows = {name: row for row, name in enumerate(names)}
        match = self.match_genes(genes)
        found = [(column, rows.get(str(self.token_names[match.ids[column]]), -1)) for column in match.columns]
        columns = np.array([column for column, row in found if row >= 0], np.int64)
        table = np.array([row for _, row in found if row >= 0], np.int64)
        known = np.zeros(len(match.table), bool)
        known[columns] = True
        return GeneEmbedding(
            np.ascontiguousarray(matrix[table], np.float32),
            match.table.names[known],
            match.table.names[~known],
        )

    @property
    def n_params(self) -> int:
        """Number of parameters of the network."""
        return sum(int(p.numel()) for p in self.network.parameters())

    def to(self, device: Any, precision: str = "fp32") -> Self:
        """Move the network to a device; `precision` (`fp32` | `bf16`) is the autocast of the forward pass."""
        self.device, self.precision = device, precision
        self.network.to(device)
        return self


class FittedEmbedder(Embedder):
    """A baseline that is fitted to the data set, without labels, and then gives a vector per cell."""

    @abstractmethod
    def fit(self, data: CellData, seed: int = 0) -> None:
        """Learn from all cells of `data`, never from their labels."""

    @abstractmethod
    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Vectors, float32 (n, d), of raw counts in the columns of the fitted data set."""

    def embed_cells(self, adata: Any, *, seed: int = 0, progress: bool = False) -> np.ndarray:
        """See `Embedder.embed_cells`."""
        from harness.data import CellData
        from harness.embedding import fit_and_embed

        return fit_and_embed(self, CellData.of(adata), seed=seed)

    @property
    def n_params(self) -> int:
        """Nothing is learned by gradient."""
        return 0


class TaskBaseline(ABC):
    """A baseline of one task that predicts without an embedding (an SVM on expression, the additive model).

    What `predict` is given and returns is the task's own business; see the task's README.
    """

    spec: ClassVar[ModelSpec]
    track: str = "baseline"
    variant: str = ""
    readout: str = ""

    @abstractmethod
    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict for the test part of a split, seeing the labels of its training part only."""

    @property
    def n_params(self) -> int:
        """Not counted."""
        return 0
