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
    with np.load(FOLDER / "expected.npz", allow_pickle=False) as file:
        return dict(file)


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
