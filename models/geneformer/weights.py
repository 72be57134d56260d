"""Official weight files into the network, every tensor accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints import load_state, read_safetensors, read_torch, strip_prefix
from harness.errors import InputError
from models.geneformer.network import BertConfig, MaskedGeneModel

HEAD = "cls.predictions."
#: The logits' matrix and bias, stored once more in `.bin` files: key -> the tensor it is tied to.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
#: Parts of fine-tuned classifiers that no read-out here needs.
CLASSIFIER = ("bert.pooler.", "classifier.")


def load_network(path: Path, config: BertConfig) -> MaskedGeneModel:
    """The network in a `.safetensors` or `.bin` file.

    A file without any tensor of the masked-gene head (a fine-tuned classifier) gives a network without it; one
    that holds a part of the head is refused.

    Raises
    ------
    InputError
        A damaged or unsafe file, tensors that are missing, left over or of another shape than `config` says (the
        message lists them), or a decoder that is not tied to the word embeddings.
    """
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if not isinstance(content, Mapping) or not all(torch.is_tensor(value) for value in content.values()):
        raise InputError(f"{path} holds no state dict (name -> tensor); is it a weight file of Geneformer?")
    state = strip_prefix(content)
    for copy, original in TIED.items():
        if copy in state and not _equal(state.pop(copy), state.get(original)):
            raise InputError(f"{path}: {copy} differs from {original}, to which Geneformer ties it")
    network = MaskedGeneModel.empty(config, head=any(key.startswith(HEAD) for key in state))
    load_state(network, state, path, ignore=_not_needed)
    return network


def _equal(copy: torch.Tensor, original: Any) -> bool:
    return original is not None and copy.shape == original.shape and torch.equal(copy, original)


def _not_needed(key: str) -> bool:
    return key == "bert.embeddings.position_ids" or key.startswith(CLASSIFIER)
