"""scBERT's golden case: a tiny release, its cells, and what the authors' code gave for them."""

from functools import cache
from pathlib import Path

import anndata
import numpy as np
import torch

from harness.counts import canonical
from models.scbert.adapter import ScBert

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"
TUNED = CHECKPOINT / "finetune_best.pth"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@cache
def expected():
    with np.load(FOLDER / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@cache
def cells():
    return anndata.read_h5ad(FOLDER / "cells.h5ad")


@cache
def counts():
    return canonical(cells().X)


@cache
def genes():
    return cells().var_names.tolist()


@cache
def model(path=CHECKPOINT, **options):
    """A model of the case, loaded once; tests do not change it."""
    return ScBert.from_checkpoint(path, **options)


def levels(rows, array="tokens"):
    """Recorded tokens of whole panels, int64 (n, 901)."""
    return torch.as_tensor(expected()[array][rows].astype(np.int64))
