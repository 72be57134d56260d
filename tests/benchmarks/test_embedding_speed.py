"""What the engine saves, side by side in one run: `make bench`. Nothing here asserts a time.

Cells of very different depth, as in real data; a tiny network, so that figures compare ways of running and not models.
"""

import numpy as np
import pytest
import scipy.sparse as sp

from harness import CellData, GeneTable
from harness.registry import MODELS
from tests.conftest import make_cells

N_CELLS, N_GENES = 256, 2000


@pytest.fixture(scope="module")
def data():
    cells = make_cells(n_cells=N_CELLS, n_genes=N_GENES)
    rng = np.random.default_rng(0)
    depth = rng.lognormal(-2.5, 1.0, N_CELLS).clip(0.005, 1)[:, None]
    cells.X = sp.csr_matrix(rng.binomial(cells.X.toarray().astype(int), depth).astype(np.float32))
    return CellData(cells)


@pytest.fixture(scope="module", params=["cellfm", "scgpt", "geneformer"])
def model(request, data):
    made = MODELS.get(request.param).from_scratch(GeneTable.from_names(data.genes.names.tolist()), seed=0)
    made.calibrate(data)
    return made.to("cpu")


@pytest.mark.parametrize("way", ["buckets of equal length", "one batch size, padded to the longest cell"])
def test_embedding(benchmark, model, data, way):
    import torch

    benchmark.group = f"{model.spec.name}: forward passes over {N_CELLS} cells"
    batch = model.tokenize(data.counts(), data.genes)
    rows = np.flatnonzero(np.asarray(batch.mask).any(axis=1))
    if way.startswith("buckets"):
        parts = [part for _, part in batch.buckets(16_384)]
    else:
        width = batch.gene_ids.shape[1]
        step = max(1, 16_384 // width)
        whole = batch.take(rows)
        parts = [
            whole.replace(gene_ids=whole.gene_ids[i : i + step], mask=whole.mask[i : i + step]).replace(
                values=None if whole.values is None else whole.values[i : i + step],
                extra={k: v[i : i + step] for k, v in whole.extra.items()},
            )
            for i in range(0, len(rows), step)
        ]

    def run():
        with torch.inference_mode():
            for part in parts:
                model.forward(part)

    benchmark.extra_info["tokens"] = int(np.asarray(batch.mask).sum())
    benchmark.extra_info["positions"] = int(sum(part.gene_ids.size for part in parts))
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["a block at once", "cell by cell"])
def test_tokenizing(benchmark, model, data, way):
    benchmark.group = f"{model.spec.name}: tokenizing {N_CELLS} cells"
    counts, match = data.counts(), model.match_genes(data.genes)
    if way.startswith("a block"):
        benchmark.pedantic(lambda: model.tokenize(counts, match), rounds=3, warmup_rounds=1)
    else:
        one = [counts[i] for i in range(N_CELLS)]
        benchmark.pedantic(lambda: [model.tokenize(cell, match) for cell in one], rounds=3, warmup_rounds=1)
