"""Which device a network runs on, and what of it belongs into a run's identity."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from harness.errors import InputError
from harness.ranks import Ranks, torchrun


def resolve_device(wanted: str) -> str:
    """`auto` -> cuda, npu or cpu; a device that is not there is wrong input, never a silent fall-back.

    Raises
    ------
    InputError
        The device is not on this machine.
    """
    import torch

    kind = wanted.split(":")[0]
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "npu" if _npu() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={wanted}: torch {torch.__version__} sees no CUDA GPU here; use device=cpu")
    if kind == "npu" and not _npu():
        raise InputError(f"device={wanted}: torch_npu is not installed or sees no Ascend NPU; use device=cpu")
    return wanted


def device_for(model: Any, options: Mapping[str, Any], wanted: str) -> str:
    """`resolve_device`, or what the model's class says: one whose network another framework computes has a classmethod
    `resolve_device(wanted, options)` of its own.
    """
    own = getattr(model, "resolve_device", None)
    return own(wanted, options) if own else resolve_device(wanted)


def processes_for(model: Any, options: Mapping[str, Any], device: str) -> AbstractContextManager[Ranks]:
    """The processes that train together: those of torchrun, or by the classmethod `processes(device, options)`."""
    own = getattr(model, "processes", None)
    return own(device, options) if own else torchrun(device)


def _npu() -> bool:
    import importlib.util

    if importlib.util.find_spec("torch_npu") is None:
        return False
    import torch
    import torch_npu  # noqa: F401  (registers torch.npu)

    return bool(torch.npu.is_available())  # type: ignore[attr-defined]
