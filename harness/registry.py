"""Names -> classes, resolved on first use: built-in rooms, decorated classes and entry points."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import InputError, InternalError, one_line

#: The folder that holds harness/, models/, tasks/, reports/ and conf/: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
#: What we are called among the packages that want a name.
OURS = "cellfm-bench"

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
    module that registers it: `module:` of that file, or `<room>.<name>.<module>`. Others come from the entry points
    of installed packages. A name that several of them want is no one's: using it is refused, the others work.

    Parameters
    ----------
    fault
        What keeps a class of another package from being one of this kind, in words; "" where nothing does.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        room: str,
        module: str,
        entry_point_group: str,
        fault: Callable[[str, Any], str],
    ):
        self.kind, self.group, self.room, self.module = kind, group, room, module
        self.entry_point_group, self._fault = entry_point_group, fault
        self._classes: dict[str, C] = {}
        #: Plugins that were loaded, and why the others could not be.
        self._loaded: dict[str, C] = {}
        self._broken: dict[str, str] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator; a name that is already taken by another class is refused."""

        def decorate(cls: C) -> C:
            taken, own = self._classes.get(name), self.builtin().get(name)
            other = ""
            if own not in (None, cls.__module__):
                other = f"{OURS}'s own {own}"
            elif taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                other = f"{taken.__module__}.{taken.__qualname__}"
            if other:
                raise InputError(
                    f"two {self.kind}s want the name {name!r}: {other} and {cls.__module__}.{cls.__qualname__}; "
                    "rename one"
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
            found[path.stem] = declared[0] if declared else f"{self.room}.{path.stem}.{self.module}"
        return found

    @cache  # noqa: B019
    def plugins(self) -> dict[str, list[EntryPoint]]:
        """Name -> what other packages enter under it: one, where nobody else wants the name."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.entry_point_group):
            found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self.builtin(), *self.plugins(), *self._classes})

    def package(self, name: str) -> tuple[str, ...]:
        """Name and version of the package a name comes from; () for our own and for classes of a script."""
        points = self.plugins().get(name, [])
        return () if name in self.builtin() or not points else _package(points[0])

    def collision(self, name: str) -> str:
        """Who else wants a name, in words; "" where it is one's own."""
        points = self.plugins().get(name, [])
        claims = [f"{OURS} ({self.builtin()[name]})"] if name in self.builtin() else []
        claims += [f"{' '.join(_package(point))} ({point.value})" for point in points]
        if len(claims) < 2:
            return ""
        return (
            f"the {self.kind} name {name!r} is refused, {len(claims)} packages want it: {' and '.join(claims)}. "
            "Uninstall one, or ask its authors for another name"
        )

    def check(self, name: str) -> str:
        """`name`; InputError with a suggestion where it is unknown, and with the packages where several want it."""
        if name not in self.names():
            close = difflib.get_close_matches(name, self.names(), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"unknown {self.kind} {name!r}; {hint}known: {', '.join(self.names())}")
        if self.collision(name):
            raise InputError(self.collision(name))
        return name

    def get(self, name: str) -> C:
        """The class of a name, imported on first use.

        Raises
        ------
        InputError
            Unknown name (with a suggestion), one that several packages want, or a plugin that cannot be imported
            (package, entry point and reason).
        """
        self.check(name)
        if name in self.plugins():
            return self._plugin(name)
        if name in self.builtin() and name not in self._classes:
            load_object(self.builtin()[name])
        if name not in self._classes:
            raise InternalError(f"{self.builtin().get(name)} does not register a {self.kind} named {name!r}")
        return self._classes[name]

    def loaded(self, name: str) -> bool:
        """Whether asking for a plugin imports nothing any more."""
        return name in self._loaded or (name in self._classes and name not in self.plugins())

    def _plugin(self, name: str) -> C:
        if name in self._loaded:
            return self._loaded[name]
        [point] = self.plugins()[name]
        reason = self._broken.get(name, "")
        cls: Any = None
        if not reason:
            try:
                cls = point.load()
                reason = self._fault(name, cls)
            except (Exception, SystemExit) as error:  # whatever somebody's module does, it is theirs alone
                reason = f"it raised {type(error).__name__}: {one_line(error)}"
            taken = self._classes.get(name)
            if not reason and taken not in (None, cls):
                reason = f"{taken.__module__}.{taken.__qualname__} is registered under that name"
        if reason:
            self._broken[name] = reason
            raise InputError(
                f"the {self.kind} {name!r} of the package {' '.join(_package(point))} cannot be used; its entry point "
                f"{point.value}: {reason}"
            )
        self._loaded[name] = cls
        return cls


def _package(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("a package without a name", "")


def _model_fault(name: str, cls: Any) -> str:
    from harness.plugins import model_fault

    return model_fault(name, cls)


def _task_fault(name: str, cls: Any) -> str:
    from harness.plugins import task_fault

    return task_fault(name, cls)


MODELS: Registry[Any] = Registry("model", "model", "models", "adapter", "cellfm_bench.models", _model_fault)
TASKS: Registry[Any] = Registry("task", "task", "tasks", "protocol", "cellfm_bench.tasks", _task_fault)


def register_model(name: str) -> Callable[[C], C]:
    """Register a model class under a name: `@register_model("scgpt")`."""
    return MODELS.register(name)


def register_task(name: str) -> Callable[[C], C]:
    """Register a task class under a name: `@register_task("annotation")`."""
    return TASKS.register(name)
