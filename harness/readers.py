"""Files and folders of cells -> AnnData whose matrix stays on disk: h5ad, zarr, 10x h5, 10x mtx."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError

KINDS = "an .h5ad, a .zarr folder, a 10x .h5, or a folder with matrix.mtx, barcodes.tsv and features.tsv"


def read_cells(path: Path) -> Any:
    """An AnnData whose `X`, layers and `.raw` are read from disk by the block.

    Raises
    ------
    InputError
        The path holds no cells in a form that is known; the message says what it is.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            return read_folder(path)
        if path.name.endswith((".mtx", ".mtx.gz")):
            from harness.tenx import read_mtx

            return read_mtx(path)
        return read_hdf5(path)


def read_folder(path: Path) -> Any:
    """A zarr store, or a 10x folder.

    Raises
    ------
    InputError
        It is neither.
    """
    if any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        return read_zarr(path)
    matrices = sorted(p for p in path.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))
    if len(matrices) == 1:
        from harness.tenx import read_mtx

        return read_mtx(matrices[0])
    if matrices:
        raise InputError(f"{path} holds several matrices: {', '.join(p.name for p in matrices)}; name one of them")
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
    raise InputError(f"{path} is a folder and holds {inside}; expected {KINDS}")


def read_hdf5(path: Path) -> Any:
    """An h5ad, or a 10x matrix in HDF5.

    Raises
    ------
    InputError
        The file is neither.
    """
    import anndata
    import h5py

    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path} is not an h5ad (no HDF5 file); expected an AnnData written with write_h5ad, or {KINDS}"
        )
    try:
        with h5py.File(path) as file:
            groups = list(file)
            tenx = [name for name in groups if isinstance(file[name], h5py.Group) and "barcodes" in file[name]]
        if tenx:
            from harness.tenx import read_tenx_h5

            return read_tenx_h5(path, tenx)
        if not {"obs", "var"} <= set(groups):
            raise InputError(
                f"{path} is an HDF5 file but not an h5ad: it holds {', '.join(groups[:6]) or 'nothing'}, "
                "and obs and var are expected (or, of 10x, matrix/barcodes)"
            )
        # Kept open: the matrices read from it when rows are asked for.
        file = h5py.File(path)
        if all("encoding-type" in file[name].attrs for name in ("obs", "var", *({"X"} & set(groups)))):
            try:
                return _on_disk(file)
            except Exception:
                file.close()
        # Written before anndata 0.7, or not by anndata: it knows older forms, and says best what is wrong.
        return anndata.read_h5ad(path, backed="r")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read as an h5ad: {type(error).__name__}: {error}") from error


def read_zarr(path: Path) -> Any:
    """An AnnData in a zarr store; only `obs`, `var` and `uns` are read now.

    Raises
    ------
    InputError
        The store holds something else, or is damaged.
    """
    import zarr

    try:
        store: Any = zarr.open_group(str(path), mode="r")
        if not {"obs", "var"} <= set(store):
            raise InputError(
                f"{path} is a zarr store but no AnnData: it holds {', '.join(sorted(store)[:6]) or 'nothing'}, "
                "and obs and var are expected"
            )
        return _on_disk(store)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read as a zarr store: {type(error).__name__}: {error}") from error


def _on_disk(store: Any) -> Any:
    """An AnnData over an open h5ad or zarr store: tables in memory, matrices where they are.

    anndata's own `backed="r"` leaves only `X` on disk, and reads layers and `.raw` whole.
    """
    import anndata
    from anndata.io import read_elem

    tables = {name: read_elem(store[name]) for name in ("obs", "var", "uns", "obsm", "varm") if name in store}
    layers = {name: _lazy(store["layers"][name]) for name in store["layers"]} if "layers" in store else None
    cells = anndata.AnnData(X=_lazy(store["X"]) if "X" in store else None, layers=layers, **tables)
    if "raw" in store and "X" in store["raw"]:
        whole = _lazy(store["raw"]["X"])
        cells.raw = anndata.AnnData(X=whole, obs=tables["obs"][[]], var=read_elem(store["raw"]["var"]))
    return cells


def _lazy(element: Any) -> Any:
    """A stored matrix, sparse or dense, whose rows are read when they are asked for."""
    from anndata.io import sparse_dataset

    return sparse_dataset(element) if hasattr(element, "keys") else element


def by_rows(matrix: Any) -> Any:
    """A column-major sparse matrix on disk as a row-major one on disk, its values passed through in portions."""
    from harness.turning import ENTRIES, rows_on_disk

    group = matrix.group
    columns = np.asarray(group["indptr"][:])

    def portions() -> Any:
        for start in range(0, int(columns[-1]), ENTRIES):
            stop = min(start + ENTRIES, int(columns[-1]))
            column = np.searchsorted(columns, np.arange(start, stop), side="right") - 1
            yield np.asarray(group["indices"][start:stop]), column, np.asarray(group["data"][start:stop])

    return rows_on_disk(portions(), matrix.shape, int(columns[-1]))
