"""How much memory a large corpus needs: 200,000 made cells in four files, streamed by `cellfm-bench pretrain`.

    python -m tests.benchmarks.corpus_memory [FOLDER] [--cells N] [--tokens N]

Writes the files (1.6 GB) into FOLDER, a temporary one by default, trains a tiny CellFM on them, and prints the peak
resident memory. Not part of the suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

FILES, GENES, EXPRESSED = 4, 4000, 0.25


def write(path: Path, n_cells: int, seed: int) -> None:
    """Cells that express about a quarter of the genes each, counts from one upwards."""
    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, n_cells, 2000):
        where = rng.random((min(2000, n_cells - start), GENES), np.float32) < EXPRESSED
        block = sp.csr_matrix(where, dtype=np.float32)
        block.data += rng.poisson(1.0, block.nnz)
        blocks.append(block)
    obs = pd.DataFrame(index=[f"{path.stem}-{i}" for i in range(n_cells)])
    var = pd.DataFrame(index=[f"GENE{i}" for i in range(GENES)])
    anndata.AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=var).write_h5ad(path)


def measure(folder: Path, n_cells: int, tokens: int) -> dict[str, float]:
    """Peak memory (MB) and speed of a pretraining on `folder`, in a process of its own."""
    corpus, out = folder / "corpus", folder / "model"
    corpus.mkdir(exist_ok=True)
    for number in range(FILES):
        path = corpus / f"{number}.h5ad"
        if not path.exists():
            write(path, n_cells // FILES, number)
    command = [sys.executable, "-m", "harness", "pretrain", "model=cellfm", f"corpus.path={corpus}", f"out={out}"]
    subprocess.run([*command, f"corpus.tokens={tokens}", "device=cpu"], check=True)
    about = json.loads((out / "pretraining.json").read_text())
    return {
        "cells": about["corpus"]["cells"],
        "file_mb": sum(path.stat().st_size for path in corpus.iterdir()) / 1e6,
        "peak_rss_mb_training": about["peak_rss_mb"],
        # Linux gives kilobytes: of the whole process, opening and hashing the files included.
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "tokens_per_s": about["tokens_per_s"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--tokens", type=int, default=5_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(given.folder or Path(temporary), given.cells, given.tokens), indent=1))
