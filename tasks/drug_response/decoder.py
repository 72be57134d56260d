"""From codes back to expression: CellFM's decoder, one hidden layer, or a ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.networks import seeded
from harness.progress import track
from tasks.drug_response.decoder_settings import DecoderSettings


class Decoder(nn.Module):
    """Codes (n, c) -> expression (n, g).

    Parameters
    ----------
    mean, scale
        Of the training cells' codes, float32 (c,): the layers read standardised codes.
    start
        Mean expression of the training cells, float32 (g,): the last layer's bias begins there.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, start: Tensor, hidden: int, dropout: float):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.layers = nn.Sequential(
            nn.Linear(len(mean), hidden), nn.Dropout(dropout), nn.SiLU(), nn.Linear(hidden, len(start))
        )
        with torch.no_grad():
            self.layers[-1].bias.copy_(start)  # type: ignore[union-attr, operator]

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers((codes - self.mean) / self.scale)


@dataclass(frozen=True)
class FittedDecoder:
    """A trained way back.

    Parameters
    ----------
    network
        Codes (n, c) -> expression (n, g), on the CPU, in evaluation.
    steps, kept_step
        Made, and the one that was kept; 0 for a ridge regression.
    """

    network: nn.Module
    steps: int = 0
    kept_step: int = 0

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Expression, float32 (n, g)."""
        with torch.inference_mode():
            return self.network(torch.as_tensor(np.ascontiguousarray(codes, np.float32))).numpy()


def train_decoder(
    codes: np.ndarray,
    expression: np.ndarray,
    val_codes: np.ndarray,
    val_expression: np.ndarray,
    settings: DecoderSettings,
    seed: int,
    *,
    progress: bool = False,
) -> FittedDecoder:
    """A decoder that gives `expression` (n, g) for `codes` (n, c), the step chosen on the validation cells."""
    if settings.kind == "linear":
        return FittedDecoder(_ridge(codes, expression, settings.ridge))
    x, y, x_val, y_val = (torch.as_tensor(a) for a in (codes, expression, val_codes, val_expression))
    scale = x.std(0, correction=0)
    # A code that hardly varies is not blown up.
    scale = scale.clamp_min(1e-3 * float(scale.pow(2).mean().sqrt()) or 1.0)
    network = seeded(lambda: Decoder(x.mean(0), scale, y.mean(0), settings.hidden, settings.dropout), seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    best, kept, kept_step, step = np.inf, None, 0, 0
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.default_generator.manual_seed(seed)
        steps = range(1, settings.steps + 1)
        for step in track(steps, total=settings.steps, label="decoder", on=progress):
            rows = torch.randint(len(x), (settings.batch,), generator=generator)
            optimizer.zero_grad(set_to_none=True)
            (network(x[rows]) - y[rows]).pow(2).mean().backward()
            optimizer.step()
            if step % settings.check_every and step != settings.steps:
                continue
            network.eval()
            with torch.inference_mode():
                loss = float((network(x_val) - y_val).pow(2).mean())
            network.train()
            if loss < best:
                best, kept_step = loss, step
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            elif (step - kept_step) // settings.check_every >= settings.patience:
                break
    if kept is not None:
        network.load_state_dict(kept)
    return FittedDecoder(network.eval(), step, kept_step)


def _ridge(codes: np.ndarray, expression: np.ndarray, penalty: float) -> nn.Linear:
    """The least squares solution with a small penalty, as a layer."""
    x, y = codes.astype(np.float64), expression.astype(np.float64)
    mean, start = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean, y - start
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty * max(np.trace(gram) / len(gram), 1e-12)
    weight = np.linalg.solve(gram, x.T @ y)
    layer = nn.Linear(len(mean), len(start))
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight.T))
        layer.bias.copy_(torch.as_tensor(start - mean @ weight))
    return layer.requires_grad_(False)
