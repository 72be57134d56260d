"""Models and tasks of other packages: from installation to the board; broken, colliding and lying ones are named."""

import csv
import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from harness import InputError, ResultStore, load_task
from harness import config as configuration
from harness.commands.check import _check_one_of_all
from harness.config import complete, compose
from harness.registry import MODELS, TASKS, Registry
from harness.runner import plan
from tests.conftest import ROOT

EXAMPLE = ROOT / "tests" / "plugin_example"

BASELINE = """
import numpy as np
from harness import FittedEmbedder, ModelSpec
class Model(FittedEmbedder):
    spec = ModelSpec(name={name!r}, title="Mine", kind="embedding", gene_ids="any", readouts=("x",), draws=False)
    def __init__(self, width: int = 3, words: tuple = ("a", "b"), odd: object = object()):
        self.width = width
    def fit(self, data, seed=0):
        pass
    def transform(self, counts):
        return counts[:, : self.width].toarray() + np.float32(1)
"""
TASK = """
from harness import MetricCard, Split, Task, TaskResult, register_metric
class Mine(Task):
    name, title = {name!r}, "My task"
    def __init__(self, depth: int = 2):
        super().__init__(depth=depth)
    def split(self, data, seed):
        return Split("all", [], [])
    def run(self, subject, data, split, seed):
        return TaskResult()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put packages on the path as pip would: a module, and what its metadata enter."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    known = set(sys.modules)

    def install(package, code, models=(), tasks=(), cls="Model"):
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(code)
        about = site / f"{module}-1.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = ["[cellfm_bench.models]", *(f"{name} = {module}:{cls}" for name in models)]
        lines += ["[cellfm_bench.tasks]", *(f"{name} = {module}:{cls}" for name in tasks)]
        (about / "entry_points.txt").write_text("\n".join(lines))
        _forget()

    yield install
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]
    for registry in (MODELS, TASKS):
        _leave_out(registry, set(registry._classes) - set(registry.builtin()))
    monkeypatch.undo()
    _forget()


def _leave_out(registry, names):
    registry._loaded.clear()
    registry._broken.clear()
    for name in names:
        registry._classes.pop(name)


def _forget():
    importlib.invalidate_caches()
    Registry.plugins.cache_clear()
    configuration._composed.cache_clear()


# -- a package from installation to the board -------------------------------------------------------------


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example package, installed into a folder of its own without a network; what runs `python` beside it."""
    home = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, home / "source")  # nothing is built in the repository
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", home / "site", home / "source"], check=True)

    def run(*commands, code=0):
        """Some commands of cellfm-bench in one process."""
        program = "import sys, json; from harness.__main__ import main\n"
        program += "sys.exit(max(main(command) for command in json.loads(sys.argv[1])))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (home / "site", ROOT)))}
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps([list(map(str, command)) for command in commands])],
            capture_output=True,
            text=True,
            env=environment,
            cwd=home,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run, home


def test_the_example_is_listed_with_its_package(example):
    run, _ = example
    out = run(["list", "models"], ["list", "tasks"])
    lines = [line for line in out.splitlines() if "cellfm-bench-example 0.1.0" in line]
    assert [line.split()[0] for line in lines] == ["example_model", "example_task"]
    assert "warning" not in out


@pytest.mark.slow
def test_the_example_gets_on_the_board(example):
    run, home = example
    where = [f"results={home}/results", f"cache={home}/cache", "dataset.max_cells=200", "track=untrained"]
    quick = ["task.heads=[knn]", "task.layout=false"]
    models = "model=example_model,pca,random_embedding,perfect_embedding"
    out = run(
        ["check", "example_model"],
        ["run", "-m", models, "task=example_task", "task.neighbors=10", *where],
        ["run", "model=example_model", "model.log_counts=false", "task=annotation", *quick, *where],
        ["report", f"results={home}/results"],
    )
    assert "pass              save-load" in out and "fail" not in out
    with (home / "leaderboard.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    mine = {(row["task"], row["metric"]) for row in rows if row["model"] == "example_model"}
    assert {("annotation", "macro_f1"), ("example_task", "macro_example_agreement")} <= mine
    bounds = {r["model"]: float(r["mean"]) for r in rows if r["metric"] == "macro_example_agreement"}
    assert bounds["random_embedding"] < bounds["example_model"] < bounds["perfect_embedding"]
    [unit] = [r for r in rows if r["metric"] == "macro_example_agreement" and r["model"] == "example_model"]
    assert unit["ci_low"] and int(unit["n_units"]) > 2  # the rows per type
    page = (home / "leaderboard.html").read_text()
    assert "Macro agreement of neighbours" in page and "Example task" in page
    records = ResultStore(home / "results").records()
    [record] = [r for r in records if r.task == "annotation"]
    assert record.provenance.config["model"] == {
        "name": "example_model",
        "log_counts": False,
        "checkpoint": None,
        "variant": None,
        "readout": None,
        "size": "tiny",
    }
    assert record.provenance.versions["cellfm-bench-example"] == "0.1.0"
    [record] = [r for r in records if r.task == "example_task" and r.model == "pca"]
    assert record.provenance.config["task"] == {"name": "example_task", "neighbors": 10}


# -- options ----------------------------------------------------------------------------------------------


def test_arguments_are_options(install, bench):
    install("a-package", BASELINE.format(name="mine"), models=["mine"])
    install("t-package", TASK.format(name="asked"), tasks=["asked"], cls="Mine")
    assert compose(["model=mine", "task=asked"]).model == {"name": "mine", "width": 3, "words": ["a", "b"]}
    config = compose(complete(["model=mine", "model.width=5", "task=asked", "task.depth=7"]))
    assert config.model["width"] == 5 and config.task == {"name": "asked", "depth": 7}
    assert load_task("asked").config == {"depth": 2}
    with pytest.raises(InputError, match="unknown setting of task asked: width; known: depth"):
        load_task("asked", width=1)
    code, _, err = bench("run", "model=mine", "task=annotation", "model.depth=5")
    assert code == 2 and "depth" in err


def test_weights_that_nobody_published_are_not_fetched(install, bench):
    code = (EXAMPLE / "src" / "cellfm_bench_example" / "model.py").read_text()
    install("a-package", code, models=["example_model"], cls="ExampleModel")
    code, _, err = bench("run", "model=example_model", "task=annotation")
    assert code == 2 and "model.checkpoint=DIR" in err and "fetch" not in err


def test_a_sweep_over_a_plugin_and_its_option(install, bench, tmp_path):
    install("a-package", BASELINE.format(name="mine"), models=["mine"])
    quick = ["task=annotation", "task.heads=[knn]", "task.layout=false", "dataset.max_cells=150"]
    code, out, err = bench("run", "-m", "model=mine", "model.width=2,4", *quick)
    assert code == 0, out + err
    records = ResultStore(tmp_path / "results").records()
    assert sorted(r.provenance.config["model"]["width"] for r in records) == [2, 4]
    assert all(r.provenance.versions["a-package"] == "1.5" for r in records)


def test_two_packages_never_share_a_number(install, tmp_path):
    """One name, today of one package and tomorrow of another, with one cache."""
    ids = set()
    for package in ("one-package", "other-package"):
        install(package, BASELINE.format(name="mine"), models=["mine"])
        ids.add(plan(compose(["model=mine", "task=annotation", f"cache={tmp_path}"])).run_id)
        shutil.rmtree(tmp_path / "site" / f"{package.replace('-', '_')}-1.5.dist-info")
        _leave_out(MODELS, ())
    assert len(ids) == 2


# -- broken ones ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('out')", "SystemExit: out"),
        ("Model = (", "SyntaxError"),
        ("class Other: pass", "AttributeError"),
        ("Model = 3", "no subclass of ModelAdapter, FittedEmbedder, TaskBaseline"),
        (BASELINE.format(name="scgpt"), "its spec is called 'scgpt'"),
        (BASELINE.format(name="broken").replace("'broken', title", "'broken', reads_labels=True, title"), "labels"),
        (BASELINE.format(name="broken").replace('"embedding"', '"foundation"'), "its spec says 'foundation'"),
        (BASELINE.format(name="broken").replace("def fit", "def fits"), "it lacks fit"),
        (BASELINE.format(name="broken").replace("width: int = 3", "width"), "its option width has no default"),
        (
            BASELINE.format(name="broken").replace("width: int", "size: int"),
            "its option size has a name that the engine",
        ),
        (BASELINE.format(name="broken").replace("spec = ", "about = "), "its spec is no harness.ModelSpec"),
        ("from harness import register_model\n@register_model('pca')\nclass Model: pass", "two models want the name"),
    ],
)
def test_a_broken_model_is_named_and_hurts_no_one(install, bench, code, reason):
    install("bad-package", code, models=["broken"])
    listed, out, _ = bench("list", "models")
    assert listed == 0 and "scgpt" in out
    [line] = [line for line in out.splitlines() if line.startswith("broken")]
    assert "bad-package 1.5" in line and "cannot be used" in line
    [warning] = [line for line in out.splitlines() if line.startswith("warning")]
    for command in (["check", "broken"], ["run", "model=broken", "task=annotation"]):
        code, _, err = bench(*command)
        assert code == 2 and "Traceback" not in err and len(err.splitlines()) == 1, err
        for text in (err, warning):
            assert all(word in text for word in ("'broken'", "bad-package 1.5", "bad_package:Model", reason)), text
    assert compose(["model=pca", "task=annotation"]).model["name"] == "pca"
    assert compose(["model=broken", "task=annotation"]).model == {"name": "broken"}  # one failed cell of a grid
    assert _check_one_of_all("broken") == 1  # check all goes on


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "No module named"),
        (TASK.format(name="other"), "it is called 'other'"),
        (TASK.format(name="broken").replace("def run", "def runs"), "it lacks run"),
        (TASK.format(name="broken").replace("depth: int = 2", "depth"), "its option depth has no default"),
        ("class Mine: pass", "no subclass of harness.Task"),
        (TASK.format(name="broken") + "register_metric(MetricCard('accuracy', 'Mine'))", "'accuracy' is taken"),
        (TASK.format(name="broken") + "register_metric(MetricCard('My metric', 'Mine'))", "lower-case letters"),
    ],
)
def test_a_broken_task_is_named_and_hurts_no_one(install, bench, cells_file, code, reason):
    install("bad-package", code, tasks=["aa_broken", "broken"], cls="Mine")
    listed, out, _ = bench("list", "tasks")
    assert listed == 0 and "Batch integration" in out and out.count("warning") == 2
    code, _, err = bench("run", "model=pca", "task=broken")
    assert code == 2 and "Traceback" not in err
    assert all(word in err for word in ("'broken'", "bad-package 1.5", "bad_package:Mine", reason)), err
    assert bench("embed", "model=pca", f"dataset.path={cells_file}", f"out={cells_file.parent}/x.npz")[0] == 0
    code, out, _ = bench("check-data", cells_file)
    assert code == 0 and "bad-package" in out


# -- names that several want ------------------------------------------------------------------------------


def test_a_name_of_ours_is_refused_to_both(install, bench):
    install("a-package", BASELINE.format(name="pca"), models=["pca", "mine"])
    for command in (["run", "model=pca", "task=annotation"], ["run", "-m", "model=hvg,pca", "task=annotation"]):
        code, _, err = bench(*command)
        assert code == 2 and all(text in err for text in ("cellfm-bench (models.pca.adapter)", "a-package 1.5")), err
    assert bench("check", "pca")[0] == 2
    code, out, _ = bench("list", "models")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("warning") and "'pca'" in line and "a-package" in line]
    assert compose(["model=hvg", "task=annotation"]).model["name"] == "hvg"


def test_a_name_that_two_packages_want_is_refused_to_both(install, bench):
    install("a-package", BASELINE.format(name="mine"), models=["mine"])
    install("b-package", BASELINE.format(name="mine"), models=["mine"])
    install("c-package", TASK.format(name="annotation"), tasks=["annotation"], cls="Mine")
    code, _, err = bench("run", "model=mine", "task=integration")
    assert code == 2 and "a-package 1.5" in err and "b-package 1.5" in err
    code, _, err = bench("run", "model=pca", "task=annotation")
    assert code == 2 and "c-package 1.5" in err and "tasks.annotation.protocol" in err
    code, out, _ = bench("list", "tasks")
    assert code == 0 and "warning: the task name 'annotation' is refused" in out


def test_a_class_of_a_script_takes_no_name_of_ours():
    with pytest.raises(InputError, match=r"two models want the name 'hvg': cellfm-bench's own models\.hvg\.adapter"):
        MODELS.register("hvg")(type("HVG", (), {}))


def test_a_decorated_class_takes_no_name_of_a_package(install):
    install("a-package", BASELINE.format(name="mine"), models=["mine"])
    MODELS.register("mine")(type("Mine", (), {}))
    with pytest.raises(InputError, match=r"a-package 1\.5 .*Mine is registered under that name"):
        MODELS.get("mine")


# -- liars ------------------------------------------------------------------------------------------------


def test_a_liar_is_caught_in_a_run_by_name(install, bench, tmp_path):
    liar = BASELINE.format(name="liar").replace("+ np.float32(1)", "[::-1]")
    install("bad-package", liar, models=["liar"])
    code, out, _ = bench("run", "-m", "model=liar,pca", "task=annotation", "task.heads=[knn]", "task.layout=false")
    assert code == 1 and "1 of 2 runs done" in out
    records = {r.model: r for r in ResultStore(tmp_path / "results").records()}
    assert records["pca"].status == "ok" and records["liar"].status == "failed"
    assert "liar" in records["liar"].error and "another vector when they are embedded" in records["liar"].error
    code, out, _ = bench("check", "liar")
    assert code == 1 and "row-order" in "".join(line for line in out.splitlines() if "fail" in line)
