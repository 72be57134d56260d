"""Checks of weights: saving and loading is the identity, parts are refused, every tensor can be trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoints import read_safetensors, read_torch
from harness.conformance.reproducible import global_states_kept
from harness.conformance.trial import SAVE_ATOL, SEED, Trial, require, same
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.tokens import TokenBatch

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".torch", ".model")


def check_frozen(trial: Trial) -> None:
    """A network comes in eval mode, without gradients, and counts its parameters."""
    model = trial.adapter
    training = [name or "the network" for name, module in model.network.named_modules() if module.training]
    require(not training, f"in training mode: {', '.join(training[:4])}")
    open_ = [name for name, p in model.network.named_parameters() if p.requires_grad]
    require(not open_, f"{len(open_)} parameters require a gradient before training: {', '.join(open_[:4])}")
    n = sum(p.numel() for p in model.network.parameters())
    require(model.n_params == n, f"n_params is {model.n_params}, the network has {n}")


def check_seeds(trial: Trial) -> None:
    """`from_scratch` with one seed gives one network, with another seed another."""
    if trial.checkpoint is not None:
        raise NotApplicableError("weights are given")
    first = trial.adapter.network.state_dict()
    again, other = trial.build(seed=0).network.state_dict(), trial.build(seed=1).network.state_dict()
    moved = [key for key in first if not first[key].equal(again[key])]
    require(not moved, f"seed 0 twice gives different weights: {', '.join(moved[:4])}")
    require(any(not first[key].equal(other[key]) for key in first), "seed 0 and seed 1 give the same weights")


def check_save_load(trial: Trial) -> None:
    """What was saved and loaded embeds as before, with the same vocabulary, context and read-out."""
    before = trial.adapter
    after = trial.cls.from_checkpoint(trial.saved, **trial.options)
    require(before.token_names.tolist() == after.token_names.tolist(), "the vocabulary changed by saving and loading")
    for what in ("embedding_size", "context_length", "readout", "n_params"):
        old, new = getattr(before, what), getattr(after, what)
        require(old == new, f"{what} was {old!r} and is {new!r} after saving and loading")
    found = trial.embed(trial.cells, model=after)
    same(found, trial.reference, trial.names, "saved and loaded", atol=SAVE_ATOL, rtol=SAVE_ATOL)


# -- damaged checkpoints ----------------------------------------------------------------------------------


def _largest_state(content: Any) -> dict[str, Any] | None:
    """The dictionary with the most tensors in what a torch file holds, however it is wrapped."""
    import torch

    if not isinstance(content, dict):
        return None
    found = [_largest_state(value) for value in content.values()]
    if sum(isinstance(value, torch.Tensor) for value in content.values()) > 1:
        found.append(content)
    return max((state for state in found if state), key=len, default=None)


def _records(content: bytes) -> list[bytes] | None:
    """The records of a MindSpore checkpoint (protobuf: field 1, repeated); None for any other file."""
    records, at = [], 0
    while at < len(content):
        start, size, shift = at, 0, 0
        if content[at] != 0x0A:
            return None
        at += 1
        while True:  # the length, seven bits at a time
            if at >= len(content) or shift > 63:
                return None
            size |= (content[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not content[at - 1] & 0x80:
                break
        at += size
        records.append(content[start:at])
    return records if records and at == len(content) else None


Edit = Callable[[dict[str, Any]], dict[str, Any]]


def _half(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for i, (key, value) in enumerate(state.items()) if i % 2}


def _renamed(state: dict[str, Any]) -> dict[str, Any]:
    alone = len(state) == 1
    return {f"{key}.renamed" if i % 2 or alone else key: value for i, (key, value) in enumerate(state.items())}


def _rewrite(path: Path, edit: Edit) -> bool:
    """Change the tensors of a weight file by `edit`; whether it is a file this knows to change."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(edit(read_safetensors(path)), path, metadata={"format": "pt"})
        return True
    import torch

    try:
        content = read_torch(path)
    except InputError:
        records = _records(path.read_bytes())
        if records is None or edit is not _half:
            return False
        path.write_bytes(b"".join(_half({str(i): record for i, record in enumerate(records)}).values()))
        return True
    state = _largest_state(content)
    if state is None:
        return False
    edited = edit(state)
    state.clear()
    state.update(edited)
    torch.save(content, path)
    return True


def _weight_files(trial: Trial) -> Iterator[Path]:
    """Each weight file of the saved model, one at a time, in a copy of the checkpoint that may be spoiled."""
    saved = trial.saved
    found = [path for path in sorted(saved.rglob("*")) if path.suffix in WEIGHT_SUFFIXES and path.is_file()]
    if not found:
        files = ", ".join(sorted(path.name for path in saved.rglob("*") if path.is_file()))
        raise NotApplicableError(f"no weight file of a known kind was saved ({files or 'nothing'})")
    for path in found:
        copy = trial.folder / "spoiled"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(saved, copy)
        yield copy / path.relative_to(saved)


def _refused(trial: Trial, words: str) -> None:
    try:
        trial.cls.from_checkpoint(trial.folder / "spoiled")
    except InputError:
        return
    except Exception as error:
        require(False, f"{words}: {type(error).__name__} instead of wrong input: {error}")
    require(False, f"{words} was loaded without a word")


def check_partial_weights(trial: Trial) -> None:
    """A checkpoint with half of its tensors gone, or renamed, is refused."""
    changed = 0
    for path in _weight_files(trial):
        original = path.read_bytes()
        for edit, words in ((_half, "half of its tensors removed"), (_renamed, "half of its tensors renamed")):
            path.write_bytes(original)
            if _rewrite(path, edit):
                changed += 1
                _refused(trial, f"{path.name} with {words}")
    if not changed:
        raise NotApplicableError("the weights are saved in no format whose tensors can be taken out here")


def check_truncated_weights(trial: Trial) -> None:
    """A weight file cut short (an interrupted download) is refused."""
    for path in _weight_files(trial):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        _refused(trial, f"{path.name} cut in half")


# -- training ---------------------------------------------------------------------------------------------


def check_gradients(trial: Trial) -> None:
    """The pretraining loss is finite, repeatable from its generator, and reaches every tensor."""
    import torch

    model = trial.build()
    batch = _training_batch(trial)
    parameters = dict(model.network.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)

    def loss(seed: int) -> Any:
        return model.pretraining_loss(batch, torch.Generator().manual_seed(seed)).total

    with global_states_kept():
        total = loss(0)
        require(total.ndim == 0 and torch.isfinite(total), f"the loss is {total}")
        torch.manual_seed(99)
        again = float(loss(0))
        require(
            abs(again - float(total)) <= 1e-5 * abs(again),
            f"the same generator gives the losses {float(total):g} and {again:g}",
        )
        for seed in range(3):
            loss(seed).backward()
    without = [name for name, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0]
    require(
        not without,
        f"{len(without)} of {len(parameters)} tensors get no gradient from the loss: {', '.join(without[:6])}",
    )
    broken = [name for name, p in parameters.items() if p.grad is not None and not torch.isfinite(p.grad).all()]
    require(not broken, f"the gradient of {', '.join(broken[:4])} is not finite")


def check_loss_parts(trial: Trial) -> None:
    """The pretraining loss of a batch is that of its parts added up: a cell's masks do not depend on the others."""
    import torch

    batch = _training_batch(trial)

    def parts(rows: np.ndarray) -> dict[str, tuple[float, float]]:
        loss = trial.adapter.pretraining_loss(batch.take(rows), torch.Generator().manual_seed(SEED))
        sums = loss.sums()
        require(set(sums) == set(loss.counts), f"terms {sorted(sums)} are summed and {sorted(loss.counts)} counted")
        return {name: (float(total), float(loss.counts[name])) for name, total in sums.items()}

    everyone = np.arange(len(batch))
    with torch.inference_mode():
        whole = parts(everyone)
        shares = [parts(rows) for rows in np.array_split(everyone[::-1], 3) if len(rows)]
    for name, (total, count) in whole.items():
        found = [sum(share[name][i] for share in shares) for i in range(2)]
        require(
            found[1] == count, f"{name}: {found[1]:g} are predicted in three parts of a batch, {count:g} in the whole"
        )
        require(
            abs(found[0] - total) <= 1e-4 * max(abs(total), 1.0),
            f"{name}: the sum over three parts of a batch is {found[0]:g}, over the whole {total:g}",
        )


def _training_batch(trial: Trial) -> TokenBatch:
    """Without the cell that fills the context: training steps on it take long and add nothing."""
    rows = np.setdiff1d(np.flatnonzero(trial.readable), trial.rows("crowded"))
    genes = GeneTable.from_var(trial.cells.var)
    return trial.adapter.tokenize(CellData(trial.cells).counts(rows), genes, seed=SEED)
