"""What the baselines of all tasks on cells share."""

from __future__ import annotations

from importlib.util import find_spec

from harness.errors import InputError
from harness.spec import ModelSpec

#: Tasks that ask the same of a baseline as another.
ALSO = {"perturbation": ("reverse_perturbation",)}


def baseline_spec(
    task: str, name: str, title: str, paper: str | None = None, code_licence: str | None = "MIT"
) -> ModelSpec:
    """The spec of a baseline that reads counts, for one task and those that ask the same of it."""
    return ModelSpec(
        name=name,
        title=title,
        kind="predictor",
        gene_ids="any",
        readouts=(),
        tasks=(task, *ALSO.get(task, ())),
        paper=paper,
        code_licence=code_licence,
        commercial_use=True,
    )


def check_scvi_tools(model: str, other: str) -> None:
    """Refuse a baseline that needs scvi-tools where it is missing; `other` is what to take instead.

    Raises
    ------
    InputError
        With the command that installs it.
    """
    if find_spec("scvi") is None:
        raise InputError(
            f"model={model}: scvi-tools is not installed here. Install it: pip install 'cellfm-bench[scvi]', "
            f"or take {other}"
        )
