"""The network and the loss of g as the paper writes them, for autograd, and networks and cells to try them on."""

import torch
from torch.nn.functional import leaky_relu

from tasks.drug_response.icnn import ICNN


def network(dim, hidden, seed=0, quadratic=False, init=(-1.0, 1.0), dtype=torch.float64):
    """With weights of both signs, and biases."""
    draw = torch.Generator().manual_seed(seed)
    made = ICNN(dim, hidden, init=init, generator=draw, quadratic=quadratic, dtype=dtype)
    made.parts.bias.normal_(generator=draw)
    made.parts.last_bias.normal_(generator=draw)
    if quadratic:
        made.quadratic.uniform_(0.5, 2, generator=draw)
    return made


def cells(n, dim, seed=0, dtype=torch.float64):
    return torch.randn((n, dim), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaves(made):
    """Its parameters by name, for autograd."""
    return {name: value.clone().requires_grad_() for name, value in made.state_dict().items()}


def plain(of, x):
    """The potential as the paper writes it, from parameters by name."""
    n_layers = sum(name.startswith("W.") for name in of)

    def affine(layer):
        return x @ of[f"A.{layer}.weight"].T + of[f"A.{layer}.bias"]

    z = leaky_relu(affine(0), 0.2) ** 2
    for layer in range(1, n_layers):
        z = leaky_relu(z @ of[f"W.{layer - 1}.weight"].T + affine(layer), 0.2)
    y = z @ of[f"W.{n_layers - 1}.weight"].T + affine(n_layers)
    return y + (of["quadratic"] * x**2).sum(1, keepdim=True) / 2 if "quadratic" in of else y


def plain_transport(of, x, **kwargs):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(plain(of, x).sum(), x, **kwargs)[0]


def plain_g_loss(f, g, x, penalty=0.0):
    moved = plain_transport(g, x, create_graph=True)
    loss = (plain(f, moved) - (x * moved).sum(1, keepdim=True)).mean()
    weights = [value for name, value in g.items() if name.startswith("W.")]
    return loss + penalty * sum(torch.relu(-weight).norm() for weight in weights)


def gradients(loss, of):
    """By name; 0 where a parameter has no part in the loss."""
    found = torch.autograd.grad(loss, list(of.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if one is None else one
        for (name, value), one in zip(of.items(), found, strict=True)
    }
