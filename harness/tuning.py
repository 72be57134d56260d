"""The settings of a fine-tuning, as in `conf/finetune`; what trains by them is `harness.finetuning`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from harness.errors import InputError
from harness.recipe import Recipe

#: What of the network is trained.
SETTINGS = ("frozen", "lora", "full")
#: What reads the network, trained with it.
HEADS = {
    "mlp": "one hidden layer of 128, GELU, dropout 0.1 on the standardised cell vector: the same for every model",
    "linear": "one linear layer on the standardised cell vector",
    "native": "the classifier the model's authors made for it, where there is one",
}
#: Learning rate where none is given: what CellFM's authors use for all weights, and ten times as much for low-rank
#: matrices, which begin at zero and stand few in number.
LEARNING_RATES = {"lora": 1e-3, "full": 1e-4}
#: Fewer optimiser steps are a smoke test, marked so and not ranked.
FEWEST_STEPS = 200
#: Raise it when the loop changes a number.
VERSION = "1"


@dataclass(frozen=True)
class Tuning:
    """How a network is fine-tuned.

    Parameters
    ----------
    setting
        `lora` (low-rank additions, norms and head) or `full` (everything).
    recipe
        Learning rate, optimiser, schedule, clipping, accumulation.
    head
        Of `HEADS`.
    head_learning_rate
        Its own, since it begins at nothing; it follows the same schedule.
    dropout
        The network's own, while it is trained. Off by default: with it two small networks learned less by LoRA in a
        trial on pbmc68k, seed 0 (whose numbers are therefore a little flattered); validation says when to stop.
    batch_cells
        Cells per optimiser step.
    epochs
        Passes over the training cells, and at least `FEWEST_STEPS` steps.
    max_steps
        Optimiser steps, in the place of `epochs`.
    patience
        Stop after so many epochs without a lower validation loss, though not before `FEWEST_STEPS`; None: never.
    validation
        Share of the training cells that is kept for that, stratified.
    lora_rank
        Rows of A.
    train_norms
        With `lora`: norms are trained too (CellFM paper; the authors' code freezes them).
    """

    setting: str
    recipe: Recipe
    head: str = "mlp"
    head_learning_rate: float = 3e-3
    dropout: bool = False
    batch_cells: int = 32
    epochs: int = 10
    max_steps: int | None = None
    patience: int | None = 3
    validation: float = 0.1
    lora_rank: int = 16
    train_norms: bool = True

    @classmethod
    def of(cls, node: Mapping[str, Any], setting: str) -> Self:
        """From the `finetune` node of a config.

        Raises
        ------
        InputError
            An unknown key, or a value that cannot be.
        """
        own = {key: node[key] for key in cls.__dataclass_fields__ if key in node and key not in ("setting", "recipe")}
        rest = {key: value for key, value in node.items() if key not in own}
        try:
            recipe = Recipe.of(rest, learning_rate=LEARNING_RATES[setting])
        except InputError as error:
            raise InputError(str(error).replace("training", "finetune", 1)) from None
        return cls(setting, recipe, **own)

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"finetune.head={self.head}: expected {', '.join(HEADS)}")
        for name, optional in (
            ("batch_cells", False),
            ("epochs", False),
            ("lora_rank", False),
            ("max_steps", True),
            ("patience", True),
        ):
            value = getattr(self, name)
            if not (type(value) is int and value >= 1) and not (optional and value is None):
                raise InputError(f"finetune.{name}={value}: expected a whole number from 1{' or null' * optional}")
        if type(self.validation) not in (int, float) or not 0 <= self.validation < 1:
            raise InputError(f"finetune.validation={self.validation}: expected a share from 0 to under 1")
        for name in ("train_norms", "dropout"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"finetune.{name}={getattr(self, name)}: expected true or false")
        if type(self.head_learning_rate) not in (int, float) or not self.head_learning_rate > 0:
            raise InputError(f"finetune.head_learning_rate={self.head_learning_rate}: expected a number above zero")

    def steps(self, n_cells: int) -> int:
        """Optimiser steps that `n_cells` training cells are given."""
        return self.max_steps or max(self.epochs * -(-n_cells // self.batch_cells), FEWEST_STEPS)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything of it that can change a number."""
        return {"version": VERSION, **asdict(self)}
