"""Low-rank adaptation in MindSpore (paper, equation 9): W x + B A x on the eight projections of a layer.

Parameters are named as the authors' (`encoder.0.attn.lora_q.A.weight`), A [rank, d] and B [d, rank], and nothing is
scaled. As in their training script everything else is frozen, layer norms too.
"""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import nn

from harness.lora import INITIAL
from models.cellfm.mindspore_network import CellFMNetwork

#: What is adapted in a layer.
PROJECTIONS = {"attn": "qkvuo", "ffn": "uvo"}


class LowRank(nn.Cell):
    """A projection with a low-rank addition, in its place.

    Parameters
    ----------
    base
        The projection.
    a, b
        float32 (rank, inputs) and (outputs, rank).
    """

    def __init__(self, base: nn.Dense, a: np.ndarray, b: np.ndarray):
        super().__init__()
        self.base = base
        self.A, self.B = (nn.Dense(w.shape[1], w.shape[0], weight_init=ms.Tensor(w), has_bias=False) for w in (a, b))

    def construct(self, x):
        return self.base(x) + self.B(self.A(x))


def fresh_lora(network: CellFMNetwork, rank: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Additions that change nothing yet: A normal with deviation 0.01, B zeros; name -> array."""
    width, random = network.config.width, np.random.default_rng(seed)
    additions = {}
    for name in _names(network):
        additions[f"{name}.A.weight"] = random.normal(0, INITIAL, (rank, width)).astype(np.float32)
        additions[f"{name}.B.weight"] = np.zeros((width, rank), np.float32)
    return additions


def add_lora(network: CellFMNetwork, additions: Mapping[str, np.ndarray]) -> CellFMNetwork:
    """The network itself, with these additions, which alone are trainable.

    Parameters
    ----------
    network
        Without additions.
    additions
        Name -> float32 array: A and B of every projection.

    Raises
    ------
    KeyError
        Some are missing, or others are there.
    """
    wanted = {f"{name}.{part}.weight" for name in _names(network) for part in "AB"}
    if wanted != set(additions):
        raise KeyError(f"not the additions of this network: {sorted(wanted ^ set(additions))[:8]}")
    for parameter in network.get_parameters():
        parameter.requires_grad = False
    for name in _names(network):
        block, projection = _place(network, name)
        base = getattr(block, projection)
        own = base.weight.name  # MindSpore renames what is put into something
        adapted = LowRank(base, *(additions[f"{name}.{part}.weight"] for part in "AB"))
        setattr(block, projection, adapted)
        base.weight.name, adapted.A.weight.name, adapted.B.weight.name = own, f"{name}.A.weight", f"{name}.B.weight"
    return network


def merged(network: CellFMNetwork) -> dict[str, np.ndarray]:
    """Parameters of the plain network that computes the same: name -> array, B A added to each W."""
    state = {name: parameter.asnumpy() for name, parameter in network.parameters_dict().items()}
    for name in _names(network):
        block, projection = _place(network, name)
        a, b = (state.pop(f"{name}.{part}.weight") for part in "AB")
        own = getattr(block, projection).base.weight.name
        state[own] = state[own] + b @ a
    return state


def _names(network: CellFMNetwork) -> list[str]:
    return [
        f"encoder.{index}.{block}.lora_{letter}"
        for index in range(network.config.layers)
        for block, letters in PROJECTIONS.items()
        for letter in letters
    ]


def _place(network: CellFMNetwork, name: str) -> tuple[nn.Cell, str]:
    _, index, block, addition = name.split(".")
    return getattr(network.encoder[int(index)], block), f"{addition.removeprefix('lora_')}_proj"
