"""How a network is trained: optimiser, schedule, clipping, and what is saved in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import InputError

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Recipe(BaseModel):
    """The settings of a training, as in `conf/training`.

    Parameters
    ----------
    learning_rate
        Its highest value.
    optimizer
        `adamw` (decoupled weight decay) or `adam` (decay as L2 in the gradient).
    betas, epsilon, weight_decay
        Of the optimiser.
    warm_up
        Share of the budget in which the learning rate rises linearly.
    schedule
        Afterwards: `cosine` decay to zero, or `constant`.
    clip, clip_by
        Largest norm of the gradient, of `all` parameters together or of each `tensor`; 0: not clipped.
    accumulate
        Parts a batch is computed in, one after the other; the step is that of the whole batch.
    recompute
        Keep no activation inside a layer; compute them again for the gradient (activation checkpointing).
    shard
        With several processes: each holds a part of the network (FSDP) and not all of it (DDP).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    learning_rate: Positive = 1e-3
    optimizer: Literal["adamw", "adam"] = "adamw"
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 1e-5
    warm_up: Share = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: NotNegative = 1.0
    clip_by: Literal["all", "tensor"] = "all"
    accumulate: Annotated[int, Field(ge=1)] = 1
    recompute: bool = False
    shard: bool = False

    @classmethod
    def of(cls, node: Mapping[str, Any], **defaults: Any) -> Self:
        """From the `training` node of a config; `defaults` stand where the node has null or nothing.

        Raises
        ------
        InputError
            An unknown key, or a value that cannot be.
        """
        given = {key: value for key, value in node.items() if key != "name" and value is not None}
        settings = {**defaults, **given}
        if isinstance(settings.get("betas"), list):
            settings["betas"] = tuple(settings["betas"])
        try:
            return cls(**settings)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                raise InputError(f"training has no {key}; it has {', '.join(cls.model_fields)}") from None
            raise InputError(f"training.{key}={first['input']}: {first['msg'].lower()}") from None

    def rate_at(self, done: float) -> float:
        """Learning rate when a share `done` of the budget is spent; it begins at a twentieth."""
        if self.warm_up and done < self.warm_up:
            return self.learning_rate * max(done / self.warm_up, 1 / 20)
        if self.schedule == "constant":
            return self.learning_rate
        spent = min(1.0, (done - self.warm_up) / (1 - self.warm_up))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * spent))
