"""The vectors that are scored, of a model or of an integration method, and their UMAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.layout import lay_out
from harness.provenance import CostMeter
from tasks.labels import layout_table, umap_table

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.subject import Subject


def vectors_of(subject: Subject, data: CellData, seed: int) -> np.ndarray:
    """Float32 (n_obs, d); rows of NaN are cells that cannot be read.

    An integration method reads batches, and is fitted for this task alone: its vectors are not kept.
    """
    if subject.spec.kind != "predictor":
        return subject.cells()
    with CostMeter() as cost:
        vectors = subject.model.predict(data, seed)
    subject.embedding_seconds += cost.seconds
    subject.about = {
        "embed_s": cost.seconds,
        "cells_per_s": data.n_obs / cost.seconds,
        "peak_rss_mb": cost.peak_rss_mb,
        "n_params": subject.model.n_params,
        "n_cells": data.n_obs,
        "n_empty": int(np.isnan(vectors).any(axis=1).sum()),
    }
    return vectors


def layout(subject: Subject, data: CellData, vectors: np.ndarray, cells: np.ndarray | None, seed: int) -> pd.DataFrame:
    """The artifact the UMAP panels are drawn from (see `tasks.labels.umap_table`).

    Parameters
    ----------
    cells
        Rows to lay out, where they are a subsample; None: all, kept for other tasks too.
    """
    if cells is None and subject.spec.kind != "predictor":
        return umap_table(subject, data)
    rows = np.flatnonzero(~np.isnan(vectors).any(axis=1)) if cells is None else cells
    return layout_table(data, rows, lay_out(np.asarray(vectors[rows])))
