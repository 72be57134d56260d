"""What writing the gradients of CellOT out saves over autograd: `make bench`. Nothing here asserts a time.

The same networks take the same step twice: ours, and by differentiating through the gradient, as torch would have it
(`create_graph`). Both give the same loss. On a machine that others use as well, CPU seconds say more:
`--benchmark-timer=time.process_time`.
"""

import pytest
import torch

from tests.tasks.drug_response.plain_icnn import cells, leaves, network, plain, plain_g_loss, plain_transport

BATCH, HIDDEN, PENALTY = 256, (64, 64, 64, 64), 1.0
WAYS = ("written out", "by autograd")


def made(dim):
    f, g = (network(dim, HIDDEN, seed, init=(-0.05, 0.1), dtype=torch.float32) for seed in (1, 2))
    f.clamp()
    return f, g


@pytest.mark.parametrize("dim", [50, 200, 512])
@pytest.mark.parametrize("way", WAYS)
def test_step_of_g(benchmark, dim, way):
    from tasks.drug_response.cellot_gradients import Adam, GStep

    benchmark.group = f"CellOT: a step of g, {BATCH} cells × {dim}"
    (f, g), x = made(dim), cells(BATCH, dim, dtype=torch.float32)
    step, adam = GStep(f, g, BATCH, PENALTY), Adam(g.parts.flat)
    of_f, of_g = leaves(f), leaves(g)
    theirs = torch.optim.Adam(of_g.values(), lr=1e-4, betas=(0.5, 0.9))

    def ours():
        loss = step(x)
        adam.update(step.gradient.flat)
        return loss

    def autograd():
        theirs.zero_grad()
        loss = plain_g_loss(of_f, of_g, x, PENALTY)
        loss.backward()
        theirs.step()
        return loss.detach()

    torch.testing.assert_close(ours(), autograd(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours(), autograd(), rtol=1e-3, atol=1e-3)
    benchmark.pedantic(ours if way == WAYS[0] else autograd, rounds=30, warmup_rounds=3)


@pytest.mark.parametrize("dim", [50, 200, 512])
@pytest.mark.parametrize("way", WAYS)
def test_transport(benchmark, dim, way):
    benchmark.group = f"CellOT: transport of 2,000 cells × {dim}"
    (_, g), x = made(dim), cells(2000, dim, dtype=torch.float32)
    of_g = leaves(g)
    torch.testing.assert_close(g.transport(x), plain_transport(of_g, x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(g(x), plain(of_g, x).detach(), rtol=1e-4, atol=1e-4)
    ways = dict(zip(WAYS, (lambda: g.transport(x), lambda: plain_transport(of_g, x)), strict=True))
    benchmark.pedantic(ways[way], rounds=10, warmup_rounds=1)
