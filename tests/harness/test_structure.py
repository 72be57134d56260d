"""What holds the house together: import direction, light start, docs that match."""

import ast
import re
import subprocess
import sys
from itertools import cycle

import pytest

from tests.conftest import ROOT

LOWER = {
    "harness": {"models", "tasks", "reports"},
    "models": {"tasks", "reports"},
    "tasks": {"models", "reports"},
    "reports": {"models"},
}


@pytest.mark.parametrize("room", LOWER)
def test_import_direction(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] not in LOWER[room], f"{path} imports {name}"


def test_models_do_not_import_each_other():
    for path in (ROOT / "models").rglob("*.py"):
        own = path.relative_to(ROOT / "models").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("models."):
                assert node.module.split(".")[1] == own, f"{path} imports {node.module}"


def imported_by(code):
    program = f"import sys\n{code}\nprint()\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(run.stdout.splitlines()[-1].split())


HEAVY = {"torch", "scanpy", "jax", "scib_metrics", "sklearn", "anndata", "matplotlib", "seaborn", "mindspore", "umap"}


def test_import_harness_is_light():
    assert not imported_by("import harness") & (HEAVY | {"pandas", "hydra", "pydantic"})


@pytest.mark.parametrize("arguments", [["--help"], ["list", "models"], ["list", "datasets"], ["run", "--help"]])
def test_answers_without_heavy_imports(arguments):
    found = imported_by(f"from harness.__main__ import main\nassert main({arguments}) == 0")
    assert not found & HEAVY, found & HEAVY


def test_every_command_has_help_with_an_example(capsys):
    from harness.__main__ import COMMANDS, USAGE, main

    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"cellfm-bench {command}") and f"\n  cellfm-bench {command}" in said, command
        assert max(map(len, said.splitlines())) <= 120, command
        assert command in USAGE.replace("new-model|new-task", "new-model new-task")


@pytest.mark.parametrize("room", ["harness", "reports"])
def test_readme_names_every_file(room):
    words = (ROOT / room / "README.md").read_text()
    files = {path.name for path in (ROOT / room).glob("*.py")} - {"__init__.py"}
    assert not {name for name in files if f"`{name}`" not in words}


def test_readme_points_at_what_is_there():
    words = (ROOT / "README.md").read_text()
    named = re.findall(r"`((?:tests|tasks|models|reports)/[^`*]+)`", words) + re.findall(r"\]\(([^)#:]+)", words)
    assert len(named) > 20 and not [name for name in named if not (ROOT / name).exists()]


def test_public_names_resolve():
    import harness

    for name in harness.__all__:
        assert getattr(harness, name) is not None


def test_files_stay_readable():
    for room in LOWER:
        for path in (ROOT / room).rglob("*.py"):
            assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py"), path
            assert len(path.read_text().splitlines()) <= 500, f"{path} has grown over 500 lines"


def test_every_config_composes():
    from harness.config import compose, options

    # Groups know nothing of each other: every option once, beside whichever of the others is next.
    groups = [options(group) for group in ("model", "task", "dataset")]
    for _, model, task, dataset in zip(range(max(map(len, groups))), *map(cycle, groups), strict=False):
        config = compose([f"model={model}", f"task={task}", f"dataset={dataset}"])
        assert config.model["name"] == model and config.task["name"] == task
    for corpus in options("corpus"):
        compose(["model=pca", "task=annotation", f"corpus={corpus}"])
