"""Sizes of a CellFM network, and where each comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from harness.errors import InputError

#: Width of a head in both released models; the one size that no weight shows.
HEAD_WIDTH = 32
#: Genes per cell in both released models (`nonz_len`).
MAX_GENES = 2048
#: Dropout of the last layer (`enc_dropout`), likewise.
DROPOUT = 0.1
#: Rows of `gene_emb` are padded to a multiple of this.
ROW_MULTIPLE = 8

#: Parts of the architecture that can be exchanged in a network from scratch; the first is CellFM's own.
SWITCHES: dict[str, tuple[Any, ...]] = {
    "ffn": ("sglu", "ffn"),
    "norm": ("deepnorm", "prenorm"),
    "loss_cls": (True, False),
    "attention": ("linear", "softmax"),
}

#: Size -> (width, layers) of a network from scratch.
SIZES = {"tiny": (64, 2), "80m": (1536, 2), "800m": (1536, 40)}


@dataclass(frozen=True)
class CellFMConfig:
    """The architecture.

    Parameters
    ----------
    n_genes
        Genes of the vocabulary; their ids are 1 to `n_genes`, 0 is padding.
    width, layers, heads
        d, depth, and number of attention heads.
    value_bins
        Hidden width of the value encoder.
    pad_zero
        True: a sequence holds the expressed genes only (800M). False: in pretraining it is filled up with
        genes of zero expression (80M). The embedding is the same either way.
    add_zero
        Whether there are heads that predict whether a gene is expressed.
    dropout
        That of a layer grows linearly with its depth towards this one; in training only.
    max_genes
        Expressed genes of a cell that are read at most.
    ffn, norm, attention
        What a layer is made of (`layers.py`): `sglu` or `ffn`, `deepnorm` or `prenorm`, `linear` or `softmax`.
    loss_cls
        Whether values are also predicted from the cell vector, a term of the pretraining loss.
    """

    n_genes: int
    width: int
    layers: int
    heads: int
    value_bins: int = 256
    pad_zero: bool = True
    add_zero: bool = False
    dropout: float = DROPOUT
    max_genes: int = MAX_GENES
    ffn: str = "sglu"
    norm: str = "deepnorm"
    loss_cls: bool = True
    attention: str = "linear"

    @property
    def switches(self) -> dict[str, Any]:
        """The exchanged parts: name -> what stands there instead of CellFM's own."""
        return {name: getattr(self, name) for name in SWITCHES if getattr(self, name) != SWITCHES[name][0]}

    @property
    def rows(self) -> int:
        """Rows of `gene_emb`: padding, genes, and unused ones."""
        return -(-(self.n_genes + 1) // ROW_MULTIPLE) * ROW_MULTIPLE

    @classmethod
    def of_size(cls, size: str, n_genes: int, **options: Any) -> Self:
        """The architecture of a size from scratch; `options` are fields of this class.

        Raises
        ------
        InputError
            Unknown size, or an option that does not fit it.
        """
        if size not in SIZES:
            raise InputError(f"model.size={size}: CellFM comes as {', '.join(SIZES)}")
        width, layers = SIZES[size]
        return cls(n_genes, width, layers, **{"heads": width // HEAD_WIDTH, **options})

    @classmethod
    def of_weights(
        cls,
        shapes: Mapping[str, tuple[int, ...]],
        n_genes: int,
        declared: Mapping[str, Any],
        source: Path,
        **options: Any,
    ) -> Self:
        """Sizes read off the weights; `declared` (the file's entry in config.json) must agree with them.

        Parameters
        ----------
        shapes
            Name -> shape of everything in the weight file, among it the matrix `gene_emb`.
        n_genes
            Genes of the vocabulary that belongs to it.
        declared
            Attributes of the authors' `Config` class; empty where there is no config.json.
        options
            `heads`, `max_genes`, `dropout` where the user gives them; else as declared, else as published.
            A switch may be given too, and must be the one of the weights: as declared, else CellFM's own.

        Raises
        ------
        InputError
            A declared size is not the one of the weights, or the number of heads does not divide the width.
        """
        layers = [re.match(r"encoder\.(\d+)\.", name) for name in shapes]
        found = {
            "enc_dims": shapes["gene_emb"][1],
            "enc_nlayers": max((int(match[1]) + 1 for match in layers if match), default=0),
            "add_zero": any(".zero_logit." in name for name in shapes),
            "n_genes": n_genes,
        }
        for name, value in found.items():
            if name in declared and declared[name] != value:
                raise InputError(
                    f"config.json says {name} {declared[name]} for {source}, whose weights and gene table say "
                    f"{value}; they do not belong together"
                )
        width = found["enc_dims"]
        published = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else None
        settings = {
            "heads": declared.get("enc_num_heads", published),
            "max_genes": declared.get("nonz_len", MAX_GENES),
            "dropout": declared.get("enc_dropout", DROPOUT),
        }
        for name, (own, *_) in SWITCHES.items():
            settings[name] = declared.get(name, own)
            if options.get(name, settings[name]) != settings[name]:
                raise InputError(
                    f"model.{name}={options[name]}: {source} holds a network with {name}={settings[name]}; a switch is "
                    "chosen for a network from scratch (cellfm-bench pretrain without model.checkpoint)"
                )
        return cls(
            n_genes=n_genes,
            width=width,
            layers=found["enc_nlayers"],
            value_bins=shapes.get("value_enc.value_enc.w1.weight", (256,))[0],
            pad_zero=bool(declared.get("pad_zero", "ST_emb" not in shapes)),
            add_zero=found["add_zero"],
            **{**settings, **options},
        )

    def __post_init__(self) -> None:
        if not _whole(self.max_genes):
            raise InputError(f"max_genes {self.max_genes} (nonz_len): a whole number above zero is expected")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout {self.dropout}: a number from 0 to under 1 is expected")
        for name, choices in SWITCHES.items():
            value = getattr(self, name)
            if not any(value is choice if isinstance(choice, bool) else value == choice for choice in choices):
                expected = " or ".join(str(choice).lower() for choice in choices)
                raise InputError(f"model.{name}={value}: expected {expected}")
        if not _whole(self.heads) or self.width % self.heads:
            heads = f"heads of width {HEAD_WIDTH}" if self.heads is None else f"{self.heads} heads"
            raise InputError(
                f"a width of {self.width} cannot be split into {heads}. Weights do not show how many there are: "
                "say it as enc_num_heads in config.json beside them, or as model.heads"
            )

    def attributes(self) -> dict[str, Any]:
        """The same under the names of the authors' `Config` class, for config.json; with it exchanged parts."""
        return {
            "enc_dims": self.width,
            "enc_nlayers": self.layers,
            "enc_num_heads": self.heads,
            "enc_dropout": self.dropout,
            "nonz_len": self.max_genes,
            "pad_zero": self.pad_zero,
            "add_zero": self.add_zero,
            "n_genes": self.n_genes,
            **self.switches,
        }


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
