"""CellFM behind the engine's contract: the official MindSpore files in, the authors' numbers out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness import devices
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.ranks import Ranks, torchrun
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch, TypeScores
from models.cellfm import gene_names, mindspore_backend, release
from models.cellfm.config import CellFMConfig
from models.cellfm.tokenizer import tokenize

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.learner import Learner
    from harness.recipe import Recipe
    from models.cellfm.annotation_head import AnnotationHead
    from models.cellfm.attention import AttentionScores
    from models.cellfm.mindspore_backend import MindSporeNetwork
    from models.cellfm.torch_network import CellFMNetwork


@register_model("cellfm")
class CellFM(ModelAdapter):
    """CellFM 800M, 80M, or a network of one's own.

    Parameters
    ----------
    network
        The torch network, with its parameters set.
    symbols
        Gene symbols of the vocabulary, in the order of the token ids 1, 2, …
    aliases
        Alias -> approved symbol, for names outside the vocabulary.
    variant
        Name of the weights or of the size.
    readout
        `cls` (official) or `mean`, the mean over the cell's gene vectors.
    backend
        `torch` or `mindspore`: what computes the network. MindSpore embeds and pretrains; it is not fine-tuned here.
    """

    spec = ModelSpec(
        name="cellfm",
        title="CellFM",
        version="2",
        gene_ids="symbol",
        readouts=("cls", "mean"),
        paper="Zeng et al., Nature Communications 2025, doi:10.1038/s41467-025-59926-5",
        code_licence="CC BY-NC-ND 4.0",
        weights_licence="CC BY-NC-ND 4.0",
        commercial_use=False,
        pretraining="102.3 million human cells from public data, masked-value prediction",
        expected_failures={
            "unknown-counts": "by the official definition the depth cap of 100,000 counts is over all genes of the file"
        },
    )
    lora_targets = (
        *(f"attn.{name}_proj" for name in "qkvuo"),
        *(f"ffn.{name}_proj" for name in "uvo"),
    )
    network: CellFMNetwork | MindSporeNetwork

    def __init__(
        self,
        network: CellFMNetwork,
        symbols: np.ndarray,
        *,
        aliases: Mapping[str, str] | None = None,
        variant: str = "",
        readout: str | None = None,
        backend: str = "torch",
    ):
        if readout not in (None, *self.spec.readouts):
            raise InputError(f"model.readout={readout}: CellFM has {' and '.join(self.spec.readouts)}")
        mindspore_backend.check(backend)
        self.network, self.config = network.requires_grad_(False).eval(), network.config
        self.backend = backend
        if self.config.ffn == "ffn":
            self.lora_targets = (*self.lora_targets[:5], "ffn.up_proj", "ffn.down_proj")
        if backend == "mindspore":
            self.network = mindspore_backend.MindSporeNetwork(network)
            self.lora_targets = ()
        self.symbols, self.aliases = symbols, dict(aliases or {})
        unused = np.full(self.config.rows - 1 - len(symbols), "")
        self.token_names = np.concatenate([[""], symbols, unused]).astype(np.str_)
        self.context_length = 1 + self.config.max_genes
        self.embedding_size = self.config.width
        self.variant, self.readout = variant, readout or self.spec.readouts[0]

    # -- where it comes from --------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        backend: str = "torch",
        heads: int | None = None,
        max_genes: int | None = None,
        dropout: float | None = None,
        ffn: str | None = None,
        norm: str | None = None,
        loss_cls: bool | None = None,
        attention: str | None = None,
    ) -> Self:
        """Read a file or directory of the official release, or what `save` wrote.

        Parameters
        ----------
        path
            Weight file, or the directory that holds it; gene tables are looked for beside it and above.
        variant
            Which weights of a directory: `cellfm-800m`, `cellfm-80m`, `800m`, `80m`, or a file's name or stem.
        readout
            `cls` or `mean`.
        backend
            `torch` or `mindspore`.
        heads, max_genes, dropout
            None: from the config.json beside the weights, else as published (heads of width 32, 2,048 genes).
        ffn, norm, loss_cls, attention
            Switches of the architecture; None, or what the weights were made with: they are for `from_scratch`.

        Raises
        ------
        InputError
            Files are missing, damaged or ambiguous, or weights, config.json and gene table do not fit together.
        """
        from harness.checkpoints import load_state
        from models.cellfm.torch_network import CellFMNetwork

        mindspore_backend.check(backend)
        weights = release.find_weights(Path(path), variant)
        declared = release.read_config(weights)
        state = release.read_weights(weights)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        symbols = release.find_vocabulary(weights, declared, shapes["gene_emb"][0], "ST_emb" in shapes)
        switches = _given(ffn=ffn, norm=norm, loss_cls=loss_cls, attention=attention)
        options = _given(heads=heads, max_genes=max_genes, dropout=dropout, **switches)
        config = CellFMConfig.of_weights(shapes, len(symbols), declared, weights, **options)
        network = CellFMNetwork.allocate(config)
        parts = {name.split(".")[0] for name in network.state_dict()}
        # What belongs to no part of this network (optimiser state, ST tokens) is not needed.
        load_state(network, state, weights, ignore=lambda name: name.split(".")[0] not in parts)
        name = release.published_name(weights.name) or declared.get("variant") or variant or weights.stem
        aliases = release.find_aliases(weights, declared)
        return cls(network, symbols, aliases=aliases, variant=name, readout=readout, backend=backend)

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """The weights, the config.json beside them, and the gene tables they may be read with."""
        return release.files(Path(path), variant)

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        backend: str = "torch",
        heads: int | None = None,
        max_genes: int | None = None,
        dropout: float | None = None,
        ffn: str | None = None,
        norm: str | None = None,
        loss_cls: bool | None = None,
        attention: str | None = None,
    ) -> Self:
        """A fresh network over the symbols of `genes`, by the official initialisers.

        Parameters
        ----------
        genes
            The vocabulary: each symbol once, in this order; a gene without one is known by its name.
        size
            `tiny` (width 64, 2 layers), `80m` or `800m`.
        seed
            Of the initialisation; the global generators are not touched.
        readout, backend, heads, max_genes, dropout
            As for `from_checkpoint`.
        ffn, norm, loss_cls, attention
            Switches of the architecture, the paper's ablations (`models/cellfm/layers.py`): `sglu` or `ffn`, `deepnorm`
            or `prenorm`, true or false (no cell-wise loss), `linear` or `softmax`. PyTorch only.

        Raises
        ------
        InputError
            Unknown size, or an option that does not fit it.
        """
        import torch

        from models.cellfm.torch_network import CellFMNetwork

        mindspore_backend.check(backend)
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        symbols = np.asarray([name for name in dict.fromkeys(gene_names.symbols_of(table).tolist()) if name], np.str_)
        switches = _given(ffn=ffn, norm=norm, loss_cls=loss_cls, attention=attention)
        options = _given(heads=heads, max_genes=max_genes, dropout=dropout, **switches)
        config = CellFMConfig.of_size(size, len(symbols), **options)
        network = CellFMNetwork.allocate(config).initialise(torch.Generator().manual_seed(seed))
        return cls(network, symbols, variant=size, readout=readout, backend=backend)

    def save(self, directory: Path, *, form: str = "safetensors") -> None:
        """Write weights, config.json and gene tables that `from_checkpoint` reads back.

        Parameters
        ----------
        directory
            Made where it is missing.
        form
            `safetensors`, or `ckpt` for MindSpore.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = directory / f"model.{form}"
        release.write_weights(weights, self.network.state_dict())
        gene_names.write_vocabulary(directory / "gene_info.csv", self.symbols.tolist())
        if self.aliases:
            gene_names.write_aliases(directory / release.ALIASES, self.aliases)
        entry = self.config.attributes() | {
            "variant": self.variant,
            "vocab": "gene_info.csv",
            "aliases": release.ALIASES if self.aliases else None,
        }
        (directory / "config.json").write_text(json.dumps({weights.name: entry}, indent=1) + "\n")

    def to(self, device: Any, precision: str = "fp32") -> Self:
        """Move the network to a device. MindSpore computes in float32; other precisions are refused there."""
        if self.backend == "mindspore" and precision != "fp32":
            raise InputError(f"precision={precision}: model.backend=mindspore computes in fp32")
        return super().to(device, precision)

    # -- what it does ---------------------------------------------------------------------------------

    def match_genes(self, genes: GeneTable | GeneMatch | Sequence[str]) -> GeneMatch:
        """Which token each column is, by the authors' mapping: alias table if there is one, then exact symbol."""
        if isinstance(genes, GeneMatch):
            return genes
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        vocabulary = self.vocabulary
        names = gene_names.approved_names(gene_names.symbols_of(table), vocabulary, self.aliases)
        return GeneMatch(table, gene_names.match_names(names, vocabulary))

    def tokenize(
        self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str], *, seed: int = 0
    ) -> TokenBatch:
        """Expressed genes of each cell in the order of their symbols; CLS is implicit. See `ModelAdapter`."""
        return tokenize(counts, self.match_genes(genes), self.token_names, self.config.max_genes, seed)

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell vectors by the read-out, and the genes' contextual vectors. See `ModelAdapter`."""
        batch = batch.tensors(self.device if self.backend == "torch" else "cpu")
        cell, genes = self.network.embed(batch.gene_ids, batch.values, batch.mask)
        genes = genes.masked_fill(~batch.mask[..., None], 0)
        if self.readout == "mean":
            cell = genes.sum(1) / batch.mask.sum(1, keepdim=True).clamp(min=1)
        return CellOutput(cell, genes)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Static gene embeddings: the rows of `gene_emb`, as the authors' gene-function tutorials use them."""
        rows = self.network.gene_emb[1 : 1 + len(self.symbols)]
        return self.symbols.tolist(), rows.detach().float().cpu().numpy()

    def classifier(self, n_classes: int, generator: Any) -> AnnotationHead:
        """The authors' head for cell types, fresh from `generator` (torch, CPU): see `annotation_head.py`."""
        from models.cellfm.annotation_head import annotation_head

        if self.backend != "torch":
            raise NotApplicableError(mindspore_backend.NOT_TRAINED)
        return annotation_head(self.config.width, self.config.heads, n_classes, generator)

    def attention(
        self, batch: TokenBatch, layer: int = -1, *, genes: Sequence[str] | None = None, share: bool = False
    ) -> AttentionScores:
        """How much genes, and the cell, read each gene in a layer: see `models.cellfm.attention`."""
        from models.cellfm.attention import attention

        return attention(self, batch, layer, genes=genes, share=share)

    def attention_by_type(
        self, adata: Any, types: Sequence[str], *, read: str | None = None, seed: int = 0
    ) -> TypeScores:
        """Shares in what is read in the last layer, mean over the heads. See `ModelAdapter.attention_by_type`."""
        from models.cellfm.attention import attention_by_type

        return attention_by_type(self, adata, types, read=read, seed=seed)

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Masked-value prediction from the gene and from the cell vectors, over the expressed genes.

        Masks are drawn from `generator`. Sequences are not filled with unexpressed genes, whatever the variant:
        see README.md.
        """
        from models.cellfm.objective import draw_masks, masked_losses

        if self.backend == "mindspore":
            self.network.refuse_gradients()
        visible, counted = draw_masks(batch, generator)
        device = self.device if self.backend == "torch" else "cpu"
        batch, count = batch.tensors(device), int(counted.sum())
        visible, counted = visible.to(device), counted.to(device)

        def sums() -> dict[str, Any]:
            if self.backend == "mindspore":
                return self.network.prediction_errors(batch.gene_ids, batch.values, batch.mask, visible, counted)
            terms = masked_losses(self.network, batch.gene_ids, batch.values, batch.mask, visible, counted)
            return {name: total for name, (total, _) in terms.items()}

        terms = ("gene", "cell") if self.config.loss_cls else ("gene",)
        return PretrainingLoss(dict.fromkeys(terms, count), sums)

    @classmethod
    def resolve_device(cls, wanted: str, options: Mapping[str, Any]) -> str:
        """A device of MindSpore's, or of PyTorch's. See `harness.devices.device_for`."""
        if options.get("backend") != "mindspore":
            return devices.resolve_device(wanted)
        mindspore_backend.check("mindspore")
        return mindspore_backend.resolve_device(wanted)

    @classmethod
    def processes(cls, device: str, options: Mapping[str, Any]) -> AbstractContextManager[Ranks]:
        """Those of msrun, or of torchrun. See `harness.devices.processes_for`."""
        return mindspore_backend.msrun(device) if options.get("backend") == "mindspore" else torchrun(device)

    def learner(self, recipe: Recipe, *, seed: int = 0, ranks: Ranks | None = None) -> Learner:
        """MindSpore's own, or PyTorch's. See `ModelAdapter`."""
        if self.backend == "torch":
            return super().learner(recipe, seed=seed, ranks=ranks)
        from models.cellfm.mindspore_learner import MindSporeLearner

        return MindSporeLearner(self.network, recipe, seed, ranks)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
