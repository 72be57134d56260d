"""cellfm-bench showcase [size=small|full] [data=DIR] [jobs=2] [work=outputs/showcase] [out=reports/showcase]

The five experiments on real cells (annotation, integration, gene function, perturbation, drug response), pretraining
included, and the board of all of them: OUT/index.html, leaderboard.csv, verdicts.csv, scaled.csv and FINDINGS.md.

  cellfm-bench showcase data=../shared/data                 smaller subsamples and two seeds: about an hour on two cores
  cellfm-bench showcase data=../shared/data size=full       the experiments as their files have them

data=DIR holds the files of the data sets (default: $CELLFM_BENCH_DATA). What it will take is said before it starts.
Killed, the same command goes on where it was: results are kept by size under WORK, networks and embeddings for both.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.arguments import parse
from harness.commands.list import print_table
from harness.errors import InputError
from harness.places import DATA
from harness.registry import CONF, load_object

if TYPE_CHECKING:
    from harness.grid import Grid

#: What Hydra reads as more than a name: lists, choices, interpolations.
UNQUOTED = ",{}[]()$='\"\\"
#: The cores that the minutes in conf/showcase.yaml are of.
MEASURED_CORES = 2


def main(arguments: list[str]) -> int:
    """Run what is missing and write the report; 1 when a run failed."""
    given = parse(arguments, {"size": "small", "data": None, "jobs": "2", "work": "outputs/showcase", "out": None})
    size, work = str(given["size"]), Path(str(given["work"]))
    out = Path(given["out"] or "reports/showcase")
    if not str(given["jobs"]).isdigit() or int(str(given["jobs"])) < 1:
        raise InputError(f"jobs={given['jobs']}: expected how many runs go on at a time, 1 or more")
    jobs = int(str(given["jobs"]))
    if given["data"]:
        if not Path(given["data"]).is_dir():
            raise InputError(f"data={given['data']}: no such directory; it holds the files that {CONF}/dataset/ names")
        os.environ[DATA] = str(Path(given["data"]).resolve())
    # Before anything heavy is imported, here and in the processes that do the runs.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))

    if set(str(work)) & set(UNQUOTED):
        raise InputError(f"work={work}: one of {UNQUOTED} in a folder's name means something else in an override")
    results = work / size / "results"
    grids = _planned(size, [f"results={results}", f"cache={work / 'cache'}", *_launcher(jobs)])
    _say_plan(size, jobs, grids)
    began, failed = time.perf_counter(), False
    for experiment, grid in grids.items():
        print(f"\n{experiment}", flush=True)
        failed = bool(grid.run()) or failed
    print(f"\nall of them in {(time.perf_counter() - began) / 60:.0f} min")
    words = out / "FINDINGS.md"
    report = load_object("reports.board:write_report")(results, out / "index.html", findings=words)
    print(f"{report.html.resolve()}\n{words.resolve()}")
    return int(failed)


def _launcher(jobs: int) -> list[str]:
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"] if jobs > 1 else []


def _minutes() -> dict[str, dict[str, float]]:
    """The experiments of the showcase, and their measured minutes by size."""
    import yaml

    found: dict[str, dict[str, float]] = yaml.safe_load((CONF / "showcase.yaml").read_text())
    return found


def _planned(size: str, overrides: list[str]) -> dict[str, Grid]:
    """The grids of all experiments; InputError where a run could not even start."""
    from harness.grid import plan_grid

    grids: dict[str, Grid] = {}
    for experiment in _minutes():
        print(f"{experiment}: planning", flush=True)
        grid = plan_grid([f"experiment={experiment}", f"size={size}", *overrides])
        problems = dict.fromkeys(cell.problem for cell in grid.cells if cell.problem)
        if problems:
            raise InputError(f"{experiment} cannot be run: {'; '.join(problems)}")
        grids[experiment] = grid
    return grids


def _say_plan(size: str, jobs: int, grids: dict[str, Grid]) -> None:
    """How many runs there are, and about how long they take."""
    rows: list[tuple[str, ...]] = [("experiment", "runs", "to compute", "about")]
    total, at_once = 0.0, min(jobs, os.cpu_count() or 1)
    for experiment, grid in grids.items():
        cells: list[Any] = grid.cells
        todo = sum(not cell.done for cell in cells)
        minutes = _minutes()[experiment][size] * todo / len(cells) * MEASURED_CORES / at_once
        total += minutes
        rows.append((experiment, str(len(cells)), str(todo), f"{minutes:.0f} min"))
    print_table(rows)
    at_a_time = "one run at a time" if jobs == 1 else f"{jobs} runs at a time"
    print(f"size={size}, {at_a_time}: about {total / 60:.1f} hours, as measured on {MEASURED_CORES} cores", flush=True)
