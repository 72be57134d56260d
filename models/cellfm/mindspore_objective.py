"""CellFM's pretraining objective and one training step, in MindSpore: the numbers of `objective.py`."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from models.cellfm.mindspore_network import CellFMNetwork


class MaskedLoss(nn.Cell):
    """The loss for given masks, and the terms it is the sum of.

    Terms are `gene` and `cell`; with the `add_zero` heads and `pad_zero` False also `zero_gene` and `zero_cell`.
    Arguments and meaning as in `objective.masked_losses`, but each term is a mean over the counted genes.
    """

    def __init__(self, network: CellFMNetwork, pad_zero: bool = True):
        super().__init__(auto_prefix=False)
        self.network, self.pad_zero = network, pad_zero
        self.add_zero = network.config.add_zero and not pad_zero

    def construct(self, ids, values, mask, visible, counted, targets):
        cell, genes = self.network.encode(ids, values, mask, visible, self.pad_zero)
        weight = ops.cast(counted, ms.float32)
        count = ops.sum(weight)
        terms = ()
        for predicted in self.network.decode(cell, genes, ids):
            terms = (*terms, ops.sum(ops.square(predicted - targets) * weight) / count)
        if self.add_zero:
            expressed = ops.cast(mask, ms.float32)
            for chance in self.network.decode_expressed(cell, genes, ids):
                terms = (*terms, ops.binary_cross_entropy(chance, expressed, reduction="sum") / count)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
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
