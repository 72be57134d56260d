"""scFoundation's golden case: a tiny release, its cells, and what the authors' code gave for them."""

from functools import cache
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp

from harness.counts import canonical
from harness.tokens import TokenBatch
from models.scfoundation.adapter import ScFoundation

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "checkpoint"
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
def model(variant=None, **options):
    """A model of the case, loaded once; tests do not change it."""
    return ScFoundation.from_checkpoint(CHECKPOINT, variant=variant, **options)


def log_normalised(matrix):
    """normalize_total(1e4) and log1p as scanpy does them on float32."""
    matrix = canonical(matrix)
    totals = np.asarray(matrix.sum(axis=1), np.float32).ravel() / np.float32(1e4)
    values = np.log1p(matrix.data / np.repeat(totals, np.diff(matrix.indptr)))
    return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def recorded_tokens(ids="tok_ids", values="tok_values"):
    arrays = expected()
    return TokenBatch(arrays[ids].astype(np.int64), arrays[values], arrays[ids] >= 0)


def depth_tokens(batch):
    """T and S of each cell, (n, 2): the last two real tokens."""
    rows, last = np.arange(len(batch)), batch.mask.sum(axis=1)
    return np.stack([batch.values[rows, last - 2], batch.values[rows, last - 1]], axis=1)
