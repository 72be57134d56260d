"""Input-convex networks, the potentials of CellOT, with their gradient in closed form.

Amos et al., ICML 2017; as in Bunne et al., Nature Methods 2023, doi 10.1038/s41592-023-01969-x. The names of the
parameters are those of the released code. Leaky ReLU is piecewise linear, so the gradient of a network with respect to
its input is a product of matrices and slopes: no autograd is needed, nor used.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.errors import InternalError

#: Slope of leaky ReLU below 0.
SLOPE = 0.2


def rectify(h: torch.Tensor, slope: float, out: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU, with some slope below 0, into memory that is there."""
    return torch.ops.aten.leaky_relu.out(h, slope, out=out)


def times_slopes(x: torch.Tensor, h: torch.Tensor, slope: float, out: torch.Tensor) -> torch.Tensor:
    """`x` times the slopes of that leaky ReLU at `h`, in one pass over both; at 0 it is `slope`, as in autograd."""
    return torch.ops.aten.leaky_relu_backward.grad_input(x, h, slope, False, grad_input=out)


class Parts:
    """The parameters of a network (or anything else there is one of for each) as views of one flat tensor.

    `flat` holds all of them, so that an optimiser's step is a few operations on vectors; the layers' A lie one below
    the other, so that their products with x are one.

    Parameters
    ----------
    dim, hidden
        Width d of the input, and of the hidden layers.
    quadratic
        Whether there is a quadratic term.
    dtype
        Of `flat`, which starts as zeros.
    """

    def __init__(self, dim: int, hidden: Sequence[int], quadratic: bool = False, dtype: torch.dtype = torch.float32):
        self.hidden = list(hidden)
        widths, rows = [*hidden, 1], sum(hidden)
        shapes = [(rows, dim), (1, dim), *((b, a) for a, b in itertools.pairwise(widths)), (rows,), (1,)]
        shapes += [(dim,)] if quadratic else []
        sizes = [torch.Size(shape).numel() for shape in shapes]
        #: All of them, (p,).
        self.flat = torch.zeros(sum(sizes), dtype=dtype)
        views = [view.view(shape) for view, shape in zip(self.flat.split(sizes), shapes, strict=True)]
        #: A of the hidden layers (sum H, d) and of the output (1, d).
        self.rows, self.last = views[:2]
        #: W of each layer that follows another, (H_l+1, H_l); the last is (1, H_L).
        self.weights = views[2 : 2 + len(hidden)]
        #: Biases of the hidden layers (sum H,) and of the output (1,).
        self.bias, self.last_bias = views[2 + len(hidden) : 4 + len(hidden)]
        #: Factors of the quadratic term, (d,), or None.
        self.quadratic = views[-1] if quadratic else None
        start = sum(sizes[:2])
        #: All W, (sum of their sizes,).
        self.all_weights = self.flat[start : start + sum(w.numel() for w in self.weights)]

    def layers(self, of: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The hidden layers' own rows of a tensor that has `sum H` of them."""
        return of.split(self.hidden)


class Pass:
    """Room for one evaluation of a network on `n` cells; columns are cells.

    Memory is taken once for many evaluations: fetching it anew costs as much as some of the matrix products.
    """

    def __init__(self, network: ICNN, n: int):
        parts = network.parts
        dtype, first = parts.flat.dtype, parts.hidden[0]
        #: First h of the hidden layers; `run` leaves h_0, and z of the others, whose signs are those of h. (sum H, n).
        self.h = torch.empty((sum(parts.hidden), n), dtype=dtype)
        self.each_h = parts.layers(self.h)
        #: z_0 and dz_0 / dh_0, (H_0, n).
        self.squared, self.curve = (torch.empty((first, n), dtype=dtype) for _ in range(2))
        #: z of each hidden layer, (H_l, n).
        self.z = (self.squared, *self.each_h[1:])
        #: Derivatives of the output by h, (sum H, n), layer by layer, and by z_0, (H_0, n).
        self.of_h = torch.empty_like(self.h)
        self.each_of_h = parts.layers(self.of_h)
        self.of_squared = torch.empty((first, n), dtype=dtype)
        #: Gradient of the output by x, (n, d).
        self.gradient = torch.empty((n, network.dim), dtype=dtype)


class ICNN(nn.Module):
    """z_0 = σ(A_0 x + b_0)², z_l+1 = σ(W_l z_l + A_l+1 x + b_l+1), y = W_L z_L + A_L+1 x + b_L+1; σ leaky ReLU.

    Convex in x where no W is negative. Parameters keep no gradients, and its type is that it was made with.

    Parameters
    ----------
    dim, hidden
        Width d of the input, and of the hidden layers.
    init
        A and W are drawn uniformly from this interval, biases are 0.
    generator
        To draw from; None: all parameters are 0 until they are read.
    quadratic
        Adds Σ q_i x_i² / 2, q ≥ 0 starting at 1: no part of the published network. With small A and W, the gradient is
        then near the identity. q is learned: f and g undo each other at the optimum, and were it held, both could only
        spread cells, none could draw them together.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int],
        *,
        init: tuple[float, float] = (0.0, 0.1),
        generator: torch.Generator | None = None,
        quadratic: bool = False,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        #: The same numbers as the parameters: to change one is to change the other.
        self.parts = parts = Parts(dim, hidden, quadratic, dtype)
        self.W = nn.ModuleList(_Linear(weight) for weight in parts.weights)
        layers = zip(parts.layers(parts.rows), parts.layers(parts.bias), strict=True)
        self.A = nn.ModuleList(_Linear(*layer) for layer in (*layers, (parts.last, parts.last_bias)))
        if parts.quadratic is not None:
            self.quadratic = _parameter(parts.quadratic)
            self.quadratic.fill_(1.0)
        if generator is not None:
            for layer in (*self.A, *self.W):
                layer.weight.uniform_(*init, generator=generator)

    @property
    def dim(self) -> int:
        """Width of the input."""
        return self.parts.rows.shape[1]

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The potential of each cell, (n, d) -> (n, 1)."""
        return self.potential(x, self.run(x))

    @torch.no_grad()
    def transport(self, x: torch.Tensor, at: Pass | None = None) -> torch.Tensor:
        """Where the potential's gradient takes each cell, (n, d) -> (n, d); into `at.gradient` where that is given."""
        at = self.run(x, at)
        self.backward(at)
        return self.gradient(x, at)

    def run(self, x: torch.Tensor, at: Pass | None = None) -> Pass:
        """Evaluate the hidden layers on cells, (n, d)."""
        parts, at = self.parts, at or Pass(self, len(x))
        torch.addmm(parts.bias[:, None], parts.rows, x.T, out=at.h)
        rectify(at.each_h[0], SLOPE**2, at.curve).mul_(2.0)
        z = rectify(at.each_h[0], SLOPE, at.squared).square_()
        for weight, h in zip(parts.weights[:-1], at.each_h[1:], strict=True):
            z = rectify(h.addmm_(weight, z), SLOPE, h)
        return at

    def potential(self, x: torch.Tensor, at: Pass) -> torch.Tensor:
        """The network's output (n, 1) for cells it was run on."""
        parts = self.parts
        y = torch.addmm(parts.last_bias, x, parts.last.T).addmm_(at.z[-1].T, parts.weights[-1].T)
        if parts.quadratic is not None:
            y.addmm_(x.square(), parts.quadratic[:, None], alpha=0.5)
        return y

    def backward(self, at: Pass, weight: torch.Tensor | None = None) -> None:
        """Derivatives of each cell's output, times its `weight` (1, n) (None: 1), by h and by z_0, into `at`."""
        parts = self.parts
        by_z = (at.of_squared, *at.each_of_h[1:])
        if weight is None:
            by_z[-1].copy_(parts.weights[-1].T)
        else:
            torch.mm(parts.weights[-1].T, weight, out=by_z[-1])
        for i in range(len(parts.hidden) - 1, 0, -1):
            by_h = times_slopes(by_z[i], at.each_h[i], SLOPE, by_z[i])
            torch.mm(parts.weights[i - 1].T, by_h, out=by_z[i - 1])
        torch.mul(at.curve, at.of_squared, out=at.each_of_h[0])

    def gradient(self, x: torch.Tensor, at: Pass) -> torch.Tensor:
        """The gradient by x (n, d) into `at`, after `backward` without weights."""
        parts = self.parts
        torch.addmm(parts.last, at.of_h.T, parts.rows, out=at.gradient)
        return at.gradient if parts.quadratic is None else at.gradient.addcmul_(parts.quadratic, x)

    def penalty(self) -> torch.Tensor:
        """Σ_l ‖relu(-W_l)‖: how far the network is from one that is convex for certain; 0 where no W is negative."""
        return torch.stack([weight.clamp(max=0).norm() for weight in self.parts.weights]).sum()

    def clamp(self) -> None:
        """Set what is negative in W (and in the quadratic term) to 0: the network is convex then."""
        self.parts.all_weights.clamp_(min=0)
        if self.parts.quadratic is not None:
            self.parts.quadratic.clamp_(min=0)

    def _apply(self, *_: Any, **__: Any) -> ICNN:
        raise InternalError("parameters of an ICNN are views of one tensor: say dtype when it is made")


class _Linear(nn.Module):
    """Holds weight and bias under the names that state dicts have."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        super().__init__()
        self.weight = _parameter(weight)
        self.bias = None if bias is None else _parameter(bias)


def _parameter(view: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(view, requires_grad=False)
