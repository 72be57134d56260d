"""The options of a model or task of another package: the arguments of its class, with their defaults.

What is built in says them, with comments, in `conf/model/<name>.yaml` and `conf/task/<name>.yaml`.
"""

from __future__ import annotations

import inspect
from typing import Any

#: What the engine asks of a foundation model's config.
FOUNDATION: dict[str, Any] = {"checkpoint": None, "variant": None, "readout": None, "size": "tiny"}
#: Keys of a model's config that are the engine's; all others are options of the model.
RESERVED = frozenset({*FOUNDATION, "name", "variants", "label_exposure"})
#: The ways of making a model whose first argument (the path, the genes) is no option.
MAKERS = ("from_checkpoint", "from_scratch")


def parameters(cls: Any) -> list[inspect.Parameter]:
    """What `from_checkpoint` and `from_scratch` take behind their first argument, or what the class itself takes."""
    makers = [getattr(cls, name) for name in MAKERS if hasattr(cls, name)]
    first = 1 if makers else 0
    found = [p for maker in makers or [cls] for p in list(inspect.signature(maker).parameters.values())[first:]]
    return [p for p in found if p.name != "seed"]


def takes_any(cls: Any) -> bool:
    """Whether any keyword is taken: what it is called is then nobody's to judge."""
    return any(p.kind is p.VAR_KEYWORD for p in parameters(cls))


def node_of(name: str, cls: Any) -> dict[str, Any]:
    """The config node of a plugin: its name, what the engine asks, and its own options by default.

    A default that is no plain value (text, number, truth value, None, lists and dicts of these) is left to the class.
    """
    own = {p.name: p.default for p in parameters(cls) if p.default is not p.empty and _plain(p.default)}
    return {**own, **(FOUNDATION if hasattr(cls, MAKERS[0]) else {}), "name": name}


def without_default(cls: Any) -> str:
    """Why `cls` cannot be made from a config, in words: an option without a default; "" where it can."""
    bare = {p.name for p in parameters(cls) if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return f"its option {', '.join(sorted(bare))} has no default" if bare else ""


def without_meaning(cls: Any) -> str:
    """Why options of `cls` could not be set, in words; "" where they can.

    The engine keeps the names it asks for to itself, and gives what one way of making a network takes to the other.
    """
    makers = [getattr(cls, name) for name in MAKERS if hasattr(cls, name)]
    if not makers:
        taken = sorted({p.name for p in parameters(cls)} & RESERVED - {"readout"})
        return f"its option {', '.join(taken)} has a name that the engine keeps for itself" if taken else ""
    own = [{p.name for p in inspect.signature(maker).parameters.values()} - RESERVED - {"seed"} for maker in makers]
    if takes_any(cls) or len(makers) < 2:
        return ""
    firsts = {next(iter(inspect.signature(maker).parameters), "") for maker in makers}
    one_sided = sorted((own[0] ^ own[1]) - firsts)
    return f"its option {', '.join(one_sided)} is taken by one of {' and '.join(MAKERS)} only" if one_sided else ""


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)
