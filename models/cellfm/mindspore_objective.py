"""CellFM's pretraining objective and one training step, in MindSpore: the numbers of `objective.py`."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from models.cellfm.mindspore_network import CellFMNetwork


class Predictions(nn.Cell):
    """(ids, values, mask, visible) -> cell, genes, and the values predicted from each."""

    def __init__(self, network: CellFMNetwork, pad_zero: bool = True):
        super().__init__(auto_prefix=False)
        self.network, self.pad_zero = network, pad_zero

    def construct(self, ids, values, mask, visible):
        cell, genes = self.network.encode(ids, values, mask, visible, self.pad_zero)
        by_gene, by_cell = self.network.decode(cell, genes, ids)
        return cell, genes, by_gene, by_cell


class PredictionErrors(nn.Cell):
    """Sums of errors over the counted genes, from encoded cells: `objective.prediction_losses` without the counts.

    A tuple: by gene, by cell; with the `add_zero` heads and `pad_zero` False also their two cross entropies.
    """

    def __init__(self, network: CellFMNetwork, pad_zero: bool = True):
        super().__init__(auto_prefix=False)
        self.network = network
        self.add_zero = network.config.add_zero and not pad_zero

    def construct(self, cell, genes, ids, mask, counted, targets):
        weight = ops.cast(counted, ms.float32)
        sums = ()
        for predicted in self.network.decode(cell, genes, ids):
            sums = (*sums, ops.sum(ops.square(predicted - targets) * weight))
        if self.add_zero:
            expressed = ops.cast(mask, ms.float32)
            for chance in self.network.decode_expressed(cell, genes, ids):
                sums = (*sums, ops.binary_cross_entropy(chance, expressed, reduction="sum"))
        return sums


class MaskedLoss(nn.Cell):
    """The loss for given masks, and the terms it is the sum of.

    Terms are `gene` and `cell`; with the `add_zero` heads and `pad_zero` False also `zero_gene` and `zero_cell`.
    Arguments and meaning as in `objective.masked_losses`, but each term is a mean over the counted genes.
    """

    def __init__(self, network: CellFMNetwork, pad_zero: bool = True):
        super().__init__(auto_prefix=False)
        self.network, self.pad_zero = network, pad_zero
        self.errors = PredictionErrors(network, pad_zero)

    def construct(self, ids, values, mask, visible, counted, targets):
        cell, genes = self.network.encode(ids, values, mask, visible, self.pad_zero)
        count = ops.sum(ops.cast(counted, ms.float32))
        total, terms = 0.0, ()
        for errors in self.errors(cell, genes, ids, mask, counted, targets):
            total, terms = total + errors / count, (*terms, errors / count)
        return total, terms


class TrainingStep(nn.Cell):
    """One optimiser step on a batch; gives the loss before it.

    Parameters
    ----------
    loss
        Says which arguments a batch has.
    optimizer
        A MindSpore optimiser over `trainable_params()` of the network.
    """

    def __init__(self, loss: MaskedLoss, optimizer: nn.Optimizer):
        super().__init__(auto_prefix=False)
        self.loss, self.optimizer = loss, optimizer
        self.value_and_grad = ms.value_and_grad(loss, None, optimizer.parameters, has_aux=True)

    def construct(self, ids, values, mask, visible, counted, targets):
        (loss, _), gradients = self.value_and_grad(ids, values, mask, visible, counted, targets)
        return ops.depend(loss, self.optimizer(gradients))
