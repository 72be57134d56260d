"""Which device a network runs on, and what of it belongs into a run's identity."""

from __future__ import annotations

from harness.errors import InputError


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


def _npu() -> bool:
    import importlib.util

    if importlib.util.find_spec("torch_npu") is None:
        return False
    import torch
    import torch_npu  # noqa: F401  (registers torch.npu)

    return bool(torch.npu.is_available())  # type: ignore[attr-defined]
