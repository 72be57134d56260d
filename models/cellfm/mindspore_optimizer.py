"""AdamW and Adam in the form of PyTorch, in MindSpore.

MindSpore's own Adam adds epsilon to √v before the bias correction, PyTorch after it, and MindSpore's AdamWeightDecay
corrects nothing. `ops.Adam` steps by l · m / (√v + e): with l = rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ), e = epsilon · √(1 − β₂ᵗ)
and no correction of its own that is PyTorch's step.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from harness.recipe import Recipe

#: Keeps the division finite where clipping meets a gradient of zero; PyTorch's.
NORM_FLOOR = 1e-6


class Optimizer(nn.Cell):
    """(rates, gradients) -> one step.

    Parameters
    ----------
    parameters
        To be trained.
    recipe
        Optimiser, weight decay and clipping.
    together
        Whether gradients are summed over the processes of MindSpore's world group first.
    """

    def __init__(self, parameters: Sequence[ms.Parameter], recipe: Recipe, together: bool = False):
        super().__init__(auto_prefix=False)
        self.trained = ParameterTuple(parameters)
        self.first, self.second = (
            ParameterTuple(
                [
                    ms.Parameter(Tensor(np.zeros(p.shape, np.float32)), name=f"{moment}.{p.name}", requires_grad=False)
                    for p in parameters
                ]
            )
            for moment in ("moment1", "moment2")
        )
        self.betas, self.epsilon, self.decay = recipe.betas, recipe.epsilon, recipe.weight_decay
        self.decoupled, self.clip, self.each = recipe.optimizer == "adamw", recipe.clip, recipe.clip_by == "tensor"
        self.adam = ops.Adam()
        self.together, self.sum_over_processes = together, ops.AllReduce() if together else None

    def rates(self, learning_rate: float, step: int, scale: float) -> Tensor:
        """What `construct` needs besides the gradients.

        Parameters
        ----------
        step
            Of this update, from 1.
        scale
            What the gradients are multiplied with.
        """
        first, second = (1 - beta**step for beta in self.betas)
        kept = 1 - learning_rate * self.decay if self.decoupled else 1.0
        numbers = [scale, learning_rate * second**0.5 / first, self.epsilon * second**0.5, kept]
        return Tensor(np.array(numbers, np.float32))

    def construct(self, rates, *gradients):
        scaled, total = (), ops.zeros((), ms.float32)
        for gradient in gradients:
            if self.together:
                gradient = self.sum_over_processes(gradient * rates[0])
            else:
                gradient = gradient * rates[0]
            scaled = (*scaled, gradient)
            total = total + ops.sum(ops.square(gradient))
        for i in range(len(self.trained)):
            gradient, parameter = scaled[i], self.trained[i]
            if self.clip:
                squares = ops.sum(ops.square(gradient)) if self.each else total
                gradient = gradient * ops.minimum(self.clip / (ops.sqrt(squares) + NORM_FLOOR), 1.0)
            if self.decay and self.decoupled:
                ops.assign(parameter, parameter * rates[3])
            elif self.decay:
                gradient = gradient + self.decay * parameter
            moments = self.first[i], self.second[i]
            self.adam(parameter, *moments, 0.0, 0.0, rates[1], self.betas[0], self.betas[1], rates[2], gradient)
        return total
