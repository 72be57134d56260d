"""The autoencoder of the CellOT repository, there called scGen: codes in which a drug is taken to be a shift.

Bunne et al., Nature Methods 2023, doi:10.1038/s41592-023-01969-x, after the latent arithmetic of Lotfollahi et al.,
Nature Methods 2019, doi:10.1038/s41592-019-0494-8. It is a plain autoencoder; the package scgen, a variational one that
balances cell types, is another method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.devices import resolve_device
from harness.errors import InputError, InternalError
from harness.networks import seeded
from harness.progress import track
from harness.torch_learner import training_mode
from tasks.settings import settings_of

#: Cells that go through the network at a time, outside of training.
ROWS = 4096


@dataclass(frozen=True)
class AutoEncoderSettings:
    """The network and its training. Published are 250,000 steps, a check every 2,500 and no early end; else as there.

    Parameters
    ----------
    hidden
        Widths from the genes to the code; back it is the other way round.
    latent
        Width of the code.
    learning_rate, weight_decay
        Of Adam; the decay is added to the gradient.
    decay, decay_every
        The learning rate is multiplied by `decay` after each `decay_every` steps.
    batch, steps
        Cells of a step, and steps at most.
    beta
        Weight of the squared length of a code in the loss.
    dropout
        After each hidden layer.
    check_every, patience
        The loss of the validation cells is taken every so many steps and after the last; training ends after `patience`
        checks without a lower one, None: never before the last step.
    device
        `cpu`, `cuda`, `auto`.
    """

    hidden: Sequence[int] = (512, 512)
    latent: int = 50
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    decay: float = 0.5
    decay_every: int = 100_000
    batch: int = 256
    steps: int = 2000
    beta: float = 0.0
    dropout: float = 0.0
    check_every: int = 100
    patience: int | None = 5
    device: str = "cpu"

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> AutoEncoderSettings:
        """Settings of a config node.

        Raises
        ------
        InputError
            A setting there is not, or a value that means nothing.
        """
        made = settings_of(cls, settings, where, "the autoencoder")
        for name in ("latent", "batch", "steps", "check_every", "decay_every"):
            if not _whole(value := getattr(made, name)):
                raise InputError(f"{where}.{name}={value}: expected a whole number from 1")
        if made.patience is not None and not _whole(made.patience):
            raise InputError(f"{where}.patience={made.patience}: expected a whole number from 1, or null")
        widths = made.hidden if isinstance(made.hidden, list | tuple) else ()
        if not widths or not all(map(_whole, widths)):
            raise InputError(f"{where}.hidden={made.hidden}: expected widths of layers, for example [512, 512]")
        for name, low, high in (
            ("learning_rate", 1e-12, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("decay", 1e-12, 1.0),
            ("beta", 0.0, np.inf),
            ("dropout", 0.0, 0.999),
        ):
            value = getattr(made, name)
            if type(value) not in (int, float) or not low <= value <= high:
                raise InputError(f"{where}.{name}={value}: expected a number from {low:g} to {high:g}")
        return made


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


class AutoEncoder(nn.Module):
    """Expression (n, g) -> codes (n, latent) -> expression, by linear layers with ReLU between them.

    Parameters
    ----------
    n_genes
        g.
    latent, hidden, dropout, beta
        See `AutoEncoderSettings`.
    """

    def __init__(
        self, n_genes: int, latent: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.0, beta: float = 0.0
    ):
        super().__init__()
        self.beta = beta
        self.encoder_net = _layers((n_genes, *hidden, latent), dropout)
        self.decoder_net = _layers((latent, *reversed(hidden), n_genes), dropout)

    def encode(self, cells: Tensor) -> Tensor:
        """Codes (n, latent) of expression (n, g)."""
        return self.encoder_net(cells)

    def decode(self, codes: Tensor) -> Tensor:
        """Expression (n, g) of codes (n, latent)."""
        return self.decoder_net(codes)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction (n, g) and codes (n, latent)."""
        codes = self.encode(cells)
        return self.decode(codes), codes

    def loss(self, cells: Tensor) -> Tensor:
        """Squared error, mean over genes, and `beta` times the squared length of the code: of each cell, (n,)."""
        reconstruction, codes = self(cells)
        return (reconstruction - cells).square().mean(dim=-1) + self.beta * codes.square().sum(dim=-1)


def _layers(widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (width, following) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(width, following))
        if i < len(widths) - 2:
            layers += [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class FittedAutoEncoder:
    """A trained autoencoder, for arrays.

    Parameters
    ----------
    network
        In evaluation mode.
    steps, kept_step
        Made, and after which of them it is as it was kept.
    """

    network: AutoEncoder
    steps: int = 0
    kept_step: int = 0

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """Codes, float32 (n, latent), of expression (n, g)."""
        return self._rows(self.network.encode, cells)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Expression, float32 (n, g), of codes (n, latent)."""
        return self._rows(self.network.decode, codes)

    def _rows(self, layers: Callable[[Tensor], Tensor], values: np.ndarray) -> np.ndarray:
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = torch.from_numpy(np.ascontiguousarray(values, np.float32)).split(ROWS)
            return torch.cat([layers(part.to(device)).cpu() for part in parts]).numpy()


def make_optimizer(network: nn.Module, settings: AutoEncoderSettings) -> torch.optim.Adam:
    """Adam as published."""
    return torch.optim.Adam(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def train_step(network: AutoEncoder, optimizer: torch.optim.Optimizer, cells: Tensor) -> Tensor:
    """One step on a batch (n, g); its mean loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss = network.loss(cells).mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def train_autoencoder(
    cells: np.ndarray, val: np.ndarray, settings: AutoEncoderSettings, seed: int = 0, progress: bool = False
) -> FittedAutoEncoder:
    """Train on some cells; the state with the lowest loss of the validation cells is kept.

    The authors choose by the loss of their test cells, which no method here is shown.

    Parameters
    ----------
    cells, val
        Float32 (n, g) and (m, g); without validation cells (m = 0) the last state is kept.

    Raises
    ------
    InputError
        There is no cell, the parts have other genes, or the device is not there.
    InternalError
        The loss became infinite or undefined.
    """
    if not len(cells) or cells.shape[1] != val.shape[1]:
        raise InputError(f"an autoencoder cannot learn from cells {cells.shape} with validation cells {val.shape}")
    device = resolve_device(settings.device)
    x, checked = (torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(device) for part in (cells, val))
    network = seeded(
        lambda: AutoEncoder(x.shape[1], settings.latent, settings.hidden, settings.dropout, settings.beta), seed
    ).to(device)
    optimizer, batches = make_optimizer(network, settings), _batches(len(x), settings.batch, seed)
    scores: list[float] = []
    best, kept, kept_step, step = np.inf, None, settings.steps, 0
    with training_mode(network, seed, device):
        for step in track(
            range(1, settings.steps + 1),
            total=settings.steps,
            label="autoencoder",
            note=lambda: f"loss {scores[-1]:.4f}" if scores else "",
            on=progress,
        ):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * settings.decay ** ((step - 1) // settings.decay_every)
            loss = train_step(network, optimizer, x[torch.from_numpy(next(batches)).to(device)])
            if step % settings.check_every and step != settings.steps:
                continue
            score = _mean_loss(network, checked) if len(checked) else float(loss)
            if not np.isfinite(score):
                raise InternalError(f"the autoencoder's loss became {score} by step {step}; lower its learning_rate")
            scores.append(score)
            if not len(checked):
                continue
            if score < best:
                best, kept_step = score, step
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            elif settings.patience and step - kept_step >= settings.patience * settings.check_every:
                break
    if kept is not None:
        network.load_state_dict(kept)
    return FittedAutoEncoder(network, step, kept_step)


def _mean_loss(network: AutoEncoder, cells: Tensor) -> float:
    network.eval()
    with torch.no_grad():
        found = torch.cat([network.loss(part) for part in cells.split(ROWS)]).double().mean()
    network.train()
    return float(found)


def _batches(n: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of batches of one size, pass after pass in a new order; what is left over of a pass is dropped."""
    rng, size = np.random.default_rng([seed, 31]), min(size, n)
    while True:
        order = rng.permutation(n)
        for start in range(0, n - size + 1, size):
            yield order[start : start + size]
