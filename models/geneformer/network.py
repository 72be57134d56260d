"""Geneformer's network: BERT over gene tokens in rank order (Theodoris et al. 2023, Methods; Devlin et al. 2019).

Our own rather than transformers': that import takes seconds, and this one computes no layer above the read-out,
no logits of unmasked positions and no attention mask where nothing is padded. Modules are named as in the
official files, so their keys fit without translation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import InputError
from harness.networks import empty

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a network, under the names of its `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    hidden_act: str = "relu"
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout_prob: float = 0.02
    attention_probs_dropout_prob: float = 0.02
    pad_token_id: int = 0

    @classmethod
    def from_json(cls, config: Mapping[str, Any], source: object = "config.json") -> Self:
        """Of a parsed `config.json`; keys that do not change the network are passed over.

        Raises
        ------
        InputError
            Another kind of model, or a size that is missing or no positive number.
        """
        for key, only in {"model_type": "bert", "position_embedding_type": "absolute"}.items():
            if config.get(key, only) != only:
                raise InputError(f"{source}: {key} is {config[key]!r}; Geneformer's is {only!r}")
        given = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        for key in [f.name for f in fields(cls) if f.default is MISSING] + ["type_vocab_size"]:
            value = given.setdefault(key, 2 if key == "type_vocab_size" else None)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{source}: {key} is {value!r}; a positive whole number is expected")
        if given["hidden_size"] % given["num_attention_heads"]:
            raise InputError(
                f"{source}: hidden_size {given['hidden_size']} is no multiple of num_attention_heads "
                f"{given['num_attention_heads']}"
            )
        if given.get("hidden_act", "relu") not in ACTIVATIONS:
            raise InputError(f"{source}: hidden_act is {given['hidden_act']!r}; known: {', '.join(ACTIVATIONS)}")
        return cls(**given)


def _size(
    layers: int, width: int, heads: int, inner: int, context: int, dropout: tuple[float, float]
) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": context,
        "hidden_dropout_prob": dropout[0],
        "attention_probs_dropout_prob": dropout[1],
    }


#: Sizes of a fresh network: ours, and those of the published ones by millions of parameters. The tiny one drops no
#: attention weights: that would keep PyTorch from its fused kernels, which train it in a quarter of the time on a CPU.
SIZES = {
    "tiny": _size(3, 64, 4, 128, 1024, (0.02, 0.0)),
    "10m": _size(6, 256, 4, 512, 2048, (0.02, 0.02)),
    "38m": _size(12, 512, 8, 1024, 4096, (0.02, 0.02)),
    "104m": _size(12, 768, 12, 3072, 4096, (0.1, 0.1)),
    "151m": _size(20, 896, 14, 1792, 4096, (0.02, 0.02)),
    "316m": _size(18, 1152, 18, 4608, 4096, (0.1, 0.1)),
}


class Embeddings(nn.Module):
    """Token, position and segment embedding, summed and normalised; the position is the rank."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor) -> Tensor:
        position = self.position_embeddings.weight[: ids.shape[1]]
        segment = self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + position + segment))


class SelfAttention(nn.Module):
    """Multi-head attention, scale 1 / sqrt(head width), before its output projection."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query, self.key, self.value = (
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            split(self.query(x)),
            split(self.key(x)),
            split(self.value(x)),
            attn_mask=attend,
            dropout_p=dropout,
        )
        return y.transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """LN(x + dropout(W y)): how each half of a block ends (post-norm)."""

    def __init__(self, n_in: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(n_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(y)))


class Block(nn.Module):
    """One transformer layer."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Residual(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Residual(inner, config)
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor, attend: Tensor | None) -> Tensor:
        x = self.attention["output"](x, self.attention["self"](x, attend))
        return self.output(x, self.act(self.intermediate["dense"](x)))


class PredictionHead(nn.Module):
    """Masked-gene logits: LN(act(W x)) against the word embeddings, which it shares, plus a bias."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm})
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.act = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor, word: Tensor) -> Tensor:
        x = self.transform["LayerNorm"](self.act(self.transform["dense"](x)))
        return F.linear(x, word, self.bias)


class MaskedGeneModel(nn.Module):
    """The whole network; without `head` it has no masked-gene prediction (fine-tuned checkpoints)."""

    def __init__(self, config: BertConfig, head: bool = True):
        super().__init__()
        self.config = config
        layers = nn.ModuleList([Block(config) for _ in range(config.num_hidden_layers)])
        encoder = nn.ModuleDict({"layer": layers})
        self.bert = nn.ModuleDict({"embeddings": Embeddings(config), "encoder": encoder})
        self.cls = nn.ModuleDict({"predictions": PredictionHead(config)}) if head else None

    @classmethod
    def empty(cls, config: BertConfig, head: bool = True) -> Self:
        """In eval mode, parameters frozen and uninitialised; nothing is drawn from a random generator."""
        return empty(lambda: cls(config, head)).eval().requires_grad_(False)

    @property
    def word(self) -> Tensor:
        """Word embeddings, (vocabulary, width): the static gene table, and the prediction head's output."""
        return self.bert["embeddings"].word_embeddings.weight

    @torch.no_grad()
    def initialise(self, seed: int) -> Self:
        """BERT's initialisation, drawn from `seed`: N(0, initializer_range), biases 0, norms the identity."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "LayerNorm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)
        self.word[self.config.pad_token_id] = 0
        return self

    def forward(self, ids: Tensor, mask: Tensor, n_layers: int | None = None) -> Tensor:
        """Hidden states after `n_layers` layers (default: all; 0: the embeddings).

        Parameters
        ----------
        ids
            int64 (n, L), at most `max_position_embeddings` long.
        mask
            bool (n, L), True where a token is real.

        Returns
        -------
        (n, L, width), without meaning where the mask is False.
        """
        if ids.shape[1] > self.config.max_position_embeddings:
            raise InputError(
                f"{ids.shape[1]} tokens in a cell; this Geneformer reads {self.config.max_position_embeddings}"
            )
        attend = None
        if not bool(mask.all()):
            # A row without a token attends everywhere: its softmax stays defined, and nobody reads it.
            attend = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
        x = self.bert["embeddings"](ids)
        for layer in self.bert["encoder"]["layer"][:n_layers]:
            x = layer(x, attend)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Masked-gene logits (..., vocabulary) of last-layer states (..., width)."""
        return self.cls["predictions"](hidden, self.word)
