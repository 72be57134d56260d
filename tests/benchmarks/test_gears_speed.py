"""What GEARS saves by computing each distinct perturbation of a batch once: `make bench`. Nothing here asserts a time.

The same network gets the same gene vectors twice: as one table for all cells, and as a table for each cell, so that no
two cells can share anything, from the projection of the vectors on. Both give the same loss. On a machine that others
use as well, CPU seconds say more: `--benchmark-timer=time.process_time`.
"""

import numpy as np
import pytest
import scipy.sparse as sp

N_GENES, N_TARGETS, BATCH, HIDDEN = 1000, 40, 32, 64


@pytest.fixture(scope="module")
def network():
    from harness.networks import seeded
    from tasks.perturbation.gears_network import GearsNetwork

    rng = np.random.default_rng(0)
    go, coexpress = (
        sp.random(n, n, 10 / n, "csr", np.float32, rng) + sp.eye(n, dtype=np.float32) for n in (N_TARGETS, N_GENES)
    )
    return seeded(lambda: GearsNetwork(go, coexpress, HIDDEN, graft="projected", width=HIDDEN), 0)


@pytest.mark.parametrize("distinct", [4, 16, 32])
@pytest.mark.parametrize("way", ["each distinct perturbation once", "every cell"])
def test_training_step(benchmark, network, distinct, way):
    import torch

    from tasks.perturbation.gears_training import train_step

    benchmark.group = f"GEARS: a training step of {BATCH} cells of {distinct} perturbations, {N_GENES} genes"
    draw = torch.Generator().manual_seed(0)
    basal, observed = torch.rand((2, BATCH, N_GENES), generator=draw)
    table = torch.randn((1, N_GENES, HIDDEN), generator=draw) / HIDDEN**0.5
    code = torch.arange(BATCH) % distinct
    perturbed = [(int(number),) for number in code]
    retained, control = torch.ones((distinct, N_GENES), dtype=torch.bool), torch.full((N_GENES,), 0.5)

    def step(vectors):
        network.zero_grad()
        return train_step(network, (basal, perturbed, vectors), observed, code, retained, control)

    repeated = table.repeat(BATCH, 1, 1)
    network.train()
    torch.testing.assert_close(step(table), step(repeated))
    vectors = table if way.startswith("each") else repeated
    benchmark.pedantic(step, (vectors,), rounds=5, warmup_rounds=1)
