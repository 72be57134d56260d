"""What a task author writes: a protocol that turns embeddings and labels into per-unit scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.results import content_id

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.results import MetricRow
    from harness.subject import Subject


@dataclass(frozen=True)
class Split:
    """Rows of a data set for training and for testing.

    `name` says the protocol (`stratified-70/30`, `leave-donor-out`, `all`); `excluded` counts what was left
    out and why, for the record. A protocol of several folds has each of them in `folds`, named after what it tests;
    `train` and `test` are then all cells that take part.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    excluded: Mapping[str, int] = field(default_factory=dict)
    folds: tuple[Split, ...] = ()

    def each(self) -> tuple[Split, ...]:
        """The folds; the split itself where it has none."""
        return self.folds or (self,)


@dataclass
class TaskResult:
    """What a run of a task gives.

    Parameters
    ----------
    metrics
        Rows made with `harness.metrics.row`; one per head, scope and key.
    tables
        Artifacts the figures are drawn from: kind (`predictions`, `confusion`, `umap`) -> DataFrame.
    flags
        Marks on the row (`smoke`, `cells-seen`).
    notes
        What a reader must know: counts of what was left out, and why. Text or number by name.
    """

    metrics: list[MetricRow] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class Task(ABC):
    """A task: its protocol, metrics and task-specific baselines live in one folder.

    `config` is the `task:` node of the Hydra config as a plain dict; unknown keys must raise InputError.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: Raise it when the protocol changes a number.
    version: ClassVar[str] = "1"
    #: Obs columns needed, by role (see `harness.data.ROLES`).
    needs: ClassVar[tuple[str, ...]] = ()
    #: `(metric, head)` pairs the board ranks by, the first first; `head` None means any.
    headline: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    #: Models that bound the scores, by role: `floor` (what nothing known of the cells gives) and `ceiling` (what
    #: all that is asked gives). They are run like any other; the board scales between them.
    controls: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: For a task whose settings say what is asked of the cells' genes: those that say how a model answers instead.
    answered_by: ClassVar[tuple[str, ...] | None] = None
    #: Whether it can be run on data that are no counts (`dataset.values=features`).
    reads_features: ClassVar[bool] = False
    #: Settings it can be run in; with `lora` and `full` it trains the network by `Subject.finetune`.
    settings: ClassVar[tuple[str, ...]] = ("frozen",)

    def __init__(self, **config: Any):
        self.config = config

    @abstractmethod
    def split(self, data: CellData, seed: int) -> Split:
        """The split of a data set by the protocol; InputError when the data cannot be split so."""

    @abstractmethod
    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Score one model on one split.

        Parameters
        ----------
        subject
            What is being scored: `subject.cells()` gives its cell vectors (cached; NaN rows are cells it
            cannot read), `subject.model` the model itself.

        Raises
        ------
        NotApplicableError
            The model lacks what the task needs.
        InputError
            The data does not fit the task.
        """

    def dataset_name(self, data: CellData) -> str:
        """What the numbers are of, on the board; the cells by default, for a task on genes its labels."""
        return data.name

    def dataset_hash(self, data: CellData) -> str:
        """What must be equal for two runs to stand on one board: the cells; with `answered_by` also what is asked."""
        if self.answered_by is None:
            return data.content_hash
        asked = {key: value for key, value in self.config.items() if key not in self.answered_by}
        return content_id([data.content_hash, asked], 64)

    def control_roles(self, model: str) -> list[str]:
        """What a model is to this task: `floor`, `ceiling`, or nothing. A flag of its records."""
        return [role for role, names in self.controls.items() if model in names]

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics this task gives; their versions are part of the run id."""
        return tuple(dict.fromkeys(metric for metric, _ in self.headline))
