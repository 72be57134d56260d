"""Gradients of both losses of CellOT with respect to the parameters, written out, and the optimiser that follows them.

The published code differentiates through a gradient (`create_graph`), which takes two to three times as long
(tests/benchmarks/test_cellot_speed.py). Leaky ReLU has no second derivative almost everywhere, so a step is a handful
of matrix products.
"""

from __future__ import annotations

import torch

from tasks.drug_response.icnn import ICNN, SLOPE, Parts, Pass, times_slopes


def like(network: ICNN) -> Parts:
    """Zeros in the shape of a network's parameters: where its gradient goes."""
    parts = network.parts
    return Parts(network.dim, parts.hidden, parts.quadratic is not None, parts.flat.dtype)


class GStep:
    """Loss and gradient of g, again and again on `n` cells; `gradient` holds that of the last call.

    The loss is mean(f(T(x)) - <x, T(x)>) + penalty · Σ_l ‖relu(-W_l)‖ with T = ∇g. Let v = (∇f(T(x)) - x) / n. It
    changes with the parameters of g as Σ <v, ∇g(x)> does while v is held, which is the derivative D of Σ g along v:
    dh_0 = A_0 v, dz_0 = z_0' dh_0, dh_l = W_l-1 dz_l-1 + A_l v, dz_l = σ' dh_l. With s_l = ∂y/∂h_l, which T is made of
    anyway, ∂D/∂A_l = s_l v' and ∂D/∂W_l-1 = s_l dz_l-1'; and, since z_0' changes with h_0, A_0 and b_0 get
    z_0'' (∂y/∂z_0) dh_0. The other biases change nothing.
    """

    def __init__(self, f: ICNN, g: ICNN, n: int, penalty: float = 0.0):
        self.f, self.g, self.penalty = f, g, penalty
        self.gradient = like(g)
        self.here, self.there, self.tangent = Pass(g, n), Pass(f, n), Pass(g, n)

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The loss on control cells (n, d)."""
        f, g, out, here, there = self.f, self.g, self.gradient, self.here, self.there
        parts, n = g.parts, len(x)
        moved = g.transport(x, here)
        v = f.transport(moved, there).sub_(x).div_(n)
        dh, dz = self.tangent.each_h, self.tangent.z
        torch.mm(parts.rows, v.T, out=self.tangent.h)
        torch.mul(here.curve, dh[0], out=dz[0])
        for i, weight in enumerate(parts.weights[:-1]):
            torch.mm(here.each_of_h[i + 1], dz[i].T, out=out.weights[i])
            times_slopes(dh[i + 1].addmm_(weight, dz[i]), here.each_h[i + 1], SLOPE, dz[i + 1])
        torch.sum(dz[-1], 1, out=out.weights[-1][0])
        torch.mm(here.of_h, v, out=out.rows)
        torch.sum(v, 0, out=out.last[0])
        bend = times_slopes(dh[0].mul_(here.of_squared), here.each_h[0], SLOPE**2, dz[0]).mul_(2.0)
        parts.layers(out.rows)[0].addmm_(bend, x)
        torch.sum(bend, 1, out=parts.layers(out.bias)[0])
        if out.quadratic is not None:
            torch.sum(x * v, 0, out=out.quadratic)
        loss = f.potential(moved, there).mean() - torch.dot(x.flatten(), moved.flatten()) / n
        return loss + penalise(g, out, self.penalty) if self.penalty else loss


def penalise(network: ICNN, out: Parts, factor: float) -> torch.Tensor:
    """The penalty, factor · Σ_l ‖relu(-W_l)‖, and its gradient added to `out`; 0 where no weight is negative."""
    total = torch.zeros((), dtype=out.flat.dtype)
    if network.parts.all_weights.min() >= 0:
        return total
    for weight, gradient in zip(network.parts.weights, out.weights, strict=True):
        negative = weight.clamp(max=0.0)
        if norm := float(negative.norm()):
            gradient.add_(negative, alpha=factor / norm)
            total += factor * norm
    return total


class FStep:
    """Loss and gradient of f, again and again on `n` control and `m` treated cells; `gradient` holds the last one.

    The loss is mean f(target) - mean f(moved), moved the control cells where g takes them.
    """

    def __init__(self, f: ICNN, n: int, m: int):
        self.f, self.gradient, self.at = f, like(f), Pass(f, n + m)
        self.weight = torch.full((1, n + m), 1 / m, dtype=f.parts.flat.dtype)
        self.weight[:, :n] = -1 / n

    @torch.no_grad()
    def __call__(self, moved: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss on moved (n, d) and treated cells (m, d)."""
        f, out, at, weight = self.f, self.gradient, self.at, self.weight
        x = torch.cat([moved, target])
        f.backward(f.run(x, at), weight)
        for i, into in enumerate(out.weights[:-1]):
            torch.mm(at.each_of_h[i + 1], at.z[i].T, out=into)
        torch.mm(weight, at.z[-1].T, out=out.weights[-1])
        torch.mm(at.of_h, x, out=out.rows)
        torch.mm(weight, x, out=out.last)
        torch.sum(at.of_h, 1, out=out.bias)
        if out.quadratic is not None:
            torch.mv(x.square().T, weight[0], out=out.quadratic).mul_(0.5)
        return (weight @ f.potential(x, at))[0, 0]


class Adam:
    """Adam (Kingma & Ba 2015) on one flat tensor, as torch computes it; weight decay is added to the gradient.

    Parameters
    ----------
    parameters
        What is changed in place, (p,).
    """

    def __init__(
        self,
        parameters: torch.Tensor,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.9),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ):
        self.parameters = parameters
        self.learning_rate, self.betas, self.weight_decay, self.eps = learning_rate, betas, weight_decay, eps
        #: Steps taken; running means of the gradient and of its square.
        self.step = 0
        self.mean, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.root = torch.empty_like(parameters)

    def update(self, gradient: torch.Tensor) -> None:
        """One step against a gradient (p,)."""
        self.step += 1
        (first, second), p = self.betas, self.parameters
        if self.weight_decay:
            gradient = gradient.add(p, alpha=self.weight_decay)
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = torch.sqrt(self.square, out=self.root).div_((1 - second**self.step) ** 0.5).add_(self.eps)
        p.addcdiv_(self.mean, root, value=-self.learning_rate / (1 - first**self.step))
