"""Training steps of a torch network: parts of a batch, lower precision, recomputation, several devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.embedding import autocast
from harness.errors import InternalError
from harness.model import ModelAdapter
from harness.ranks import Ranks
from harness.recipe import Recipe
from harness.tokens import TokenBatch


class TorchLearner:
    """`harness.learner.Learner` for a torch network.

    A step is that of the whole batch, however it is divided over parts and processes: the loss is a ratio over all that
    is predicted, so the counts are added up first, and the gradients of the sums then.

    Parameters
    ----------
    model
        With its network on the device.
    recipe
        How to train.
    seed
        Of dropout.
    ranks
        The processes that train together. Each holds the network (DDP) or, with `recipe.shard`, a part of it (FSDP).
    """

    def __init__(self, model: ModelAdapter, recipe: Recipe, seed: int = 0, ranks: Ranks | None = None):
        self.model, self.recipe, self.seed, self.ranks = model, recipe, seed, ranks or Ranks()
        self._around = ExitStack()

    def __enter__(self) -> Self:
        network, device = self.model.network, str(self.model.device)
        self._around.enter_context(training_mode(network, self.seed + 7919 * self.ranks.rank, device))
        if self.recipe.recompute:
            self._around.enter_context(recomputing(network))
        call = _Call(network)
        self._network: Any = call
        self._sharded = self.recipe.shard and self.ranks.world > 1
        if self._sharded:
            _shard(call)
        elif self.ranks.world > 1:
            where = None if device == "cpu" else [torch.device(device)]
            self._network = nn.parallel.DistributedDataParallel(call, device_ids=where, find_unused_parameters=True)
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(self._parameters, self.recipe)
        return self

    def __exit__(self, *_: object) -> None:
        if self._sharded:
            _gather(self.model.network)
        self._around.close()

    def step(self, batch: TokenBatch, generator: Any, learning_rate: float, *, weight: float = 1.0) -> float:
        """See `harness.learner.Learner.step`."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        losses = list(self._losses(batch, generator))
        counts = self._counts(losses, weight)
        self._optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for i, loss in enumerate(losses):
            with self._together(last=i + 1 == len(losses)):
                with autocast(self.model):
                    sums = self._network(loss.sums)
                part = torch.stack([sums[name] / max(counts[name], 1.0) for name in sums]).sum() * weight
                value += float(part.detach())
                # DDP and FSDP average gradients over the processes; parts of one loss are to be added.
                (part * self.ranks.world).backward()
        value = self.ranks.sums({"loss": value}, self.model.device)["loss"]
        if not np.isfinite(value):
            raise InternalError(f"{self.model.spec.name}: the loss became {value}")
        clip_gradients(self._parameters, self.recipe)
        self._optimizer.step()
        return value

    def _losses(self, batch: TokenBatch, generator: Any) -> Iterator[Any]:
        """The loss of each part, masks drawn as for the whole batch."""
        n = max(1, min(self.recipe.accumulate, len(batch)))
        before = generator.get_state()
        for rows in np.array_split(np.arange(len(batch)), n):
            generator.set_state(before)
            yield self.model.pretraining_loss(batch.take(rows) if n > 1 else batch, generator)

    def _counts(self, losses: Iterable[Any], weight: float) -> dict[str, float]:
        counts: dict[str, float] = {}
        for loss in losses:
            for name, count in loss.counts.items():
                counts[name] = counts.get(name, 0.0) + weight * float(count)
        return self.ranks.sums(counts, self.model.device)

    def _together(self, last: bool) -> Any:
        """Gradients are exchanged once, after the last part."""
        if self.ranks.world == 1 or last or self._sharded:
            return nullcontext()
        return self._network.no_sync()

    def state(self) -> dict[str, Any]:
        """See `harness.learner.Learner.state`."""
        if self._sharded:
            network, optimizer = _full_state(self.model.network, self._optimizer)
        else:
            network, optimizer = self.model.network.state_dict(), self._optimizer.state_dict()
        generators = self.ranks.gather(_generators(str(self.model.device)))
        return {"network": network, "optimizer": optimizer, "generators": generators}

    def restore(self, state: dict[str, Any]) -> None:
        """See `harness.learner.Learner.restore`."""
        if self._sharded:
            _set_full_state(self.model.network, self._optimizer, state)
        else:
            self.model.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
        _set_generators(state["generators"][self.ranks.rank], str(self.model.device))


def make_optimizer(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW over `parameters`, by the recipe."""
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon, weight_decay=recipe.weight_decay
    )


def clip_gradients(parameters: list[Tensor], recipe: Recipe) -> None:
    """Scale gradients that are larger than the recipe allows, all together or each tensor by itself."""
    if recipe.clip:
        for group in [parameters] if recipe.clip_by == "all" else [[parameter] for parameter in parameters]:
            nn.utils.clip_grad_norm_(group, recipe.clip)


@contextmanager
def training_mode(network: nn.Module, seed: int, device: str = "cpu") -> Iterator[None]:
    """The network in training mode, dropout drawn from `seed`; afterwards it, and the generators, are as they were."""
    before = _generators(device)
    wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    torch.default_generator.manual_seed(seed)  # dropout draws from the global generators
    if device.startswith("cuda"):
        torch.cuda.manual_seed(seed)
    network.train()
    if not any(wanted.values()):  # nothing was chosen to be trained: everything is
        network.requires_grad_(True)
    try:
        yield
    finally:
        _set_generators(before, device)
        network.eval().requires_grad_(False)


@contextmanager
def recomputing(network: nn.Module) -> Iterator[None]:
    """Layers that keep only what goes in: what is inside is computed again for the gradient."""
    blocks = layers_of(network)
    for block in blocks:
        block.forward = _recomputed(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*arguments: Any, **options: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False, **options)

    return again


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The repeated layers: what stands in a ModuleList, the outermost ones."""
    found: list[nn.Module] = []
    for module in network.children():
        found += list(module) if isinstance(module, nn.ModuleList) else layers_of(module)
    return found


class _Call(nn.Module):
    """The network for DDP and FSDP, whose hooks hang on `forward`: it is handed what is to be run."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, run: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        return run()


def _shard(call: _Call) -> None:
    from torch.distributed.fsdp import fully_shard

    for layer in layers_of(call.network):
        fully_shard(layer)
    fully_shard(call)


def _gather(network: nn.Module) -> None:
    """Whole parameters again in the place of the shards."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if hasattr(parameter, "full_tensor"):
                setattr(module, name, nn.Parameter(parameter.full_tensor().detach()))


def _full_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    return get_state_dict(network, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def _set_full_state(network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    set_state_dict(
        network,
        optimizer,
        model_state_dict=state["network"],
        optim_state_dict=state["optimizer"],
        options=StateDictOptions(full_state_dict=True),
    )


def _generators(device: str) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(states: Mapping[str, Tensor], device: str) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
