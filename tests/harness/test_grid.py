"""Grids: what is missing is computed, a kill loses at most the run in flight, resuming gives the same store."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from harness import ResultStore
from harness.__main__ import main

GRID = ["-m", "model=svm,pca,random_projection", "task=annotation", "seed=0,1", "task.heads=[knn,logreg]"]
GRID += ["task.layout=false"]  # the processes are many, and UMAP is compiled anew in each


def store_of(directory):
    """What of a store must not depend on when and in how many goes it was computed."""
    return {
        r.run_id: (r.status, r.model, r.seed, [m.model_dump() for m in r.metrics], [a.sha256 for a in r.artifacts])
        for r in ResultStore(directory).records()
    }


def command(directory, *extra):
    return [
        sys.executable,
        "-m",
        "harness",
        "run",
        *GRID,
        *extra,
        f"results={directory}/results",
        f"cache={directory}/cache",
    ]


def wait_for_a_record(results):
    deadline = time.monotonic() + 120
    while not list(results.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_grid_resumes_after_kill_9(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = subprocess.Popen(command(cut), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    wait_for_a_record(cut / "results")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = len(list((cut / "results").glob("*.json")))
    assert 1 <= done < 6
    subprocess.run(command(cut), check=True, capture_output=True)
    assert main(command(whole)[3:]) == 0
    assert store_of(cut / "results") == store_of(whole / "results")
    assert len(store_of(whole / "results")) == 6
    assert not [p for p in (cut / "results").rglob("*") if p.suffix == ".tmp"]


def test_again_computes_nothing(bench, tmp_path):
    grid = ("run", "-m", "model=pca,svm", "task=annotation", "task.heads=[knn]", "track=scratch,untrained")
    code, out, _ = bench(*grid)
    assert code == 0 and "2 runs" in out
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results").glob("*.json")}
    assert len(before) == 2  # a baseline is the same run whatever track is asked
    code, out, _ = bench(*grid)
    assert code == 0 and "nothing to compute" in out
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results").glob("*.json")} == before


def test_run_id_follows_what_can_change_a_number(tmp_path, cells_file):
    from harness.config import complete, compose
    from harness.runner import plan

    def run_id(*more):
        base = ["model=pca", "task=annotation", f"dataset.path={cells_file}", "dataset.cell_type=cell_type"]
        return plan(compose(complete([*base, f"cache={tmp_path}", *more]))).run_id

    same = run_id()
    assert run_id("results=/elsewhere") == same
    assert run_id("dataset.name=renamed") == same
    for change in ("seed=1", "task.test_size=0.4", "model.n_components=10", "task.heads=[knn]", "dataset.batch=batch"):
        assert run_id(change) != same, change


def test_equal_content_in_another_file_is_the_same_run(tmp_path, cells, cells_file):
    import scipy.sparse as sp

    from harness.loading import load_dataset

    first = load_dataset(cells_file, cell_type="cell_type")
    for name, matrix in {"csc": sp.csc_matrix(cells.X), "dense": cells.X.toarray()}.items():
        other = cells.copy()
        other.X = matrix
        other.write_h5ad(tmp_path / f"{name}.h5ad")
        again = load_dataset(tmp_path / f"{name}.h5ad", cell_type="cell_type")
        assert again.content_hash == first.content_hash
        assert again.labels_hash() == first.labels_hash()
    changed = cells.copy()
    changed.X[0, 0] += 1
    from harness import CellData

    assert CellData(changed).content_hash != first.content_hash


def test_records_follow_the_schema(bench, tmp_path):
    bench("run", "model=pca", "task=annotation")
    [path] = (tmp_path / "results").glob("*.json")
    record = json.loads(path.read_text())
    for key in [
        "schema_version",
        "run_id",
        "status",
        "error",
        "model",
        "variant",
        "track",
        "task",
        "setting",
        "readout",
        "dataset",
        "split",
        "seed",
        "flags",
        "metrics",
        "artifacts",
        "cost",
        "provenance",
    ]:
        assert key in record, key
    for key in ["embed_s", "task_s", "cells_per_s", "peak_rss_mb", "peak_gpu_mb", "n_params", "n_trained_params"]:
        assert key in record["cost"], key
    for key in [
        "command",
        "config",
        "config_hash",
        "git_commit",
        "dataset_sha256",
        "checkpoint_sha256",
        "corpus",
        "versions",
        "hardware",
        "device",
        "backend",
        "precision",
        "started_at",
    ]:
        assert key in record["provenance"], key
    row = record["metrics"][0]
    assert set(row) == {"name", "version", "head", "value", "higher_is_better", "scope", "key", "n"}
    assert record["provenance"]["command"].startswith("cellfm-bench run ")
    for artifact in record["artifacts"]:
        assert (tmp_path / "results" / artifact["path"]).is_file()


@pytest.mark.parametrize("launcher", ["joblib"])
def test_other_launchers(bench, launcher, monkeypatch):
    monkeypatch.setattr("harness.status.WATCH_EVERY", 0.5)
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the joblib extra is not installed")
    code, out, _ = bench(
        "run", "-m", "model=pca", "task=annotation", "seed=0,1", "task.layout=false", f"hydra/launcher={launcher}"
    )
    assert code == 0 and "2 of 2 runs done" in out
    assert "of 2 done in 0 min" in out  # said while other processes work


def test_workers_end_with_the_grid(tmp_path):
    import psutil

    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the joblib extra is not installed")
    grid = subprocess.Popen(command(tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"))
    wait_for_a_record(tmp_path / "results")
    workers = [child for child in psutil.Process(grid.pid).children() if "loky" in " ".join(child.cmdline())]
    grid.kill()
    grid.wait()
    assert workers
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_the_grid_itself_may_outlive_its_shell():
    import threading

    from harness.workers import end_with_parent

    before = threading.active_count()
    end_with_parent.__wrapped__()
    assert threading.active_count() == before


def test_a_launcher_that_is_not_installed_is_said(bench, monkeypatch):
    monkeypatch.setattr("harness.grid.find_spec", lambda name: None)
    code, _, err = bench("run", "-m", "model=pca", "task=annotation", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert code == 2 and "pip install -e '.[slurm]'" in err and err.count("\n") == 1
    monkeypatch.setattr("harness.grid.find_spec", lambda name: True)
    monkeypatch.setattr("harness.grid.which", lambda name: None)
    code, _, err = bench("run", "-m", "model=pca", "task=annotation", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert code == 2 and "no srun here" in err


def test_a_run_that_takes_too_long_is_recorded_and_the_grid_goes_on(bench, tmp_path, monkeypatch):
    import time

    from harness.registry import MODELS

    monkeypatch.setattr(MODELS.get("hvg"), "fit", lambda self, data, seed=0: time.sleep(30))
    grid = ("run", "-m", "model=hvg,svm", "task=annotation", "timeout_s=4")
    code, out, _ = bench(*grid)
    assert code == 1 and "timeout: it took longer than timeout_s=4" in out
    assert {r.model: r.status for r in ResultStore(tmp_path / "results").records()} == {"hvg": "timeout", "svm": "ok"}
    monkeypatch.undo()
    assert bench("run", "-m", "model=hvg,svm", "task=annotation", "task.heads=[knn]")[0] == 0


def test_every_network_joins_a_grid_that_asks_for_all():
    from harness.grid import sweeps

    (demo,) = sweeps(["experiment=demo"])
    models = next(text for text in demo if text.startswith("model=")).removeprefix("model=").split(",")
    assert {"svm", "cellfm", "scbert", "uce"} <= set(models) and len(models) == len(set(models))
    assert "precomputed" not in models and "@networks" not in models


def test_null_in_a_grid_is_no_word():
    from harness.grid import sweeps

    assert any("task.held_out=null" in sweep for sweep in sweeps(["experiment=drug_real"]))
    assert not any(text.endswith("=None") for sweep in sweeps(["experiment=drug_real"]) for text in sweep)


def test_a_run_is_computed_by_one_process_at_a_time(tmp_path):
    store = ResultStore(tmp_path)
    with store.claim("a") as mine:
        assert mine
        with ResultStore(tmp_path).claim("a") as twice, store.claim("b") as other:
            assert not twice and other
    with pytest.raises(RuntimeError), store.claim("a") as mine:
        assert mine
        raise RuntimeError("it failed")
    with store.claim("a") as mine:  # and is free again, however it ended
        assert mine


def test_a_disk_without_locks_is_no_reason_to_compute_nothing(tmp_path, monkeypatch):
    import filelock

    def refuse(self, *args, **more):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with ResultStore(tmp_path).claim("a") as mine:
        assert mine


def test_what_another_process_computes_is_left_to_it(tmp_path, monkeypatch):
    from harness.grid import run_one
    from harness.runner import plan

    arguments = ["model=svm", "task=annotation", "task.layout=false", f"results={tmp_path}/r", f"cache={tmp_path}/c"]
    ids = []
    monkeypatch.setattr("harness.runner.plan", lambda config: ids.append(plan(config)) or ids[-1])
    assert run_one(arguments).status == "ok"
    store = ResultStore(tmp_path / "r")
    store.path(ids[0].run_id).unlink()
    with store.claim(ids[0].run_id):
        left = run_one(arguments)
    assert left.status == "skipped" and "another process" in left.error
    assert not store.records()


def test_showcase_says_what_is_missing_before_it_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("harness.commands.showcase._minutes", lambda: {"perturbation_real": {"small": 1}})
    monkeypatch.setenv("CELLFM_BENCH_DATA", "")
    assert main(["showcase", f"data={tmp_path}", f"work={tmp_path}/work"]) == 2
    err = capsys.readouterr().err
    assert "perturbation_real cannot be run" in err and "go_bp_2021_enrichr.gmt.gz" in err and err.count("\n") == 1
    assert not (tmp_path / "work" / "small" / "results").exists()
    assert main(["showcase", "jobs=none"]) == 2
    assert main(["showcase", f"data={tmp_path}", "work=a,b"]) == 2
    assert main(["showcase", f"data={tmp_path}/absent"]) == 2
