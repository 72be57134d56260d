"""The files of a Geneformer release: which folder is the model, and which dictionaries are its own.

A model is a folder with `config.json` and weights; its dictionaries lie elsewhere, in the release's python
package. Every generation of their names is read (`_gc30M`, `_gc95M`, `_gc104M`, none), in `geneformer/`, its
`gene_dictionaries_30m/` or beside the weights; the vocabulary's size tells which ones belong to a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from models.geneformer.dictionaries import (
    MAPPING,
    MEDIANS,
    SYMBOLS,
    TOKENS,
    GeneDictionaries,
    read_tokens,
)

#: Weight files of a model folder, the preferred first. `training_args.bin` beside them is never opened.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PRETRAINED = "BertForMaskedLM"
#: Where dictionaries lie, seen from a model's folder or one of its parents.
PLACES = (".", "geneformer", "geneformer/gene_dictionaries_30m", "gene_dictionaries_30m")
LEVELS = 5


@dataclass(frozen=True)
class ModelFolder:
    """One model of a release: its weights and the `config.json` beside them."""

    weights: Path

    @property
    def path(self) -> Path:
        """The folder. Links to files are not followed: those of a hub cache lead away from the tables."""
        return self.weights.parent.resolve()

    @property
    def name(self) -> str:
        """The folder's name, which is the only name the release gives a model."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """Where its sizes stand."""
        return self.weights.with_name("config.json")

    def config(self) -> dict[str, Any]:
        """`config.json`, parsed.

        Raises
        ------
        InputError
            It is missing or no JSON object.
        """
        if not self.config_file.is_file():
            raise InputError(f"{self.config_file} is missing: the sizes of {self.weights.name} stand there")
        try:
            content = json.loads(self.config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.config_file} is not readable as JSON ({error})") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.config_file} holds no JSON object")
        return content

    @property
    def is_pretrained(self) -> bool:
        """Whether it is a masked-gene model rather than a classifier fine-tuned from one."""
        return PRETRAINED in (self.config().get("architectures") or [PRETRAINED])


def find_model(path: Path, variant: str | None = None) -> ModelFolder:
    """The model that `path` means.

    A weight file or a folder that holds one is the model. Otherwise the folders below (three levels) are
    searched: `variant` names one of them, else the only pretrained one is taken; fine-tuned classifiers are
    never taken unasked.

    Raises
    ------
    InputError
        No model, or several; the message lists them.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file():
        if path.suffix not in (".safetensors", ".bin") or path.name == "training_args.bin":
            raise InputError(f"{path} holds no weights; {' or '.join(WEIGHTS)} is expected, or the folder that has it")
        return ModelFolder(path)
    own = _weights_in(path)
    if own is not None and variant in (None, ModelFolder(own).name):
        return ModelFolder(own)
    models = [ModelFolder(weights) for folder in _folders(path, 3) if (weights := _weights_in(folder)) is not None]
    models = [model for model in models if model.config_file.is_file()]
    if variant is not None:
        chosen = [m for m in models if variant in (m.name, m.path.relative_to(path.resolve()).as_posix())]
    else:
        chosen = [m for m in models if m.is_pretrained]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(m.name + ("" if m.is_pretrained else " (fine-tuned)") for m in models)
    if not models:
        raise InputError(
            f"{path} holds no Geneformer model: a folder with config.json and {' or '.join(WEIGHTS)} is expected"
        )
    if variant is not None:
        found = f"{len(chosen)} models of that name" if chosen else "no such model"
        raise InputError(f"model.variant={variant}: {path} holds {found}; it holds {listed}")
    raise InputError(f"{path} holds {len(models)} models ({listed}); say which: model.variant=NAME")


def _folders(path: Path, depth: int) -> Iterator[Path]:
    yield path
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _folders(child, depth - 1)


def _weights_in(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


@dataclass(frozen=True)
class DictionaryFiles:
    """The pickles of one generation; `mapping` and `symbols` are None where the release has none."""

    tokens: Path
    medians: Path
    mapping: Path | None
    symbols: Path | None

    @property
    def paths(self) -> list[Path]:
        """Those that are there."""
        return [path for path in (self.tokens, self.medians, self.mapping, self.symbols) if path is not None]

    def read(self) -> GeneDictionaries:
        """See `GeneDictionaries.read`."""
        return GeneDictionaries.read(self.tokens, self.medians, self.mapping, self.symbols)


def find_dictionaries(folder: Path, vocab_size: int) -> DictionaryFiles:
    """The dictionaries that fit a vocabulary, nearest first: in `folder`, its `geneformer/`, then its parents'.

    Raises
    ------
    InputError
        None fits, or two that differ; the message lists what was found.
    """
    folder = folder.resolve()
    seen: dict[Path, int] = {}
    for level in [folder, *folder.parents][:LEVELS]:
        paths = [p for place in PLACES for p in sorted((level / place).glob(f"{TOKENS}*.pkl"))]
        sizes = {path: len(read_tokens(path)) for path in paths if path not in seen}
        seen |= sizes
        fitting = [_of_generation(path) for path, size in sizes.items() if size == vocab_size]
        # The symbol table is a convenience; it does not tell two generations apart.
        contents = {tuple(p.read_bytes() for p in files.paths if p != files.symbols) for files in fitting}
        if len(contents) > 1:
            raise InputError(
                f"{len(fitting)} sets of gene dictionaries fit the {vocab_size} tokens of the model in {folder} and "
                f"differ: {', '.join(str(files.tokens) for files in fitting)}; leave only one there"
            )
        if fitting:
            return fitting[0]
    found = ", ".join(f"{path} ({size} tokens)" for path, size in seen.items()) or "none"
    raise InputError(
        f"no gene dictionary for the {vocab_size} tokens of the model in {folder}, neither there nor beside its "
        f"parents; found: {found}. Download the folder geneformer/ of the release beside the model's folder"
    )


def _of_generation(tokens: Path) -> DictionaryFiles:
    def beside(stem: str) -> Path | None:
        path = tokens.with_name(tokens.name.replace(TOKENS, stem))
        return path if path.is_file() else None

    medians = beside(MEDIANS)
    if medians is None:
        raise InputError(f"{tokens} has no {tokens.name.replace(TOKENS, MEDIANS)} beside it; download it as well")
    return DictionaryFiles(tokens, medians, beside(MAPPING), beside(SYMBOLS))
