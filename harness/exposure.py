"""Labels a model has read before it is asked for them: text on genes says what genes do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import InputError
from harness.registry import TASKS
from harness.spec import ModelSpec

#: Flag of a record: shown, never ranked.
LABEL_EXPOSURE = "label-exposure"
#: Networks that were made here have read the cells of their corpus and nothing else.
MADE_HERE = ("scratch", "untrained")


def exposed_tasks(spec: ModelSpec, node: Mapping[str, Any], track: str) -> frozenset[str]:
    """Tasks whose labels a model has seen: by its spec, its file in `conf/model`, the variant's card, or the user.

    Parameters
    ----------
    node
        The model's node of the config. `label_exposure` is a list of tasks, `true` for all, `false` or null for none.

    Raises
    ------
    InputError
        It names what is no task.
    """
    if track in MADE_HERE:
        return frozenset()
    variant = (node.get("variants") or {}).get(node.get("variant") or "") or {}
    said = [spec.label_exposure, node.get("label_exposure"), variant.get("label_exposure")]
    return frozenset(task for each in said for task in _tasks(each))


def _tasks(said: Any) -> list[str]:
    if said is True:
        return TASKS.names()
    if said in (None, False):
        return []
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"model.label_exposure={said}: expected names of tasks, [gene_function], or true for all")
    return [TASKS.check(name) for name in names]
