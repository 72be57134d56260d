"""AdamW and Adam in the form of PyTorch, in MindSpore.

(MindSpore's own Adam adds epsilon to √v before the bias correction, PyTorch after it; its AdamWeightDecay corrects
nothing.) Each parameter is updated by a graph of its own, compiled once for all of as many dimensions: one graph over
hundreds of parameters takes minutes to compile, and holds several times their memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from harness.recipe import Recipe

#: Keeps the division finite where clipping meets a gradient of zero; PyTorch's.
NORM_FLOOR = 1e-6


class ByRank:
    """A cell over tensors of one shape, whichever: a graph for each number of dimensions.

    Parameters
    ----------
    make
        Gives the cell; it takes the tensors, and then a vector of numbers.
    """

    def __init__(self, make: Callable[[], nn.Cell]):
        self._make = make
        self._cells: dict[int, nn.Cell] = {}

    def __call__(self, *tensors: Tensor, numbers: Sequence[float] = ()):
        """What the cell gives; all in float32."""
        vector = Tensor(np.array([*numbers, 0], np.float32))
        rank = tensors[0].ndim
        if rank not in self._cells:
            cell = self._cells[rank] = self._make()
            cell.set_inputs(*(Tensor(shape=[None] * rank, dtype=ms.float32) for _ in tensors), vector)
        return self._cells[rank](*tensors, vector)


class Sum(nn.Cell):
    """Of two tensors."""

    def construct(self, one, other, _):
        return one + other


class SumOverProcesses(nn.Cell):
    """Of a tensor, in MindSpore's world group."""

    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()

    def construct(self, tensor, _):
        return self.all_reduce(tensor)


class _Scaled(nn.Cell):
    """(gradient, its factor) -> the gradient to use, summed over processes, and its sum of squares."""

    def __init__(self, together: bool):
        super().__init__()
        self.together, self.sum_over_processes = together, ops.AllReduce() if together else None

    def construct(self, gradient, numbers):
        gradient = gradient * numbers[0]
        if self.together:
            gradient = self.sum_over_processes(gradient)
        return gradient, ops.sum(ops.square(gradient))


class _Update(nn.Cell):
    """(parameter, first moment, second moment, gradient, numbers) -> the first three after a step."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        (self.beta1, self.beta2), self.epsilon, self.decay = recipe.betas, recipe.epsilon, recipe.weight_decay
        self.decoupled = recipe.optimizer == "adamw"

    def construct(self, parameter, first, second, gradient, numbers):
        clip, rate, root, kept = numbers[0], numbers[1], numbers[2], numbers[3]
        gradient = gradient * clip
        if self.decoupled:
            parameter = parameter * kept
        else:
            gradient = gradient + self.decay * parameter
        first = self.beta1 * first + (1 - self.beta1) * gradient
        second = self.beta2 * second + (1 - self.beta2) * ops.square(gradient)
        return parameter - rate * first / (ops.sqrt(second) / root + self.epsilon), first, second


class Optimizer:
    """One step at a time over some parameters.

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
        self.parameters, self.recipe = parameters, recipe
        self.first, self.second = ([Tensor(np.zeros(p.shape, np.float32)) for p in parameters] for _ in range(2))
        self.steps = 0
        self._scaled, self._update = ByRank(lambda: _Scaled(together)), ByRank(lambda: _Update(recipe))

    def step(self, gradients: Sequence[Tensor], learning_rate: float, scale: float = 1.0) -> None:
        """Update every parameter.

        Parameters
        ----------
        gradients
            One for each parameter; multiplied with `scale` first.
        learning_rate
            Of this step.
        """
        self.steps += 1
        scaled = [self._scaled(gradient, numbers=[scale]) for gradient in gradients]
        squares = np.array([float(square) for _, square in scaled])
        norms = np.sqrt(squares if self.recipe.clip_by == "tensor" else np.full(len(squares), squares.sum()))
        clips = np.minimum(self.recipe.clip / (norms + NORM_FLOOR), 1) if self.recipe.clip else np.ones(len(squares))
        beta1, beta2 = self.recipe.betas
        rate, root = learning_rate / (1 - beta1**self.steps), (1 - beta2**self.steps) ** 0.5
        kept = 1 - learning_rate * self.recipe.weight_decay
        for i, parameter in enumerate(self.parameters):
            state = parameter.value(), self.first[i], self.second[i], scaled[i][0]
            updated, self.first[i], self.second[i] = self._update(*state, numbers=[clips[i], rate, root, kept])
            parameter.set_data(updated)
