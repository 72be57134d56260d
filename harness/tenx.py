"""The matrices of 10x Genomics: Cell Ranger's HDF5 files and folders of matrix, barcodes and features.

They hold genes x cells, which read the other way is one row of counts per cell. Features that are no genes
(antibodies, guides) are left out.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError

GENE = "Gene Expression"


def read_tenx_h5(path: Path, groups: list[str]) -> Any:
    """A `filtered_feature_bc_matrix.h5`, or an older file of one genome.

    Raises
    ------
    InputError
        Several genomes, or not of the form.
    """
    import h5py

    if len(groups) > 1:
        raise InputError(f"{path} holds several genomes ({', '.join(groups)}); split it into one file each")
    with h5py.File(path) as file:
        matrix = file[groups[0]]
        n_features, n_cells = (int(n) for n in matrix["shape"][:])
        features = matrix.get("features")
        ids = matrix["genes"] if features is None else features["id"]
        names = matrix["gene_names"] if features is None else features["name"]
        kinds = _text(features["feature_type"]) if features is not None and "feature_type" in features else None
        barcodes, ids, names = _text(matrix["barcodes"]), _text(ids), _text(names)
    if (len(ids), len(barcodes)) != (n_features, n_cells):
        raise InputError(
            f"{path}: {n_features} features and {n_cells} barcodes are announced, {len(ids)} and {len(barcodes)} named"
        )
    if kinds is None or (kinds == GENE).all():
        return _cells(_linked(path, groups[0], (n_cells, n_features)), barcodes, names, ids)
    genes = _genes(kinds, path)
    return _cells(_only(genes, _h5_portions(path, groups[0]), n_cells), barcodes, names[genes], ids[genes])


def _linked(path: Path, group: str, shape: tuple[int, int]) -> Any:
    """The matrix where it lies: a file in memory that links to it calls it what anndata calls it."""
    import h5py
    from anndata.io import sparse_dataset

    view = h5py.File(f"{path.name}.view", "w", driver="core", backing_store=False)
    matrix = view.create_group("X")
    matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
    for part in ("data", "indices", "indptr"):
        matrix[part] = h5py.ExternalLink(str(path.resolve()), f"/{group}/{part}")
    return sparse_dataset(matrix)


def _h5_portions(path: Path, group: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    import h5py

    from harness.turning import ENTRIES

    with h5py.File(path) as file:
        matrix = file[group]
        starts = matrix["indptr"][:]
        for start in range(0, int(starts[-1]), ENTRIES):
            stop = min(start + ENTRIES, int(starts[-1]))
            cell = np.searchsorted(starts, np.arange(start, stop), side="right") - 1
            yield cell, matrix["indices"][start:stop], matrix["data"][start:stop]


def _only(genes: np.ndarray, portions: Any, n_cells: int) -> Any:
    """The columns of the genes alone, renumbered."""
    from harness.turning import ENTRIES, rows_on_disk

    number = np.cumsum(genes) - 1

    def kept() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for cell, feature, value in portions:
            gene = genes[feature]
            yield cell[gene], number[feature[gene]], value[gene]

    return rows_on_disk(kept(), (n_cells, int(genes.sum())), ENTRIES)


def read_mtx(path: Path) -> Any:
    """A folder of matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), plain or gzipped; `path` is the matrix.

    A matrix of cells x genes, as some aligners write it, is recognised by the lengths of the two lists.

    Raises
    ------
    InputError
        A file is missing, or the lengths fit neither way.
    """
    from harness.turning import rows_on_disk

    prefix = path.name.partition("matrix.mtx")[0]
    barcodes = _table(path, prefix, "barcodes.tsv")[:, 0]
    features = _table(path, prefix, "features.tsv", "genes.tsv")
    skip, (n_rows, n_columns, n_entries) = _header(path)
    lengths = (len(features), len(barcodes))
    if lengths not in ((n_rows, n_columns), (n_columns, n_rows)):
        raise InputError(
            f"{path} is {n_rows} x {n_columns}, but {lengths[0]} features and {lengths[1]} barcodes are named beside it"
        )
    genes_first = lengths == (n_rows, n_columns)
    kinds = features[:, 2] if features.shape[1] > 2 else np.full(len(features), GENE)
    genes = _genes(kinds, path)
    number = np.cumsum(genes) - 1

    def portions() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        import pandas as pd

        from harness.turning import ENTRIES

        for table in pd.read_csv(path, sep=r"\s+", header=None, skiprows=skip, chunksize=ENTRIES):
            first, second = table[0].to_numpy() - 1, table[1].to_numpy() - 1
            value = table[2].to_numpy() if table.shape[1] > 2 else np.ones(len(table), np.float32)
            cell, feature = (second, first) if genes_first else (first, second)
            gene = genes[feature]
            yield cell[gene], number[feature[gene]], value[gene]

    matrix = rows_on_disk(portions(), (len(barcodes), int(genes.sum())), n_entries)
    names = features[:, 1] if features.shape[1] > 1 else features[:, 0]
    return _cells(matrix, barcodes, names[genes], features[genes, 0])


def _genes(kinds: np.ndarray, path: Path) -> np.ndarray:
    genes = kinds == GENE
    if not genes.any():
        raise InputError(f"{path}: no feature is of the type {GENE!r}; it has {', '.join(np.unique(kinds))}")
    return genes


def _cells(matrix: Any, barcodes: np.ndarray, names: np.ndarray, ids: np.ndarray) -> Any:
    import anndata
    import pandas as pd

    return anndata.AnnData(
        X=matrix, obs=pd.DataFrame(index=barcodes.astype(object)), var=pd.DataFrame({"gene_ids": ids}, index=names)
    )


def _text(values: Any) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values[:]], dtype=object)


def _open(path: Path) -> Any:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open()


def _table(matrix: Path, prefix: str, *names: str) -> np.ndarray:
    """The tab-separated table beside a matrix, as text (rows, columns)."""
    candidates = [matrix.with_name(f"{prefix}{name}{zipped}") for name in names for zipped in ("", ".gz")]
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise InputError(f"{matrix} has no {prefix}{' or '.join(names)} beside it")
    with _open(found[0]) as stream:
        rows = [line.rstrip("\r\n").split("\t") for line in stream]
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(f"{found[0]} is no table: its lines have different numbers of columns, or there are none")
    return np.array(rows, dtype=object)


def _header(path: Path) -> tuple[int, tuple[int, int, int]]:
    """Lines before the first entry, and (rows, columns, entries)."""
    with _open(path) as stream:
        first = stream.readline()
        if not first.startswith("%%MatrixMarket matrix coordinate") or "general" not in first:
            raise InputError(
                f"{path} begins with {first[:60].strip()!r}; a general coordinate MatrixMarket is expected"
            )
        for number, line in enumerate(stream, start=2):
            if not line.startswith("%") and line.strip():
                try:
                    rows, columns, entries = (int(n) for n in line.split())
                except ValueError:
                    raise InputError(
                        f"{path}, line {number}: expected three whole numbers, found {line[:40]!r}"
                    ) from None
                return number, (rows, columns, entries)
    raise InputError(f"{path} has no line of sizes; is the file complete?")
