"""Sizes of a network. The release has no config: all are read off the tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError

#: Levels of expression a token says, and the token that stands for a hidden one (and nothing else).
TOP, MASK = 5, 6
#: Genes per cell below which the authors drop a cell; here it is kept, with a warning.
MIN_GENES = 200
LAYERS = "performer.net.layers."


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network; its positions are the genes of the panel and the one token behind them.

    Parameters
    ----------
    n_genes
        Genes of the panel.
    width, depth, heads, dim_head
        Of the performer; heads x dim_head need not be the width.
    features
        Random features of a head.
    feed_forward
        Hidden width.
    tokens
        Rows of the token table: levels of expression, and the mask.
    head
        Widths of the annotation head, of a fine-tuned network: two hidden ones, and the number of classes. Without it
        the network predicts tokens.
    learned_positions
        The vectors of genes are trained, as there was no gene2vec for them.
    """

    n_genes: int
    width: int
    depth: int
    heads: int
    dim_head: int
    features: int
    feed_forward: int
    tokens: int = MASK + 1
    head: tuple[int, int, int] | None = None
    learned_positions: bool = False

    @property
    def n_positions(self) -> int:
        """Genes, and the appended token."""
        return self.n_genes + 1


def performer_features(dim_head: int) -> int:
    """Random features the authors give a head: int(d ln d)."""
    return int(dim_head * math.log(dim_head))


def sizes_of(state: Mapping[str, Any], source: Path, *, learned_positions: bool = False) -> Sizes:
    """Sizes of the network that a state dict is of; whether it fits is for `harness.checkpoints.load_state` to say.

    Raises
    ------
    InputError
        Tensors that show a size are missing, or contradict each other.
    """
    projection, to_q = f"{LAYERS}0.0.fn.fast_attention.projection_matrix", f"{LAYERS}0.0.fn.to_q.weight"
    w1 = f"{LAYERS}0.1.fn.fn.w1.weight"
    telling = ["token_emb.weight", "pos_emb.emb.weight", projection, to_q, w1]
    tuned = any(key.startswith("to_out.fc") for key in state)
    if tuned:
        telling += [f"to_out.fc{i}.weight" for i in (1, 2, 3)]
    missing = [key for key in telling if getattr(state.get(key), "ndim", 0) != 2]
    if missing:
        raise InputError(
            f"{source} is not the whole of a scBERT network: {len(missing)} tables that show its sizes are missing "
            f"({', '.join(missing)}) among its {len(state)} tensors"
        )
    tokens, width = state["token_emb.weight"].shape
    features, dim_head = state[projection].shape
    inner = len(state[to_q])
    if tokens != MASK + 1:
        raise InputError(f"{source}: token_emb.weight has {tokens} rows; expected are levels 0 to {TOP} and a mask")
    if inner % dim_head:
        raise InputError(f"{source}: to_q.weight has {inner} rows, which heads of {dim_head} do not divide")
    numbers = [key.removeprefix(LAYERS).split(".")[0] for key in state if key.startswith(LAYERS)]
    return Sizes(
        n_genes=len(state["pos_emb.emb.weight"]) - 1,
        width=width,
        depth=max(int(number) for number in numbers if number.isdigit()) + 1,
        heads=inner // dim_head,
        dim_head=dim_head,
        features=features,
        feed_forward=len(state[w1]),
        tokens=tokens,
        head=(len(state[telling[-3]]), len(state[telling[-2]]), len(state[telling[-1]])) if tuned else None,
        learned_positions=learned_positions,
    )
