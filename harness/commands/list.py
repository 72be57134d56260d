"""cellfm-bench list models|datasets|tasks|results [checkpoints=ROOT] [results=DIR]

What there is: models and their published weights with download size, licence and whether they are here; data sets
likewise; tasks; results. What is not here comes with `cellfm-bench fetch model|dataset NAME`.
"""

from __future__ import annotations

import os
from pathlib import Path

from harness.commands.arguments import parse
from harness.errors import InputError, one_line
from harness.fetch import is_here
from harness.places import checkpoint_folders, checkpoints_root, data_root
from harness.plan import download_size
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
    from harness.cards import model_cards

    head = ("model", "variant", "kind", "gene ids", "download", "weights' licence", "commercial use", "here", "tasks")
    rows: list[tuple[str, ...]] = [head]
    root = checkpoints_root(checkpoints)
    for name in MODELS.names():
        try:
            spec = MODELS.get(name).spec
        except InputError as error:
            rows.append((name, "", "broken plugin", one_line(error), "", "", "", "", ""))
            continue
        tasks = ", ".join(spec.tasks) or "any"
        if spec.kind != "foundation":
            rows.append((name, "", "baseline", spec.gene_ids, "", "", "", "", tasks))
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
    return rows


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
