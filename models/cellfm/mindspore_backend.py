"""The MindSpore network in the place of the torch one: tensors in, tensors out, and no gradient for torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from harness.errors import InputError, NotApplicableError
from harness.ranks import Ranks

if TYPE_CHECKING:
    from torch import Tensor

    from models.cellfm import mindspore_gradients, mindspore_network
    from models.cellfm.torch_network import CellFMNetwork

#: What computes the network.
BACKENDS = ("torch", "mindspore")
#: The engine's name of a device -> MindSpore's.
TARGETS = {"cpu": "CPU", "cuda": "GPU", "npu": "Ascend"}
NOT_TRAINED = (
    "PyTorch reaches no gradient in CellFM with model.backend=mindspore, which MindSpore pretrains; fine-tune with "
    "model.backend=torch"
)


def check(backend: str) -> None:
    """Refuse an unknown backend, and MindSpore where it is missing.

    Raises
    ------
    InputError
        With the command that installs it.
    """
    if backend not in BACKENDS:
        raise InputError(f"model.backend={backend}: CellFM runs on {' or '.join(BACKENDS)}")
    if backend == "mindspore" and find_spec("mindspore") is None:
        raise InputError(
            "model.backend=mindspore: MindSpore is not installed here. Install it: pip install "
            "'cellfm-bench[mindspore]' (Python 3.11 or 3.12), or leave model.backend=torch"
        )


def resolve_device(wanted: str) -> str:
    """`auto` -> the best there is; anything else as it is, if MindSpore reaches it.

    Parameters
    ----------
    wanted
        `auto`, `cpu`, `cuda`, `npu`, or with an index, `npu:1`.

    Raises
    ------
    InputError
        Unknown, or this MindSpore does not reach it.
    """
    import mindspore as ms

    def reached(kind: str) -> bool:
        # Asking for what is not there makes MindSpore log, so the CPU is not asked for.
        return kind == "cpu" or bool(ms.hal.is_available(TARGETS[kind]))

    if wanted == "auto":
        return next(kind for kind in ("npu", "cuda", "cpu") if reached(kind))
    kind, colon, index = wanted.partition(":")
    if kind not in TARGETS or (colon and not index.isdecimal()):
        raise InputError(f"device={wanted}: model.backend=mindspore runs on auto, {', '.join(TARGETS)}")
    if not reached(kind):
        raise InputError(f"device={wanted}: MindSpore {ms.__version__} reaches no {TARGETS[kind]} here; use device=cpu")
    return wanted


def select_device(device: str) -> None:
    """Put MindSpore into GRAPH mode on a device, for the whole process.

    Raises
    ------
    InputError
        It has begun on another one.
    """
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    if _selected == [device]:  # MindSpore refuses the same again where processes are connected
        return
    kind, _, index = device.partition(":")
    try:
        if index and kind != "cpu":
            ms.set_device(TARGETS[kind], int(index))
        else:
            ms.set_device(TARGETS[kind])
    except RuntimeError as error:
        raise InputError(
            f"device={device}: MindSpore cannot take it in this process ({str(error).splitlines()[0]}); it stays with "
            "the first device it is given"
        ) from None
    _selected[:] = [device]


#: The device this process has chosen.
_selected: list[str] = []


class MindSporeRanks(Ranks):
    """Processes that MindSpore connects: see `harness.ranks.Ranks`."""

    def sums(self, values: Mapping[str, float], device: Any = "cpu") -> dict[str, float]:
        """Each value summed over the processes, with the precision of float32 (its collectives have no float64)."""
        import mindspore as ms

        total = _sum_over_processes()(ms.Tensor(np.array(list(values.values()), np.float32)))
        return dict(zip(values, total.asnumpy().astype(np.float64).tolist(), strict=True))

    def gather(self, item: Any) -> list[Any]:
        """Not here: the learner needs it not."""
        raise NotApplicableError("MindSpore's processes exchange sums only")


@cache
def _sum_over_processes() -> Any:
    from models.cellfm.mindspore_optimizer import ByRank, SumOverProcesses

    return ByRank(SumOverProcesses)


@contextmanager
def msrun(device: str) -> Iterator[Ranks]:
    """The processes msrun started (its variables MS_ROLE, MS_WORKER_NUM, DEVICE_ID), connected; else this one alone.

    Parameters
    ----------
    device
        `cpu`, `cuda` or `npu`: which collectives connect them (MCCL, NCCL, HCCL).
    """
    role = os.environ.get("MS_ROLE")
    if role not in ("MS_WORKER", "MS_SCHED"):
        yield Ranks()
        return
    from mindspore import communication

    if role == "MS_SCHED":  # msrun starts this command once more, to introduce the others to each other
        select_device("cpu")
        communication.init()
        raise SystemExit(0)
    local = int(os.environ.get("DEVICE_ID", "0"))
    select_device(device if device == "cpu" or ":" in device else f"{device}:{local}")
    communication.init()
    try:
        yield MindSporeRanks(communication.get_rank(), communication.get_group_size(), local)
    finally:
        communication.release()


class MindSporeNetwork:
    """What the adapter and the engine use of a network, computed by MindSpore.

    Weights come from the torch network, which has read or initialised them, and are shown as its tensors. The
    graphs are built at the first pass, on the device chosen by then.

    Parameters
    ----------
    network
        With its parameters set; changed by training only.

    Raises
    ------
    InputError
        Its architecture is not CellFM's own.
    """

    def __init__(self, network: CellFMNetwork):
        self.config = network.config
        if self.config.switches:
            chosen = ", ".join(f"model.{name}={value}" for name, value in self.config.switches.items())
            raise InputError(f"{chosen}: model.backend=mindspore has CellFM's own architecture only; use backend=torch")
        self._weights = network
        self._device = "cpu"
        self._embedding: mindspore_network.LayerwiseEmbedding | None = None
        self._errors: mindspore_gradients.Errors | None = None

    # -- the network as the engine handles it ---------------------------------------------------------

    @property
    def device(self) -> str:
        """Where it computes, by the engine's name."""
        return self._device

    @property
    def gene_emb(self) -> Tensor:
        """Static gene embeddings (rows, d)."""
        return self._weights.gene_emb

    def parameters(self) -> Iterator[Tensor]:
        """The parameters, to be counted."""
        return self._weights.parameters()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The same with their names."""
        return self._weights.named_parameters()

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """None: there is no torch module to hook into, wrap or train."""
        return iter(())

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> tensor, to be saved."""
        return self._weights.state_dict()

    def to(self, device: Any) -> Self:
        """Choose the device. Raises InputError where MindSpore does not reach it."""
        resolved = resolve_device(str(device))
        if resolved != self._device:
            self._device, self._embedding, self._errors = resolved, None, None
        return self

    def eval(self) -> Self:
        """It always is in eval mode."""
        return self

    def train(self, mode: bool = True) -> Self:
        """The engine trains it by `mindspore_learner` only."""
        if mode:
            raise NotApplicableError(NOT_TRAINED)
        return self

    def requires_grad_(self, wanted: bool = True) -> Self:
        """No gradient reaches torch from here."""
        return self.train(wanted)

    # -- what it computes -----------------------------------------------------------------------------

    def embed(self, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `torch_network.CellFMNetwork.embed`, with tensors of the CPU.

        Raises NotApplicableError where a gradient of the parameters is wanted, rather than give none.
        """
        import torch

        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
            raise NotApplicableError(NOT_TRAINED)
        cell, genes = self._on_device()(*_in_mindspore(ids.int(), values, mask))
        return torch.from_numpy(cell), torch.from_numpy(genes)

    def refuse_gradients(self) -> None:
        """Raise NotApplicableError where gradients are switched on, rather than give a loss that has none."""
        import torch

        if torch.is_grad_enabled():
            raise NotApplicableError(NOT_TRAINED)

    def prediction_errors(self, *batch: Tensor) -> dict[str, Tensor]:
        """The sums of `objective.masked_losses`, for `ids`, `values`, `mask`, `visible` and `counted` of the CPU."""
        import torch

        if self._errors is None:
            from models.cellfm.mindspore_gradients import Errors

            self._errors = Errors.to_be_called(self.in_mindspore())
        sums = self._errors(*_in_mindspore(batch[0].int(), *batch[1:]))
        return {name: torch.tensor(float(total)) for name, total in zip(("gene", "cell"), sums, strict=True)}

    def _on_device(self) -> mindspore_network.LayerwiseEmbedding:
        if self._embedding is None:
            from models.cellfm.mindspore_network import LayerwiseEmbedding

            self._embedding = LayerwiseEmbedding(self.in_mindspore())
        return self._embedding

    # -- training -------------------------------------------------------------------------------------

    def in_mindspore(self) -> mindspore_network.CellFMNetwork:
        """A copy as MindSpore cells, on the device."""
        from models.cellfm.mindspore_network import CellFMNetwork

        select_device(self._device)
        state = {name: tensor.numpy() for name, tensor in self._weights.state_dict().items()}
        return CellFMNetwork.of_state(self.config, state)

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Have these weights (name -> tensor) from now on; others stay."""
        state = self._weights.state_dict()
        for name, tensor in weights.items():
            state[name].copy_(tensor)
        self._embedding = self._errors = None


def _in_mindspore(*tensors: Tensor) -> list[Any]:
    import mindspore as ms

    return [ms.Tensor(tensor.cpu().numpy()) for tensor in tensors]
