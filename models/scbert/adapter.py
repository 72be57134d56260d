"""scBERT (Yang et al., Nature Machine Intelligence 2022): reads the official release, embeds cells and genes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.checkpoints import LoadReport, load_state
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.networks import empty
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch
from models.scbert import release, tokenizer
from models.scbert.config import MIN_GENES, Sizes, performer_features, sizes_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

READOUTS = ("mean-genes", "mean-all", "last-token", "mean-expressed", "max-genes", "attention", "annotation")
#: Width, layers, heads and width of a head for `from_scratch`.
SIZES = {"tiny": (64, 2, 4, 16), "8m": (200, 6, 10, 64)}
#: What the variant of a fresh network without gene2vec says.
LEARNED = "learned gene vectors"


@register_model("scbert")
class ScBert(ModelAdapter):
    """scBERT behind the embed interface.

    Parameters
    ----------
    network
        `models.scbert.network.Network`.
    symbols
        Genes of the panel, in its order.
    variant
        Name of the weights.
    readout
        One of `spec.readouts`; None for the default.
    """

    spec = ModelSpec(
        name="scbert",
        title="scBERT",
        gene_ids="symbol",
        readouts=READOUTS,
        draws=False,
        paper="Yang et al., scBERT as a large-scale pretrained deep language model for cell type annotation of "
        "single-cell RNA-seq data, Nature Machine Intelligence 2022, doi:10.1038/s42256-022-00534-z",
        code_licence="GPL-3.0",
        weights_licence="GPL-3.0; the authors' README adds: research purpose, not for clinical use",
        commercial_use=None,
        pretraining="human cells of PanglaoDB, masked levels of expression",
        species=("human",),
    )
    path_options = ("gene2vec",)
    lora_targets = ("fn.to_q", "fn.to_k", "fn.to_v", "fn.to_out")
    #: How the weights file fitted the network; None for a fresh one.
    load_report: LoadReport | None = None

    def __init__(self, network: Any, symbols: np.ndarray, *, variant: str = "", readout: str | None = None):
        _checked_readout(readout)
        self.network = network.eval().requires_grad_(False)
        self.symbols, self.variant, self.readout = symbols, variant, readout or READOUTS[0]
        self.token_names = np.append(symbols, "").astype(np.str_)
        self.context_length = network.sizes.n_positions
        self._warned = False
        if self.readout == "annotation" and network.sizes.head is None:
            raise InputError(
                "model.readout=annotation is the hidden layer of the annotation head of a fine-tuned network; "
                f"{variant or 'this one'} has no such head"
            )

    @property
    def embedding_size(self) -> int:
        """Width of the cell vector."""
        sizes = self.network.sizes
        return {"attention": sizes.n_positions, "annotation": (sizes.head or (0, 0))[1]}.get(self.readout, sizes.width)

    # -- where it comes from --------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        gene2vec: str | Path | None = None,
    ) -> Self:
        """Read `panglao_pretrain.pth`, a fine-tuned `finetune_best.pth`, or a folder; with the panel beside or above.

        Parameters
        ----------
        path
            The file; or its folder, where the pretrained one is taken.
        variant
            Which weights of a folder: `panglao`, or the stem of a file.
        readout
            As for the class.
        gene2vec
            Of a fresh network only: the weights hold their gene vectors.

        Raises
        ------
        InputError
            Files missing, damaged, ambiguous or at odds with each other, or weights that match in part.
        """
        from models.scbert.network import Network

        _checked_readout(readout)
        if gene2vec is not None:
            raise InputError(f"model.gene2vec={gene2vec} is for a fresh network; the weights of {path} hold theirs")
        weights = release.find_weights(path, variant)
        genes = release.find_genes(weights)
        symbols, found = release.read_genes(genes), release.read_checkpoint(weights)
        sizes = sizes_of(found.state, weights, learned_positions=found.learned_positions)
        if sizes.n_genes != len(symbols):
            raise InputError(
                f"{genes} lists {len(symbols)} genes, {weights} has positions for {sizes.n_genes} (and the token "
                "behind them). Keep the files of one release together"
            )
        network = empty(lambda: Network(sizes))
        report = load_state(network, found.state, weights)
        release.check_gene2vec(genes, weights, found.state[release.TABLE])
        model = cls(network, symbols, variant=found.variant or release.label_of(weights), readout=readout)
        model.load_report = report
        return model

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """The weights and the file of the panel."""
        weights = release.find_weights(path, variant)
        return [weights, release.find_genes(weights)]

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        gene2vec: str | Path | None = None,
    ) -> Self:
        """A fresh network whose panel are the symbols of `genes`.

        Parameters
        ----------
        genes
            The vocabulary.
        size
            `tiny`, or `8m` as released.
        seed
            Of the weights; the global generators are not touched.
        readout
            As for the class.
        gene2vec
            Folder with the release's `panglao_10000.h5ad` and `gene2vec_16906.npy`: the vectors of genes are then
            these, frozen, the network is as wide as they are, and genes that have none are left out. None: they are
            learned.

        Raises
        ------
        InputError
            Unknown size, genes without symbols, or none that has a vector.
        """
        from models.scbert.fresh import fresh_network, panel_vectors

        _checked_readout(readout)
        if size not in SIZES:
            raise InputError(f"model.size={size}: scBERT has {', '.join(SIZES)}")
        symbols, vectors = [name for name in dict.fromkeys(genes.symbols.tolist()) if name], None
        if not symbols:
            raise InputError(
                "scBERT's panel is made of gene symbols, and these genes have none; name the var column that holds "
                "them: dataset.gene_ids=COLUMN"
            )
        if gene2vec is not None:
            symbols, vectors = panel_vectors(symbols, Path(gene2vec).expanduser())
        width, depth, heads, dim_head = SIZES[size]
        sizes = Sizes(len(symbols), width, depth, heads, dim_head, performer_features(dim_head), 4 * width)
        network = fresh_network(sizes, vectors, seed)
        variant = size if vectors is not None else f"{size}, {LEARNED}"
        return cls(network, np.asarray(symbols, np.str_), variant=variant, readout=readout)

    def save(self, directory: Path) -> None:
        """Write the official layout, `panglao_pretrain.pth` and `panglao_10000.h5ad`, the latter without cells."""
        said = {"variant": self.variant, "learned_positions": self.network.sizes.learned_positions}
        release.write(directory, self.network.state_dict(), self.symbols, said)

    # -- what it does ---------------------------------------------------------------------------------

    def tokenize(
        self,
        counts: csr_matrix,
        genes: GeneTable | GeneMatch | Sequence[str],
        *,
        seed: int = 0,
        whole_panel: bool = False,
    ) -> TokenBatch:
        """Each cell's expressed genes with their levels 0 to 5, then the appended token. See `ModelAdapter.tokenize`.

        Of several columns of one gene the first is read (official). A cell without a count in the panel has no True in
        its mask.

        Parameters
        ----------
        whole_panel
            A token for every gene of the panel: the array of the authors' data loader. The network gives the same for
            both; with this one, token vectors of genes without a count, too.
        """
        panel = tokenizer.on_panel(counts, self.match_genes(genes).ids, len(self.symbols))
        self._warn(np.diff(panel.indptr))
        batch = tokenizer.tokenize(panel)
        return tokenizer.whole_panel(batch, len(self.symbols)) if whole_panel else batch

    def _warn(self, n_genes: np.ndarray) -> None:
        """Say once of released weights that the authors drop cells of few genes."""
        few = int(((n_genes > 0) & (n_genes < MIN_GENES)).sum())
        if few and self.load_report is not None and not self.network.sizes.learned_positions and not self._warned:
            self._warned = True
            log.warning(
                "scbert: %d of the first %d cells have counts in fewer than %d genes of the panel; the authors drop "
                "such cells, here they are kept",
                few,
                len(n_genes),
                MIN_GENES,
            )

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell vector by `readout`, and the contextual vectors of the tokens with zeros at padding."""
        from models.scbert.network import token_vectors

        network, readout = self.network, self.readout

        def compute(ids: Any, levels: Any, mask: Any) -> tuple[Any, Any]:
            panel = network.panel(ids, levels, mask)
            x = network.encode(panel).float()
            cell = network.attention_sums(panel) if readout == "attention" else network.read_out(x, panel, readout)
            return cell, token_vectors(x, ids, mask)

        ids, levels, mask = self._tensors(batch, self.device)
        cell, tokens = network.in_portions(compute, ids, levels, mask)
        return CellOutput(_undefined(cell, mask), tokens)

    def forward_cells(self, batch: TokenBatch) -> Any:
        """The cell vectors of `forward`; some read-outs need less than the whole last layer."""
        network = self.network

        def compute(ids: Any, levels: Any, mask: Any) -> tuple[Any]:
            return (network.cells(network.panel(ids, levels, mask), self.readout).float(),)

        ids, levels, mask = self._tensors(batch, self.device)
        return _undefined(network.in_portions(compute, ids, levels, mask)[0], mask)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Static gene embeddings: the position table, which is gene2vec and not trained by scBERT (or learned here)."""
        return self.symbols.tolist(), self.network.pos_emb.weight[:-1].detach().float().cpu().numpy()

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Cross entropy of masked tokens (`models.scbert.objective`).

        Raises
        ------
        NotApplicableError
            A fine-tuned network, whose head tells cell types.
        """
        from models.scbert import objective

        if self.network.sizes.head is not None:
            raise NotApplicableError("this scBERT was fine-tuned to tell cell types: it has no head to pretrain with")
        ids, levels, mask = self._tensors(batch, "cpu")
        cells = objective.draw(TokenBatch(ids, levels, mask), self.network, generator)
        count, cells = cells.count, cells.to(self.device)
        return PretrainingLoss(
            {"cross_entropy": count}, lambda: {"cross_entropy": objective.cross_entropy(self.network, cells)}
        )

    def _tensors(self, batch: TokenBatch, device: Any) -> tuple[Any, Any, Any]:
        """Positions, levels and mask of a batch, (n, L) each."""
        if batch.values is None:
            raise InputError("scBERT reads a level beside each gene: TokenBatch.values is missing")
        batch = batch.tensors(device)
        return batch.gene_ids, batch.values.long(), batch.mask


def _undefined(cells: Any, mask: Any) -> Any:
    """Rows of NaN where nothing of a cell is real."""
    return cells.masked_fill(~mask.any(1, keepdim=True), float("nan"))


def _checked_readout(readout: str | None) -> None:
    if readout is not None and readout not in READOUTS:
        raise InputError(f"model.readout={readout}: scBERT has {', '.join(READOUTS)}")
