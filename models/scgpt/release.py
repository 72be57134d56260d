"""The official release on disk: `best_model.pt`, `args.json` and `vocab.json` in one folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import find_upwards, read_safetensors, read_torch, strip_prefix
from harness.errors import InputError

WEIGHTS, ARGS, VOCABULARY = "best_model.pt", "args.json", "vocab.json"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
CLS, EOC = "<cls>", "<eoc>"
#: What `args.json` must say about the network.
SIZES = {"embsize": "width", "nheads": "heads", "d_hid": "feed-forward width", "nlayers": "layers"}


@dataclass(frozen=True)
class ReleaseFiles:
    """The three files of one model."""

    weights: Path
    args: Path
    vocabulary: Path


def locate(path: Path, variant: str | None) -> ReleaseFiles:
    """The files of one model: `path` is its folder, its weights, or a folder of such folders.

    A weights file wins; its tables lie beside it or further up. `variant` names a sub-folder; for a path that
    is one model it is no more than a label.

    Raises
    ------
    InputError
        Nothing there, or several models and no variant.
    """
    path = Path(path).expanduser()
    expected = f"a scGPT release is a folder with {WEIGHTS}, {ARGS} and {VOCABULARY}"
    if not path.exists():
        raise InputError(f"{path} does not exist; {expected}")
    if variant and (path / variant / WEIGHTS).is_file():
        weights = path / variant / WEIGHTS
    elif path.is_file():
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path} is no weights file ({', '.join(SUFFIXES)}); {expected}")
        weights = path
    elif (path / WEIGHTS).is_file():
        weights = path / WEIGHTS
    else:
        weights = _only_model(path, variant, expected) / WEIGHTS
    tables = {name: find_upwards(weights, name) for name in (ARGS, VOCABULARY)}
    missing = [name for name, found in tables.items() if found is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not found beside {weights} or above it; {expected}")
    return ReleaseFiles(weights, tables[ARGS], tables[VOCABULARY])


def _only_model(folder: Path, variant: str | None, expected: str) -> Path:
    models = sorted(child for child in folder.iterdir() if (child / WEIGHTS).is_file())
    names = ", ".join(model.name for model in models)
    if not models:
        inside = sorted(child.name for child in folder.iterdir())[:8]
        raise InputError(f"{folder} holds no {WEIGHTS} ({', '.join(inside) or 'it is empty'}); {expected}")
    if variant:
        raise InputError(f"model.variant={variant}: {folder} has no such folder; with {WEIGHTS} there are {names}")
    if len(models) > 1:
        raise InputError(f"{folder} holds several models: {names}. Say which: model.variant={models[0].name}")
    return models[0]


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); is the download complete?") from None
    if not isinstance(table, dict):
        raise InputError(f"{path} holds a {type(table).__name__}, expected a JSON object")
    return table


def read_args(path: Path) -> dict[str, Any]:
    """`args.json`, its sizes checked to be positive whole numbers, and what else is read to be numbers.

    Raises
    ------
    InputError
        Not JSON, or a size is missing or impossible.
    """
    args = _read_table(path)
    for key, meaning in SIZES.items():
        if type(args.get(key)) is not int or args[key] < 1:
            raise InputError(f"{path}: {key} ({meaning}) is {args.get(key)!r}, expected a whole number > 0")
    if args["embsize"] % args["nheads"]:
        raise InputError(f"{path}: embsize {args['embsize']} cannot be divided among nheads {args['nheads']}")
    for key in ("dropout", "pad_value", "mask_ratio"):
        found = args.get(key, 0)
        if not all(type(number) in (int, float) for number in (found if isinstance(found, list) else [found])):
            raise InputError(f"{path}: {key} is {found!r}, expected a number")
    return args


def read_vocabulary(path: Path, special: tuple[str, ...]) -> np.ndarray:
    """Tokens in id order, unicode (n_tokens,).

    Raises
    ------
    InputError
        Ids that are not 0..n-1, each once, or a special token that is missing (the authors' code would append
        it, and then silently leave the embedding random).
    """
    table = _read_table(path)
    owner: dict[int, str] = {}
    for token, number in table.items():
        if type(number) is not int or not 0 <= number < len(table):
            raise InputError(
                f"{path}: token {token!r} has id {number!r}; the ids of {len(table)} tokens must be the "
                f"whole numbers 0 to {len(table) - 1}, each once"
            )
        if number in owner:
            raise InputError(
                f"{path}: tokens {owner[number]!r} and {token!r} share the id {number}; ids must be unique"
            )
        owner[number] = token
    absent = [token for token in special if token not in table]
    if absent:
        raise InputError(
            f"{path} lacks the special token {', '.join(absent)}; the released vocabularies hold "
            f"{', '.join(special)}. Take vocab.json from the folder of these weights"
        )
    return np.asarray([owner[number] for number in range(len(table))], np.str_)


def read_weights(path: Path) -> dict[str, Any]:
    """State dict with the key names of the released files, whichever of the three layouts it is saved in.

    Released: `self_attn.Wqkv.`; plain PyTorch: `self_attn.in_proj_`; wrapped: `self_attn._impl.Wqkv.`. A
    `module.` prefix is dropped. The tensors are the same in all of them.

    Raises
    ------
    InputError
        Damaged, not a plain state dict, two layouts in one file, or weights that are not finite.
    """
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        raise InputError(f"{path} holds no bare state dict of tensors, as {WEIGHTS} of a scGPT release does")
    named = {
        key.replace("self_attn._impl.", "self_attn.").replace("self_attn.in_proj_", "self_attn.Wqkv."): value
        for key, value in strip_prefix(state).items()
    }
    if len(named) != len(state):
        raise InputError(f"{path} names its attention weights in two ways at once; expected one layout")
    broken = [key for key, value in named.items() if not bool(value.isfinite().all())]
    if broken:
        raise InputError(f"{path} holds NaN or infinite weights in {', '.join(broken[:5])}; download it again")
    return named


def check_sizes(state: Mapping[str, Any], args: Mapping[str, Any], n_tokens: int, files: ReleaseFiles) -> None:
    """Refuse weights whose sizes are not those of their tables, naming both.

    Raises
    ------
    InputError
        With every disagreement. What is missing altogether is left to the key-by-key report.
    """
    layers = [re.match(r"transformer_encoder\.layers\.(\d+)\.", key) for key in state]
    depth = {int(match[1]) for match in layers if match}
    embedding = state.get("encoder.embedding.weight")
    hidden = state.get("transformer_encoder.layers.0.linear1.weight")
    claims: list[tuple[Path, str, int, int | None]] = [
        (files.args, "nlayers", args["nlayers"], max(depth) + 1 if depth else None),
        (files.args, "d_hid", args["d_hid"], None if hidden is None else hidden.shape[0]),
    ]
    if embedding is not None and embedding.ndim == 2:
        claims.append((files.args, "embsize", args["embsize"], embedding.shape[1]))
        claims.append((files.vocabulary, "number of tokens", n_tokens, embedding.shape[0]))
    wrong = [
        f"{table.name} says {what} {said}, {files.weights.name} has {found}"
        for table, what, said, found in claims
        if found is not None and said != found
    ]
    if wrong:
        raise InputError(
            f"{files.weights} and its tables disagree: {'; '.join(wrong)}. Keep the three files of one release together"
        )


def write(directory: Path, state: Mapping[str, Any], args: Mapping[str, Any], tokens: np.ndarray) -> None:
    """Write the three files, weights under the released names."""
    import torch

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    torch.save({key: value.detach().cpu() for key, value in state.items()}, directory / WEIGHTS)
    (directory / ARGS).write_text(json.dumps(dict(args), indent=2) + "\n", encoding="utf-8")
    vocabulary = {token: number for number, token in enumerate(tokens.tolist())}
    (directory / VOCABULARY).write_text(json.dumps(vocabulary, indent=0) + "\n", encoding="utf-8")
