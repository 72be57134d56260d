"""Sizes of a UCE network: read off a checkpoint, or of a fresh one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from harness.errors import InputError

#: Attention heads of both released models. No tensor of a checkpoint shows them.
HEADS = 20
#: Genes drawn per cell in the released models, and their longest sentence (rows of `pos_encoder.pe`).
SAMPLE_SIZE, PAD_LENGTH = 1024, 1536
#: Fresh networks: what `Sizes` needs, and the genes drawn per cell.
_RELEASED: dict[str, Any] = {
    "token_dim": 5120,
    "width": 1280,
    "heads": HEADS,
    "feed_forward": 5120,
    "decoder": (1024, 1280, 1280, 1280),
    "binary_decoder": (2048, 512, 128, 1),
}
FRESH: dict[str, tuple[dict[str, Any], int]] = {
    "tiny": (
        {
            "token_dim": 64,
            "width": 64,
            "heads": 4,
            "feed_forward": 64,
            "layers": 2,
            "decoder": (64, 64, 64, 64),
            "binary_decoder": (64, 32, 16, 1),
            "dropout": 0.0,  # it never sees a cell often, and without it the attention is three times as fast
        },
        128,
    ),
    "4layer": (_RELEASED | {"layers": 4}, SAMPLE_SIZE),
    "33layer": (_RELEASED | {"layers": 33}, SAMPLE_SIZE),
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network.

    Parameters
    ----------
    rows, token_dim
        Shape of the token table: special tokens, proteins of all species, chromosomes.
    width, heads, feed_forward, layers
        Of the transformer.
    positions
        Longest sentence.
    decoder, binary_decoder
        Output widths of the linear maps of the two decoders.
    learned_table
        Whether the token table is trained. ESM2 vectors are not.
    """

    rows: int
    token_dim: int
    width: int
    heads: int
    feed_forward: int
    layers: int
    positions: int
    decoder: tuple[int, ...]
    binary_decoder: tuple[int, ...]
    learned_table: bool = False
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if type(self.heads) is not int or self.heads < 1 or self.width % self.heads:
            raise InputError(
                f"model.heads={self.heads}: the width {self.width} cannot be divided among them. The released models "
                f"have {HEADS}; weights do not show it, so name it for your own: model.heads=N"
            )

    @classmethod
    def of_weights(cls, state: Mapping[str, Any], source: Path, *, heads: int, learned_table: bool) -> Self:
        """Sizes by the shapes of a state dict.

        Raises
        ------
        InputError
            A tensor that says a size is missing, or is no matrix; or `heads` does not divide the width.
        """

        def shape(key: str, ndim: int = 2) -> tuple[int, ...]:
            if key not in state or state[key].ndim != ndim:
                found = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
                raise InputError(
                    f"{source} is no UCE checkpoint: {key} is {found} (it holds {', '.join([*state][:4])}, …)"
                )
            return tuple(state[key].shape)

        layers = [re.match(r"transformer_encoder\.layers\.(\d+)\.", key) for key in state]
        depth = {int(match[1]) for match in layers if match}
        width, token_dim = shape("encoder.0.weight")

        def chain(name: str) -> tuple[int, ...]:
            return (*(shape(f"{name}.{i}.0.weight")[0] for i in range(3)), shape(f"{name}.3.weight")[0])

        return cls(
            rows=shape("pe_embedding.weight")[0],
            token_dim=token_dim,
            width=width,
            heads=heads,
            feed_forward=shape("transformer_encoder.layers.0.linear1.weight")[0],
            layers=max(depth, default=0) + 1,
            positions=shape("pos_encoder.pe", 3)[0],
            decoder=chain("decoder"),
            binary_decoder=chain("binary_decoder"),
            learned_table=learned_table,
        )
