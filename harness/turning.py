"""Entries of a sparse matrix in any order -> rows on disk, with memory for a portion only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp

#: Entries that are in memory at once.
ENTRIES = 4_000_000
_ENTRY = np.dtype([("row", "<i8"), ("column", "<i8"), ("value", "<f4")])


def rows_on_disk(
    portions: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int], n_entries: int
) -> Any:
    """A CSR matrix in a temporary file that goes with the process, as anndata's backed sparse matrix.

    Parameters
    ----------
    portions
        (rows, columns, values), in any order; an entry that is there twice is summed.
    shape, n_entries
        Of the matrix; `n_entries` only sizes the portions.
    """
    import h5py
    from anndata.io import sparse_dataset

    n_rows = shape[0]
    n_buckets = max(1, min(n_rows, -(-n_entries // ENTRIES)))
    rows_each = max(1, -(-n_rows // n_buckets))
    # Everything is sorted by ranges of rows first, then each range by itself.
    buckets = [tempfile.TemporaryFile() for _ in range(-(-n_rows // rows_each))]  # noqa: SIM115  (closed below)
    for rows, columns, values in portions:
        entries = np.empty(len(rows), _ENTRY)
        entries["row"], entries["column"], entries["value"] = rows, columns, values
        number = entries["row"] // rows_each
        entries = entries[np.argsort(number, kind="stable")]
        edges = np.searchsorted(np.sort(number), np.arange(len(buckets) + 1))
        for bucket, start, stop in zip(buckets, edges[:-1], edges[1:], strict=True):
            bucket.write(entries[start:stop].tobytes())
    file = h5py.File(tempfile.TemporaryFile(), "w")  # noqa: SIM115  (open as long as the matrix is used)
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    data = group.create_dataset("data", (0,), "f4", maxshape=(None,), chunks=(1 << 17,))
    indices = group.create_dataset("indices", (0,), "i8", maxshape=(None,), chunks=(1 << 17,))
    lengths = np.zeros(n_rows, np.int64)
    for first, bucket in zip(range(0, n_rows, rows_each), buckets, strict=True):
        with bucket:
            bucket.seek(0)
            entries = np.frombuffer(bucket.read(), _ENTRY)
        here = min(rows_each, n_rows - first)
        block = sp.csr_matrix((entries["value"], (entries["row"] - first, entries["column"])), shape=(here, shape[1]))
        lengths[first : first + here] = np.diff(block.indptr)
        for dataset, values in ((data, block.data), (indices, block.indices)):
            dataset.resize((len(dataset) + len(values),))
            dataset[len(dataset) - len(values) :] = values
    group["indptr"] = np.concatenate([[0], np.cumsum(lengths)])
    return sparse_dataset(group)
