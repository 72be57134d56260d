"""What scoring an atlas costs: 100,000 made cells with vectors of 512 dimensions, `cellfm-bench run task=integration`.

    python -m tests.benchmarks.integration_scale [FOLDER] [--cells N] [--subsample N|none]

Prints wall and CPU seconds and the peak resident memory of the whole command, reading, embedding, scoring and layout
included, beside its scores. Not part of the suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

TYPES, BATCHES, GENES, DIMENSIONS = 12, 6, 2000, 512


def write(path: Path, n_cells: int) -> None:
    """Cells of twelve types in six batches that shift every gene a little, about an eighth of the genes expressed."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.15, 1.0, (TYPES, GENES))
    shifts = np.exp2(rng.normal(0, 0.3, (BATCHES, GENES)))
    kind, batch = rng.integers(0, TYPES, n_cells), rng.integers(0, BATCHES, n_cells)
    blocks = [
        sp.csr_matrix(rng.poisson(rates[kind[i : i + 2000]] * shifts[batch[i : i + 2000]]).astype(np.float32))
        for i in range(0, n_cells, 2000)
    ]
    obs = pd.DataFrame(
        {"cell_type": [f"type {k}" for k in kind], "batch": [f"batch {b}" for b in batch]},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(GENES)])
    anndata.AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=var).write_h5ad(path)


def measure(folder: Path, n_cells: int, subsample: str) -> dict[str, object]:
    """Seconds, memory and scores of the command, in a process of its own."""
    path = folder / f"{n_cells}.h5ad"
    if not path.exists():
        write(path, n_cells)
    results = folder / f"results_{subsample}"
    command = [sys.executable, "-m", "harness", "run", "model=random_projection", f"model.n_components={DIMENSIONS}"]
    command += ["task=integration", f"dataset.path={path}", "dataset.cell_type=cell_type", "dataset.batch=batch"]
    command += [f"task.subsample={subsample}", f"results={results}", f"cache={folder / 'cache'}"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    [record] = results.glob("*.json")
    about = json.loads(record.read_text())
    return {
        "cells": n_cells,
        "scored": about["notes"]["cells scored"],
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_rss_mb": round(used.ru_maxrss / 1024),  # Linux gives kilobytes
        "scores": {m["name"]: m["value"] for m in about["metrics"] if m["scope"] == "overall"},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--subsample", default="10000")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(folder, given.cells, given.subsample), indent=1))
