"""What keeps a class of another package from being a model or a task: found before it is used, and named."""

from __future__ import annotations

from typing import Any

from harness.model import Embedder, FittedEmbedder, ModelAdapter, TaskBaseline
from harness.options import without_default, without_meaning
from harness.precomputed import PrecomputedVectors
from harness.spec import ModelSpec
from harness.task import Task

#: `ModelSpec.kind` -> base class.
KINDS = {
    "foundation": ModelAdapter,
    "embedding": Embedder,
    "predictor": TaskBaseline,
    "precomputed": PrecomputedVectors,
}


def model_fault(name: str, cls: Any) -> str:
    """Why `cls` cannot be the model `name`, in words; "" where it can."""
    if not (isinstance(cls, type) and issubclass(cls, (Embedder, TaskBaseline))):
        bases = ", ".join(base.__name__ for base in (ModelAdapter, FittedEmbedder, TaskBaseline))
        return f"it is no subclass of {bases} of harness"
    spec = getattr(cls, "spec", None)
    if not isinstance(spec, ModelSpec):
        return "its spec is no harness.ModelSpec"
    if spec.name != name:
        return f"its spec is called {spec.name!r}"
    if not issubclass(cls, KINDS.get(spec.kind, ())) or issubclass(cls, ModelAdapter) != (spec.kind == "foundation"):
        return f"its spec says {spec.kind!r}, which the class is not"
    if spec.reads_labels and not spec.control:
        return "it reads the labels of the cells, which only a control may"
    return _unfinished(cls) or without_default(cls) or ("" if spec.kind == "precomputed" else without_meaning(cls))


def task_fault(name: str, cls: Any) -> str:
    """Why `cls` cannot be the task `name`, in words; "" where it can."""
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        return "it is no subclass of harness.Task"
    if not isinstance(getattr(cls, "title", None), str):
        return "it has no title"
    if getattr(cls, "name", None) != name:
        return f"it is called {getattr(cls, 'name', None)!r}"
    return _unfinished(cls) or without_default(cls)


def _unfinished(cls: Any) -> str:
    missing = sorted(cls.__abstractmethods__)
    return f"it lacks {', '.join(missing)}" if missing else ""
