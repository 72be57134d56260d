"""`key=value` arguments of the commands that need no Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import InputError


def parse(arguments: Sequence[str], known: Mapping[str, str | None]) -> dict[str, str | None]:
    """Values by key, defaults filled in.

    Raises
    ------
    InputError
        Not key=value, or an unknown key.
    """
    values = dict(known)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in known:
            raise InputError(f"{argument!r}: expected {', '.join(f'{k}=…' for k in known)}")
        values[key] = value
    return values
