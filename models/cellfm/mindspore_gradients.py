"""Gradients of the pretraining objective in MindSpore: of the whole network at once, or layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from models.cellfm.config import CellFMConfig
from models.cellfm.mindspore_network import CellFMNetwork, Layer
from models.cellfm.mindspore_objective import PredictionErrors
from models.cellfm.mindspore_optimizer import ByRank, Sum

#: A batch: ids, values, mask, visible, counted. Any number of cells and genes go through one graph.
BATCH = (ms.int32, ms.float32, ms.bool_, ms.bool_, ms.bool_)


def dropout_of(config: CellFMConfig, cells: int, genes: int, key: Sequence[int]) -> tuple[np.ndarray, ...]:
    """What `mindspore_network.Dropout` is given, stacked over layers; nothing where the rate is zero.

    Parameters
    ----------
    key
        Whole numbers, of which the draws are a function.

    Returns
    -------
    int32 (layers, cells, 1 + genes), int32 (layers,), float32 (layers,).
    """
    if not config.dropout:
        return ()
    rates = config.dropout * np.arange(config.layers) / config.layers
    noise = np.random.default_rng(list(key)).integers(
        -(2**31), 2**31, (config.layers, cells, 1 + genes), dtype=np.int32
    )
    lowest = np.round(-(2.0**31) + rates * 2.0**32).astype(np.int32)
    return noise, lowest, (1 / (1 - rates)).astype(np.float32)


def _any(kind: Any, dims: int) -> Tensor:
    return Tensor(shape=[None] * dims, dtype=kind) if dims else Tensor(0, kind)


def _sequence(config: CellFMConfig) -> Tensor:
    return Tensor(shape=[None, None, config.width], dtype=ms.float32)


def _sum(terms: tuple[Tensor, ...]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class Errors(nn.Cell):
    """(batch, dropout) -> sums of errors, by gene and by cell."""

    def __init__(self, network: CellFMNetwork):
        super().__init__(auto_prefix=False)
        self.network, self.errors = network, PredictionErrors(network)

    @classmethod
    def to_be_called(cls, network: CellFMNetwork) -> Self:
        """For batches of any shape, without dropout."""
        cell = cls(network)
        cell.set_inputs(*(_any(kind, 2) for kind in BATCH))
        return cell

    def construct(self, ids, values, mask, visible, counted, noise=None, lowest=None, scale=None):
        drop = None if noise is None else (noise, lowest, scale)
        cell, genes = self.network.encode(ids, values, mask, visible, True, drop)
        return self.errors(cell, genes, ids, mask, counted, values)


class Gradients(nn.Cell):
    """(batch, dropout) -> the sum of errors and its gradient for each parameter, by one graph.

    Parameters
    ----------
    network
        With its parameters set.
    parameters
        Those whose gradients are wanted, in this order.
    """

    def __init__(self, network: CellFMNetwork, parameters: Sequence[ms.Parameter]):
        super().__init__(auto_prefix=False)
        self.errors = Errors(network)
        self.value_and_grad = ms.value_and_grad(self.sum, None, ParameterTuple(parameters))
        drop = (_any(ms.int32, 3), _any(ms.int32, 1), _any(ms.float32, 1)) if network.config.dropout else ()
        self.set_inputs(*(_any(kind, 2) for kind in BATCH), *drop)

    def sum(self, *batch):
        return _sum(self.errors(*batch))

    def construct(self, *batch):
        return self.value_and_grad(*batch)


class _Entry(nn.Cell):
    """A batch -> what enters the first layer."""

    def __init__(self, network: CellFMNetwork):
        super().__init__(auto_prefix=False)
        self.network = network
        self.set_inputs(*(_any(kind, 2) for kind in BATCH[:4]))

    def construct(self, ids, values, mask, visible):
        return self.network.hidden_tokens(ids, values, mask, visible)[0]


class _Head(nn.Cell):
    """What leaves the last layer -> the sum of errors, and its gradients by input and parameters."""

    def __init__(self, network: CellFMNetwork, parameters: Sequence[ms.Parameter]):
        super().__init__(auto_prefix=False)
        self.errors = PredictionErrors(network)
        self.value_and_grad = ms.value_and_grad(self.sum, 0, ParameterTuple(parameters))
        ids, values, mask, _, counted = (_any(kind, 2) for kind in BATCH)
        self.set_inputs(_sequence(network.config), ids, values, mask, counted)

    def sum(self, x, ids, values, mask, counted):
        return _sum(self.errors(x[:, 0], x[:, 1:], ids, mask, counted, values))

    def construct(self, *inputs):
        return self.value_and_grad(*inputs)


class _Backward(nn.Cell):
    """(gradient by a cell's output, its inputs) -> gradients by the input at `position`, if any, and by parameters."""

    def __init__(self, cell: nn.Cell, parameters: Sequence[ms.Parameter], position: int | None, *inputs: Tensor):
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.gradient = ms.grad(self.along, position, ParameterTuple(parameters))
        self.set_inputs(*inputs)

    def along(self, *inputs):
        """The product with the output: its gradient is what is wanted. (A seed of any shape is not accepted.)"""
        return ops.sum(self.cell(*inputs[1:]) * inputs[0])

    def construct(self, *inputs):
        return self.gradient(*inputs)


class LayerwiseGradients:
    """The same as `Gradients`, layer by layer: what is inside a layer is computed again for its gradient.

    MindSpore (on CPU) keeps what a graph computes until its end, `Cell.recompute` or not. Here only what goes into each
    layer is kept; and one layer is compiled, for all of them, however many there are.
    """

    def __init__(self, network: CellFMNetwork, parameters: Sequence[ms.Parameter]):
        config = network.config
        self._order = [parameter.name for parameter in parameters]
        self._layers = [list(layer.get_parameters()) for layer in network.encoder]
        inside = {parameter.name for layer in self._layers for parameter in layer}
        outside = [parameter for parameter in parameters if parameter.name not in inside]
        entry = [p for p in outside if not p.name.startswith(("value_dec.", "cellwise_dec."))]
        head = [p for p in outside if not p.name.startswith(("value_enc.", "cls_token"))]
        self._names = [p.name for p in entry], [p.name for p in head]

        sequence, drop = _sequence(config), (_any(ms.int32, 2), _any(ms.int32, 0), _any(ms.float32, 0))
        inputs = (sequence, _any(ms.float32, 2), *(drop if config.dropout else ()))
        self._entry, self._layer = _Entry(network), Layer(config)
        self._lent = list(self._layer.get_parameters())
        self._layer.set_inputs(*inputs)
        self._head = _Head(network, head)
        self._layer_back = _Backward(self._layer, self._lent, 1, sequence, *inputs)
        self._entry_back = _Backward(self._entry, entry, None, sequence, *(_any(kind, 2) for kind in BATCH[:4]))
        self._sum = ByRank(Sum)

    def __call__(self, ids: Tensor, values: Tensor, mask: Tensor, visible: Tensor, counted: Tensor, *drop: Tensor):
        """See `Gradients`."""
        present, read = mask.asnumpy(), visible.asnumpy()
        first, second = (
            Tensor(np.pad(m.astype(np.float32), ((0, 0), (1, 0)), constant_values=1)) for m in (present & read, present)
        )
        half = len(self._layers) // 2
        drops = [[Tensor(part[i]) for part in map(Tensor.asnumpy, drop)] for i in range(len(self._layers))]
        given = [(first if i < half else second, *drops[i]) for i in range(len(self._layers))]
        x = [self._entry(ids, values, mask, visible)]
        for layer, inputs in zip(self._layers, given, strict=True):
            self._lend(layer)
            x.append(self._layer(x[-1], *inputs))
        total, (back, by_head) = self._head(x.pop(), ids, values, mask, counted)
        found: dict[str, Tensor] = dict(zip(self._names[1], by_head, strict=True))
        for layer, inputs in zip(reversed(self._layers), reversed(given), strict=True):
            self._lend(layer)
            back, gradients = self._layer_back(back, x.pop(), *inputs)
            found |= {parameter.name: gradient for parameter, gradient in zip(layer, gradients, strict=True)}
        by_entry = self._entry_back(back, ids, values, mask, visible)
        for name, gradient in zip(self._names[0], by_entry, strict=True):
            # Genes are read on the way in and by the head.
            found[name] = self._sum(found[name], gradient) if name in found else gradient
        return total, tuple(found[name] for name in self._order)

    def _lend(self, layer: list[ms.Parameter]) -> None:
        for lent, parameter in zip(self._lent, layer, strict=True):
            lent.set_data(parameter)
