"""Find the files of a CellFM release: weights, the config.json beside them, and the gene tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from models.cellfm import mindspore_checkpoint
from models.cellfm.config import ROW_MULTIPLE
from models.cellfm.gene_names import read_aliases, read_vocabulary

WEIGHTS = (".ckpt", ".safetensors")
VOCABULARIES = ("gene_info.csv", "expand_gene_info.csv")
ALIASES = "updated_hgcn.tsv"
TABLES_FROM = "it is in the folder csv/ of github.com/biomed-AI/CellFM"
#: Folders above the weights in which tables are looked for.
LEVELS = 4


@cache
def published() -> dict[str, dict[str, Any]]:
    """The published weights, as conf/model/cellfm.yaml describes them."""
    import yaml

    from harness.registry import CONF

    return yaml.safe_load((CONF / "model" / "cellfm.yaml").read_text())["variants"]


def published_name(name: str) -> str | None:
    """`cellfm-80m` for `cellfm-80m`, `80m` or `CellFM_80M_weight.ckpt`; None for anything else."""
    for variant, facts in published().items():
        if name in (variant, variant.removeprefix("cellfm-"), facts["weights"], Path(facts["weights"]).stem):
            return variant
    return None


def find_weights(path: Path, variant: str | None) -> Path:
    """The weight file meant by a file or directory and, where there are several, a variant.

    Raises
    ------
    InputError
        There is none, or there are several and no variant says which.
    """
    path = Path(path)
    wanted = _names_of(variant) if variant else set()
    if path.is_file():
        if variant and published_name(path.name) not in (None, published_name(variant)):
            raise InputError(f"model.variant={variant}, but {path} is {published_name(path.name)}; leave one out")
        return path
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected a CellFM weight file or the directory that holds it")
    found: list[Path] = []
    for pattern in ("*", "*/*"):
        found = found or sorted(p for p in path.glob(pattern) if p.is_file() and p.suffix in WEIGHTS)
    if not found:
        files = ", ".join(facts["weights"] for facts in published().values())
        raise InputError(f"{path} holds no CellFM weights (*.ckpt, *.safetensors; published: {files})")
    chosen = [p for p in found if not variant or p.name in wanted or p.stem in wanted]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(f"{p.name} ({published_name(p.name) or p.stem})" for p in found)
    if variant and not chosen:
        raise InputError(f"model.variant={variant} is not in {path}, which holds {names}")
    raise InputError(f"{path} holds {len(found)} models: {names}. Say which: model.variant=NAME, or name the file")


def _names_of(variant: str) -> set[str]:
    """File names and stems a variant may go by."""
    name = published_name(variant)
    return {variant} if name is None else {variant, name, Path(published()[name]["weights"]).stem}


def read_weights(path: Path) -> dict[str, Any]:
    """Name -> torch tensor, float32, without the optimiser's moments.

    Raises
    ------
    InputError
        The file is damaged, neither a MindSpore checkpoint nor safetensors, or of another model.
    """
    import torch

    from harness.checkpoints import read_safetensors

    if path.suffix == ".safetensors":
        state = read_safetensors(path)
    else:
        arrays = mindspore_checkpoint.read(path, lambda name: not name.startswith(("moment1.", "moment2.")))
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if "gene_emb" not in state or state["gene_emb"].ndim != 2:
        raise InputError(
            f"{path} is not a CellFM checkpoint: it has no matrix gene_emb (it holds {', '.join([*state][:5])}, …)"
        )
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def write_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state dict as `.ckpt` (MindSpore) or `.safetensors`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if path.suffix == ".ckpt":
        mindspore_checkpoint.write(path, {name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)


def read_config(weights: Path) -> dict[str, Any]:
    """The entry of a weight file in the config.json beside it; empty without such a file.

    Raises
    ------
    InputError
        config.json is no JSON object, or describes other weight files and not this one.
    """
    path = weights.parent / "config.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected an object per weight file")
    entry = content.get(weights.name, content if "enc_dims" in content else None)
    if isinstance(entry, dict):
        return entry
    others = [name for name in content if name.endswith(WEIGHTS)]
    if others or weights.name in content:
        raise InputError(
            f"{path} does not describe {weights.name} (it describes {', '.join(others)}). Give the file its "
            "published name, or an entry of its own"
        )
    return {}


def find_table(weights: Path, name: str) -> Path | None:
    """A table beside the weights or above them, there or in a folder csv/; the nearest, or None."""
    folder = weights.resolve().parent
    for candidate in [folder, *folder.parents][: LEVELS + 1]:
        for path in (candidate / name, candidate / "csv" / Path(name).name):
            if path.is_file():
                return path
    return None


def files(path: Path, variant: str | None) -> list[Path]:
    """Every file that may change what a checkpoint gives: weights, config.json, gene tables."""
    weights = find_weights(path, variant)
    declared = read_config(weights)
    names = [declared["vocab"]] if "vocab" in declared else [*VOCABULARIES]
    tables = [find_table(weights, name) for name in (*names, declared.get("aliases", ALIASES)) if name]
    config = weights.parent / "config.json"
    return [weights, *([config] if declared else []), *(table for table in tables if table is not None)]


def find_vocabulary(weights: Path, declared: Mapping[str, Any], rows: int, st_tokens: bool) -> np.ndarray:
    """Symbols of the vocabulary that belongs to the weights, unicode (n_genes,).

    Named by config.json, or else recognised: the published table whose length fits `gene_emb`, and where both
    fit, the one whose layout the weights have (only the 80M file holds ST tokens).

    Parameters
    ----------
    weights
        The weight file.
    declared
        Its entry in config.json.
    rows
        Rows of `gene_emb`.
    st_tokens
        Whether the file holds `ST_emb`.

    Raises
    ------
    InputError
        No table is there, or none has the length of `gene_emb`.
    """
    names = [declared["vocab"]] if "vocab" in declared else [*VOCABULARIES]
    if st_tokens:
        names.reverse()
    found = {name: path for name in names if (path := find_table(weights, name)) is not None}
    if not found:
        raise InputError(f"no gene table {' or '.join(names)} beside {weights} or above it; {TABLES_FROM}")
    tables = {path: read_vocabulary(path) for path in found.values()}
    for symbols in tables.values():
        if -(-(len(symbols) + 1) // ROW_MULTIPLE) * ROW_MULTIPLE == rows:
            return symbols
    sizes = ", ".join(f"{path} has {len(symbols)} genes" for path, symbols in tables.items())
    raise InputError(
        f"gene_emb of {weights} has {rows} rows, for {rows - ROW_MULTIPLE} to {rows - 1} genes, but {sizes}; "
        f"table and weights do not belong together ({TABLES_FROM})"
    )


def find_aliases(weights: Path, declared: Mapping[str, Any]) -> dict[str, str]:
    """Alias -> approved symbol from the HGNC table near the weights; empty where there is none.

    A config.json may name the table as `aliases`, or say null: none belongs to these weights.
    """
    name = declared.get("aliases", ALIASES)
    path = None if name is None else find_table(weights, name)
    if path is None and declared.get("aliases"):
        raise InputError(f"config.json beside {weights} names the alias table {name}, which is not there")
    return {} if path is None else read_aliases(path)
