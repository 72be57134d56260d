"""cellfm-bench list models|datasets|tasks|results [checkpoints=ROOT] [results=DIR]

  cellfm-bench list models
  cellfm-bench list results results=outputs/demo/results

What there is: models and their published weights with download size, licence and whether they are here; data sets
likewise; tasks; results. What is not here comes with `cellfm-bench fetch model|dataset NAME`. Models and tasks of other
packages stand with the package; one that cannot be used stands with the reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.commands.arguments import parse
from harness.errors import InputError, one_line
from harness.fetch import is_here
from harness.places import checkpoint_folders, checkpoints_root, data_root
from harness.plan import download_size
from harness.registry import CONF, MODELS, TASKS, Registry

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
        rows = _tasks()
    else:
        rows = _results(Path(given["results"] or "."))
    print_table(rows)
    for registry in {"models": [MODELS], "tasks": [TASKS]}.get(what, []):
        for name in registry.names():
            if problem := _problem(registry, name):
                print(f"warning: {problem}")
    return 0


def _problem(registry: Registry[Any], name: str) -> str:
    """Why a name cannot be used; "" where it can."""
    try:
        registry.get(name)
    except InputError as error:
        return one_line(error)
    except Exception as error:  # a module that is being written here
        return f"the {registry.kind} {name!r} cannot be imported: {type(error).__name__}: {one_line(error)}"
    return ""


def _packages(registry: Registry[Any], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with the package each name comes from, where any comes from another than ours."""
    if not registry.plugins():
        return rows
    head, *others = rows
    beside = [("package",), *((" ".join(registry.package(row[0])),) for row in others)]
    return [(row[0], *package, *row[1:]) for row, package in zip((head, *others), beside, strict=True)]


def _tasks() -> list[tuple[str, ...]]:
    found = [(name, "cannot be used" if _problem(TASKS, name) else TASKS.get(name).title) for name in TASKS.names()]
    return _packages(TASKS, [("task", "what"), *found])


def _models(checkpoints: str | None) -> list[tuple[str, ...]]:
    from harness.cards import model_cards

    head = ("model", "variant", "kind", "gene ids", "download", "weights' licence", "commercial use", "here", "tasks")
    rows: list[tuple[str, ...]] = [head]
    root = checkpoints_root(checkpoints)
    for name in MODELS.names():
        if _problem(MODELS, name):
            rows.append((name, "", "cannot be used", "", "", "", "", "", ""))
            continue
        spec = MODELS.get(name).spec
        tasks = ", ".join(spec.tasks) or "any"
        if spec.kind != "foundation":
            kind = "precomputed" if spec.kind == "precomputed" else "baseline"
            rows.append((name, "", kind, spec.gene_ids, "", "", "", "", tasks))
            continue
        use = {True: "yes", False: "no", None: "unknown"}[spec.commercial_use]
        licence = spec.weights_licence or "none stated"
        cards = model_cards().get(name, {})
        own = checkpoint_folders(root, name, None, cards)
        here = "here" if own else "no"
        rows.append((name, "", "foundation", spec.gene_ids, "", licence, use, here, tasks))
        for variant, card in cards.items():
            there = "here" if is_here(card, root / card.folder) or (root / variant).exists() else ""
            rows.append(("", variant, "", "", download_size(card), card.licence or "none stated", "", there, ""))
    return _packages(MODELS, rows)


def _datasets() -> list[tuple[str, ...]]:
    import yaml

    from harness.cards import dataset_cards

    head = ("dataset", "kind", "cells x genes", "tasks", "cell type", "batch", "download", "licence", "here", "origin")
    rows: list[tuple[str, ...]] = [head]
    cards = dataset_cards()
    for path in sorted((CONF / "dataset").glob("*.yaml")):
        if path.stem.startswith("_"):
            continue
        node = yaml.safe_load(path.read_text())
        card = cards.get(path.stem)
        facts = card.facts if card else {}
        sizes = [f"{facts[key]:,}" if facts.get(key) else "?" for key in ("cells", "genes")]
        there = "here" if card is None or not card.files or is_here(card, data_root() / card.folder) else "no"
        rows.append(
            (
                path.stem,
                facts.get("kind") or "cells",
                " x ".join(sizes) if facts.get("cells") or facts.get("genes") else "",
                ", ".join(facts.get("tasks") or ()),
                node.get("cell_type") or "",
                node.get("batch") or "",
                download_size(card) if card and card.files else "",
                node.get("licence") or "none stated",
                there if node.get("path") or (card and card.files) else "",
                node.get("origin") or "dataset.path=FILE",
            )
        )
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
