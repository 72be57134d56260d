"""What computes a training step: the pretraining loop knows nothing of frameworks and devices.

`harness.torch_learner` is the one for every torch network. A model whose network another framework computes brings its
own, by `ModelAdapter.learner`.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

from harness.tokens import TokenBatch


class Learner(Protocol):
    """A network in training, with its optimiser. Used as a context; outside of it the network is as it was: in eval
    mode, no parameter wanting a gradient, and the trained weights in the model.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def step(self, batch: TokenBatch, generator: Any, learning_rate: float, *, weight: float = 1.0) -> float:
        """One optimiser step; the loss before it.

        Parameters
        ----------
        batch
            This process' cells of the batch.
        generator
            torch generator on the CPU, in the same state in all processes; the masks are drawn from it, and it is left
            as one call of `ModelAdapter.pretraining_loss` leaves it.
        weight
            0 where this process has no cell and `batch` only keeps it company.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly so: tensors, numbers and names, which `torch.save` writes. In several
        processes all must call it; the first one's is complete.
        """
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        ...
