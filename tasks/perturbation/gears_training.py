"""Training GEARS: pairs of a control and a perturbed cell, its loss, and the epoch chosen on validation conditions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from harness.errors import InternalError
from harness.progress import track
from tasks.perturbation.gears_network import GearsNetwork

#: The published exponent of the error is 2 + GAMMA.
GAMMA = 2
#: Weights kept small, gradients kept in bounds value by value, the learning rate halved each epoch.
WEIGHT_DECAY, CLIP, DECAY = 5e-4, 1.0, 0.5

#: Control cells (places among the controls, int (B,)) -> grafted gene vectors (1 or B, G, d), or None without a graft.
VectorsOf = Callable[[np.ndarray], "torch.Tensor | None"]


@dataclass(frozen=True)
class Pairs:
    """Training examples: what a control cell becomes.

    Parameters
    ----------
    values
        Log-normalised expression, CSR float32 (n, G).
    basal, target
        Rows of `values`, (m,); an unperturbed cell is its own control.
    control
        Place of each basal cell among the control cells, (m,).
    code
        Which condition each pair is of, (m,).
    perturbed
        Condition -> rows of the GO graph.
    retained
        Condition -> genes that count, bool (C, G): those expressed in any of its cells.
    """

    values: sp.csr_matrix
    basal: np.ndarray
    target: np.ndarray
    control: np.ndarray
    code: np.ndarray
    perturbed: Sequence[tuple[int, ...]]
    retained: np.ndarray

    def dense(self, rows: np.ndarray, device: str) -> torch.Tensor:
        """Some rows of `values`."""
        return torch.from_numpy(self.values[rows].toarray()).to(device)


def gears_loss(
    predicted: torch.Tensor,
    observed: torch.Tensor,
    code: torch.Tensor,
    retained: torch.Tensor,
    control: torch.Tensor,
    *,
    direction: float = 0.1,
    log_variance: torch.Tensor | None = None,
    reg: float = 1.0,
) -> torch.Tensor:
    """Mean over the batch's conditions of the mean error over their cells and retained genes.

    The error is |predicted - observed|^4 (with `log_variance` times 1 + reg · exp(-log_variance)), plus `direction`
    times the squared difference of the signs of both changes from control, which has no gradient.

    Parameters
    ----------
    predicted, observed, log_variance
        (B, G).
    code
        Condition of each cell, int (B,).
    retained
        Bool (C, G), see `Pairs`.
    control
        Mean expression of the control cells, (G,).
    """
    distinct, own, counts = torch.unique(code, return_inverse=True, return_counts=True)
    genes = retained[distinct].to(predicted.dtype)
    weight = genes / (genes.sum(dim=1).clamp(min=1) * counts * len(distinct))[:, None]
    error = (predicted - observed) ** (2 + GAMMA)
    if log_variance is not None:
        error = error + reg * torch.exp(-log_variance) * error
    with torch.no_grad():
        signs = (torch.sign(observed - control) - torch.sign(predicted - control)) ** 2
    return (weight[own] * (error + direction * signs)).sum()


def train_step(
    network: GearsNetwork,
    batch: tuple[torch.Tensor, Sequence[tuple[int, ...]], torch.Tensor | None],
    observed: torch.Tensor,
    code: torch.Tensor,
    retained: torch.Tensor,
    control: torch.Tensor,
    *,
    direction: float = 0.1,
    reg: float = 1.0,
) -> torch.Tensor:
    """The loss of a batch, its gradients added to those that are there."""
    predicted = network(*batch)
    predicted, log_variance = predicted if isinstance(predicted, tuple) else (predicted, None)
    loss = gears_loss(
        predicted, observed, code, retained, control, direction=direction, log_variance=log_variance, reg=reg
    )
    loss.backward()
    return loss.detach()


def make_optimizer(network: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam as published: its weight decay is added to the gradient."""
    return torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)


def update(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One step along the gradients, each value within ±CLIP, which are then forgotten."""
    nn.utils.clip_grad_value_(network.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()


def train(
    network: GearsNetwork,
    pairs: Pairs,
    control: np.ndarray,
    vectors_of: VectorsOf,
    rng: np.random.Generator,
    *,
    epochs: int = 20,
    batch: int = 32,
    accumulate: int = 1,
    learning_rate: float = 1e-3,
    direction: float = 0.1,
    reg: float = 1.0,
    validate: Callable[[], float] | None = None,
    progress: bool = False,
) -> list[float]:
    """Train in place; the epoch of the lowest `validate()` is kept, without it the last.

    Parameters
    ----------
    control
        Mean profile of the control cells, (G,).
    accumulate
        Batches whose gradients are added up (not averaged) for one step.
    validate
        Error on the validation conditions, called in evaluation mode after each epoch.

    Returns
    -------
    losses : the mean loss of each epoch

    Raises
    ------
    InternalError
        The loss became infinite or undefined.
    """
    device = str(network.indv_b1.device)
    optimizer = make_optimizer(network, learning_rate)
    retained = torch.from_numpy(pairs.retained).to(device)
    centre = torch.from_numpy(np.asarray(control, np.float32)).to(device)
    n, size = len(pairs.target), min(batch, len(pairs.target))
    per_epoch = n // size  # an incomplete last batch is dropped
    losses: list[float] = []
    best, kept, total = np.inf, None, 0.0
    for step in track(
        range(epochs * per_epoch),
        total=epochs * per_epoch,
        label="gears",
        note=lambda: f"loss {losses[-1]:.4f}" if losses else "",
        on=progress,
    ):
        epoch, number = divmod(step, per_epoch)
        if number == 0:
            order, total = rng.permutation(n), 0.0
            network.train()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * DECAY**epoch
        chosen = order[number * size : (number + 1) * size]
        sets = [pairs.perturbed[code] for code in pairs.code[chosen].tolist()]
        loss = train_step(
            network,
            (pairs.dense(pairs.basal[chosen], device), sets, vectors_of(pairs.control[chosen])),
            pairs.dense(pairs.target[chosen], device),
            torch.from_numpy(pairs.code[chosen]).to(device),
            retained,
            centre,
            direction=direction,
            reg=reg,
        )
        total += float(loss)
        if not np.isfinite(total):
            raise InternalError(f"GEARS: the loss became {float(loss)} in epoch {epoch + 1}; lower its learning rate")
        last = number == per_epoch - 1
        if last or (number + 1) % accumulate == 0:
            update(network, optimizer)
        if last:
            losses.append(total / per_epoch)
            network.eval()
            if validate and (score := validate()) < best:
                best, kept = score, copy.deepcopy(network.state_dict())
    if kept is not None:
        network.load_state_dict(kept)
    network.eval()
    return losses


def mean_profile(
    network: GearsNetwork,
    basal: np.ndarray,
    places: np.ndarray,
    perturbed: tuple[int, ...],
    vectors_of: VectorsOf,
    batch: int,
) -> np.ndarray:
    """Mean predicted profile over control cells, float64 (G,); the network is in evaluation mode.

    Parameters
    ----------
    basal
        Expression of the control cells, float32 (n, G).
    places
        Their places among the control cells, (n,), for `vectors_of`.
    batch
        Cells at a time where gene vectors differ from cell to cell; else all at once, for one evaluation serves all.
    """
    device, found = str(network.indv_b1.device), np.zeros(basal.shape[1])
    with torch.no_grad():
        one = vectors_of(places[:1])
        size = len(basal) if one is None or len(one) == 1 else batch
        for start in range(0, len(basal), size):
            part = slice(start, start + size)
            sets = [perturbed] * len(places[part])
            predicted = network(torch.from_numpy(basal[part]).to(device), sets, vectors_of(places[part]))
            predicted = predicted[0] if isinstance(predicted, tuple) else predicted
            found += predicted.sum(dim=0, dtype=torch.float64).cpu().numpy()
    return found / len(basal)
