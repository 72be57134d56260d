"""All that `check-data` finds of a file, as data."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError, one_line
from harness.inspection.columns import Candidate, suggest
from harness.inspection.genes import GeneReport, inspect_genes
from harness.inspection.sample import Sample, take
from harness.inspection.values import Values, judge
from harness.loading import load_task
from harness.registry import TASKS

#: Names of layers in which people keep counts, the surest first.
COUNT_LAYERS = ("counts", "raw_counts", "count", "raw", "umi", "umis", "X_counts", "spliced")


@dataclass
class Verdict:
    """Is the file fit, and for what?

    Parameters
    ----------
    matrices
        Where (`X`, `raw`, a layer) -> what its values are.
    settings
        What to say with the file: `dataset.path`, `dataset.layer`, `dataset.cell_type` …
    problems, notes
        What keeps it from being used; what a user should know.
    tasks
        Task -> why it cannot run; "" where it can.
    coverage
        Model -> what its vocabulary knows of the genes; only of weights that are here.
    """

    path: str
    cells: int
    genes: int
    looked_at: int
    matrices: dict[str, Values]
    counts_in: str | None
    gene_report: GeneReport
    empty_cells: int
    empty_exact: bool
    duplicate_cell_names: int
    duplicate_cells: int
    columns: dict[str, list[Candidate]]
    settings: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    coverage: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def fit(self) -> bool:
        """Whether anything can run on it: at least the cells can be embedded."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"fit": self.fit, **asdict(self)}


def inspect(path: Path, *, gene_ids: str = "auto", checkpoints: Path | None = None) -> Verdict:
    """Look at a file: names and labels whole, values of some cells spread over it.

    Parameters
    ----------
    gene_ids
        As `dataset.gene_ids`.
    checkpoints
        Folder of weights; the vocabularies found there are held against the genes.

    Raises
    ------
    InputError
        It cannot be read as cells at all.
    """
    from harness.data import CellData
    from harness.readers import read_cells

    started = time.monotonic()
    cells = read_cells(path)
    samples = {where: take(matrix) for where, matrix in _matrices(cells).items()}
    matrices = {where: judge(sample) for where, sample in samples.items()}
    counts_in = _counts_in(matrices)
    var = cells.raw.var if counts_in == "raw" else cells.var
    if counts_in == "raw":
        var = var.join(cells.var[[c for c in cells.var.columns if c not in var.columns]])
    sample = samples[counts_in or next(iter(samples))] if samples else None
    names = [str(name) for name in cells.obs_names]
    verdict = Verdict(
        path=str(path),
        cells=int(cells.n_obs),
        genes=int(sample.shape[1] if sample else cells.n_vars),
        looked_at=len(sample.rows) if sample else 0,
        matrices=matrices,
        counts_in=counts_in,
        gene_report=inspect_genes(var, names, gene_ids),
        empty_cells=sample.empty if sample else 0,
        empty_exact=sample.exact if sample else True,
        duplicate_cell_names=len(names) - len(set(names)),
        duplicate_cells=_twice(sample) if sample else 0,
        columns=suggest(cells.obs),
    )
    _settle(verdict, gene_ids)
    if verdict.fit and checkpoints is not None and sample is not None and counts_in is not None:
        from harness.inspection.vocabularies import coverages

        layer = None if counts_in == "X" else counts_in
        data = CellData(cells, layer=layer, gene_ids=gene_ids, recover=matrices[counts_in].kind != "counts")
        verdict.coverage = coverages(data, checkpoints)
    verdict.seconds = round(time.monotonic() - started, 2)
    return verdict


def _matrices(cells: Any) -> dict[str, Any]:
    found = {"X": cells.X} if cells.X is not None else {}
    if cells.raw is not None:
        found["raw"] = cells.raw.X
    return found | {str(name): cells.layers[name] for name in cells.layers if name is not None}


def _counts_in(matrices: dict[str, Values]) -> str | None:
    """The matrix to read: counts first, in X before elsewhere; then one counts can be rebuilt from."""
    order = ["X", *(name for name in COUNT_LAYERS if name in matrices), "raw", *matrices]
    order = [name for name in dict.fromkeys(order) if name in matrices]
    for wanted in ("counts", None):
        for name in order:
            if matrices[name].kind == wanted or (wanted is None and matrices[name].recoverable):
                return name
    return None


def _twice(sample: Sample) -> int:
    """Cells of the sample with the same values as an earlier one; empty ones do not count."""
    matrix = sample.values
    rows = Counter(
        (matrix.indices[a:b].tobytes(), matrix.data[a:b].tobytes())
        for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        if b > a
    )
    return sum(times - 1 for times in rows.values())


def _settle(verdict: Verdict, gene_ids: str) -> None:
    """Problems, notes, settings and tasks, from what was found."""
    genes, settings = verdict.gene_report, verdict.settings
    settings["dataset.path"] = verdict.path
    if verdict.counts_in is None:
        found = "; ".join(f"{where}: {v.kind} ({v.evidence})" for where, v in verdict.matrices.items())
        verdict.problems.append(f"no raw counts anywhere ({found or 'no matrix'})")
    else:
        if verdict.counts_in != "X":
            settings["dataset.layer"] = verdict.counts_in
        if verdict.matrices[verdict.counts_in].kind != "counts":
            settings["dataset.recover_counts"] = "true"
    if genes.transposed:
        verdict.problems.append(f"cells and genes look swapped: {genes.transposed}. Write the file transposed")
    if verdict.cells == 0 or verdict.genes == 0:
        verdict.problems.append(f"{verdict.cells} cells and {verdict.genes} genes")
    elif verdict.genes < 2:
        verdict.problems.append("one gene tells no two cells apart")
    elif verdict.empty_cells == verdict.cells:
        verdict.problems.append("every cell is empty")
    if gene_ids != "auto":
        settings["dataset.gene_ids"] = gene_ids
    if not genes.known and not genes.transposed and verdict.genes > 1:
        verdict.notes.append(
            "gene ids are not recognised: baselines can run, no foundation model can. Name the var column that holds "
            "them: gene_ids=COLUMN"
        )
    if 1 < verdict.genes < 500:
        verdict.notes.append(f"only {verdict.genes} genes: foundation models read thousands")
    for role, candidates in verdict.columns.items():
        settings[f"dataset.{role}"] = candidates[0].column
        if role == "condition" and candidates[0].control:
            settings["dataset.control"] = candidates[0].control
    for name in TASKS.names():
        try:
            missing = [role for role in load_task(name).needs if role not in verdict.columns]
        except InputError as error:  # a plugin that cannot be used
            verdict.tasks[name] = one_line(error)
            continue
        verdict.tasks[name] = (
            "; ".join(verdict.problems)
            if verdict.problems
            else "".join(f"no obs column looks like {role.replace('_', ' ')}; " for role in missing).rstrip("; ")
        )
    cells = np.array([verdict.empty_cells, verdict.duplicate_cell_names, verdict.duplicate_cells])
    wording = ("empty", "share a name with another", "repeat another one's values")
    of = [f"{verdict.cells if verdict.empty_exact else verdict.looked_at}", f"{verdict.cells}", f"{verdict.looked_at}"]
    verdict.notes += [f"{n} of {m} cells {w}" for n, m, w in zip(cells, of, wording, strict=True) if n]
