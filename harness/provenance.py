"""Where a number comes from and what it took: versions, hardware, commit; time and peak memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from harness.registry import ROOT

#: Packages whose version can change a number.
PACKAGES = (
    "cellfm-bench",
    "anndata",
    "jax",
    "mindspore",
    "numpy",
    "pandas",
    "scanpy",
    "scib-metrics",
    "scikit-learn",
    "scipy",
    "torch",
    "umap-learn",
)


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of what is installed of `PACKAGES`."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Commit of this checkout, `+` appended where files were changed; None for an installed package."""
    try:
        run = ["git", "-C", str(ROOT)]
        top = subprocess.run([*run, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, timeout=10)
        lines = top.stdout.split()
        if top.returncode or len(lines) != 2 or os.path.realpath(lines[0]) != str(ROOT):
            return None
        changed = subprocess.run([*run, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
        return lines[1] + ("+" if changed.stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def hardware() -> dict[str, Any]:
    """Processor, cores and memory; the GPU where torch is loaded and sees one."""
    import psutil

    about: dict[str, Any] = {
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


class CostMeter:
    """Seconds and peak memory of a block of work.

    Peak resident memory is sampled twenty times a second: the high-water mark of the process would charge a
    run with what earlier runs of the same process needed.
    """

    def __enter__(self) -> Self:
        import psutil

        self._process = psutil.Process()
        self._stop = threading.Event()
        self.peak_rss_mb = self._process.memory_info().rss / 2**20
        self.peak_gpu_mb: float | None = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        self._start = time.perf_counter()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            self.peak_rss_mb = max(self.peak_rss_mb, self._process.memory_info().rss / 2**20)

    @property
    def seconds(self) -> float:
        """Seconds since the block was entered, or of the whole block once left."""
        return getattr(self, "_seconds", time.perf_counter() - self._start)

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._start
        self._stop.set()
        self._thread.join()
        self.peak_rss_mb = max(self.peak_rss_mb, self._process.memory_info().rss / 2**20)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            self.peak_gpu_mb = torch.cuda.max_memory_allocated() / 2**20
