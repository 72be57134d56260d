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
from models.cellfm.mindspore_gradients import Added, Gradients, LayerwiseGradients, dropout_of
from models.cellfm.mindspore_network import CellFMNetwork
from models.cellfm.mindspore_optimizer import Optimizer
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
        trained = self._trained = self.network.in_mindspore()
        parameters = self._parameters = trained.trainable_params()
        gradients = LayerwiseGradients if self.recipe.recompute else Gradients
        self._gradients = gradients(trained, parameters)
        self._added = Added()
        self._optimizer = Optimizer(parameters, self.recipe, together=self.ranks.world > 1)
        self._steps = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.network.take(_tensors(self._parameters))
        del self._trained, self._parameters, self._gradients, self._optimizer

    def step(self, batch: TokenBatch, generator: Any, learning_rate: float, *, weight: float = 1.0) -> float:
        """See `harness.learner.Learner.step`."""
        visible, counted = (mask.numpy() for mask in draw_masks(batch, generator))
        errors, gradients = 0.0, ()
        parts = np.array_split(np.arange(len(batch)), max(1, min(self.recipe.accumulate, len(batch))))
        for number, rows in enumerate(parts):
            found, more = self._part(batch, visible, counted, rows, number)
            errors += found
            gradients = self._added(*gradients, *more) if gradients else more
        own = {"errors": errors * weight, "count": float(counted.sum()) * weight}
        total = self.ranks.sums(own, self.network.device)
        value = total["errors"] / max(total["count"], 1.0)
        if not np.isfinite(value):
            raise InternalError(f"cellfm: the loss became {value}")
        self._steps += 1
        scale = weight / max(total["count"], 1.0)
        self._optimizer(self._optimizer.rates(learning_rate, self._steps, scale), *gradients)
        return value

    def _part(
        self, batch: TokenBatch, visible: np.ndarray, counted: np.ndarray, rows: np.ndarray, number: int
    ) -> tuple[float, tuple[Any, ...]]:
        """Sum of errors, and its gradients, of some cells."""
        part = batch.take(rows)
        ids = np.asarray(part.gene_ids, np.int32)
        genes = slice(ids.shape[1])
        arrays = [ids, np.asarray(part.values, np.float32), np.asarray(part.mask, bool)]
        arrays += [visible[rows, genes], counted[rows, genes]]
        arrays += dropout_of(self.network.config, *ids.shape, (self.seed, self.ranks.rank, self._steps, number))
        errors, gradients = self._gradients(*(ms.Tensor(np.ascontiguousarray(array)) for array in arrays))
        return float(errors), gradients

    def state(self) -> dict[str, Any]:
        """See `harness.learner.Learner.state`; moments under MindSpore's own names."""
        moments = [*self._optimizer.first, *self._optimizer.second]
        return {"network": _tensors(self._parameters), "moments": _tensors(moments), "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """See `harness.learner.Learner.restore`."""
        moments = [*self._optimizer.first, *self._optimizer.second]
        for parameters, kept in ((self._parameters, state["network"]), (moments, state["moments"])):
            for parameter in parameters:
                parameter.set_data(ms.Tensor(kept[parameter.name].numpy()))
        self._steps = state["steps"]


def _tensors(parameters: list[ms.Parameter]) -> dict[str, torch.Tensor]:
    return {parameter.name: torch.from_numpy(parameter.asnumpy().copy()) for parameter in parameters}
