"""cellfm-bench list models|datasets|tasks|results [checkpoints=ROOT] [results=DIR]

What there is: models with their kind, gene ids, licence and whether weights are here; data sets; tasks; results.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.commands.arguments import parse
from harness.errors import InputError, one_line
from harness.registry import CONF, MODELS, TASKS

WHAT = ("models", "datasets", "tasks", "results")


def main(arguments: list[str]) -> int:
    """Print a table."""
    what, *rest = arguments or [""]
    if what not in WHAT:
        raise InputError(f"list what? One of {', '.join(WHAT)}")
    default = {"checkpoints": os.environ.get("CELLFM_BENCH_CHECKPOINTS"), "results": "outputs/results"}
    given = parse(rest, default)
    if what == "models":
        rows = _models(given["checkpoints"])
    elif what == "datasets":
        rows = _datasets()
    elif what == "tasks":
        rows = [("task", "what")] + [(name, TASKS.get(name).title) for name in TASKS.names()]
    else:
        rows = _results(Path(given["results"] or "."))
    print_table(rows)
    return 0


def _models(checkpoints: str | None) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("model", "kind", "gene ids", "weights' licence", "commercial use", "weights")]
    for name in MODELS.names():
        try:
            spec = MODELS.get(name).spec
        except InputError as error:
            rows.append((name, "broken plugin", one_line(error), "", "", ""))
            continue
        if spec.kind != "foundation":
            rows.append((name, "control" if spec.control else "baseline", spec.gene_ids, "", "", ""))
            continue
        here = bool(checkpoints) and (Path(str(checkpoints)) / name).exists()
        use = {True: "yes", False: "no", None: "unknown"}[spec.commercial_use]
        rows.append(
            (
                name,
                "foundation",
                spec.gene_ids,
                spec.weights_licence or "none stated",
                use,
                "here" if here else "not here",
            )
        )
    return rows


def _datasets() -> list[tuple[str, ...]]:
    import yaml

    rows: list[tuple[str, ...]] = [("dataset", "cell type", "batch", "origin")]
    for path in sorted((CONF / "dataset").glob("*.yaml")):
        if path.stem.startswith("_"):
            continue
        node = yaml.safe_load(path.read_text())
        origin = node.get("origin") or "dataset.path=FILE.h5ad"
        rows.append((path.stem, node.get("cell_type") or "", node.get("batch") or "", origin))
    return rows


def _results(directory: Path) -> list[tuple[str, ...]]:
    from harness.results import ResultStore

    rows: list[tuple[str, ...]] = [("run", "status", "model", "track", "task", "dataset", "seed")]
    for r in ResultStore(directory).records():
        rows.append((r.run_id, r.status, r.label or r.model, r.track, r.task, r.dataset, str(r.seed)))
    return rows


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Columns padded to their widest cell; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
