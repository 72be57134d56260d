"""UCE (Rosen et al., bioRxiv 2023): reads the official release, embeds cells, genes and tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.checkpoints import LoadReport, load_state
from harness.errors import InputError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.networks import empty
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch
from models.uce import release, tables
from models.uce.config import FRESH, HEADS, PAD_LENGTH, SAMPLE_SIZE, Sizes
from models.uce.genome import N_SPECIAL, GeneTables
from models.uce.tokenizer import tokenize

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: What `gene_table` may give.
GENE_VECTORS = ("encoder", "protein", "query")
#: What the variant of a fresh network without ESM2 embeddings says.
LEARNED = "learned gene table"


@register_model("uce")
class UCE(ModelAdapter):
    """UCE behind the embed interface.

    Parameters
    ----------
    network
        `models.uce.network.Network`.
    gene_tables
        Tokens of the species.
    variant
        Name of the weights.
    readout
        One of `spec.readouts`; None for the official one.
    sample_size
        Genes drawn per cell, with replacement.
    pad_length
        Longest sentence; None: as many tokens as the network has positions.
    gene_vectors
        What the static gene embedding is: `encoder` (what the transformer reads of a protein), `protein` (its
        ESM2 embedding) or `query` (what the binary decoder reads).
    """

    spec = ModelSpec(
        name="uce",
        title="UCE",
        gene_ids="symbol",
        readouts=("cls", "cls-raw", "mean"),
        paper="Rosen et al., Universal Cell Embeddings: A Foundation Model for Cell Biology, bioRxiv 2023, "
        "doi:10.1101/2023.11.28.568918",
        code_licence="MIT",
        weights_licence="MIT",
        commercial_use=True,
        pretraining="36 million cells of more than 300 data sets and 8 species, most of them of CELLxGENE",
        species=tuple(tables.SPECIES),
    )
    lora_targets = ("self_attn.in_proj", "self_attn.out_proj")
    #: How the weights file fitted the network; None for a fresh one.
    load_report: LoadReport | None = None

    def __init__(
        self,
        network: Any,
        gene_tables: GeneTables,
        *,
        variant: str = "",
        readout: str | None = None,
        sample_size: int = SAMPLE_SIZE,
        pad_length: int | None = None,
        gene_vectors: str = "encoder",
    ):
        self.readout, self.gene_vectors = _checked(readout, gene_vectors)
        positions = network.sizes.positions
        length = positions if pad_length is None else pad_length
        # CLS, one chromosome and its end are in every sentence.
        if type(sample_size) is not int or type(length) is not int or not 1 <= sample_size <= length - 3:
            raise InputError(
                f"model.sample_size={sample_size}, model.pad_length={length}: a sentence holds the genes drawn and at "
                "least three tokens more"
            )
        if length > positions:
            raise InputError(f"model.pad_length={length}: these weights have {positions} positions")
        self.network = network.eval().requires_grad_(False)
        self.gene_tables, self.genome = gene_tables, gene_tables.genome
        self.variant, self.sample_size, self.context_length = variant, sample_size, length
        self.token_names = self.genome.names
        self.embedding_size = network.sizes.decoder[-1]
        self._token_of = {name.upper(): token for token, name in enumerate(self.token_names.tolist()) if name}
        species = gene_tables.species
        # Symbols alone tell human from mouse style and no more: pig and macaque look human, frog looks like mouse.
        looks = () if species in ("human", "mouse") else ("human", "mouse")
        self.spec = replace(type(self).spec, species=(species, *looks))

    # -- where it comes from --------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        species: str = "human",
        sample_size: int | None = None,
        pad_length: int | None = None,
        gene_vectors: str = "encoder",
        heads: int | None = None,
        esm2: str | Path | None = None,
    ) -> Self:
        """Read the files of a release (`model_files/`), its weights file, or what `save` wrote.

        Parameters
        ----------
        path
            The folder or the weights file; gene tables are looked for beside it and above.
        variant
            Which weights of a folder: `4layer`, `33layer`, or a file's name or stem.
        readout, gene_vectors
            As for the class.
        species
            Whose gene tables are read.
        sample_size, pad_length, heads
            None: from the config.json of a network pretrained here, else as released: 1024, all positions, 20.
        esm2
            Of a fresh network only.

        Raises
        ------
        InputError
            Files missing, damaged, ambiguous or at odds with each other, or weights that match in part.
        """
        from models.uce.network import Network

        _checked(readout, gene_vectors)
        weights = release.find_weights(Path(path), variant)
        declared = release.read_config(weights)
        state = release.read_weights(weights)
        places = tables.read_places(tables.find(weights, tables.CHROMOSOMES))
        state[release.TABLE] = release.token_table(state, weights, places.codes[1])
        sizes = Sizes.of_weights(
            state,
            weights,
            heads=declared.get("heads", HEADS) if heads is None else heads,
            learned_table=declared.get("learned_table", False),
        )
        gene_tables = tables.read_tables(weights, species, places, sizes.rows)
        network = empty(lambda: Network(sizes))
        report = load_state(network, state, weights)
        model = cls(
            network,
            gene_tables,
            variant=declared.get("variant") or _variant(weights, sizes),
            readout=readout,
            sample_size=declared.get("sample_size", SAMPLE_SIZE) if sample_size is None else sample_size,
            pad_length=pad_length,
            gene_vectors=gene_vectors,
        )
        model.load_report = report
        return model

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """The weights, the config.json beside them, and the gene tables of all species that are there."""
        weights = release.find_weights(Path(path), variant)
        config = weights.parent / release.CONFIG
        return [weights, *([config] if config.is_file() else []), *tables.files(weights)]

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        species: str = "human",
        sample_size: int | None = None,
        pad_length: int | None = None,
        gene_vectors: str = "encoder",
        heads: int | None = None,
        esm2: str | Path | None = None,
    ) -> Self:
        """A fresh network over the symbols of `genes`.

        Parameters
        ----------
        genes
            The vocabulary.
        size
            `tiny`, `4layer` or `33layer`.
        seed
            Of the weights; the global generators are not touched.
        esm2
            Folder with the release's `species_chrom.csv` and `protein_embeddings/`: tokens are then ESM2
            embeddings, and genes that have none are left out. None: a table of vectors is learned, and as nothing
            says where genes stand, all are on one chromosome in the order of the vocabulary.
        readout, species, sample_size, pad_length, gene_vectors, heads
            As for `from_checkpoint`.

        Raises
        ------
        InputError
            Unknown size, an option that does not fit it, or no gene that can be read.
        """
        from models.uce.fresh import fresh_network, fresh_tables

        _checked(readout, gene_vectors)
        if size not in FRESH:
            raise InputError(f"model.size={size}: UCE has {', '.join(FRESH)}")
        sizes, default = FRESH[size]
        sample_size = default if sample_size is None else sample_size
        positions = sample_size * PAD_LENGTH // SAMPLE_SIZE if pad_length is None else pad_length
        if type(positions) is not int or positions < 1:
            raise InputError(
                f"model.sample_size={sample_size}, model.pad_length={pad_length}: expected whole numbers > 0"
            )
        gene_tables, vectors = fresh_tables(genes, species, None if esm2 is None else Path(esm2).expanduser())
        network = fresh_network(
            sizes | ({} if heads is None else {"heads": heads}), gene_tables, vectors, positions=positions, seed=seed
        )
        return cls(
            network,
            gene_tables,
            variant=size if vectors is not None else f"{size}, {LEARNED}",
            readout=readout,
            sample_size=sample_size,
            gene_vectors=gene_vectors,
        )

    def save(self, directory: Path) -> None:
        """Write the official layout, and a config.json with what it does not show."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        state, sizes = self.network.state_dict(), self.network.sizes
        release.write_weights(directory / f"{sizes.layers}layer_model.torch", state)
        tables.write_tables(directory, self.gene_tables, state[release.TABLE].detach().cpu())
        config = {
            "variant": self.variant,
            "heads": sizes.heads,
            "sample_size": self.sample_size,
            "learned_table": sizes.learned_table,
        }
        (directory / release.CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    # -- what it does ---------------------------------------------------------------------------------

    def match_genes(self, genes: GeneTable | GeneMatch | Sequence[str]) -> GeneMatch:
        """Which token each column is: by symbol, whatever its case, as the authors match."""
        if isinstance(genes, GeneMatch):
            return genes
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        found = (self._token_of.get(name.upper(), -1) for name in table.symbols.tolist())
        return GeneMatch(table, np.fromiter(found, np.int64, len(table)))

    def tokenize(
        self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str], *, seed: int = 0
    ) -> TokenBatch:
        """See `ModelAdapter.tokenize`; a cell without a gene of the vocabulary has no True in its mask."""
        return tokenize(
            counts,
            self.match_genes(genes).ids,
            self.genome,
            sample_size=self.sample_size,
            max_length=self.context_length,
            seed=seed,
        )

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell vector by `readout`, and the decoder's output at every token, with zeros at padding."""
        from models.uce.network import read_out

        batch = batch.replace(extra={}).tensors(self.device)
        tokens = self.network(batch.gene_ids, batch.mask)
        genes = batch.mask & (batch.gene_ids >= N_SPECIAL) & (batch.gene_ids < self.gene_tables.chromosome_offset)
        return CellOutput(read_out(tokens, genes, batch.mask, self.readout), tokens)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Static gene vectors, by the option `gene_vectors`, of all genes of the species with a known place."""
        import torch

        ids = np.flatnonzero(self.token_names != "")
        with torch.inference_mode():
            at = torch.as_tensor(ids, device=self.device)
            if self.gene_vectors == "protein":
                matrix = self.network.pe_embedding(at)
            elif self.gene_vectors == "query":
                matrix = self.network.gene_embedding_layer(self.network.proteins(at))
            else:
                matrix = self.network.encoder(self.network.proteins(at))
        return self.token_names[ids].tolist(), matrix.float().cpu().numpy()

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Binary cross entropy of expressed and unexpressed genes (`models.uce.objective`).

        The batch carries what is asked in `extra`, as `tokenize` puts it there.
        """
        import torch

        from models.uce import objective
        from models.uce.genome import PAD

        if not {"expressed", "unexpressed"} <= set(batch.extra):
            raise InputError("UCE's objective asks for genes in TokenBatch.extra: expressed and unexpressed, (n, q)")
        batch = batch.tensors(self.device)
        ids, mask = objective.hide(batch, self.gene_tables.chromosome_offset, generator)
        questions = torch.cat([batch.extra["expressed"], batch.extra["unexpressed"]], dim=1)
        labels = torch.arange(questions.shape[1], device=ids.device) < batch.extra["expressed"].shape[1]
        return PretrainingLoss(
            {"expression": int((questions != PAD).sum())},
            lambda: {"expression": objective.losses(self.network, ids, mask, questions, labels)},
        )


def _checked(readout: str | None, gene_vectors: str) -> tuple[str, str]:
    known = UCE.spec.readouts
    if readout is not None and readout not in known:
        raise InputError(f"model.readout={readout}: UCE has {', '.join(known)}")
    if gene_vectors not in GENE_VECTORS:
        raise InputError(f"model.gene_vectors={gene_vectors}: UCE has {', '.join(GENE_VECTORS)}")
    return readout or known[0], gene_vectors


def _variant(weights: Path, sizes: Sizes) -> str:
    """Released weights go by their true number of layers, others by the name of their file."""
    return f"{sizes.layers}layer" if release.published_name(weights.name) else weights.stem
