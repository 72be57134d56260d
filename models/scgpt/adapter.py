"""scGPT (Cui et al., Nature Methods 2024): reads the official release, embeds cells, genes and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.checkpoints import LoadReport, load_state
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneMatch, GeneTable
from harness.loss import PretrainingLoss
from harness.model import ModelAdapter
from harness.networks import empty, seeded
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import CellOutput, TokenBatch
from models.scgpt import release
from models.scgpt.tokenizer import N_BINS, SpecialTokens, tokenize

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.perturbation_model import PerturbationModel

#: Longest sequence of the official embedding, `<cls>` included, whatever `args.json` says.
MAX_LENGTH = 1200
#: Heads of the authors' fine-tuning models that stand in some files and that no cell vector passes.
UNUSED_HEADS = ("cls_decoder.", "grad_reverse_discriminator.")
#: Sizes for `from_scratch`, as `args.json` names them. Tiny ones see too few tokens to overfit, and without
#: dropout a CPU trains them four times as fast.
SIZES = {
    "tiny": {"embsize": 64, "nheads": 4, "d_hid": 64, "nlayers": 2, "dropout": 0.0},
    "whole-human": {"embsize": 512, "nheads": 8, "d_hid": 512, "nlayers": 12, "dropout": 0.2},
}
#: The rest of a released `args.json` that says how the model is pretrained and fed.
DEFAULT_ARGS = {
    "n_layers_cls": 3,
    "pad_token": "<pad>",
    "pad_value": -2,
    "mask_value": -1,
    "mask_ratio": [0.25, 0.5, 0.75],
    "n_bins": N_BINS,
    "max_seq_len": MAX_LENGTH,
    "input_style": "binned",
    "input_emb_style": "continuous",
    "training_tasks": "both",
}


@register_model("scgpt")
class ScGPT(ModelAdapter):
    """scGPT behind the embed interface.

    Parameters
    ----------
    network
        `models.scgpt.network.Network`.
    tokens
        All tokens in id order, special ones included.
    args
        `args.json` of the release.
    variant
        Name of the weights.
    readout
        One of `spec.readouts`; None for the official one.
    max_length
        Longest sequence, `<cls>` included; longer cells are sampled.
    """

    spec = ModelSpec(
        name="scgpt",
        title="scGPT",
        gene_ids="symbol",
        readouts=("cls", "cls-raw", "avg-pool", "w-pool"),
        paper="Cui et al., scGPT: toward building a foundation model for single-cell multi-omics using "
        "generative AI, Nature Methods 2024, doi:10.1038/s41592-024-02201-0",
        code_licence="MIT",
        weights_licence=None,
        commercial_use=None,
        pretraining="33 million normal human cells of CELLxGENE (census of May 2023) for whole-human",
        species=("human",),
    )
    lora_targets = ("self_attn.Wqkv", "self_attn.out_proj")
    #: How the weights file fitted the network; None for a fresh one.
    load_report: LoadReport | None = None

    def __init__(
        self,
        network: Any,
        tokens: np.ndarray,
        args: Mapping[str, Any],
        *,
        variant: str = "",
        readout: str | None = None,
        max_length: int = MAX_LENGTH,
    ):
        self.readout = _checked_readout(readout)
        if type(max_length) is not int or max_length < 2:
            raise InputError(f"model.max_length={max_length}: expected a whole number of at least 2")
        self.network = network.eval().requires_grad_(False)
        self.tokens, self.args, self.variant = tokens, dict(args), variant
        special = _special_tokens(args)
        self.token_names = np.where(np.isin(tokens, special), "", tokens)
        ids = {token: int(np.flatnonzero(tokens == token)[0]) for token in special}
        self.special = SpecialTokens(ids[special[0]], ids[release.CLS], float(args.get("pad_value", -2)))
        self.context_length = max_length
        self.embedding_size = network.sizes.width

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        *,
        variant: str | None = None,
        readout: str | None = None,
        max_length: int = MAX_LENGTH,
    ) -> Self:
        """Read a release folder (`best_model.pt`, `args.json`, `vocab.json`), or its weights file.

        Parameters
        ----------
        path
            The folder, the weights file, or a folder of release folders.
        variant
            Which sub-folder, where `path` holds several; else a label (by default the name of the folder).
        readout, max_length
            As for the class.

        Raises
        ------
        InputError
            Files missing, damaged, ambiguous or at odds with each other, or weights that match in part.
        """
        from models.scgpt.network import Network

        _checked_readout(readout)
        files = release.locate(path, variant)
        args = release.read_args(files.args)
        tokens = release.read_vocabulary(files.vocabulary, _special_tokens(args))
        state = release.read_weights(files.weights)
        release.check_sizes(state, args, len(tokens), files)
        flag = any(key.startswith("flag_encoder.") for key in state)
        network = empty(lambda: Network(_network_sizes(args, len(tokens), flag)))
        report = load_state(network, state, files.weights, ignore=lambda key: key.startswith(UNUSED_HEADS))
        name = variant or files.weights.resolve().parent.name
        model = cls(network, tokens, args, variant=name, readout=readout, max_length=max_length)
        model.load_report = report
        return model

    @classmethod
    def checkpoint_files(cls, path: Path, variant: str | None = None) -> list[Path]:
        """Weights and tables of the model that would be loaded, and of no other."""
        files = release.locate(path, variant)
        return [files.weights, files.args, files.vocabulary]

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        max_length: int = MAX_LENGTH,
    ) -> Self:
        """A fresh network over the symbols of `genes`; `size` is `tiny` or `whole-human`.

        Raises
        ------
        InputError
            Unknown size, or genes without symbols.
        """
        from models.scgpt.network import Network

        if size not in SIZES:
            raise InputError(f"model.size={size}: scGPT has {', '.join(SIZES)}")
        args = {**DEFAULT_ARGS, **SIZES[size]}
        special = _special_tokens(args)
        symbols = [name for name in dict.fromkeys(genes.symbols.tolist()) if name and name not in special]
        if not symbols:
            raise InputError(
                "scGPT's vocabulary is made of gene symbols, and these genes have none; name the var column "
                "that holds them: dataset.gene_ids=COLUMN"
            )
        tokens = np.asarray([*symbols, *special], np.str_)
        network = seeded(lambda: Network(_network_sizes(args, len(tokens))), seed)
        return cls(network, tokens, args, variant=size, readout=readout, max_length=max_length)

    def save(self, directory: Path) -> None:
        """Write the official layout: `best_model.pt` (released key names), `args.json`, `vocab.json`."""
        release.write(directory, self.network.state_dict(), self.args, self.tokens)

    def tokenize(
        self, counts: csr_matrix, genes: GeneTable | GeneMatch | Sequence[str], *, seed: int = 0
    ) -> TokenBatch:
        """See `ModelAdapter.tokenize`; a cell without a gene of the vocabulary has no True in its mask."""
        ids = self.match_genes(genes).ids
        return tokenize(counts, ids, self.special, max_length=self.context_length, seed=seed)

    def forward(self, batch: TokenBatch) -> CellOutput:
        """Cell vector by `readout`, and the contextual vectors with zeros at padding."""
        from models.scgpt.network import read_out

        batch = self._tensors(batch)
        tokens = self.network(batch.gene_ids, batch.values, batch.mask)
        return CellOutput(read_out(tokens, batch.values, batch.mask, self.readout), tokens)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """LN(embedding[id]) of every gene token, in id order: the authors' gene embeddings."""
        import torch

        genes = np.flatnonzero(self.token_names != "")
        with torch.inference_mode():
            matrix = self.network.encoder(torch.as_tensor(genes, device=self.device))
        return self.token_names[genes].tolist(), matrix.float().cpu().numpy()

    def pretraining_loss(self, batch: TokenBatch, generator: Any) -> PretrainingLoss:
        """Squared errors of the generated bins: `gep`, `gepc`, `generative` (`models.scgpt.pretraining`).

        Raises
        ------
        NotApplicableError
            The weights come without `flag_encoder`, which marks generated genes.
        """
        from models.scgpt import pretraining

        if self.network.flag_encoder is None:
            raise NotApplicableError(
                "these scGPT weights have no flag_encoder (the authors' main branch saves none): they "
                "cannot be pretrained further"
            )
        ratios = np.atleast_1d(self.args.get("mask_ratio", DEFAULT_ARGS["mask_ratio"])).tolist()
        division = pretraining.divide(self._tensors(batch), self.special, ratios, generator)
        counts = dict.fromkeys(pretraining.TERMS, int(division.generated_mask.sum()))
        return PretrainingLoss(
            counts, lambda: pretraining.squared_errors(pretraining.predict(self.network, division), division)
        )

    def perturbation_model(self, genes: Sequence[str], *, seed: int = 0, **settings: Any) -> PerturbationModel:
        """See `ModelAdapter.perturbation_model`; settings are those of `models.scgpt.perturbation.Settings`."""
        from models.scgpt.perturbation import PerturbationPredictor

        return PerturbationPredictor(self, genes, seed, **settings)

    def _tensors(self, batch: TokenBatch) -> TokenBatch:
        if batch.values is None:
            raise InputError("scGPT reads a value beside each gene: TokenBatch.values is missing")
        return batch.tensors(self.device)


def _special_tokens(args: Mapping[str, Any]) -> tuple[str, ...]:
    return str(args.get("pad_token", "<pad>")), release.CLS, release.EOC


def _checked_readout(readout: str | None) -> str:
    known = ScGPT.spec.readouts
    if readout is not None and readout not in known:
        raise InputError(f"model.readout={readout}: scGPT has {', '.join(known)}")
    return readout or known[0]


def _network_sizes(args: Mapping[str, Any], n_tokens: int, flag: bool = True) -> Any:
    from models.scgpt.network import Sizes

    return Sizes(
        n_tokens=n_tokens,
        width=args["embsize"],
        heads=args["nheads"],
        feed_forward=args["d_hid"],
        layers=args["nlayers"],
        dropout=float(args.get("dropout", 0.0)),
        flag=flag,
    )
