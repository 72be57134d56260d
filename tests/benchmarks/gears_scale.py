"""GEARS on data of the size of Norman 2019: 90,000 made cells of 5,000 genes, 237 conditions, 200 training steps.

    python -m tests.benchmarks.gears_scale [FOLDER] [--ways WAY ...] [--steps N] [--cells N] [--genes N]

Writes the cells (360 MB) into FOLDER, a temporary one by default, and prints for each way, in a process of its own with
one thread, seconds per step of 32 cells and per predicted condition, and the peak resident memory. The ways: `learned`
gene vectors; `static`, a projected table of 512 dimensions; `contextual`, such a table for each control cell, made when
it is asked for (held as a whole it would be the `contextual_gb` that are printed). Not part of the suite: it takes
minutes to an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from tests.benchmarks.gears_speed import BATCH, HIDDEN, ONE_THREAD, Stopwatch, made_problem, prepared

SINGLES, PAIRS, VALIDATION, CONTROLS, EXPRESSED, WIDTH, BASIS = 105, 132, 24, 0.09, 0.1, 512, 4
WAYS = ("learned", "static", "contextual")


def write(path: Path, n_cells: int, n_genes: int) -> None:
    """Cells that express a tenth of the genes each."""
    rng, per_cell = np.random.default_rng(0), int(n_genes * EXPRESSED)
    columns = np.empty((n_cells, per_cell), np.int32)
    for start in range(0, n_cells, 1000):
        drawn = rng.random((min(1000, n_cells - start), n_genes), np.float32)
        columns[start : start + len(drawn)] = np.sort(np.argpartition(drawn, per_cell, axis=1)[:, :per_cell], axis=1)
    values = rng.gamma(4.0, 0.3, columns.size).astype(np.float32)
    indptr = np.arange(n_cells + 1, dtype=np.int32) * per_cell
    sp.save_npz(path, sp.csr_matrix((values, columns.ravel(), indptr), shape=(n_cells, n_genes)), compressed=False)


class Contextual:
    """Vectors (B, G, d) of control cells as mixtures of a few tables, counted by the seconds they take to make."""

    def __init__(self, n_genes: int):
        self.tables = np.random.default_rng(2).normal(0, 1, (BASIS, n_genes * WIDTH)).astype(np.float32)
        self.clock = Stopwatch()

    def __call__(self, places: np.ndarray) -> np.ndarray:
        return self.clock(self._made, places)

    def _made(self, places: np.ndarray) -> np.ndarray:
        shares = np.sin(np.outer(1 + places, 1 + np.arange(BASIS))).astype(np.float32)
        return (shares @ self.tables).reshape(len(places), -1, WIDTH)


def peak_mb() -> int:
    """Peak resident memory of this process alone (Linux); what `getrusage` says starts with that of its parent."""
    [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM")]
    return round(int(line.split()[1]) / 1024)


def measure(way: str, path: Path, steps: int) -> dict[str, Any]:
    """Seconds and memory of one way, preparation included."""
    import torch

    from tasks.perturbation.gears_training import train

    torch.set_num_threads(1)
    values = sp.load_npz(path)
    n_genes = values.shape[1]
    embedding: Any = None
    if way == "static":
        embedding = np.random.default_rng(2).normal(0, 1, (n_genes, WIDTH)).astype(np.float32)
    elif way == "contextual":
        embedding = Contextual(n_genes)
    preparing, training, predicting = Stopwatch(), Stopwatch(), Stopwatch()
    problem = made_problem(values, SINGLES, PAIRS, VALIDATION, CONTROLS)
    fitted, (network, pairs, *rest), kwargs = preparing(prepared, problem, embedding)
    prepared_mb = peak_mb()
    chosen = np.random.default_rng(3).permutation(len(pairs.target))[: steps * BATCH]
    some = {name: getattr(pairs, name)[chosen] for name in ("basal", "target", "control", "code")}
    before = embedding.clock.spent.copy() if way == "contextual" else np.zeros(2)
    kwargs |= {"epochs": 1, "validate": None}
    losses = training(train, network, replace(pairs, **some), *rest, **kwargs)
    making = embedding.clock.spent - before if way == "contextual" else np.zeros(2)
    trained_mb = peak_mb()
    predicting(fitted.predict, problem.test)
    result: dict[str, Any] = {
        "way": way,
        "cells": values.shape[0],
        "genes": n_genes,
        "conditions": len(problem.cells.conditions) - 1,
        "hidden": HIDDEN,
        "steps": len(chosen) // BATCH,
        "mean_loss": losses[0],
        "prepare_s": preparing.spent,
        "step_s": training.spent / (len(chosen) // BATCH),
        "predict_condition_s": predicting.spent / len(problem.test),
        "peak_rss_mb_prepared": prepared_mb,
        "peak_rss_mb_trained": trained_mb,
        "peak_rss_mb": peak_mb(),
    }
    if way == "contextual":
        result["step_s_making_vectors"] = making / (len(chosen) // BATCH)
        result["contextual_gb"] = round(len(fitted.controls) * n_genes * WIDTH * 4 / 1e9, 1)
    named = {
        name: dict(zip(("wall", "cpu"), v.round(3).tolist(), strict=True))
        for name, v in result.items()
        if isinstance(v, np.ndarray)
    }
    return result | named


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cells", type=int, default=90_000)
    parser.add_argument("--genes", type=int, default=5000)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (given.folder or Path(temporary)) / f"gears_{given.cells}_{given.genes}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, given.cells, given.genes)
        if given.one:
            print(json.dumps(measure(given.one, path, given.steps), indent=1), flush=True)
        else:
            sizes = ["--steps", str(given.steps), "--cells", str(given.cells), "--genes", str(given.genes)]
            again = [sys.executable, "-m", "tests.benchmarks.gears_scale", str(path.parent), *sizes, "--one"]
            for way in given.ways:
                subprocess.run([*again, way], check=True, env=os.environ | ONE_THREAD)
