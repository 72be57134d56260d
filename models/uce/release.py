"""The weights of the release: find them, read them, write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.checkpoints import read_safetensors, read_torch, strip_prefix
from harness.errors import InputError
from models.uce import tables

SUFFIXES = (".torch", ".pt", ".pth", ".ckpt", ".bin", ".safetensors")
#: Files of tensors that are no model.
NO_WEIGHTS = (tables.TOKENS, tables.SUFFIX)
CONFIG = "config.json"
TABLE = "pe_embedding.weight"
#: What `config.json`, which the release does not have, may say, and of what type.
DECLARED = {"variant": str, "heads": int, "sample_size": int, "learned_table": bool}


@cache
def published() -> dict[str, dict[str, Any]]:
    """The published weights, as conf/model/uce.yaml describes them."""
    import yaml

    from harness.registry import CONF

    return yaml.safe_load((CONF / "model" / "uce.yaml").read_text())["variants"]


def published_name(name: str) -> str | None:
    """`4layer` for `4layer`, `uce-4layer` or `4layer_model.torch`; None for anything else."""
    for variant, facts in published().items():
        if name in (variant, f"uce-{variant}", facts["weights"], Path(facts["weights"]).stem):
            return variant
    return None


def find_weights(path: Path, variant: str | None) -> Path:
    """The weight file meant by a file or directory and, where there are several, a variant.

    Raises
    ------
    InputError
        There is none, or there are several and no variant says which.
    """
    path = Path(path).expanduser()
    files = ", ".join(facts["weights"] for facts in published().values())
    if path.is_file():
        given = published_name(variant) if variant else None
        if given and published_name(path.name) not in (None, given):
            raise InputError(f"model.variant={variant}, but {path} is {published_name(path.name)}; leave one out")
        return path
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected UCE weights ({files}) or the directory that holds them")
    other = {path.resolve() for path in tables.new_species(path).values()}
    found: list[Path] = []
    for pattern in ("*", "*/*"):
        found = found or sorted(
            p
            for p in path.glob(pattern)
            if p.is_file() and p.suffix in SUFFIXES and not p.name.endswith(NO_WEIGHTS) and p.resolve() not in other
        )
    if not found:
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:8])
        raise InputError(f"{path} holds no UCE weights ({inside or 'it is empty'}); published: {files}")
    wanted = {variant, published_name(variant or "")} - {None}
    chosen = [
        p for p in found if not variant or wanted & {p.name, p.stem, p.parent.name, published_name(p.name)} - {None}
    ]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(f"{p.relative_to(path)} ({published_name(p.name) or p.stem})" for p in found)
    if variant and not chosen:
        raise InputError(f"model.variant={variant} is not in {path}, which holds {names}")
    raise InputError(f"{path} holds {len(found)} models: {names}. Say which: model.variant=NAME, or name the file")


def read_config(weights: Path) -> dict[str, Any]:
    """`config.json` beside the weights, which says what they do not show; empty without such a file.

    Raises
    ------
    InputError
        It is not JSON, or says something of the wrong type.
    """
    path = weights.parent / CONFIG
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    for key, kind in DECLARED.items():
        if key in content and type(content[key]) is not kind:
            raise InputError(f"{path}: {key} is {content[key]!r}, expected {kind.__name__}")
    return {key: content[key] for key in DECLARED if key in content}


def read_weights(path: Path) -> dict[str, Any]:
    """State dict, the projections of the attention under the names of `nn.Linear` modules.

    Raises
    ------
    InputError
        Damaged, not a bare state dict, or weights that are not finite.
    """
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        raise InputError(f"{path} holds no bare state dict of tensors, as the weights of a UCE release do")
    state = {
        key.replace("self_attn.in_proj_", "self_attn.in_proj."): value for key, value in strip_prefix(state).items()
    }
    broken = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise InputError(f"{path} holds NaN or infinite weights in {', '.join(broken[:5])}; download it again")
    return state


def token_table(state: Mapping[str, Any], start: Path, n_chromosomes: int) -> Any:
    """The token table that is to be used, a tensor (rows, token_dim): the checkpoint's, or another of the user's.

    The authors' rule: `all_tokens.torch` of the checkpoint's own length (or without the chromosomes, which they
    then add) is ignored in favour of the checkpoint's table; another one, made for new species, replaces it.

    Parameters
    ----------
    state
        The checkpoint.
    start
        Where the tables lie.
    n_chromosomes
        Number of chromosomes of all species.

    Raises
    ------
    InputError
        The file is missing, damaged, or of another width.
    """
    path = tables.find(start, tables.TOKENS)
    given = read_torch(path, mmap=True)
    if TABLE not in state or state[TABLE].ndim != 2:
        raise InputError(f"{start} is no UCE checkpoint: it has no matrix {TABLE}")
    own = state[TABLE]
    if getattr(given, "ndim", 0) != 2 or given.shape[1] != own.shape[1]:
        raise InputError(
            f"{path} holds {f'a tensor {tuple(given.shape)}' if hasattr(given, 'shape') else 'no tensor'}; expected "
            f"vectors of length {own.shape[1]}, as in {start}"
        )
    if len(given) in (len(own), len(own) - n_chromosomes):
        return own
    return given.float()


def write_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state dict under the released names."""
    import torch

    named = {
        key.replace("self_attn.in_proj.", "self_attn.in_proj_"): value.detach().cpu() for key, value in state.items()
    }
    torch.save(named, path)
