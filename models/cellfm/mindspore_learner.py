"""Training of CellFM by MindSpore, as the engine's loop wants it (`harness.learner.Learner`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import mindspore as ms
import numpy as np
import torch

from harness.errors import InputError, InternalError
from harness.ranks import Ranks
from harness.recipe import Recipe
from harness.tokens import TokenBatch
from models.cellfm.mindspore_gradients import Gradients, LayerwiseGradients, dropout_of
from models.cellfm.mindspore_optimizer import ByRank, Optimizer, Sum
from models.cellfm.objective import draw_masks

if TYPE_CHECKING:
    from models.cellfm.mindspore_backend import MindSporeNetwork


class MindSporeLearner:
    """Steps of the whole network, equal to those of `harness.torch_learner.TorchLearner` within rounding.

    Masks are drawn as in PyTorch. Dropout is drawn from seed, process and step: other numbers than PyTorch's, the same
    ones in a resumed training.

    Parameters
    ----------
    network
        Its weights are trained, and are its own again at the end.
    recipe, seed, ranks
        As for `TorchLearner`.

    Raises
    ------
    InputError
        `recipe.shard`: there is no sharding here.
    """

    def __init__(self, network: MindSporeNetwork, recipe: Recipe, seed: int = 0, ranks: Ranks | None = None):
        if recipe.shard:
            raise InputError("training.shard=true: model.backend=mindspore trains whole copies; use backend=torch")
        self.network, self.recipe, self.seed, self.ranks = network, recipe, seed, ranks or Ranks()

    def __enter__(self) -> Self:
        network = self.network.in_mindspore()
        parameters = network.trainable_params()
        self._gradients = (LayerwiseGradients if self.recipe.recompute else Gradients)(network, parameters)
        self._sum = ByRank(Sum)
        self._optimizer = Optimizer(parameters, self.recipe, together=self.ranks.world > 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.network.take(self.state()["network"])
        del self._gradients, self._sum, self._optimizer

    def step(self, batch: TokenBatch, generator: Any, learning_rate: float, *, weight: float = 1.0) -> float:
        """See `harness.learner.Learner.step`."""
        visible, counted = (mask.numpy() for mask in draw_masks(batch, generator))
        errors, gradients = 0.0, []
        parts = np.array_split(np.arange(len(batch)), max(1, min(self.recipe.accumulate, len(batch))))
        for number, rows in enumerate(parts):
            found, more = self._part(batch, visible, counted, rows, number)
            errors += found
            gradients = [self._sum(*both) for both in zip(gradients, more, strict=True)] if gradients else more
        own = {"errors": errors * weight, "count": float(counted.sum()) * weight}
        total = self.ranks.sums(own, self.network.device)
        value = total["errors"] / max(total["count"], 1.0)
        if not np.isfinite(value):
            raise InternalError(f"cellfm: the loss became {value}")
        self._optimizer.step(gradients, learning_rate, scale=weight / max(total["count"], 1.0))
        return value

    def _part(
        self, batch: TokenBatch, visible: np.ndarray, counted: np.ndarray, rows: np.ndarray, number: int
    ) -> tuple[float, list[Any]]:
        """Sum of errors, and its gradients, of some cells."""
        part = batch.take(rows)
        ids = np.asarray(part.gene_ids, np.int32)
        genes = slice(ids.shape[1])
        arrays = [ids, np.asarray(part.values, np.float32), np.asarray(part.mask, bool)]
        arrays += [visible[rows, genes], counted[rows, genes]]
        arrays += dropout_of(
            self.network.config, *ids.shape, (self.seed, self.ranks.rank, self._optimizer.steps, number)
        )
        errors, gradients = self._gradients(*(ms.Tensor(np.ascontiguousarray(array)) for array in arrays))
        return float(errors), list(gradients)

    def state(self) -> dict[str, Any]:
        """See `harness.learner.Learner.state`."""
        optimizer = self._optimizer
        names = [parameter.name for parameter in optimizer.parameters]
        parts = {"network": optimizer.parameters, "first": optimizer.first, "second": optimizer.second}
        kept: dict[str, Any] = {
            part: {name: torch.from_numpy(t.asnumpy().copy()) for name, t in zip(names, tensors, strict=True)}
            for part, tensors in parts.items()
        }
        return kept | {"steps": optimizer.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """See `harness.learner.Learner.restore`."""
        optimizer = self._optimizer
        for i, parameter in enumerate(optimizer.parameters):
            weights, first, second = (
                ms.Tensor(state[p][parameter.name].numpy()) for p in ("network", "first", "second")
            )
            parameter.set_data(weights)
            optimizer.first[i], optimizer.second[i] = first, second
        optimizer.steps = state["steps"]
