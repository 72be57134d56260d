"""Low-rank adaptation (Hu et al. 2021; CellFM paper, equation 9): W x becomes W x + B A x, and only A and B learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

#: Standard deviation of A at the start; B begins at zero, so that the network begins as it was.
INITIAL = 0.01


class LowRank(nn.Module):
    """A linear layer with a low-rank addition, in its place.

    Parameters
    ----------
    base
        The layer; it is kept as it is.
    rank
        Rows of A.
    generator
        A is drawn from it.
    """

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator):
        super().__init__()
        self.base = base
        # Not initialised by torch, which would draw from the global generator.
        self.A = skip_init(nn.Linear, base.in_features, rank, bias=False, device=base.weight.device)
        self.B = skip_init(nn.Linear, rank, base.out_features, bias=False, device=base.weight.device)
        with torch.no_grad():
            self.A.weight.copy_(torch.empty(self.A.weight.shape).normal_(0, INITIAL, generator=generator))
            self.B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.B(self.A(x))

    def merged(self) -> nn.Linear:
        """The base with B A added to its weights."""
        with torch.no_grad():
            self.base.weight += self.B.weight @ self.A.weight
        return self.base


def add_lora(network: nn.Module, targets: Sequence[str], rank: int, generator: torch.Generator) -> list[str]:
    """Put a `LowRank` in the place of every linear layer that ends in one of `targets`; their names.

    Raises
    ------
    ValueError
        No layer is called so, or one is not linear.
    """
    found = [name for name, _ in network.named_modules() if _ends(name, targets)]
    if not found:
        raise ValueError(f"no layer of the network ends in {', '.join(targets)}")
    for name in found:
        parent, leaf = _place(network, name)
        layer = getattr(parent, leaf)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{name} is a {type(layer).__name__}, not a linear layer")
        setattr(parent, leaf, LowRank(layer, rank, generator))
    return found


def merge_lora(network: nn.Module) -> None:
    """Add every B A to its W and put the plain layers back; the outputs stay the same."""
    for name, module in list(network.named_modules()):
        if isinstance(module, LowRank):
            parent, leaf = _place(network, name)
            setattr(parent, leaf, module.merged())


def _ends(name: str, targets: Sequence[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _place(network: nn.Module, name: str) -> tuple[Any, str]:
    parent, _, leaf = name.rpartition(".")
    return network.get_submodule(parent), leaf
