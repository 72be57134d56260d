"""CellFM's golden case: two checkpoints, their cells, and what the authors' code gave for them."""

from functools import cache
from pathlib import Path

import anndata
import numpy as np
import torch

from harness import TokenBatch
from harness.counts import canonical
from models.cellfm.adapter import CellFM

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"
WEIGHTS = {"base": "base_weight.ckpt", "m80": "CellFM_80M_weight.ckpt"}

CELL = {"atol": 1e-4, "rtol": 1e-3}
TOKEN = {"atol": 1e-3, "rtol": 1e-3}
LOSS = {"atol": 1e-5, "rtol": 1e-4}


@cache
def cells():
    return anndata.read_h5ad(FOLDER / "cells.h5ad")


@cache
def counts():
    return canonical(cells().X)


@cache
def _expected():
    arrays = {}
    for name in ("expected.npz", "finetune.npz"):
        with np.load(FOLDER / name, allow_pickle=False) as file:
            arrays |= dict(file)
    return arrays


class Case:
    """One of the two checkpoints."""

    def __init__(self, name):
        self.name = name
        self.model = CellFM.from_checkpoint(CHECKPOINT / WEIGHTS[name])
        self.network = self.model.network
        self.mask = self["embed/kept"] >= 0
        self.deterministic = self["embed/n_expressed"] <= self["embed/kept"].shape[1]

    def __getitem__(self, key):
        return _expected()[f"{self.name}/{key}"]

    def names(self, part):
        """Arrays recorded under `part`."""
        prefix = f"{self.name}/{part}/"
        return [key.removeprefix(prefix) for key in _expected() if key.startswith(prefix)]

    def tensor(self, key):
        value = torch.as_tensor(self[key])
        return value.long() if value.dtype in (torch.int32, torch.int64) else value

    def tokens(self):
        return TokenBatch(self["embed/gene_ids"].astype(np.int64), self["embed/values"], self.mask)


@cache
def load(name):
    with torch.inference_mode(False):  # tests share it, those that train too
        return Case(name)


def adam_curve(loss, tensors, steps=10, *, rate=1e-3, decay=lambda name: 0.0, limit=None):
    """Losses before each step of MindSpore's Adam, which adds epsilon before the bias correction.

    `tensors` name -> what is trained; `decay` of a name is added to the gradient as L2, after clipping by value.
    """
    first, second = ({name: torch.zeros_like(t) for name, t in tensors.items()} for _ in range(2))
    curve = []
    for step in range(1, steps + 1):
        value = loss()
        curve.append(value.item())
        gradients = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
        scale = rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        with torch.no_grad():
            for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
                if gradient is not None:
                    gradient = gradient if limit is None else gradient.clamp(-limit, limit)
                    gradient = gradient + decay(name) * tensor
                    first[name].lerp_(gradient, 0.1)
                    second[name].lerp_(gradient**2, 0.001)
                    tensor -= scale * first[name] / (second[name].sqrt() + 1e-8)
    return curve
