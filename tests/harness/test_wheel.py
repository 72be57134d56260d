"""The wheel in an empty environment, from directories that hold names of ours."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", home / "dist", ROOT)
    [wheel] = (home / "dist").glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", home / "venv")
    pip = (sys.executable, "-m", "pip", "--python", home / "venv" / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", wheel)
    return home / "venv" / "bin"


@pytest.mark.slow
def test_wheel_from_any_directory(environment, tmp_path):
    empty, hostile = tmp_path / "empty", tmp_path / "hostile"
    empty.mkdir()
    hostile.mkdir()
    for room in ("models", "reports"):
        (hostile / room).mkdir()
        (hostile / room / "__init__.py").write_text("raise SystemExit('shadowed')")
    (hostile / "tasks.py").write_text("raise SystemExit('shadowed')")
    (hostile / "conf").mkdir()
    for directory in (empty, hostile):
        for command in ([environment / "cellfm-bench"], [environment / "python", "-m", "harness"]):
            assert "pca" in run(*command, "list", "models", cwd=directory)
    # Whatever could go wrong in the empty directory goes wrong in the hostile one.
    out = run(*command, "run", "model=pca", "task=annotation", "task.heads=[knn]", "task.layout=false", cwd=hostile)
    assert "macro_f1" in out
    run(environment / "cellfm-bench", "report", cwd=hostile)
    assert "<html" in (hostile / "outputs" / "leaderboard.html").read_text()[:500].lower()
    assert "sound" in run(environment / "cellfm-bench", "doctor", cwd=empty)
