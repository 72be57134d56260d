"""`cellfm-bench new-model`: what it writes works as it is, and is written whole or not at all."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import InputError
from harness.scaffold import LONGEST, create, rendered, write_all
from tests.conftest import ROOT

#: What a checkout needs to run.
PARTS = ("harness", "models", "tasks", "reports", "conf", "pyproject.toml")


def checkout(folder):
    """A copy of the repository to write into."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder


def run(folder, *commands, code=0):
    """Some commands of a checkout's own cellfm-bench, in one process."""
    program = "import sys, json; from harness.__main__ import main\n"
    program += "sys.exit(max(main(command) for command in json.loads(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([list(map(str, command)) for command in commands])],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def board(folder):
    with (folder / "outputs" / "leaderboard.csv").open() as lines:
        return list(csv.DictReader(lines))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_from_a_name_to_the_board(tmp_path):
    folder = checkout(tmp_path / "checkout")
    before = files(folder)
    out = run(folder, ["new-model", "my_net"])
    after = files(folder)
    written = {p for p in set(after) - set(before) if p.is_file()}
    assert {str(p.relative_to(folder)) for p in written} == {
        "models/my_net/__init__.py",
        "models/my_net/adapter.py",
        "models/my_net/network.py",
        "models/my_net/tokenizer.py",
        "models/my_net/README.md",
        "conf/model/my_net.yaml",
        "tests/models/test_my_net.py",
    }
    assert all(str(path.relative_to(folder)) in out for path in written)
    assert {p: t for p, t in after.items() if p in before and p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }, "no other file is changed"
    commands = [line.split() for line in out.partition("next:")[2].splitlines() if line.startswith("  ")]
    assert [command[:2] for command in commands] == [
        ["cellfm-bench", "check"],
        ["cellfm-bench", "run"],
        ["cellfm-bench", "report"],
    ]

    # What a user does: another title, another size, another transformation of the counts.
    for file, old, new in (
        ("adapter.py", 'title="My net"', 'title="My network"'),
        ("adapter.py", '"tiny": {"width": 64, "heads": 4', '"tiny": {"width": 32, "heads": 2'),
        ("tokenizer.py", "TOTAL = 1e4", "TOTAL = 1e3"),
    ):
        path = folder / "models" / "my_net" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    quick = ["dataset.max_cells=200", "task.heads=[knn]", "task.layout=false", "corpus.tokens=20000"]
    out = run(folder, commands[0][1:], [*commands[1][1:], *quick], commands[2][1:], ["list", "models"])
    assert "35 pass" in out and "fail" not in out and "warning" not in out
    assert [line for line in out.splitlines() if line.startswith("my_net ") and "foundation" in line]
    [row] = [row for row in board(folder) if row["model"] == "my_net" and row["metric"] == "macro_f1"]
    assert (row["track"], row["task"], row["head"], row["readout"]) == ("scratch", "annotation", "knn", "mean")
    assert float(row["mean"]) > 0


@pytest.mark.slow
def test_what_is_written_passes_its_own_tests_and_the_linter(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "checkout").resolve()
    monkeypatch.chdir(folder)
    (folder / "tests").mkdir()
    for file in ("__init__.py", "conftest.py", "models/__init__.py"):
        (folder / "tests" / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / file, folder / "tests" / file)
    names = ["x", "my_model", "a" * LONGEST]  # lines as short, and as long, as they get
    for name in names:
        create("model", name, folder)
    python = [sys.executable, "-m"]
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        places = [f"models/{name}" for name in names]
        done = subprocess.run([*python, *command, *places, "tests/models"], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout
    done = subprocess.run([*python, "pytest", "tests/models"], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout


# -- written whole or not at all --------------------------------------------------------------------------


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A checkout in which there is nothing yet."""
    folder = tmp_path / "empty"
    for room in ("models", "tasks", "conf"):
        (folder / room).mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    return folder.resolve()


@pytest.mark.parametrize("kind", ["model", "task"])
def test_the_file_that_makes_it_known_comes_last(empty, kind):
    written = create(kind, "mine", empty)
    assert written[-1] == empty / "conf" / kind / "mine.yaml"
    assert {path for path in empty.rglob("*") if path.is_file()} == {*written, empty / "pyproject.toml"}


@pytest.mark.parametrize("kind", ["model", "task"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "lower-case letters"),
        ("My-Net", "lower-case letters"),
        ("1net", "lower-case letters"),
        ("_net", "lower-case letters"),
        ("../net", "lower-case letters"),
        ("net\n", "lower-case letters"),
        ("nét", "lower-case letters"),
        ("class", "something else in Python"),
        ("null", "something else in Python"),
        ("yes", "something else in Python"),
        ("nan", "something else in Python"),
        ("all", "something else in Python"),
        ("a" * (LONGEST + 1), "at most"),
    ],
)
def test_names_that_cannot_be_used(empty, kind, name, says):
    before = files(empty)
    with pytest.raises(InputError, match=says):
        create(kind, name, empty)
    assert files(empty) == before


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("model", "scgpt", "there is a model 'scgpt' already"),
        ("task", "integration", "there is a task"),
        ("task", "accuracy", "name of a metric"),
        ("task", "f1", "name of a metric"),
    ],
)
def test_names_that_are_taken(empty, kind, name, says):
    with pytest.raises(InputError, match=says):
        create(kind, name, empty)


@pytest.mark.parametrize(
    "there",
    ["models/mine/notes.txt", "models/mine.py", "conf/model/mine.yaml", "tests/models/test_mine.py"],
)
def test_what_is_there_is_never_overwritten(empty, there):
    path = empty / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    before = files(empty)
    with pytest.raises(InputError, match=r"is there already.*nothing was written"):
        create("model", "mine", empty)
    assert files(empty) == before and path.read_text() == "mine"


def test_a_dangling_link_is_not_written_through(empty, tmp_path):
    (empty / "conf" / "model").mkdir()
    (empty / "conf" / "model" / "mine.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(InputError, match="is there already"):
        create("model", "mine", empty)
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_full_disk_leaves_nothing(empty, monkeypatch):
    before = files(empty)
    whole, opened = Path.open, []

    def until_full(path, *arguments, **options):
        if arguments[:1] == ("x",):
            opened.append(path)
            if len(opened) == 4:
                raise OSError(28, "No space left on device", str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", until_full)
    with pytest.raises(InputError, match="No space left on device"):
        create("model", "mine", empty)
    monkeypatch.undo()
    assert len(opened) == 4 and set(files(empty)) == set(before)


def test_stopped_in_the_middle_leaves_nothing(empty):
    before = set(files(empty))
    texts = rendered("model", "mine")

    class Stop(dict):
        def items(self):
            yield from list(super().items())[:3]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_all(Stop({empty / path: text for path, text in texts.items()}))
    assert set(files(empty)) == before


# -- where it may write -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "task"])
def test_an_installed_wheel_points_to_a_package_of_its_own(tmp_path, kind):
    site = tmp_path / "site-packages"
    for room in ("models", "tasks", "conf"):
        (site / room).mkdir(parents=True)
    with pytest.raises(InputError, match=rf"no checkout.*cellfm_bench\.{kind}s.*From another package"):
        create(kind, "mine", site)
    assert not [path for path in site.rglob("*") if path.is_file()]


def test_the_checkout_one_stands_in_is_meant(empty, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "harness").mkdir(parents=True)
    (other / "harness" / "registry.py").touch()
    monkeypatch.chdir(other)
    with pytest.raises(InputError, match="python -m harness new-model NAME"):
        create("model", "mine", empty)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--force", "mine"]])
def test_one_name_is_expected(bench, arguments):
    for command in ("new-model", "new-task"):
        code, _, err = bench(command, *arguments)
        assert code == 2 and "NAME" in err


def test_help_says_what_is_written(bench):
    for command in ("new-model", "new-task"):
        code, out, _ = bench(command, "--help")
        assert code == 0 and "Nothing that is there is ever overwritten" in out
    assert "new-model|new-task NAME" in bench("--help")[1]


def test_templates_are_in_the_wheel():
    from hatchling.builders.wheel import WheelBuilder

    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "harness" / "templates").rglob("*.j2")}
    assert len(templates) >= 10 and templates <= shipped
