"""Making a torch network: empty, for weights about to be read, or drawn from a seed of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def empty(build: Callable[[], Any]) -> Any:
    """A network on the CPU whose tensors are not set: nothing is drawn for weights about to be read."""
    import torch

    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def seeded(build: Callable[[], Any], seed: int) -> Any:
    """A network initialised from `seed`; the global generators are left as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every GPU and leave it so.
        torch.default_generator.manual_seed(seed)
        return build()
