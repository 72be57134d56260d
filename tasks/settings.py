"""Settings of a method, as a frozen dataclass, from a node of the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from harness.errors import InputError

S = TypeVar("S")


def settings_of(cls: type[S], settings: Mapping[str, Any], where: str, title: str) -> S:
    """`cls` of some settings, the others by default.

    Parameters
    ----------
    where, title
        Where they stand, and what they are of, for messages.

    Raises
    ------
    InputError
        A setting there is not.
    """
    known = cls.__dataclass_fields__  # type: ignore[attr-defined]
    unknown = sorted(set(map(str, settings)) - set(known))
    if unknown:
        raise InputError(f"{where}.{unknown[0]}: {title} has {', '.join(known)}")
    return cls(**settings)
