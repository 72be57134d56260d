"""The engine of cellfm-bench: it names no model, task or data set.

>>> from harness import load_model
>>> load_model("pca").spec.title
'PCA'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public name -> module that holds it. Nothing heavy is imported before a name is asked for.
_PUBLIC = {
    "CellData": "harness.data",
    "CellOutput": "harness.tokens",
    "Embedder": "harness.model",
    "FittedEmbedder": "harness.model",
    "GeneEmbedding": "harness.tokens",
    "GeneMatch": "harness.genes",
    "GeneTable": "harness.genes",
    "InputError": "harness.errors",
    "MetricCard": "harness.metrics",
    "MetricRow": "harness.results",
    "ModelAdapter": "harness.model",
    "ModelSpec": "harness.spec",
    "NotApplicableError": "harness.errors",
    "PretrainingLoss": "harness.loss",
    "ResultStore": "harness.results",
    "RunRecord": "harness.results",
    "Split": "harness.task",
    "Task": "harness.task",
    "TaskBaseline": "harness.model",
    "TaskResult": "harness.task",
    "TokenBatch": "harness.tokens",
    "load_dataset": "harness.loading",
    "load_model": "harness.loading",
    "load_task": "harness.loading",
    "register_metric": "harness.metrics",
    "register_model": "harness.registry",
    "register_task": "harness.registry",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from harness.data import CellData
    from harness.errors import InputError, NotApplicableError
    from harness.genes import GeneMatch, GeneTable
    from harness.loading import load_dataset, load_model, load_task
    from harness.loss import PretrainingLoss
    from harness.metrics import MetricCard, register_metric
    from harness.model import (
        Embedder,
        FittedEmbedder,
        ModelAdapter,
        TaskBaseline,
    )
    from harness.registry import register_model, register_task
    from harness.results import MetricRow, ResultStore, RunRecord
    from harness.spec import ModelSpec
    from harness.task import Split, Task, TaskResult
    from harness.tokens import CellOutput, GeneEmbedding, TokenBatch
