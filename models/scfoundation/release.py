"""The official release on disk: `models.ckpt`, which holds several sub-models, and the table of its genes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import read_torch
from harness.errors import InputError
from models.scfoundation.config import SPECIAL

WEIGHTS, GENES = "models.ckpt", "OS_scRNA_gene_index.{}.tsv"
SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
EXPECTED = f"a scFoundation release is {WEIGHTS} with {GENES.format(19264)} beside it or in a folder above"
PREFIX = "model."
#: The authors' layers keep the weights of q, k and v in a parameter; ours in a linear module that LoRA can wrap.
IN_PROJ = {f".self_attn.in_proj_{part}": f".self_attn.in_proj.{part}" for part in ("weight", "bias")}


@dataclass(frozen=True)
class ReleaseFiles:
    """The two files of the release."""

    weights: Path
    genes: Path


def locate(path: Path) -> ReleaseFiles:
    """The files: `path` is the weights, their folder, or a folder with such folders in it, of which one.

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
        weights = path
    elif (path / WEIGHTS).is_file():
        weights = path / WEIGHTS
    else:
        found = sorted(child / WEIGHTS for child in path.iterdir() if (child / WEIGHTS).is_file())
        if not found:
            inside = ", ".join(sorted(child.name for child in path.iterdir())[:8])
            raise InputError(f"{path} holds no {WEIGHTS} ({inside or 'it is empty'}); {EXPECTED}")
        if len(found) > 1:
            names = ", ".join(file.parent.name for file in found)
            raise InputError(f"{path} holds several {WEIGHTS}, in {names}. Say which: model.checkpoint={found[0]}")
        weights = found[0]
    return ReleaseFiles(weights, _gene_table_of(weights))


def _gene_table_of(weights: Path, levels: int = 4) -> Path:
    """The gene table in the folder of the weights, or in the nearest one above that has any."""
    # As in harness.checkpoints.find_upwards; the number of genes in the name is not known yet.
    folder = weights.parent.resolve()
    for candidate in [folder, *folder.parents][: levels + 1]:
        found = sorted(candidate.glob(GENES.format("*")))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise InputError(f"{candidate} holds several gene tables ({names}); keep the one of {weights.name}")
        if found:
            return found[0]
    raise InputError(f"{GENES.format(19264)} not found beside {weights} or above it; {EXPECTED}")


def read_genes(path: Path) -> np.ndarray:
    """Symbols in the order of their index, unicode (n_genes,).

    Raises
    ------
    InputError
        Columns missing, indices that are not 0..n-1, or a symbol twice.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({error}); is the download complete?") from None
    symbols = [""] * len(rows)
    index_of: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        symbol, index = row.get("gene_name") or "", row.get("index") or ""
        place = int(index) if index.isdecimal() else len(rows)
        if not symbol or place >= len(rows) or symbols[place]:
            raise InputError(
                f"{path}, line {line}: gene_name {symbol!r} with index {index!r}; tab-separated columns gene_name and "
                f"index are expected, the {len(rows)} indices from 0, each once. Take the table from the release again"
            )
        if symbol in index_of:
            raise InputError(f"{path}: {symbol} has the indices {index_of[symbol]} and {index}; symbols must be unique")
        symbols[place], index_of[symbol] = symbol, index
    if not symbols:
        raise InputError(f"{path} holds no gene; expected one per line under gene_name and index")
    return np.asarray(symbols, np.str_)


def read_submodels(path: Path) -> dict[str, Mapping[str, Any]]:
    """Key -> {"config", "state_dict"}, as the file has them; what else stands in the file is left out.

    Raises
    ------
    InputError
        Damaged, not a plain file of tensors, or without any sub-model.
    """
    content = read_torch(path)
    found = {}
    if isinstance(content, Mapping):
        for key, part in content.items():
            if isinstance(part, Mapping) and {"config", "state_dict"} <= set(part):
                found[str(key)] = part
    if not found:
        inside = ", ".join(map(str, content))[:80] if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"{path} holds no sub-model with a config and a state_dict ({inside}); {EXPECTED}")
    return found


def choose(submodels: Iterable[str], variant: str | None, preferred: str, path: Path) -> str:
    """Which sub-model: `variant` if one is named, else `preferred`, else the only one there is.

    Raises
    ------
    InputError
        It is not there; the message lists those that are.
    """
    names = list(submodels)
    if variant is None:
        if preferred in names:
            return preferred
        if len(names) == 1:
            return names[0]
        raise InputError(f"{path} has no sub-model {preferred}; say model.variant= one of {', '.join(names)}")
    if variant not in names:
        raise InputError(f"model.variant={variant}: {path} has no such sub-model; it holds {', '.join(names)}")
    return variant


def read_state(submodel: Mapping[str, Any], source: str) -> dict[str, Any]:
    """State dict with keys as the network names them.

    Raises
    ------
    InputError
        Not a state dict of tensors, or weights that are not finite.
    """
    state = submodel["state_dict"]
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        raise InputError(f"{source}: its state_dict is not one of tensors")
    named = {}
    for key, value in state.items():
        # As the authors strip it; a key without it is left alone, and is reported as unexpected.
        name = key.partition(PREFIX)[2] or key
        for official, ours in IN_PROJ.items():
            name = name.replace(official, ours)
        named[name] = value
    broken = [key for key, value in named.items() if not bool(value.isfinite().all())]
    if broken:
        raise InputError(f"{source} holds NaN or infinite weights in {', '.join(broken[:5])}; download it again")
    return named


def read_static(submodel: Mapping[str, Any], n_genes: int, source: str) -> np.ndarray:
    """Static gene vectors, float32 (n_genes, E), of a sub-model of which nothing else is read.

    Raises
    ------
    InputError
        It has no such table, or of another number of genes, or it is not finite.
    """
    state = submodel["state_dict"]
    table = state.get(f"{PREFIX}pos_emb.weight") if isinstance(state, Mapping) else None
    if getattr(table, "ndim", 0) != 2 or len(table) != n_genes + SPECIAL or not bool(table.isfinite().all()):
        raise InputError(
            f"{source} has no finite pos_emb.weight with {n_genes + SPECIAL} rows, the static gene vectors; name the "
            "sub-model to do without them: model.variant=cell"
        )
    return table[:n_genes].float().numpy()


def write(directory: Path, key: str, state: Mapping[str, Any], config: Mapping[str, Any], symbols: np.ndarray) -> None:
    """Write both files, the network as sub-model `key`."""
    import torch

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    named = {}
    for name, value in state.items():
        for official, ours in IN_PROJ.items():
            name = name.replace(ours, official)
        named[PREFIX + name] = value.detach().cpu()
    torch.save({key: {"config": dict(config), "state_dict": named}}, directory / WEIGHTS)
    with (directory / GENES.format(len(symbols))).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(["gene_name", "index"])
        writer.writerows(zip(symbols.tolist(), range(len(symbols)), strict=True))
