"""Names -> classes, resolved on first use: built-in rooms, decorated classes and entry points."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import InputError, InternalError

log = logging.getLogger(__name__)

#: The folder that holds harness/, models/, tasks/, reports/ and conf/: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

C = TypeVar("C", bound=type)


def room(name: str) -> None:
    """Import `models`, `tasks` or `reports` from beside this package, whatever the working directory holds.

    Raises
    ------
    InternalError
        Another package of that name is already imported in this process.
    """
    home = ROOT / name / "__init__.py"
    present = sys.modules.get(name)
    if present is not None:
        if Path(getattr(present, "__file__", None) or "").resolve() != home:
            raise InternalError(
                f"a module named {name!r} from {getattr(present, '__file__', 'elsewhere')} is already imported; "
                f"cellfm-bench needs its own {home.parent}. Run it in a process of its own"
            )
        return
    spec = importlib.util.spec_from_file_location(name, home, submodule_search_locations=[str(home.parent)])
    if spec is None or spec.loader is None:
        raise InternalError(f"{home} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def load_object(reference: str) -> Any:
    """`package.module:attribute` -> the object; modules of the three rooms come from this installation."""
    module_name, _, attribute = reference.partition(":")
    head = module_name.split(".", 1)[0]
    if head in ("models", "tasks", "reports"):
        room(head)
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


class Registry(Generic[C]):
    """Registered classes of one kind.

    Built-in names come from the files of a config group (`conf/model/scgpt.yaml` -> `scgpt`), each with the
    module that registers it: `adapter:` of that file, or `<package>.<name>.<module>`.
    """

    def __init__(self, kind: str, group: str, package: str, module: str, entry_point_group: str):
        self.kind, self.group, self.package, self.module = kind, group, package, module
        self.entry_point_group = entry_point_group
        self._classes: dict[str, C] = {}
        self._broken: dict[str, str] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator; a name that is already taken by another class is refused."""

        def decorate(cls: C) -> C:
            taken = self._classes.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (
                cls.__module__,
                cls.__qualname__,
            ):
                raise InputError(
                    f"two {self.kind}s want the name {name!r}: {taken.__module__}.{taken.__qualname__} and "
                    f"{cls.__module__}.{cls.__qualname__}; rename one"
                )
            self._classes[name] = cls
            return cls

        return decorate

    @cache  # noqa: B019  (one registry of each kind per process)
    def builtin(self) -> dict[str, str]:
        """Built-in name -> module."""
        found = {}
        for path in sorted((CONF / self.group).glob("*.yaml")):
            declared = [
                line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("module:")
            ]
            found[path.stem] = declared[0] if declared else f"{self.package}.{path.stem}.{self.module}"
        return found

    @cache  # noqa: B019
    def plugins(self) -> dict[str, EntryPoint]:
        """Name -> entry point of another package; a name of ours is refused to it."""
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.entry_point_group):
            if point.name in self.builtin() or point.name in found:
                log.warning(
                    "%s %r of %s is ignored: the name is taken",
                    self.kind,
                    point.name,
                    point.dist.name if point.dist else point.value,
                )
                continue
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self.builtin(), *self.plugins(), *self._classes})

    def check(self, name: str) -> str:
        """`name`, or InputError with a suggestion."""
        if name in self.names():
            return name
        close = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"unknown {self.kind} {name!r}; {hint}known: {', '.join(self.names())}")

    def get(self, name: str) -> C:
        """The class of a name, imported on first use.

        Raises
        ------
        InputError
            Unknown name (with a suggestion), or a plugin that cannot be imported (named).
        """
        self.check(name)
        if name in self._classes:
            return self._classes[name]
        if name in self.builtin():
            load_object(self.builtin()[name])
        else:
            point = self.plugins()[name]
            try:
                cls = point.load()
            except Exception as error:
                owner = point.dist.name if point.dist else "another package"
                raise InputError(
                    f"{self.kind} {name!r} of plugin {owner} ({point.value}) cannot be imported: "
                    f"{type(error).__name__}: {error}"
                ) from error
            self._classes.setdefault(name, cls)
        if name not in self._classes:
            raise InternalError(f"{self.builtin().get(name)} does not register a {self.kind} named {name!r}")
        return self._classes[name]


MODELS: Registry[Any] = Registry("model", "model", "models", "adapter", "cellfm_bench.models")
TASKS: Registry[Any] = Registry("task", "task", "tasks", "protocol", "cellfm_bench.tasks")


def register_model(name: str) -> Callable[[C], C]:
    """Register a model class under a name: `@register_model("scgpt")`."""
    return MODELS.register(name)


def register_task(name: str) -> Callable[[C], C]:
    """Register a task class under a name: `@register_task("annotation")`."""
    return TASKS.register(name)
