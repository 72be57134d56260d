"""The config inside `models.ckpt`: sizes of a network, in the authors' words and in ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError

MODEL, DATA = "mae_autobin", "rnaseq"
KINDS = ("transformer", "performer")
#: Rows of `pos_emb` behind the genes: target depth (T), source depth (S), padding.
SPECIAL = 3
#: Where the layers of a performer stand among the weights.
PERFORMER = "decoder.performer.net.layers."


@dataclass(frozen=True)
class Stack:
    """One of the two stacks of layers.

    Parameters
    ----------
    kind
        `transformer` or `performer`.
    width, depth, heads
        Width of a token, number of layers, heads of a layer.
    dim_head
        Width of a performer's head; a transformer's is width / heads.
    features
        Random features of a performer's head.
    """

    kind: str
    width: int
    depth: int
    heads: int
    dim_head: int
    features: int = 0


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network; its positions are the genes, T and S."""

    n_genes: int
    bins: int
    bin_alpha: float
    encoder: Stack
    decoder: Stack

    @property
    def n_positions(self) -> int:
        """Genes, T and S: `seq_len` of the config."""
        return self.n_genes + SPECIAL - 1


def performer_features(dim_head: int) -> int:
    """Random features the authors give a head: int(d ln d)."""
    return int(dim_head * math.log(dim_head))


def flatten(config: Mapping[str, Any], source: Path | str) -> dict[str, Any]:
    """Architecture and data recipe in one dictionary, as the authors' loader merges them (data keys win).

    Raises
    ------
    InputError
        Not the config of a scFoundation model.
    """
    try:
        if config["model"] != MODEL:
            raise InputError(f"{source}: the config says model {config['model']!r}, expected {MODEL!r}")
        flat = {**config["model_config"][MODEL], **config["dataset_config"][DATA]}
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{source}: its config is not that of a scFoundation model (model, model_config.{MODEL} and "
            f"dataset_config.{DATA} are expected): {type(error).__name__} {error}"
        ) from None
    if flat.get("bin_type") != "auto_bin":
        raise InputError(f"{source}: bin_type is {flat.get('bin_type')!r}, only 'auto_bin' is known")
    return flat


def sizes_of(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], source: Path | str) -> Sizes:
    """Sizes by the config, checked against the shapes of the weights. Nothing that is missing is guessed.

    Parameters
    ----------
    shapes
        Key -> shape of the weights, keys as the network names them.

    Raises
    ------
    InputError
        A size is missing or impossible, or the weights have another; both are named.
    """
    flat = flatten(config, source)
    encoder, decoder = (_stack(flat, part, shapes, source) for part in ("encoder", "decoder"))
    if encoder.kind != "transformer":
        raise InputError(
            f"{source}: encoder.module_type is {encoder.kind!r}; an encoder that reads padding cannot be batched, "
            "only 'transformer' is known"
        )
    alpha = flat.get("bin_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise InputError(f"{source}: bin_alpha is {alpha!r} in its config, expected a number")
    sizes = Sizes(
        n_genes=_size(flat, "seq_len", source, at_least=SPECIAL) - SPECIAL + 1,
        bins=_size(flat, "bin_num", source),
        bin_alpha=float(alpha),
        encoder=encoder,
        decoder=decoder,
    )
    wrong = _disagreements(sizes, shapes)
    if wrong:
        raise InputError(f"{source}: its config and its weights disagree: {'; '.join(wrong)}")
    return sizes


def _disagreements(sizes: Sizes, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What the config says otherwise than the weights; what is missing is left to the key-by-key report."""
    encoder, decoder = sizes.encoder, sizes.decoder
    claims = [
        ("seq_len + 1", sizes.n_positions + 1, "pos_emb.weight", 0),
        ("encoder.hidden_dim", encoder.width, "pos_emb.weight", 1),
        ("bin_num", sizes.bins, "token_emb.emb.weight", 0),
        ("decoder.hidden_dim", decoder.width, "decoder_embed.weight", 0),
    ]
    if decoder.kind == "performer":
        claims.append(
            ("decoder.heads x dim_head", decoder.heads * decoder.dim_head, f"{PERFORMER}0.0.fn.to_q.weight", 0)
        )
    wrong = [
        f"{name} is {said}, {key} has {shapes[key][axis]}"
        for name, said, key, axis in claims
        if len(shapes.get(key, ())) == 2 and shapes[key][axis] != said
    ]
    for part, stack in (("encoder", encoder), ("decoder", decoder)):
        prefix = f"{part}.transformer_encoder." if stack.kind == "transformer" else PERFORMER
        layers = {key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)}
        if layers and len(layers) != stack.depth:
            wrong.append(f"{part}.depth is {stack.depth}, the weights have {len(layers)} layers")
    return wrong


def _stack(flat: Mapping[str, Any], part: str, shapes: Mapping[str, tuple[int, ...]], source: Path | str) -> Stack:
    node = flat.get(part)
    if not isinstance(node, Mapping):
        raise InputError(f"{source}: its config has no sizes of the {part}")
    kind = node.get("module_type")
    if kind not in KINDS:
        raise InputError(f"{source}: {part}.module_type is {kind!r}, expected {' or '.join(KINDS)}")
    width, depth, heads = (_size(node, key, source, part) for key in ("hidden_dim", "depth", "heads"))
    if kind == "transformer":
        if width % heads:
            raise InputError(f"{source}: {part}.hidden_dim {width} cannot be divided among {heads} heads")
        return Stack(kind, width, depth, heads, width // heads)
    dim_head = _size(node, "dim_head", source, part, at_least=2)
    projection = shapes.get(f"{PERFORMER}0.0.fn.fast_attention.projection_matrix")
    return Stack(kind, width, depth, heads, dim_head, projection[0] if projection else performer_features(dim_head))


def _size(node: Mapping[str, Any], key: str, source: Path | str, part: str = "", at_least: int = 1) -> int:
    value = node.get(key)
    if type(value) is not int or value < at_least:
        name = f"{part}.{key}" if part else key
        raise InputError(f"{source}: {name} is {value!r} in its config, expected a whole number of at least {at_least}")
    return value


def official_config(sizes: Sizes) -> dict[str, Any]:
    """A config as the release has it, for a network of one's own."""

    def stack(part: Stack) -> dict[str, Any]:
        return {
            "hidden_dim": part.width,
            "depth": part.depth,
            "heads": part.heads,
            "dim_head": part.dim_head,
            "seq_len": sizes.n_positions,
            "module_type": part.kind,
            "norm_first": False,
        }

    architecture = {
        "mask_gene_name": False,
        "gene_num": sizes.n_positions,
        "seq_len": sizes.n_positions,
        "encoder": stack(sizes.encoder),
        "decoder": stack(sizes.decoder),
        "n_class": sizes.bins + 4,
        "pad_token_id": sizes.bins + 3,
        "mask_token_id": sizes.bins + 2,
        "bin_num": sizes.bins,
        "bin_alpha": sizes.bin_alpha,
        "rawcount": True,
        "model": MODEL,
    }
    recipe = {
        "bin_type": "auto_bin",
        "bin_num": sizes.bins,
        "value_mask_prob": 0.3,
        "zero_mask_prob": 0.03,
        "replace_prob": 0.8,
        "random_token_prob": 0.1,
        "mask_ignore_token_ids": [0],
        "decoder_add_zero": True,
    }
    return {"model": MODEL, "model_config": {MODEL: architecture}, "dataset_config": {DATA: recipe}}
