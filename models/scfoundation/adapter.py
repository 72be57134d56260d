"""scFoundation (Hao et al., Nature Methods 2024): reads the official release, embeds cells, genes and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.checkpoints import LoadReport, load_state
from harness.errors import InputError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.networks import empty, seeded
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch
from models.scfoundation import release, tokenizer
from models.scfoundation.config import SPECIAL, Sizes, Stack, flatten, official_config, performer_features, sizes_of
from models.scfoundation.options import READOUTS, Options, one_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Sub-models of the release: of cell vectors, and of gene vectors, where none is asked for.
CELL, GENE = "cell", "gene"
#: Encoder and decoder for `from_scratch`: width, layers, heads, width of a head.
SIZES = {
    "tiny": ((64, 2, 4, 16), (32, 1, 4, 8)),
    "100m": ((768, 12, 12, 64), (512, 6, 8, 64)),
}
BINS = 100
DEFAULT = Options()


@register_model("scfoundation")
class ScFoundation(ModelAdapter):
    """scFoundation behind the embed interface.

    Parameters
    ----------
    network
        `models.scfoundation.network.Network`.
    symbols
        Genes in the order of their index.
    config
        The official config of the network.
    options
        How cells are read, and what is read off them.
    variant
        Name of the weights.
    submodel
        Key of the network in `models.ckpt`.
    static
        Static gene vectors float32 (n_genes, d) of another sub-model; None: those of the network.
    """

    spec = ModelSpec(
        name="scfoundation",
        title="scFoundation",
        gene_ids="symbol",
        readouts=READOUTS,
        draws=False,
        paper="Hao et al., Large-scale foundation model on single-cell transcriptomics, Nature Methods 2024, "
        "doi:10.1038/s41592-024-02305-7",
        code_licence="Apache-2.0",
        weights_licence="scFoundation License (MODEL_LICENSE): non-commercial research only, no redistribution",
        commercial_use=False,
        pretraining="over 50 million human cells of public data, read-depth-aware masked regression",
        species=("human",),
    )
    lora_targets = ("self_attn.in_proj", "self_attn.out_proj")
    #: How the weights file fitted the network; None for a fresh one.
    load_report: LoadReport | None = None

    def __init__(
        self,
        network: Any,
        symbols: np.ndarray,
        config: Mapping[str, Any],
        options: Options = DEFAULT,
        *,
        variant: str = "",
        submodel: str = CELL,
        static: np.ndarray | None = None,
    ):
        self.network = network.eval().requires_grad_(False)
        self.symbols, self.config, self.options, self.static = symbols, dict(config), options, static
        self.variant, self.submodel = variant, submodel
        self.readout = options.readout or READOUTS[0]
        self.token_names = np.concatenate([symbols, [""] * SPECIAL]).astype(np.str_)
        self.context_length = network.sizes.n_positions

    @property
    def embedding_size(self) -> int:
        """Width of the cell vector: four parts for `all`, one for `max`."""
        return self.network.sizes.encoder.width * (4 if self.readout == "all" else 1)

    # -- where it comes from --------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        target: str = DEFAULT.target,
        input_type: str = DEFAULT.input_type,
        bulk_depth: float | None = None,
        context: str = DEFAULT.context,
    ) -> Self:
        """Read `models.ckpt`, or its folder, with the gene table beside it or above.

        Parameters
        ----------
        path
            The file or the folder.
        variant
            The sub-model: `cell`, `rde` or `gene`. None, as the authors' script: `cell` for cell vectors, and the
            static gene vectors of `gene`; `gene` with context=decoder.
        readout, target, input_type, bulk_depth, context
            See `models.scfoundation.options.Options`.

        Raises
        ------
        InputError
            Files missing, damaged or at odds with each other, an unknown sub-model, weights that match in part.
        """
        from models.scfoundation.network import Network

        options = Options(readout, target, input_type, bulk_depth, context)
        files = release.locate(path)
        symbols = release.read_genes(files.genes)
        submodels = release.read_submodels(files.weights)
        key = release.choose(submodels, variant, GENE if context == "decoder" else CELL, files.weights)
        source = f"{files.weights} [{key}]"
        state, config = release.read_state(submodels[key], source), submodels[key]["config"]
        sizes = sizes_of(config, {name: tuple(tensor.shape) for name, tensor in state.items()}, source)
        if sizes.n_genes != len(symbols):
            raise InputError(
                f"{files.genes} lists {len(symbols)} genes, {source} is of {sizes.n_genes} (and T, S, padding). Keep "
                "the files of one release together"
            )
        static = None
        if variant is None and key != GENE and GENE in submodels:
            static = release.read_static(submodels[GENE], len(symbols), f"{files.weights} [{GENE}]")
        network = empty(lambda: Network(sizes))
        report = load_state(network, state, Path(source))
        model = cls(network, symbols, config, options, variant=key, submodel=key, static=static)
        model.load_report = report
        return model

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """The weights and the gene table."""
        files = release.locate(path)
        return [files.weights, files.genes]

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        target: str = DEFAULT.target,
        input_type: str = DEFAULT.input_type,
        bulk_depth: float | None = None,
        context: str = DEFAULT.context,
    ) -> Self:
        """A fresh network over the symbols of `genes`; `size` is `tiny` or `100m`.

        Raises
        ------
        InputError
            Unknown size or option, or genes without symbols.
        """
        from models.scfoundation.network import Network

        options = Options(readout, target, input_type, bulk_depth, context)
        one_of("size", size, tuple(SIZES))
        symbols = np.asarray([name for name in dict.fromkeys(genes.symbols.tolist()) if name], np.str_)
        if not len(symbols):
            raise InputError(
                "scFoundation's vocabulary is made of gene symbols, and these genes have none; name the var column "
                "that holds them: dataset.gene_ids=COLUMN"
            )
        encoder, decoder = SIZES[size]
        sizes = Sizes(
            n_genes=len(symbols),
            bins=BINS,
            bin_alpha=1.0,
            encoder=Stack("transformer", *encoder),
            decoder=Stack("performer", *decoder, performer_features(decoder[-1])),
        )
        network = seeded(lambda: Network(sizes), seed)
        return cls(network, symbols, official_config(sizes), options, variant=size)

    def save(self, directory: Path) -> None:
        """Write the official layout, `models.ckpt` with this one sub-model and the gene table."""
        release.write(directory, self.submodel, self.network.state_dict(), self.config, self.symbols)

    # -- what it does ---------------------------------------------------------------------------------

    def tokenize(
        self,
        counts: csr_matrix,
        genes: GeneTable | GeneMatch | Sequence[str],
        *,
        seed: int = 0,
        normalised: bool = False,
        totals: np.ndarray | None = None,
    ) -> TokenBatch:
        """Expressed genes of each cell in the order of their index, then T and S. See `ModelAdapter.tokenize`.

        A cell whose total count in genes of the vocabulary is 0 or 1 has no True in its mask: T and S are logarithms
        of it, and the network reads values above zero only.

        Parameters
        ----------
        counts
            Raw counts; log-normalised values with `normalised`.
        normalised
            Take the values as they are (the authors' `pre_normalized T`; with `totals`, `A`).
        totals
            (n,), the cells' total raw counts, where `counts` holds log-normalised values.

        Raises
        ------
        InputError
            Bulk counts without `bulk_depth`; normalised values that are negative, not finite, or of one gene twice.
        """
        if normalised and not (np.isfinite(counts.data).all() and (counts.data >= 0).all()):
            raise InputError("normalised values must be finite and not negative (log1p of scaled counts)")
        if totals is not None and (not normalised or self.options.input_type == "bulk"):
            raise InputError("totals go with normalised=True and input_type=singlecell; elsewhere they are computed")
        cells = tokenizer.mapped(counts, self.match_genes(genes).ids, len(self.symbols), normalised=normalised)
        if self.options.input_type == "bulk":
            return tokenizer.normalised_bulk(cells) if normalised else tokenizer.bulk_samples(cells, self._depth())
        target = tokenizer.Target.parse(self.options.target)
        if normalised:
            return tokenizer.normalised_cells(cells, target, totals)
        return tokenizer.single_cells(cells, target)

    def _depth(self) -> float:
        if self.options.bulk_depth is None:
            raise InputError(
                "model.input_type=bulk needs model.bulk_depth=NUMBER, the total count samples are scaled to. The "
                "authors take the median over the samples of a file (ScFoundation.median_total), which would make a "
                "sample's vector depend on its companions; so it is stated"
            )
        return float(self.options.bulk_depth)

    def median_total(self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str]) -> float:
        """Median over non-empty rows of the total count in genes of the vocabulary: the authors' `bulk_depth`."""
        totals = tokenizer.totals_of(tokenizer.mapped(counts, self.match_genes(genes).ids, len(self.symbols)))
        return float(np.median(totals[totals > 0]))

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell vector by `readout`, always of the encoder, and the contextual vectors by `context`."""
        from models.scfoundation.network import read_out

        batch = self._tensors(batch)
        ids, mask = batch.gene_ids, batch.mask
        encoded = self.network.encode(ids, batch.values, mask)
        cell = read_out(encoded, ids, mask, len(self.symbols), self.readout)
        if self.options.context == "encoder":
            return CellOutput(cell, encoded)
        tokens = self.network.decode_at(encoded, ids, mask, ids.masked_fill(~mask, 0))
        return CellOutput(cell, tokens.masked_fill(~mask.unsqueeze(-1), 0.0))

    def contextual_genes(
        self,
        counts: csr_matrix,
        genes: GeneTable | GeneMatch | Sequence[str],
        keep: Sequence[str],
        *,
        expression: bool = False,
        **tokenizing: Any,
    ) -> np.ndarray:
        """Decoder vectors of some genes in each cell, expressed or not: the authors' `gene` output.

        The decoder reads all genes of a cell, one cell (or, for a small vocabulary, a few) at a time; only what is
        asked for is kept. The authors use sub-model `gene` with target f1.

        Parameters
        ----------
        counts, genes
            Cells, as for `tokenize`.
        keep
            Symbols of the vocabulary.
        expression
            Predicted log-normalised values instead of vectors (the authors' `gene_expression`).
        tokenizing
            `normalised`, `totals`, as for `tokenize`.

        Returns
        -------
        float32 (n, len(keep), D), or (n, len(keep)) of values; NaN for cells that cannot be embedded.

        Raises
        ------
        InputError
            A name in `keep` is not in the vocabulary.
        """
        import torch

        known = self.vocabulary
        unknown = [name for name in keep if name not in known]
        if unknown:
            raise InputError(f"keep={', '.join(unknown[:8])}: not in the vocabulary of scFoundation")
        batch = self.tokenize(counts, genes, **tokenizing)
        wanted = torch.tensor([known[name] for name in keep], dtype=torch.int64, device=self.device)
        width = 1 if expression else self.network.sizes.decoder.width
        result = np.full((len(batch), len(keep), width), np.nan, np.float32)
        with torch.inference_mode():
            for rows, part in batch.buckets(self.network.sizes.n_positions):
                tensors = self._tensors(part)
                encoded = self.network.encode(tensors.gene_ids, tensors.values, tensors.mask)
                positions = wanted.expand(len(part), -1)
                found = self.network.decode_at(encoded, tensors.gene_ids, tensors.mask, positions)
                found = self.network.to_final(found) if expression else found
                result[rows] = found.float().cpu().numpy()
        return result[..., 0] if expression else result

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Static gene embeddings: `pos_emb`, of sub-model `gene` where none was asked for (official)."""
        if self.static is not None:
            return self.symbols.tolist(), self.static
        rows = self.network.pos_emb.weight[: len(self.symbols)]
        return self.symbols.tolist(), rows.detach().float().cpu().numpy()

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Squared errors of the hidden values of single cells (`models.scfoundation.objective`)."""
        from models.scfoundation import objective

        if self.options.input_type == "bulk":
            raise InputError("model.input_type=bulk: scFoundation is pretrained on single cells")
        batch = self._tensors(batch, "cpu")
        cells = objective.draw(batch, len(self.symbols), flatten(self.config, "config"), generator)
        count, cells = int(cells.hidden.sum()), cells.to(self.device)
        return PretrainingLoss({"mse": count}, lambda: {"mse": objective.squared_errors(self.network, cells)})

    def _tensors(self, batch: TokenBatch, device: Any = None) -> TokenBatch:
        if batch.values is None:
            raise InputError("scFoundation reads a value beside each gene: TokenBatch.values is missing")
        return batch.tensors(self.device if device is None else device)
