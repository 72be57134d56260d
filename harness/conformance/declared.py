"""Checks that what a model says of itself is true: its spec, sizes, context, read-outs and capabilities."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from harness.conformance.trial import SEED, Trial, require, same
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.model import FittedEmbedder, ModelAdapter, TaskBaseline
from harness.precomputed import PrecomputedVectors
from harness.spec import ModelSpec

KINDS: dict[str, type] = {
    "foundation": ModelAdapter,
    "embedding": FittedEmbedder,
    "predictor": TaskBaseline,
    "precomputed": PrecomputedVectors,
}


def check_spec(trial: Trial) -> None:
    """The spec is complete and fits the class."""
    from harness.checks import CHECKS

    spec = trial.cls.spec
    require(isinstance(spec, ModelSpec), f"spec is a {type(spec).__name__}, not a ModelSpec")
    require(re.fullmatch(r"[a-z0-9_-]+", spec.name), f"the name {spec.name!r} is not of [a-z0-9_-]+")
    require(spec.name == trial.name, f"registered as {trial.name!r}, but its spec says {spec.name!r}")
    require(spec.title and spec.version, "title or version is empty")
    require(spec.kind in KINDS, f"kind is {spec.kind!r}; known: {', '.join(KINDS)}")
    wrong = [k for k, base in KINDS.items() if k != spec.kind and issubclass(trial.cls, base)]
    require(not wrong, f"kind is {spec.kind!r}, but the class is a {' and '.join(wrong)}")
    require(spec.gene_ids in ("symbol", "ensembl", "protein", "any"), f"gene_ids is {spec.gene_ids!r}")
    require(spec.control or not spec.reads_labels, "it reads labels, which only a control may")
    if spec.kind == "predictor":
        require(spec.tasks, "a predictor names the tasks it can do")
    else:
        require(spec.readouts, "no read-out is declared")
        require(len(set(spec.readouts)) == len(spec.readouts), f"read-outs repeat: {spec.readouts}")
    if spec.kind == "foundation":
        require(spec.paper and spec.pretraining and spec.species, "paper, pretraining or species is missing")
    for name, reason in spec.expected_failures.items():
        require(name in CHECKS, f"expected_failures names {name!r}, which is no check")
        require(reason and reason.strip(), f"the expected failure of {name!r} has no reason")


def check_draws(trial: Trial) -> None:
    """The run's seed changes an embedding if, and only if, `spec.draws` says so: runs are cached by it."""
    found = trial.embed(trial.cells, seed=SEED + 1)
    if not trial.spec.draws:
        same(found, trial.reference, trial.names, "spec.draws is False, yet with another seed")
    elif found.shape == trial.reference.shape:
        equal = np.array_equal(found, trial.reference, equal_nan=True)
        require(not equal, "spec.draws is True, but seeds 0 and 1 give the same embeddings")


def _tokens(trial: Trial) -> Any:
    genes = GeneTable.from_var(trial.cells.var)
    return trial.adapter.tokenize(CellData(trial.cells).counts(), genes, seed=SEED)


def check_tokens(trial: Trial) -> None:
    """Token arrays keep to their types and to the vocabulary, and are no longer than the context."""
    batch, model = _tokens(trial), trial.adapter
    ids, mask = np.asarray(batch.gene_ids), np.asarray(batch.mask)
    require(ids.dtype == np.int64, f"gene_ids is {ids.dtype}, not int64")
    require(mask.dtype == bool and mask.shape == ids.shape, f"mask is {mask.dtype} {mask.shape} for ids {ids.shape}")
    if batch.values is not None:
        values = np.asarray(batch.values)
        require(
            values.dtype == np.float32 and values.shape == ids.shape,
            f"values is {values.dtype} {values.shape} for ids {ids.shape}",
        )
    lengths = batch.lengths()
    most = int(lengths.argmax())
    require(
        lengths[most] <= model.context_length,
        f"{trial.names[most]} has {lengths[most]} tokens, context_length is {model.context_length}",
    )
    n = len(model.token_names)
    require(ids.min() >= 0 and ids.max() < n, f"ids from {ids.min()} to {ids.max()} for {n} token names")
    read = mask.any(axis=1)
    wrong = [trial.names[row] for row in np.flatnonzero(read != trial.readable)]
    require(not wrong, f"the mask is wrong about which cells can be embedded: {', '.join(wrong)}")
    gaps = np.flatnonzero(mask.sum(axis=1) != lengths)
    require(not len(gaps), f"{len(gaps)} cells have padding between their tokens; it belongs on the right")


def check_forward(trial: Trial) -> None:
    """Numpy and torch batches give the same, in inference mode and with gradients."""
    import torch

    model = trial.adapter
    rows = trial.rows("ordinary-0", "ordinary-1")
    batch = _tokens(trial).take(rows)
    names = [trial.names[row] for row in rows]
    with torch.inference_mode():
        same(model.forward(batch.tensors()).cell.cpu().numpy(), trial.reference[rows], names, "given torch tensors")
    parameters = [p for p in model.network.parameters() if p.is_floating_point()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        output = model.forward(batch)
        require(output.cell.requires_grad, "the cell vector does not depend on the parameters: no gradient flows")
        same(output.cell.detach().cpu().numpy(), trial.reference[rows], names, "with gradients switched on")
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def check_readouts(trial: Trial) -> None:
    """Every declared read-out can be asked for and is one of its own; the default is declared."""
    adapter = trial.adapter
    require(adapter.readout in trial.spec.readouts, f"readout is {adapter.readout!r}, not of {trial.spec.readouts}")
    rows = trial.rows("ordinary-0", "ordinary-1", "ordinary-2", "ties", "deep")
    some = trial.cells[rows].copy()
    found: dict[str, np.ndarray] = {}
    for readout in trial.spec.readouts:
        try:
            model = trial.build(readout=readout)
        except InputError:
            continue  # a variant may lack a read-out, and says so
        require(model.readout == readout, f"asked for {readout!r}, it says {model.readout!r}")
        vectors = trial.embed(some, model=model)
        require(
            vectors.shape == (len(rows), model.embedding_size) and np.isfinite(vectors).all(),
            f"{readout!r} gave shape {vectors.shape}, embedding_size is {model.embedding_size}, or is not finite",
        )
        for other, before in found.items():
            equal = before.shape == vectors.shape and np.allclose(before, vectors, atol=1e-6)
            require(not equal, f"{readout!r} gives the same vectors as {other!r}")
        found[readout] = vectors
    require(adapter.readout in found, f"the default read-out {adapter.readout!r} cannot be asked for by name")
    same(found[adapter.readout], trial.reference[rows], some.obs_names.tolist(), "with the default read-out named")


def check_gene_table(trial: Trial) -> None:
    """Static gene vectors: one per gene of the vocabulary, and found by the names of a data set."""
    model = trial.adapter
    names, matrix = model.gene_table()
    require(matrix.dtype == np.float32, f"the matrix is {matrix.dtype}, not float32")
    require(matrix.ndim == 2 and len(matrix) == len(names), f"{len(names)} names for a matrix of {matrix.shape}")
    require(np.isfinite(matrix).all(), "the matrix holds numbers that are not finite")
    require(len(set(names)) == len(names) and all(names), "names repeat or are empty")
    strange = sorted(set(names) - set(model.vocabulary))
    require(not strange, f"{len(strange)} names are not in the vocabulary: {', '.join(strange[:4])}")
    table = GeneTable.from_var(trial.cells.var)
    found = model.embed_genes(table)
    require(len(found.names) == len(found.matrix), "embed_genes gave as many names as rows not")
    require(len(found.names) > 0, "embed_genes found none of the genes of the cells")
    require(
        sorted([*found.names, *found.missing]) == sorted(table.names),
        f"{len(found.names)} genes found and {len(found.missing)} missing are not the {len(table)} asked for",
    )
    unknown = [name for name in table.names if name.startswith("UNKNOWN")]
    require(set(unknown) <= set(found.missing), "embed_genes found genes the vocabulary does not hold")
    last = len(found.names) - 1
    row = int(np.flatnonzero(table.names == found.names[last])[0])
    one = model.embed_genes(GeneTable(*(part[[row]] for part in (table.names, table.symbols, table.ensembl))))
    same(one.matrix, found.matrix[[last]], [found.names[last]], "a gene asked for alone")


def check_token_level(trial: Trial) -> None:
    """Contextual vectors: ragged, one per expressed gene of a cell, none for a cell without tokens."""
    import torch

    model, batch = trial.adapter, _tokens(trial).take(trial.rows("ordinary-0"))
    with torch.inference_mode():
        output = model.forward(batch)
    if output.tokens is None:
        raise NotApplicableError(f"no token vectors with readout={model.readout}")
    require(
        tuple(output.tokens.shape[:2]) == batch.gene_ids.shape,
        f"token vectors have shape {tuple(output.tokens.shape)} for tokens {batch.gene_ids.shape}",
    )
    found = model.embed_tokens(trial.cells, seed=SEED)
    n, d = trial.cells.n_obs, int(output.tokens.shape[2])
    require(found.matrix.dtype == np.float32, f"the matrix is {found.matrix.dtype}, not float32")
    require(
        found.indptr.shape == (n + 1,) and found.indptr[-1] == len(found.genes) == len(found.matrix),
        f"indptr {found.indptr.shape} ends at {found.indptr[-1]}, {len(found.genes)} genes, {len(found.matrix)} rows",
    )
    require(found.matrix.shape[1] == d, f"vectors of {found.matrix.shape[1]}, forward gives {d}")
    require(np.isfinite(found.matrix).all(), "vectors are not finite")
    columns = trial.cells.var_names
    for row, name in enumerate(trial.names):
        genes = found.genes[found.indptr[row] : found.indptr[row + 1]].tolist()
        expressed = set(columns[trial.cells.X[row].indices])
        require(bool(genes) == bool(trial.readable[row]), f"{name} has vectors of {len(genes)} genes")
        require(len(set(genes)) == len(genes), f"genes of {name} repeat")
        require(set(genes) <= expressed, f"{name} has vectors of genes it does not express")
    some = found.genes[found.indptr[trial.rows("ordinary-0")[0]] :][:2].tolist()
    few = model.embed_tokens(trial.cells, genes=some, seed=SEED)
    kept = np.isin(found.genes, some)
    same(few.matrix, found.matrix[kept], found.genes[kept], "restricted to two genes")


def check_lora_targets(trial: Trial) -> None:
    """Every name in `lora_targets` ends the name of a linear module of the network."""
    import torch

    model = trial.adapter
    if not model.lora_targets:
        raise NotApplicableError("no lora_targets")
    linear = [name for name, module in model.network.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in model.lora_targets:
        require(
            any(name == target or name.endswith(f".{target}") for name in linear),
            f"{target!r} is no linear module of the network; those are {', '.join(linear[:6])} …",
        )
