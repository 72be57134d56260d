"""A grid of runs: expand the sweep, find what is missing, let Hydra launch it, say what happened."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import chain, islice
from shutil import which
from typing import Any

from harness.config import complete, compose, from_omegaconf, key_of
from harness.errors import InputError, NotApplicableError, one_line
from harness.progress import track
from harness.registry import CONF, MODELS
from harness.results import ResultStore, RunRecord
from harness.runner import execute, failure_id, finished, plan
from harness.status import Board, print_record
from harness.workers import end_with_parent

#: The size of an experiment as its file has it.
AS_WRITTEN = "full"

#: Launcher -> the package it comes in, and the extra of ours that brings it.
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "ray": ("hydra_ray_launcher", "ray"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
}

#: Set while a grid runs in this process; the job then reports to it.
_board: Board | None = None


@dataclass(frozen=True)
class Cell:
    """One run of a grid: its overrides, where its record will be, and whether it is there already."""

    overrides: tuple[str, ...]
    run_id: str
    failure_id: str
    results: str
    labels: dict[str, Any]
    #: Why it cannot be computed as things are; empty where it can.
    problem: str = ""

    def record(self) -> RunRecord | None:
        """The record of this run, whatever its status."""
        store = ResultStore(self.results)
        return store.get(self.run_id) or store.get(self.failure_id)

    @property
    def done(self) -> bool:
        """Whether nothing need be computed."""
        return ResultStore(self.results).done(self.run_id)


def expand(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The runs of a sweep as lists of overrides, in the order Hydra's basic sweeper launches them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        batches = BasicSweeper.split_arguments([p for p in parsed if not p.is_hydra_override()], None)
    except HydraException as error:
        raise InputError(f"the sweep is not understood: {str(error).splitlines()[0]}") from None
    return [tuple(run) for batch in batches for run in batch]


def sweeps(overrides: Sequence[str]) -> list[list[str]]:
    """The sweeps of a command: one, or as many as the `grids` of an experiment.

    An experiment may declare a sweep (`hydra.sweeper.params`), and `grids`, a list of sweeps that each add to it;
    `@networks` among its models stands for every network that can be pretrained here. `size=NAME` makes the changes
    that the experiment, and each of its grids, declares under `sizes`. What the command line sets goes before all.

    Raises
    ------
    InputError
        A size without an experiment, or one that the experiment does not have.
    """
    import yaml

    named = [text.partition("=")[2] for text in overrides if key_of(text) == "experiment"]
    size = next((text.partition("=")[2] for text in overrides if key_of(text) == "size"), AS_WRITTEN)
    overrides = [text for text in overrides if key_of(text) != "size"]
    if not named:
        if size != AS_WRITTEN:
            raise InputError(f"size={size} is of an experiment, and none is named: say experiment=NAME, too")
        return [complete(overrides)]
    experiment = yaml.safe_load((CONF / "experiment" / f"{named[0]}.yaml").read_text())
    sizes = experiment.get("sizes") or {}
    if size not in (AS_WRITTEN, *sizes):
        raise InputError(f"experiment={named[0]} has no size={size}; it has {', '.join([AS_WRITTEN, *sizes])}")
    common = experiment.get("hydra", {}).get("sweeper", {}).get("params") or {}
    given = {key_of(text) for text in overrides}
    found = []
    for grid in experiment.get("grids") or [{}]:
        own = grid.pop("sizes", {}).get(size, {})
        if own is None:  # a grid that this size does without
            continue
        wanted = {**common, **grid, **(sizes.get(size) or {}), **own}
        declared = [f"{key}={_written(value)}" for key, value in wanted.items() if key not in given]
        found.append(complete([*declared, *overrides]))
    return found


def _written(value: Any) -> Any:
    """A value of an experiment as the command line has it: `null`, not Python's None, which Hydra takes for a word.

    `@networks` in a list of models is every network that can be pretrained here, those that were just added too.
    """
    if value is None:
        return "null"
    if "@networks" not in str(value).split(","):
        return value
    return ",".join(name for part in str(value).split(",") for name in (_networks() if part == "@networks" else [part]))


def _networks() -> list[str]:
    """The foundation models of this checkout that have `from_scratch`."""
    found = []
    for name in MODELS.builtin():
        try:
            cls = MODELS.get(name)
        except Exception:  # what `list` and its own run say
            continue
        if cls.spec.kind == "foundation" and "from_scratch" in vars(cls):
            found.append(name)
    return found


def run_one(overrides: Sequence[str]) -> RunRecord:
    """A single run.

    Raises
    ------
    InputError
        The input is wrong: nothing is written.
    """
    overrides = complete(overrides)
    record = execute(compose(overrides), command=_command(overrides), strict=True)
    print_record(record)
    return record


@dataclass(frozen=True)
class Grid:
    """A planned grid: its sweeps and the runs of each."""

    sweeps: list[list[str]]
    planned: list[list[Cell]]

    @property
    def cells(self) -> list[Cell]:
        """The runs, once each: a baseline is the same run on every track that is asked for."""
        return list({cell.run_id: cell for part in self.planned for cell in part}.values())

    def run(self) -> int:
        """Compute what is missing: 0, or 1 when a run failed."""
        cells = self.cells
        todo = [cell for cell in cells if not cell.done]
        board = Board(cells, todo)
        if todo:
            with board:
                for sweep, part in zip(self.sweeps, self.planned, strict=True):
                    if not all(cell.done for cell in part):
                        _launch(sweep, board)
        return board.summary()


def plan_grid(overrides: Sequence[str]) -> Grid:
    """The runs of a multirun; nothing is computed.

    Raises
    ------
    InputError
        An unknown name or key, or a launcher that is not installed.
    """
    _check_launcher(_launcher(overrides))
    grids = sweeps(complete(overrides))
    asked = [list(expand(sweep)) for sweep in grids]
    cells_of = iter(track(map(_cell, chain(*asked)), total=sum(map(len, asked)), label="planning"))
    return Grid(grids, [list(islice(cells_of, len(part))) for part in asked])


def run_grid(overrides: Sequence[str]) -> int:
    """A multirun: exit code 0, or 1 when a run of it failed.

    Raises
    ------
    InputError
        An unknown name or key, before anything runs.
    """
    return plan_grid(overrides).run()


def _launch(sweep: list[str], board: Board) -> None:
    """Let Hydra run one sweep."""
    import hydra

    global _board
    _board = board if _launcher(sweep) == "basic" else None
    argv, sys.argv = sys.argv, ["cellfm-bench", "--multirun", *sweep]
    try:
        with nullcontext() if _board is board else board.watch():
            hydra.main(config_path=str(CONF), config_name="run", version_base="1.3")(job)()
    finally:
        sys.argv, _board = argv, None


def _launcher(overrides: Sequence[str]) -> str:
    return next((text.partition("=")[2] for text in overrides if key_of(text) == "hydra/launcher"), "basic")


def _check_launcher(name: str) -> None:
    """Hydra says of a launcher that is not installed that some key does not compose; this says what to install."""
    package, extra = LAUNCHERS.get(name, ("", ""))
    there = find_spec("hydra_plugins") is not None  # a namespace: absent where no plugin is installed
    if package and not (there and find_spec(f"hydra_plugins.{package}")):
        raise InputError(f"hydra/launcher={name} is not installed: pip install -e '.[{extra}]' ({package})")
    if name == "submitit_slurm" and which("srun") is None:
        raise InputError(
            f"hydra/launcher={name}: there is no srun here; give this command where Slurm jobs are submitted"
        )


def _cell(overrides: tuple[str, ...]) -> Cell:
    """Compose and plan one run; what is wrong with one cell's files is that cell's failure, not the grid's."""
    config = compose(overrides)
    failed, problem = failure_id(config), ""
    try:
        planned = plan(config)
        run_id = planned.run_id
        finished(planned, ResultStore(config.results))
    except Exception as error:  # computed again, and recorded, when its turn comes
        run_id = failed
        problem = "" if isinstance(error, NotApplicableError) else one_line(error)
    labels = {
        "model": config.model["name"],
        "track": config.track,
        "task": config.task["name"],
        "dataset": config.dataset["name"] or config.dataset["path"],
        "seed": config.seed,
    }
    return Cell(overrides, run_id, failed, config.results, labels, problem)


def job(cfg: Any) -> str:
    """What Hydra launches: one run, never raising."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.get().runtime.choices["hydra/launcher"] == "joblib":
        end_with_parent()
    overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("hydra")]
    config, now = from_omegaconf(cfg), datetime.now(UTC).isoformat(timespec="seconds")
    if _board is not None:
        _board.started(overrides)
    command = _command(overrides)
    record = execute(config, command=command, progress=_board is None or not _board.live)
    made = record.provenance
    if _board is not None:
        _board.finished(record)
    elif made.command == command and made.started_at >= now:  # what was there, or is made elsewhere, is not said again
        print_record(record)
    return record.status


def _command(overrides: Sequence[str]) -> str:
    return shlex.join(["cellfm-bench", "run", *overrides])
