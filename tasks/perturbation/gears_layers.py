"""Layers of GEARS: batch normalisation of rows that occur several times, MLPs, and graph convolution."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn


class _Moments(torch.autograd.Function):
    """Mean and variance with one pass over the states in the backward, where torch's own takes four."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        variance, mean = torch.var_mean(states, dim=1, correction=0)
        ctx.save_for_backward(states, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, of_mean: torch.Tensor, of_variance: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        states, mean = ctx.saved_tensors
        slope = of_variance * (2 / states.shape[1])
        return torch.addcmul((of_mean / states.shape[1] - slope * mean)[:, None], slope[:, None], states)


def moments(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance over the middle axis of (K, G, H)."""
    return _Moments.apply(states)


class WeightedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over rows of which each stands for several equal ones.

    Equal to `BatchNorm1d` on the repeated rows, the running variance included: its factor n / (n - 1) counts them all.
    """

    def forward(self, states: torch.Tensor, times: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Normalised states.

        Parameters
        ----------
        states
            (K, G, H).
        times
            How often each of the K occurs, float (K,).
        """
        scale, shift = self.of(states, times)
        return torch.addcmul(shift, states, scale)

    def of(self, states: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift (H,) that normalise these states."""
        if not self.training:
            return self._scale_shift(self.running_mean, self.running_var)
        return self.factors(*moments(states), times, states.shape[1])

    def factors(
        self, mean: torch.Tensor, variance: torch.Tensor, times: torch.Tensor, n: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift (H,) from the mean and biased variance (K, H) of groups of `n` rows.

        Raises
        ------
        ValueError
            In training, a single row.
        """
        if not self.training:
            return self._scale_shift(self.running_mean, self.running_var)
        total = float(times.sum()) * n
        if total < 2:
            raise ValueError("batch statistics need more than one row: take a batch of at least two cells")
        share = (times / times.sum())[:, None]
        centre = (share * mean).sum(dim=0)
        spread = (share * (variance + (mean - centre) ** 2)).sum(dim=0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(centre, self.momentum)
            self.running_var.lerp_(spread * (total / (total - 1)), self.momentum)
        return self._scale_shift(centre, spread)

    def _scale_shift(self, mean: torch.Tensor, variance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return scale, self.bias - mean * scale


class MLP(nn.Module):
    """Linear and batch normalisation for each step of `sizes`, ReLU between them, none at the end."""

    def __init__(self, *sizes: int):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), WeightedBatchNorm(after), nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, states: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """(K, G, first size) -> (K, G, last size); `times` as in `WeightedBatchNorm`."""
        states, scale, shift = self.before_last_norm(states, times)
        return torch.addcmul(shift, states, scale)

    def before_last_norm(self, states: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The states before the last normalisation, and its scale and shift, to be folded into what follows."""
        for layer in self.network[:-1]:
            states = layer(states, times) if isinstance(layer, WeightedBatchNorm) else layer(states)
        return states, *self.network[-1].of(states, times)


class GraphConvolution(nn.Module):
    """One step over a normalised graph, then a linear map (SGConv with K = 1, Wu et al. 2019)."""

    def __init__(self, hidden: int):
        super().__init__()
        self.lin = nn.Linear(hidden, hidden)

    def forward(self, states: torch.Tensor, graph: torch.Tensor | None) -> torch.Tensor:
        """(n, H) -> (n, H); None is the graph in which every node is alone."""
        return self.lin(states if graph is None else torch.sparse.mm(graph, states))


def all_rows(embedding: nn.Embedding) -> torch.Tensor:
    """Every row; those longer than `max_norm` are first shortened in place, in evaluation too.

    As torch does at a look-up, which takes row after row; this takes all at once.
    """
    if embedding.max_norm is not None:
        with torch.no_grad():
            length = embedding.weight.norm(dim=1, keepdim=True)
            factor = torch.where(length > embedding.max_norm, embedding.max_norm / (length + 1e-7), 1.0)
            embedding.weight.mul_(factor)
    return embedding.weight


def sparse(matrix: Any) -> torch.Tensor:
    """A scipy matrix as a sparse tensor, float32."""
    found = matrix.tocoo()
    where = torch.from_numpy(np.stack([found.row, found.col]).astype(np.int64))
    values = torch.from_numpy(found.data.astype(np.float32))
    return torch.sparse_coo_tensor(where, values, found.shape, check_invariants=True).coalesce()
