"""Checks that a number is the same again: in another process, with other threads, whatever was drawn before."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.conformance.trial import SEED, CheckFailedError, Trial, require, same
from harness.data import CellData
from harness.errors import NotApplicableError, one_line
from harness.genes import GeneTable

#: Seconds another process may take for one model.
TIME_LIMIT = 600


def _global_states() -> dict[str, Any]:
    import torch

    numpy_state: Any = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy.random": (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        "torch": torch.get_rng_state().tolist(),
    }


@contextmanager
def global_states_kept() -> Iterator[None]:
    """Put the global generators back as they were."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def check_global_generators(trial: Trial) -> None:
    """Global generators of Python, numpy and torch are neither read nor advanced."""
    import torch

    reference = trial.reference
    with global_states_kept():
        for seed in (11, 12):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            before = _global_states()
            found = trial.embed(trial.cells)
            after = _global_states()
            same(found, reference, trial.names, f"after seeding the global generators with {seed}")
            moved = [name for name in before if before[name] != after[name]]
            require(not moved, f"embed_cells advanced the global generator of {', '.join(moved)}")
        before = _global_states()
        trial.build()
        after = _global_states()
        moved = [name for name in before if before[name] != after[name]]
        require(not moved, f"making the model advanced the global generator of {', '.join(moved)}")


def check_threads(trial: Trial) -> None:
    """One thread or several: the same within the tolerance."""
    import torch

    reference, threads = trial.reference, torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            same(trial.embed(trial.cells), reference, trial.names, f"with {n} threads")
    finally:
        torch.set_num_threads(threads)


def check_processes(trial: Trial) -> None:
    """Another process, with another hash seed and number of threads, makes the same model and the same numbers."""
    reference = trial.reference
    if trial.elsewhere is None:
        embed_elsewhere([trial])
    if isinstance(trial.elsewhere, Exception):
        raise trial.elsewhere
    same(np.asarray(trial.elsewhere), reference, trial.names, "in another process")


def embed_elsewhere(trials: Sequence[Trial]) -> None:
    """Embed the cells of some trials in one other process; each trial's `elsewhere` is the array or the error.

    One process for all of them, because importing torch is what takes the time.
    """
    jobs = []
    for trial in trials:
        if trial.cls.__module__ == "__main__" or "<locals>" in trial.cls.__qualname__:
            trial.elsewhere = NotApplicableError("its class cannot be imported by name")
            continue
        jobs.append(
            {
                "class": f"{trial.cls.__module__}:{trial.cls.__qualname__}",
                "checkpoint": None if trial.checkpoint is None else str(trial.checkpoint.resolve()),
                "variant": trial.variant,
                "options": trial.options,
                "genes": {part: getattr(trial.vocabulary, part).tolist() for part in ("names", "symbols", "ensembl")},
                "cells": str(trial.stored_cells),
                "out": str(trial.folder / "elsewhere.npy"),
            }
        )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4321",
        "OMP_NUM_THREADS": "2",
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from harness.conformance.reproducible import embed_jobs; embed_jobs()"],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIME_LIMIT * len(jobs),
        check=False,
    )
    for trial in (trial for trial in trials if trial.elsewhere is None):
        out, error = trial.folder / "elsewhere.npy", trial.folder / "elsewhere.txt"
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        trial.elsewhere = (
            np.load(out)
            if out.is_file()
            else CheckFailedError(f"in another process: {error.read_text() if error.is_file() else last[0]}")
        )


def _embed_job(job: dict[str, Any]) -> np.ndarray:
    import anndata

    from harness.registry import load_object

    trial = Trial(
        load_object(job["class"]), checkpoint=job["checkpoint"], variant=job["variant"], options=job["options"]
    )
    parts = {part: np.asarray(values, np.str_) for part, values in job["genes"].items()}
    trial.vocabulary = GeneTable(**parts)
    trial.cells = anndata.read_h5ad(job["cells"])
    return np.asarray(trial.model.embed_cells(CellData(trial.cells), seed=SEED))


def embed_jobs() -> None:
    """What the other process does: embed the jobs it reads, one file of numbers or of an error each."""
    for job in json.load(sys.stdin):
        out = Path(job["out"])
        try:
            np.save(out, _embed_job(job))
        except Exception as error:
            out.with_suffix(".txt").write_text(f"{type(error).__name__}: {one_line(error)}")
