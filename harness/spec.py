"""What a model is, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, as data.

    Parameters
    ----------
    name
        Registered name, `[a-z0-9_-]+`.
    title
        Name in print.
    version
        Version of the adapter. Raise it whenever a number it gives changes: old rows are then computed anew.
    kind
        `foundation` (pretrained network), `embedding` (baseline fitted to the data set, gives cell vectors),
        `predictor` (baseline of one task, gives predictions) or `precomputed` (vectors that were made elsewhere).
    gene_ids
        Id space of the vocabulary; `any` reads every column.
    readouts
        Ways to read a cell vector; the first is the official one and the default.
    draws
        Whether an embedding depends on the run's seed; if not, all seeds share one.
    tasks
        For a predictor: the tasks it can do. Empty for the others.
    control
        Made to bound the scores from below or above (see `Task.controls`): shown, never ranked.
    reads_labels
        Whether it looks at the labels of the cells it embeds; only a control may.
    reads_batches
        Whether it is told the batch of each cell, and reads all cells at once: an integration method.
    label_exposure
        Tasks whose labels it has read in pretraining, such as text on genes: shown there, not ranked.
    code_licence, weights_licence
        None if the authors state none.
    commercial_use
        Whether the weights may be used commercially; None if unknown.
    pretraining
        What the released weights were pretrained on, in words; None for baselines.
    species
        Species the vocabulary covers.
    expected_failures
        Conformance checks this model is known not to pass, with the reason.
    """

    name: str
    title: str
    version: str = "1"
    kind: Literal["foundation", "embedding", "predictor", "precomputed"] = "foundation"
    gene_ids: Literal["symbol", "ensembl", "protein", "any"] = "symbol"
    readouts: tuple[str, ...] = ("cls",)
    draws: bool = True
    tasks: tuple[str, ...] = ()
    control: bool = False
    reads_labels: bool = False
    reads_batches: bool = False
    label_exposure: tuple[str, ...] = ()
    paper: str | None = None
    code_licence: str | None = None
    weights_licence: str | None = None
    commercial_use: bool | None = None
    pretraining: str | None = None
    species: tuple[str, ...] = ("human",)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
