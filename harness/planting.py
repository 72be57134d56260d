"""Semi-synthetic cells: an effect of known size planted in real ones, so that the truth is known.

Three effects: batches that differ, genetic perturbations with interactions, and a drug to which some cell types
respond. What is planted is said in `uns["planted"]`. Planted data sets belong on a page of their own and in no
aggregate: they measure whether a method can find what was put there, not how it does on nature.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.data import CellData
from harness.errors import InputError

#: Columns of obs that an effect makes, by role.
MADE: dict[str, dict[str, str]] = {
    "batch": {"batch": "batch"},
    "perturbation": {"condition": "condition"},
    "drug": {"condition": "condition"},
}

#: Label of each cell, the group whose factors change it, the factors of each group, and the truth in words.
_Made = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, Any]]


class Plant(BaseModel):
    """What to plant.

    Parameters
    ----------
    effect
        `batch`, `perturbation` or `drug`.
    seed
        Everything drawn depends on this and on the cells.
    strength
        Standard deviation of the planted changes, in log2.
    groups
        Batches; perturbed genes; drugs.
    genes
        Genes that each perturbation or drug changes; a batch changes all.
    interacting
        Share of the pairs of perturbations whose double effect is not the sum of the single ones.
    responding
        Share of the cell types that respond to a drug.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    effect: Literal["batch", "perturbation", "drug"]
    seed: int = 0
    strength: float = Field(default=1.0, gt=0)
    groups: int = Field(default=3, ge=1)
    genes: int = Field(default=30, ge=1)
    interacting: float = Field(default=0.5, ge=0, le=1)
    responding: float = Field(default=0.5, gt=0, le=1)


def plant(data: CellData, settings: Mapping[str, Any], columns: Mapping[str, str | None]) -> CellData:
    """The cells of `data` with an effect planted, as a data set of their own, in memory.

    Parameters
    ----------
    settings
        Of `Plant`.
    columns
        Role -> obs column of the result; those the effect makes are added.

    Raises
    ------
    InputError
        Settings that are not of the form, or an effect that needs cell types where none are named.
    """
    import anndata

    try:
        spec = Plant(**settings)
    except (ValidationError, TypeError) as error:
        raise InputError(f"{data.name}: dataset.plant: {' '.join(str(error).split())}") from None
    rng = np.random.default_rng([spec.seed, 20260])
    counts = data.counts()
    make = {"batch": _batches, "perturbation": _perturbations, "drug": _drugs}[spec.effect]
    labels, groups, factors, truth = make(spec, counts, data, rng)
    made = MADE[spec.effect]
    obs = data.adata.obs.assign(**dict.fromkeys(made.values(), labels))
    cells = anndata.AnnData(changed(counts, factors, groups, rng), obs=obs)
    cells.var_names = data.genes.names
    cells.var_names_make_unique()
    about = {**spec.model_dump(), **truth}
    cells.uns["planted"] = json.dumps(about)
    planted = CellData(
        cells,
        name=data.name,
        columns={**{role: column for role, column in columns.items() if column}, **made},
        control=truth.get("control", data.control),
        genes=data.genes,
        on_empty_cell=data.on_empty_cell,
        min_coverage=data.min_coverage,
        warn_coverage=data.warn_coverage,
    )
    planted.planted = about
    return planted


def changed(
    counts: sp.csr_matrix, factors: Mapping[str, np.ndarray], groups: np.ndarray, rng: np.random.Generator
) -> sp.csr_matrix:
    """Counts whose expectation is the old one times the factor of its cell's group and its gene; whole numbers.

    Parameters
    ----------
    factors
        Group -> (n_genes,); cells of a group without any are left as they are.
    groups
        (n_cells,).
    """
    result = counts.copy()
    group = np.repeat(groups, np.diff(counts.indptr))
    for name, factor in factors.items():
        here = np.flatnonzero(group == name)
        old = counts.data[here].astype(np.int64)
        times = factor[counts.indices[here]]
        kept = rng.binomial(old, np.minimum(times, 1.0))
        result.data[here] = kept + rng.poisson(old * np.maximum(times - 1.0, 0.0))
    result.eliminate_zeros()
    return result


def _batches(spec: Plant, counts: sp.csr_matrix, data: CellData, rng: np.random.Generator) -> _Made:
    """Batches of cells drawn at random: each multiplies every gene and the depth by factors of its own."""
    n_cells, n_genes = counts.shape
    names = [f"batch {i}" for i in range(spec.groups)]
    labels = np.array(names)[rng.permutation(np.arange(n_cells) % spec.groups)]
    depth = np.exp2(rng.normal(0, 0.5, spec.groups))
    shifts = {name: rng.normal(0, spec.strength, n_genes) for name in names}
    factors = {name: depth[i] * np.exp2(shifts[name]) for i, name in enumerate(names)}
    truth = {"depth": dict(zip(names, depth.round(4).tolist(), strict=True)), "independent_of": "cell type"}
    return labels, labels, factors, truth


def _perturbations(spec: Plant, counts: sp.csr_matrix, data: CellData, rng: np.random.Generator) -> _Made:
    """Knock-downs of some genes and all their pairs; some pairs do more, or less, than the sum."""
    n_cells, n_genes = counts.shape
    names = data.genes.names
    targets = _expressed(counts, spec.groups, rng)
    single = {}
    for target in targets:
        change = np.zeros(n_genes)
        change[rng.choice(n_genes, min(spec.genes, n_genes), replace=False)] = rng.normal(
            0, spec.strength, min(spec.genes, n_genes)
        )
        change[target] = -2.5
        single[str(names[target])] = change
    changes = {f"{name}+ctrl": change for name, change in single.items()}
    pairs = list(itertools.combinations(single, 2))
    chosen = rng.permutation(len(pairs))[: round(spec.interacting * len(pairs))]
    interactions = []
    for i, (a, b) in enumerate(pairs):
        change = single[a] + single[b]
        if i in chosen:
            kind = ("synergy", "buffering")[int(rng.integers(2))]
            change = change * (1.5 if kind == "synergy" else 0.5)
            interactions.append({"pair": f"{a}+{b}", "kind": kind, "factor": 1.5 if kind == "synergy" else 0.5})
        changes[f"{a}+{b}"] = change
    conditions = ["ctrl", *changes]
    share = np.array([0.3, *[0.7 / len(changes)] * len(changes)])
    labels = np.array(conditions)[rng.choice(len(conditions), n_cells, p=share)]
    truth = {
        "log2_changes": {name: _sparse(change, names) for name, change in changes.items() if name.endswith("+ctrl")},
        "interactions": interactions,
        "control": "ctrl",
    }
    return labels, labels, {name: np.exp2(change) for name, change in changes.items()}, truth


def _drugs(spec: Plant, counts: sp.csr_matrix, data: CellData, rng: np.random.Generator) -> _Made:
    """Drugs that change a programme of genes in some cell types and nothing in the others."""
    n_cells, n_genes = counts.shape
    kinds = data.labels("cell_type")
    types = np.unique(kinds[kinds != ""])
    names = [f"drug {i + 1}" for i in range(spec.groups)]
    labels = np.array(["control", *names])[rng.choice(spec.groups + 1, n_cells)]
    factors, effects = {}, {}
    group = labels.astype(object)
    for name in names:
        change = np.zeros(n_genes)
        chosen = rng.choice(n_genes, min(spec.genes, n_genes), replace=False)
        change[chosen] = rng.normal(0, spec.strength, len(chosen))
        respond = rng.permutation(types)[: max(1, round(spec.responding * len(types)))]
        group[(labels == name) & np.isin(kinds, respond)] = f"{name} responding"
        factors[f"{name} responding"] = np.exp2(change)
        effects[name] = {"responding": sorted(respond.tolist()), "log2_changes": _sparse(change, data.genes.names)}
    # The factors follow who responds; the label says only who was treated.
    return labels, group, factors, {"drugs": effects, "control": "control"}


def _expressed(counts: sp.csr_matrix, wanted: int, rng: np.random.Generator) -> np.ndarray:
    detected = np.bincount(counts.indices, minlength=counts.shape[1])
    enough = np.flatnonzero(detected >= 0.1 * counts.shape[0])
    if len(enough) < wanted:
        raise InputError(
            f"dataset.plant.groups={wanted}: only {len(enough)} genes are expressed in a tenth of the cells"
        )
    return np.sort(rng.choice(enough, wanted, replace=False))


def _sparse(change: np.ndarray, names: np.ndarray) -> dict[str, float]:
    where = np.flatnonzero(change)
    return {str(names[i]): round(float(change[i]), 4) for i in where}
