"""A model or task of one's own, written from templates: all of its files, or none.

`templates/<kind>/` is a picture of the repository: each file goes to the same place, `NAME` in its path replaced.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.registry import MODELS, ROOT, TASKS, Registry

TEMPLATES = Path(__file__).with_name("templates")
REGISTRIES: dict[str, Registry[Any]] = {"model": MODELS, "task": TASKS}
LONGEST = 30
#: Words that mean something else where a name is typed: `check all`, and numbers of Hydra's grammar.
RESERVED = ("all", "nan", "inf")


def create(kind: str, name: str, root: Path = ROOT) -> list[Path]:
    """Write a `model` or `task` called `name` into a checkout; the files, in the order in which they were written.

    Raises
    ------
    InputError
        The name cannot be used, a file is there already, or the checkout cannot be written: nothing is written then.
    """
    check_place(kind, root)
    check_name(kind, name)
    files = {root / path: text for path, text in rendered(kind, name).items()}
    there = [path for path in files if path.exists() or path.is_symlink()]
    folder = root / REGISTRIES[kind].room
    there += [path for path in (folder / name, folder / f"{name}.py") if path.exists()]
    if there:
        raise InputError(f"{there[0]} is there already; take another name, or move it away: nothing was written")
    write_all(files)
    return list(files)


def check_place(kind: str, root: Path) -> None:
    """Refuse what is no checkout, and a checkout other than the one the user stands in."""
    room = REGISTRIES[kind].room
    if not (root / "pyproject.toml").is_file() or not (root / room).is_dir():
        raise InputError(
            f"cellfm-bench is installed in {root}, which is no checkout to write into. Make your {kind} a package of "
            f"its own with the entry point {REGISTRIES[kind].entry_point_group} ({room}/README.md, 'From another "
            "package'), or run this in a clone of the repository"
        )
    here = Path.cwd()
    other = [folder for folder in (here, *here.parents) if (folder / "harness" / "registry.py").is_file()]
    if other and other[0].resolve() != root:
        raise InputError(
            f"this cellfm-bench is that of {root}, and you are in {other[0]}: type `python -m harness new-{kind} NAME` "
            "in that folder, or make it an environment of its own (make env)"
        )


def check_name(kind: str, name: str) -> None:
    """Refuse a name that is no lower-case identifier, means something else, or is taken."""
    import yaml

    registry = REGISTRIES[kind]
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(f"{name!r}: a name of lower-case letters, digits and _ that begins with a letter is expected")
    if len(name) > LONGEST:
        raise InputError(f"{name!r}: at most {LONGEST} characters are expected")
    if keyword.iskeyword(name) or name in RESERVED or not isinstance(yaml.safe_load(name), str):
        raise InputError(f"{name!r} means something else in Python, YAML or on the command line; take another name")
    if name in registry.names():
        package = " ".join(registry.package(name))
        raise InputError(f"there is a {kind} {name!r} already" + (f", of the package {package}" if package else ""))
    if kind == "task":
        from harness.metrics import CARDS

        taken = [metric for metric in (name, f"macro_{name}") if metric in CARDS]
        if taken:
            raise InputError(f"{taken[0]!r} is the name of a metric; take another one")


def rendered(kind: str, name: str) -> dict[Path, str]:
    """The files of a new model or task, path in the repository -> text; the one that makes it known comes last."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    words = {"name": name, "title": name.replace("_", " ").strip().capitalize(), "class_name": class_name(kind, name)}
    folder = TEMPLATES / kind
    found = {}
    for template in sorted(folder.rglob("*.j2")):
        path = Path(*(part.replace("NAME", name) for part in template.relative_to(folder).with_suffix("").parts))
        found[path] = environment.from_string(template.read_text(encoding="utf-8")).render(words)
    return dict(sorted(found.items(), key=lambda item: (item[0].parts[0] == "conf", item[0])))


def class_name(kind: str, name: str) -> str:
    """`my_net` -> `MyNetModel`; it ends on the kind, so that it is none of the names a template imports."""
    camel, end = "".join(part.capitalize() for part in name.split("_")), kind.capitalize()
    return (camel.removesuffix(end) or camel) + end


def write_all(files: dict[Path, str]) -> None:
    """Write new files and the folders they need; whatever stops it, nothing of it stays.

    Raises
    ------
    InputError
        A file is there, or cannot be written.
    """
    undo: list[Callable[[], Any]] = []
    try:
        for path, text in files.items():
            for folder in [f for f in reversed(path.parents) if not f.exists()]:
                folder.mkdir()
                undo.append(folder.rmdir)
            with path.open("x", encoding="utf-8") as stream:
                undo.append(path.unlink)
                stream.write(text)
    except BaseException as error:
        for step in reversed(undo):
            step()
        if isinstance(error, OSError):
            raise InputError(f"{error.filename or path} cannot be written ({error.strerror}); nothing was") from None
        raise
