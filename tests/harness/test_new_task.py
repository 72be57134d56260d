"""`cellfm-bench new-task`: from a name to the board. What it shares with `new-model` is tested there."""

import subprocess
import sys

import pytest

from harness.scaffold import LONGEST, class_name, create
from tests.harness.test_new_model import board, checkout, files, run


@pytest.mark.slow
def test_from_a_name_to_the_board(tmp_path):
    folder = checkout(tmp_path / "checkout")
    before = files(folder)
    out = run(folder, ["new-task", "purity"])
    after = files(folder)
    written = {str(path.relative_to(folder)) for path in set(after) - set(before) if path.is_file()}
    assert written == {
        "tasks/purity/__init__.py",
        "tasks/purity/protocol.py",
        "conf/task/purity.yaml",
        "tests/tasks/test_purity.py",
    }
    assert all(path in out for path in written)
    commands = [line.split() for line in out.partition("next:")[2].splitlines() if line.startswith("  ")]

    # What a user does: another title of the metric, another share of test cells.
    protocol, settings = folder / "tasks" / "purity" / "protocol.py", folder / "conf" / "task" / "purity.yaml"
    protocol.write_text(protocol.read_text().replace('MetricCard("purity", "Purity")', 'MetricCard("purity", "Pure")'))
    settings.write_text(settings.read_text().replace("test_size: 0.5", "test_size: 0.4"))

    _, grid, report = commands
    out = run(folder, [*grid[1:], "dataset.max_cells=300"], report[1:], ["list", "tasks"])
    assert "12 of 12 runs done" in out and "warning" not in out
    rows = {row["model"]: row for row in board(folder) if (row["task"], row["metric"]) == ("purity", "macro_purity")}
    assert set(rows) == {"hvg", "pca", "random_embedding", "perfect_embedding"}
    means = {model: float(row["mean"]) for model, row in rows.items()}
    assert means["perfect_embedding"] == 1 and means["random_embedding"] < 0.3 < min(means["pca"], means["hvg"])
    assert all(row["ci_low"] and int(row["n_units"]) > 3 and row["n_seeds"] == "3" for row in rows.values())
    assert (
        {row["track"] for row in rows.values()} >= {"control"}
        and rows["pca"]["rank"]
        and not rows["random_embedding"]["rank"]
    )
    page = (folder / "outputs" / "leaderboard.html").read_text()
    assert "Macro purity" in page and "Purity" in page
    out = run(folder, ["run", "model=pca", "task=purity", "task.test_size=2"], code=2)
    assert "task.test_size=2" in out


@pytest.mark.slow
def test_what_is_written_passes_its_own_tests_and_the_linter(tmp_path, monkeypatch):
    folder = checkout(tmp_path / "checkout").resolve()
    monkeypatch.chdir(folder)
    names = ["x", "my_task", "a" * LONGEST]
    for name in names:
        create("task", name, folder)
    python = [sys.executable, "-m"]
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        places = [f"tasks/{name}" for name in names]
        done = subprocess.run([*python, *command, *places, "tests"], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stdout
    done = subprocess.run([*python, "pytest", "tests/tasks"], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("model", "my_net", "MyNetModel"),
        ("model", "my_model", "MyModel"),
        ("model", "model", "ModelModel"),
        ("task", "task", "TaskTask"),
        ("task", "label_purity2", "LabelPurity2Task"),
        ("task", "a__b_", "ABTask"),
    ],
)
def test_class_names_are_none_that_a_template_imports(kind, name, expected):
    assert class_name(kind, name) == expected
