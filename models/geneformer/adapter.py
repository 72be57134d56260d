"""Geneformer V1 and V2 behind the engine's interface (Theodoris et al. 2023; Chen et al. 2024)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch
from models.geneformer.dictionaries import CLS, EOS, MASK, PAD, GeneDictionaries
from models.geneformer.release import PRETRAINED, find_dictionaries, find_model
from models.geneformer.tokenizer import rank_tokens, token_counts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.corpus import Corpus
    from harness.data import CellData
    from models.geneformer.network import MaskedGeneModel

#: Read-outs of each version, the official one first. V1 has no `<cls>`.
READOUTS = {"V1": ("mean",), "V2": ("cls", "mean")}


@register_model("geneformer")
class Geneformer(ModelAdapter):
    """A BERT over a cell's genes in rank order; no expression value enters the network.

    Parameters
    ----------
    network
        The BERT, frozen and in eval mode.
    dictionaries
        Tokens, medians and id mapping; they decide between V1 and V2.
    variant
        Name of the weights.
    readout
        `cls` (V2: the `<cls>` position) or `mean` (over the genes, special tokens left out); None: the official
        one of the version, `mean` for V1 and `cls` for V2.
    emb_layer
        Layer that is read, as the authors number it: -1 the second-to-last (their default), 0 the last.
    """

    spec = ModelSpec(
        name="geneformer",
        title="Geneformer",
        gene_ids="ensembl",
        readouts=("cls", "mean"),
        draws=False,
        paper="Theodoris et al., Nature 2023 (10.1038/s41586-023-06139-9); "
        "V2: Chen et al., bioRxiv 2024 (10.1101/2024.08.16.608180)",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        commercial_use=True,
        pretraining="V1: Genecorpus-30M, about 30 million human cells (2021), no cells with high mutational "
        "burden; V2: about 95 to 104 million human cells (2024); CLcancer: V2 tuned further on cancer cells",
    )
    lora_targets = ("query", "key", "value", "output.dense", "intermediate.dense")

    def __init__(
        self,
        network: MaskedGeneModel,
        dictionaries: GeneDictionaries,
        *,
        variant: str = "",
        readout: str | None = None,
        emb_layer: int = -1,
    ):
        self.network, self.dictionaries, self.variant = network, dictionaries, variant
        known = READOUTS[self.version]
        if readout is not None and readout not in known:
            raise InputError(
                f"model.readout={readout}: Geneformer {self.version} has {' and '.join(known)}"
                + (", its cells carry no <cls> token" if readout == "cls" else "")
            )
        if emb_layer not in (-1, 0):
            raise InputError(f"model.emb_layer={emb_layer}: expected -1 (second-to-last layer) or 0 (last)")
        self.readout, self.emb_layer = readout or known[0], emb_layer
        self.token_names = dictionaries.token_names
        self.context_length = network.config.max_position_embeddings
        self.embedding_size = network.config.hidden_size

    @property
    def version(self) -> str:
        """`V1` or `V2`."""
        return self.dictionaries.version

    # -- where it comes from --------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        emb_layer: int = -1,
        version: str | None = None,
    ) -> Self:
        """Read the release as downloaded from ctheodoris/Geneformer.

        Parameters
        ----------
        path
            A model's folder, a weight file in one, or a folder above several (then see `variant`).
        variant
            Name of the model's folder. Without it the only pretrained model is taken.
        version
            Checked against the dictionaries when given; they alone say whether a model is V1 or V2.

        Raises
        ------
        InputError
            No model or several, missing or damaged files, a config or dictionaries that do not fit the weights.
        """
        from models.geneformer.network import BertConfig
        from models.geneformer.weights import load_network

        folder = find_model(Path(path), variant)
        config = BertConfig.from_json(folder.config(), folder.config_file)
        network = load_network(folder.weights, config)
        files = find_dictionaries(folder.path, config.vocab_size)
        dictionaries = files.read()
        if dictionaries.tokens[PAD] != config.pad_token_id:
            raise InputError(
                f"{files.tokens} numbers <pad> {dictionaries.tokens[PAD]}, but {folder.config_file} says "
                f"{config.pad_token_id}; they belong to different models"
            )
        if version not in (None, dictionaries.version):
            raise InputError(f"model.version={version}, but {folder.path} is a {dictionaries.version} model")
        return cls(network, dictionaries, variant=folder.name, readout=readout, emb_layer=emb_layer)

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """Weights, config and dictionaries of the model that would be loaded, and of no other."""
        folder = find_model(Path(path), variant)
        vocab_size = folder.config().get("vocab_size", 0)
        return [folder.config_file, folder.weights, *find_dictionaries(folder.path, vocab_size).paths]

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        emb_layer: int = -1,
        version: str | None = None,
    ) -> Self:
        """A fresh network over `genes`: their Ensembl ids where known, else their symbols or names.

        Medians are 1 until `calibrate`, so that genes rank by count.

        Parameters
        ----------
        size
            `tiny` or the size of a published model: 10m, 38m, 104m, 151m, 316m.
        version
            V2 (default) or V1.
        """
        from models.geneformer.network import SIZES, BertConfig, MaskedGeneModel

        if size not in SIZES:
            raise InputError(f"model.size={size}: Geneformer has {', '.join(SIZES)}")
        if version not in (None, *READOUTS):
            raise InputError(f"model.version={version}: expected {' or '.join(READOUTS)}")
        dictionaries = GeneDictionaries.of_genes(genes, version or "V2")
        config = BertConfig(vocab_size=len(dictionaries.tokens), **SIZES[size])
        network = MaskedGeneModel.empty(config).initialise(seed)
        return cls(network, dictionaries, variant=size, readout=readout, emb_layer=emb_layer)

    def calibrate(self, corpus: CellData | Corpus) -> None:
        """Take the gene medians from `corpus`; a gene that no cell of it expresses has median 1."""
        from harness.corpus import Corpus
        from models.geneformer.medians import gene_medians

        parts = [(part, self.match_genes(part.genes).ids) for part in Corpus.of(corpus).parts]
        self.dictionaries.medians = gene_medians(parts, len(self.token_names))

    def save(self, directory: Path) -> None:
        """Write `config.json`, `model.safetensors`, and the dictionaries in `geneformer/`."""
        from safetensors.torch import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = {
            "architectures": ["BertModel" if self.network.cls is None else PRETRAINED],
            "model_type": "bert",
            "position_embedding_type": "absolute",
            **asdict(self.network.config),
        }
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        state = {key: value.detach().cpu().contiguous() for key, value in self.network.state_dict().items()}
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        self.dictionaries.save(directory / "geneformer")

    # -- what it does ---------------------------------------------------------------------------------

    def match_genes(self, genes: GeneTable | GeneMatch | Sequence[str]) -> GeneMatch:
        """Token of each column by the official mapping, see `GeneDictionaries.match`."""
        if isinstance(genes, GeneMatch):
            return genes
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        return GeneMatch(table, self.dictionaries.match(table))

    def tokenize(
        self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str], *, seed: int = 0
    ) -> TokenBatch:
        """Genes in descending order of count / median, see `rank_tokens`; nothing is drawn."""
        tokens = self.dictionaries.tokens
        by_token = token_counts(counts, self.match_genes(genes).ids, len(tokens))
        return rank_tokens(
            by_token,
            self.dictionaries.medians,
            context_length=self.context_length,
            pad=tokens[PAD],
            cls=tokens.get(CLS),
            eos=tokens.get(EOS),
        )

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Hidden states of the layer `emb_layer` names, and the cell vector read from them."""
        batch = batch.tensors(self.device)
        ids, mask = batch.gene_ids, batch.mask
        hidden = self.network(ids, mask, n_layers=self.network.config.num_hidden_layers + self.emb_layer)
        tokens = hidden.float().masked_fill(~mask[..., None], 0.0)
        if self.readout == "cls":
            return CellOutput(tokens[:, :1].sum(dim=1), tokens)
        genes = mask
        for special in (CLS, EOS):
            if special in self.dictionaries.tokens:
                genes = genes & (ids != self.dictionaries.tokens[special])
        total = (tokens * genes[..., None]).sum(dim=1)
        return CellOutput(total / genes.sum(dim=1, keepdim=True).clamp(min=1), tokens)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """Word embeddings of the genes, in the order of their token ids."""
        rows = np.flatnonzero(self.token_names != "")
        return self.token_names[rows].tolist(), self.network.word.detach().float().cpu().numpy()[rows]

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Masked-gene cross-entropy (term `mlm`), see `models.geneformer.objective`."""
        from models.geneformer.objective import IGNORED, draw_masks, masked_gene_loss

        if self.network.cls is None:
            raise NotApplicableError(f"{self.variant} is fine-tuned: its file holds no masked-gene head to train")
        batch = batch.tensors()
        shown, labels = draw_masks(
            batch,
            pad=self.dictionaries.tokens[PAD],
            mask_token=self.dictionaries.tokens[MASK],
            vocab_size=len(self.token_names),
            generator=generator,
        )
        shown, mask, found = (part.to(self.device) for part in (shown, batch.mask, labels))
        return PretrainingLoss(
            {"mlm": int((labels != IGNORED).sum())},
            lambda: {"mlm": masked_gene_loss(self.network, shown, mask, found)},
        )
