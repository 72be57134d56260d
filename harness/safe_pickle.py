"""Read a pickle of plain dictionaries without running anything in it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError

#: Geneformer's dictionaries hold Python and numpy scalars; both spellings of numpy's module exist in the wild.
_ALLOWED = {
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("__builtin__", "set"),
    ("__builtin__", "frozenset"),
    ("builtins", "complex"),
    ("builtins", "bytearray"),
    ("collections", "OrderedDict"),
}


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, instead: Mapping[tuple[str, str], Callable[..., Any]]):
        super().__init__(stream)
        self.instead = instead

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.instead:
            return self.instead[module, name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        if module == "numpy.core.multiarray":
            module = "numpy._core.multiarray" if _has_private_core() else module
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it holds persistent ids")


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes (those of a numpy scalar)."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding}")
    return text.encode("latin1")


def _has_private_core() -> bool:
    import importlib.util

    return importlib.util.find_spec("numpy._core") is not None


def load_plain_pickle(path: Path, instead: Mapping[tuple[str, str], Callable[..., Any]] | None = None) -> Any:
    """The object in a pickle that holds plain containers and numpy scalars only.

    Parameters
    ----------
    instead
        (module, name) -> a function of the caller that is safe with any arguments, called in place of the named one.

    Raises
    ------
    InputError
        The file is missing or damaged, or would call anything else; nothing of it is executed.
    """
    path = Path(path)
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), instead or {}).load()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused: {error}; only plain dictionaries of strings and numbers are read, "
            "as in the official release. Download the file again from the authors"
        ) from None
    except Exception as error:
        raise InputError(f"{path} is not a readable pickle ({type(error).__name__}); is it complete?") from None
