"""The official release on disk: a checkpoint, and an h5ad whose genes are the panel, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import find_upwards, read_torch, strip_prefix
from harness.errors import InputError

#: Names of the pretrained weights: as users got them, as the authors' default is spelled, and as their script writes.
PRETRAINED, TUNED, SUFFIXES = "panglao_pretrain*.pth", "finetune_best.pth", (".pth", ".pt", ".ckpt", ".bin")
#: Where the panel is read from, the first there is: the release, or a list with a symbol on each line.
GENES, GENE_LIST, GENE2VEC = "panglao_10000.h5ad", "panglao_genes.txt", "gene2vec_16906.npy"
EXPECTED = (
    f"a scBERT release is panglao_pretrain.pth with {GENES} (or its gene names as {GENE_LIST}) beside it or above"
)
VARIANT, STATE, TABLE = "panglao", "model_state_dict", "pos_emb.emb.weight"


@dataclass(frozen=True)
class Checkpoint:
    """State dict of a network, and what one that was pretrained here says of itself beside it."""

    state: dict[str, Any]
    variant: str | None
    learned_positions: bool


def find_weights(path: Path, variant: str | None) -> Path:
    """The weights: `path` itself, or of a folder the pretrained ones, or those that `variant` names by their stem.

    Raises
    ------
    InputError
        Nothing there, or more than one.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist; {EXPECTED}")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path} is no weights file ({', '.join(SUFFIXES)}); {EXPECTED}")
        return path
    every = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in SUFFIXES)
    found = [file for file in every if file.match(PRETRAINED)]
    if variant not in (None, VARIANT):
        found = [file for file in every if variant in (file.stem, file.name)] or found[:0]
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in every) or "no weights file"
    if len(found) > 1:
        raise InputError(f"{path} holds {names}. Say which: model.checkpoint={found[0]}")
    if variant not in (None, VARIANT):
        raise InputError(f"model.variant={variant} is not in {path}, which holds {names}")
    tuned = f"; a fine-tuned network is read when named: model.checkpoint={path / TUNED}"
    raise InputError(f"{path} has no {PRETRAINED} ({names}); {EXPECTED}{tuned if (path / TUNED).is_file() else ''}")


def label_of(weights: Path) -> str:
    """Name of the weights, where they say none themselves."""
    return VARIANT if weights.match(PRETRAINED) else weights.stem


def find_genes(weights: Path) -> Path:
    """The file the panel is read from, beside the weights or in a folder above.

    Raises
    ------
    InputError
        There is none.
    """
    for name in (GENES, GENE_LIST):
        found = find_upwards(weights, name)
        if found is not None:
            return found
    raise InputError(
        f"neither {GENES} nor {GENE_LIST} beside {weights} or above it. The weights do not say which genes they are "
        f"of: {EXPECTED}"
    )


def read_genes(path: Path) -> np.ndarray:
    """Symbols of the panel in its order, unicode (n_genes,): var names of an h5ad, or the lines of a text file.

    Raises
    ------
    InputError
        The file cannot be read, or a symbol is empty or stands twice.
    """
    if path.suffix == ".h5ad":
        symbols = _var_names(path)
    else:
        symbols = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    seen: dict[str, int] = {}
    for number, symbol in enumerate(symbols):
        if not symbol or seen.setdefault(symbol, number) != number:
            what = f"{symbol} stands at {seen[symbol]} and {number}" if symbol else f"number {number} is empty"
            raise InputError(f"{path}: genes of a panel are distinct, and {what}")
    if not symbols:
        raise InputError(f"{path} holds no gene; {EXPECTED}")
    return np.asarray(symbols, np.str_)


def _var_names(path: Path) -> list[str]:
    import h5py
    from anndata.io import read_elem

    try:
        with h5py.File(path) as file:
            return read_elem(file["var"]).index.astype(str).tolist()
    except Exception as error:  # whatever is wrong with the file, it is the file
        raise InputError(f"{path} cannot be read as an h5ad: {type(error).__name__}: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """The state dict; the optimiser's state, which triples the file, is left out.

    Raises
    ------
    InputError
        Damaged, not a plain file of tensors, not a checkpoint, or with weights that are not finite.
    """
    content = read_torch(path)
    state = content.get(STATE) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        inside = ", ".join(map(str, content))[:80] if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"{path} holds no {STATE} of tensors ({inside}); {EXPECTED}")
    named = strip_prefix(state)
    broken = [key for key, value in named.items() if not bool(value.isfinite().all())]
    if broken:
        raise InputError(f"{path} holds NaN or infinite weights in {', '.join(broken[:5])}; download it again")
    variant = content.get("variant")
    return Checkpoint(named, variant if isinstance(variant, str) else None, content.get("learned_positions") is True)


def check_gene2vec(genes: Path, weights: Path, table: Any) -> None:
    """Hold `gene2vec_16906.npy`, if it lies beside the panel, against the table (N + 1, D) in the weights.

    Raises
    ------
    InputError
        They differ.
    """
    path = genes.with_name(GENE2VEC)
    if not path.is_file():
        return
    vectors = read_gene2vec(path)
    if vectors.shape != tuple(table[:-1].shape) or not np.array_equal(vectors, table[:-1].numpy()):
        raise InputError(
            f"{path} {vectors.shape} is not the table {tuple(table[:-1].shape)} in {weights}, which was made of it. "
            "Keep the files of one release together"
        )


def read_gene2vec(path: Path) -> np.ndarray:
    """gene2vec vectors of the panel's genes, float64 (n_genes, D).

    Raises
    ------
    InputError
        Not an array of finite numbers.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array: {error}") from None
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise InputError(
            f"{path} is an array {vectors.shape} of {vectors.dtype}; expected finite numbers (genes, width)"
        )
    return vectors.astype(np.float64)


def write(directory: Path, state: Mapping[str, Any], symbols: np.ndarray, said: Mapping[str, Any]) -> None:
    """Write checkpoint and panel in the official layout; `said` goes beside the state dict."""
    import anndata
    import pandas as pd
    import torch

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    named = {key: value.detach().cpu() for key, value in state.items()}
    named[TABLE] = named[TABLE].double()
    torch.save({"epoch": 0, STATE: named, **said}, directory / PRETRAINED.replace("*", ""))
    panel = anndata.AnnData(var=pd.DataFrame(index=symbols.astype(object)))
    panel.write_h5ad(directory / GENES)
