"""What several tests share: small made cells, the command line in this process, and where real data may lie."""

from __future__ import annotations

import os

# Tests share two cores: one thread each is faster, and results do not depend on it. Before numpy reads it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """What the two workers of `make test` take at a time: a file, or files that share a group.

    Files in a group need the same minutes of compilation (numba, JAX), which each process has to do anew. Groups with
    slow tests come first, so that at the end no worker waits for the other.
    """
    slow = set()
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))
        if item.get_closest_marker("slow"):
            slow.add(_group(item))
    items.sort(key=lambda item: _group(item) not in slow)


def _group(item):
    return item.get_closest_marker("xdist_group").args[0]


@pytest.fixture
def shared_data():
    """The real data sets; they are not part of the product."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data sets are not here (../shared/data)")
    return SHARED / "data"


def make_cells(n_cells=60, n_genes=80, n_types=3, seed=0, batches=1):
    """Counts with cell types that differ, as AnnData (CSR float32)."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n_cells) % n_types
    rates = rng.gamma(0.5, 2.0, (n_types, n_genes))
    counts = rng.poisson(rates[kinds]).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": np.array([f"type {k}" for k in kinds]),
            "batch": np.array([f"batch {k}" for k in rng.integers(0, batches, n_cells)]),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture
def cells():
    return make_cells()


@pytest.fixture
def cells_file(tmp_path, cells):
    path = tmp_path / "cells.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.fixture
def bench(capfd, tmp_path):
    """Run `cellfm-bench` in this process: (exit code, standard output, standard error)."""
    from harness.__main__ import main

    def run(*arguments):
        arguments = [str(a) for a in arguments]
        if arguments[0] == "run":
            arguments += [f"results={tmp_path}/results", f"cache={tmp_path}/cache"]
        code = main(arguments)
        out = capfd.readouterr()
        return code, out.out, out.err

    return run
