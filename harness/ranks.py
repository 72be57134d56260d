"""The processes that train one network together, as torchrun starts them; usually one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Parameters
    ----------
    rank, world
        Number of this process, and how many there are.
    local
        Its number on this machine: the device it takes.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def sums(self, values: Mapping[str, float], device: Any = "cpu") -> dict[str, float]:
        """Each value summed over the processes, in float64."""
        if self.world == 1:
            return dict(values)
        import torch
        from torch import distributed

        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        distributed.all_reduce(numbers)
        return dict(zip(values, numbers.tolist(), strict=True))

    def gather(self, item: Any) -> list[Any]:
        """Every process' item, in order, in every process."""
        if self.world == 1:
            return [item]
        from torch import distributed

        items: list[Any] = [None] * self.world
        distributed.all_gather_object(items, item)
        return items


@contextmanager
def torchrun(device: str) -> Iterator[Ranks]:
    """The processes torchrun started (its variables RANK, WORLD_SIZE, LOCAL_RANK), connected; else this one alone.

    Parameters
    ----------
    device
        `cuda` connects by NCCL, `npu` by HCCL, anything else by gloo.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    from torch import distributed

    kind = device.split(":")[0]
    distributed.init_process_group({"cuda": "nccl", "npu": "hccl"}.get(kind, "gloo"))
    try:
        yield Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
