"""Files of vectors -> `NamedVectors`, by the ending of their names. Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from harness.errors import InputError
from models.precomputed.tables import numbers, read_names, read_parquet, read_text
from models.precomputed.vectors import NamedVectors, few

FORMATS = ".npz, .npy, .h5ad, .csv, .tsv or .parquet"
TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PICKLES = (".pickle", ".pkl", ".pt", ".pth", ".joblib")
#: Array of vectors in an .npz, as `cellfm-bench embed` writes it.
EMBEDDINGS, NAMES = "embeddings", "names"


def read_vectors(path: Path, *, key: str | None, names: Path | None, genes: bool = False) -> NamedVectors:
    """The vectors of a file, with the names of their rows where there are any.

    Parameters
    ----------
    key
        Which array of an .npz or an .h5ad.
    names
        A text file with a name for each row, of files that hold none.
    genes
        Whether rows are genes: in an .h5ad those of `varm`, not of `obsm`.

    Raises
    ------
    InputError
        A form that is not read, no such key, or anything that `NamedVectors` refuses.
    """
    name = path.name.lower()
    if name.endswith(PICKLES):
        raise InputError(_pickled(path))
    if name.endswith((".npy", ".npz")):
        matrix, found, where = _numpy(path, key)
    elif name.endswith((*TEXT, ".parquet")):
        _no_key(path, key)
        matrix, found = read_parquet(path) if name.endswith(".parquet") else read_text(path)
        where = str(path)
    elif path.is_dir() or name.endswith((".h5ad", ".zarr", ".h5")):
        return of_cells(_anndata(path), key, str(path), genes=genes)
    else:
        raise InputError(f"{path}: vectors are read from {FORMATS}")
    if names is not None:
        if found is not None:
            raise InputError(f"{path} names its rows itself; leave {names} out")
        found = read_names(names, len(matrix))
    return NamedVectors.checked(matrix, found, where)


def of_cells(cells: Any, key: str | None, where: str, *, genes: bool = False) -> NamedVectors:
    """The vectors in the `obsm` (of genes: the `varm`) of an AnnData.

    Raises
    ------
    InputError
        It has none under this key; those it has are listed.
    """
    part, option = ("varm", "gene_key") if genes else ("obsm", "key")
    slot, names = getattr(cells, part), cells.var_names if genes else cells.obs_names
    if key is None or key not in slot:
        what = f"has no {part} {key}" if key else f"holds vectors in {part}, and which are meant is not said"
        raise InputError(f"{where} {what}: model.{option}= takes {few(list(slot)) or 'nothing, there are none'}")
    vectors, where = slot[key], f"{part}[{key}] of {where}"
    if hasattr(vectors, "dtypes"):
        vectors = numbers(vectors, list(map(str, names)), where)
    elif hasattr(vectors, "toarray"):
        vectors = vectors.toarray()
    return NamedVectors.checked(np.asarray(vectors), np.asarray(names.astype(str), np.str_), where)


def _anndata(path: Path) -> Any:
    from harness.readers import read_cells

    return read_cells(path)


def _numpy(path: Path, key: str | None) -> tuple[Any, Any, str]:
    """Array, names or None, and what they are called in messages."""
    array_of_npy = path.name.lower().endswith(".npy")
    try:
        if array_of_npy:
            _no_key(path, key)
            return np.load(path, mmap_mode="r", allow_pickle=False), None, str(path)
        with np.load(path, allow_pickle=False) as file:
            wanted = key or EMBEDDINGS
            if wanted not in file:
                raise InputError(
                    f"{path} has no array {wanted}; it has {', '.join(file.files) or 'none'}. Expected: {EMBEDDINGS} "
                    f"(n x d; or name it in model.key=, model.gene_key=) and {NAMES} (n)"
                )
            found, names = file[wanted], file.get(NAMES)
            others = [] if names is not None else _may_be_names(file, wanted, len(found) if found.ndim else 0)
            if others:  # rows matched by order, with their names beside them unread, would be silently wrong
                raise InputError(
                    f"{path} has no {NAMES}, and {few(others)}, with an entry for each row of {wanted}: if these name "
                    f"the rows, save them as {NAMES}; if not, save {wanted} as .npy, and rows are taken in order"
                )
            return found, names, f"{path}: {wanted}"
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise InputError(
                f"{path} holds pickled objects, which can run code when they are opened: not read. Save plain arrays: "
                "np.savez(FILE, embeddings=np.asarray(vectors, 'float32'), names=np.asarray(names, str))"
            ) from None
        raise InputError(f"{path} cannot be read as {path.suffix}: {' '.join(str(error).split())}") from None


def _may_be_names(file: Any, wanted: str, n: int) -> list[str]:
    """Arrays of an archive that have one entry for each of `n` rows."""
    return [name for name in file.files if name != wanted and file[name].shape == (n,)]


def _no_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise InputError(f"{path} holds one table: leave model.key={key} out")


def _pickled(path: Path) -> str:
    load = "torch.load(path, map_location='cpu')" if path.suffix in (".pt", ".pth") else "pickle.load(open(path, 'rb'))"
    return (
        f"{path} is a pickle, which can run code when it is opened: not read. Where you trust it, turn the dictionary "
        f"name -> vector into plain arrays: d = {load}; "
        "np.savez('vectors.npz', names=np.array(list(d), str), embeddings=np.array([np.asarray(v) for v in d.values()],"
        " 'float32'))"
    )
