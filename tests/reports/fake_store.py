"""A results directory made up for the tests of the report: models x tasks x seeds with every kind of oddity."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from harness.metrics import row
from harness.results import Cost, MetricRow, Provenance, ResultStore, RunRecord, content_id

TYPES = (
    "Dendritic",
    "CD8+ Cytotoxic T",
    "CD14+ Monocyte",
    "CD19+ B",
    "CD4+/CD25 T Reg",
    "CD56+ NK",
    "CD8+/CD45RA+ Naive Cytotoxic",
    "CD4+/CD45RO+ Memory",
    "CD4+/CD45RA+/CD25- Naive T",
    "CD34+",
)
SIZES = (240, 54, 129, 95, 68, 31, 43, 19, 8, 13)
EVIL = "<script>alert(1)</script>"

#: model, variant, track, label, quality
MODELS = (
    ("hvg", "", "baseline", "hvg", 0.74),
    ("pca", "", "baseline", "pca", 0.80),
    ("random_projection", "", "baseline", "random_projection", 0.61),
    ("cellfm", "tiny", "scratch", "cellfm · scratch · 0.6M params · 2.6k cells", 0.77),
    ("scgpt", "tiny", "scratch", "scgpt · scratch · 0.5M params · 2.6k cells", 0.70),
    ("geneformer", "tiny", "scratch", "geneformer · scratch · 0.7M params · 2.6k cells", 0.72),
    ("evil", "", "scratch", f"{EVIL} · scratch · 細胞モデル & \"co\" 'x'", 0.66),
    ("cellfm", "tiny", "untrained", "cellfm · untrained", 0.58),
    ("scgpt", "tiny", "untrained", "scgpt · untrained", 0.55),
    ("geneformer", "tiny", "untrained", "geneformer · untrained", 0.57),
)


def record(
    model: str = "pca",
    *,
    variant: str = "",
    track: str = "baseline",
    label: str = "",
    task: str = "annotation",
    dataset: str = "pbmc68k",
    seed: int = 0,
    status: str = "ok",
    metrics: list[MetricRow] | None = None,
    **more: object,
) -> RunRecord:
    """A record with the provenance of a plausible run."""
    provenance = {
        "command": f"cellfm-bench run model={model} track={track} task={task} dataset={dataset} seed={seed}",
        "config_hash": content_id([model, task]),
        "git_commit": "fb9ff37" + "0" * 33,
        "dataset_sha256": content_id(dataset, 64),
        "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
        "hardware": {"cpu": "Test CPU", "cores": 2, "memory_gb": 23.5},
        "device": "cpu",
        "started_at": f"2026-11-20T15:3{seed % 10}:00+00:00",
        **more.pop("provenance", {}),  # type: ignore[dict-item]
    }
    identity = [model, variant, track, label, task, dataset, seed, status, provenance, str(more)]
    return RunRecord(
        run_id=str(more.pop("run_id", content_id(identity))),
        status=status,
        model=model,
        variant=variant,
        track=track,
        label=label or model,
        task=task,
        dataset=dataset,
        split=str(more.pop("split", "stratified-70/30" if task == "annotation" else "all")),
        seed=seed,
        metrics=metrics or [],
        provenance=Provenance(**provenance),
        **more,
    )


def full_store(directory: Path, seeds: tuple[int, ...] = (0, 1, 2), models: tuple = MODELS) -> ResultStore:
    """About ten models x two tasks x three seeds, a task baseline, failures, NaN, odd names, a smoke run."""
    store = ResultStore(directory)
    for i, (model, variant, track, label, quality) in enumerate(models):
        for seed in seeds:
            about = {"variant": variant, "track": track, "label": label, "seed": seed}
            store.put(_annotation(store, model, about, quality, 10 * i + seed))
            store.put(_integration(store, model, about, quality, 10 * i + seed))
    for seed in seeds:
        about = {"track": "baseline", "label": "svm", "seed": seed}
        store.put(record("svm", metrics=_annotated(0.83, ("none",), 900 + seed), cost=_cost(None, 0.4), **about))
        why = "svm is a baseline of the annotation task and has no embedding to score"
        store.put(record("svm", task="integration", status="not-applicable", error=why, **about))
    if models is MODELS:
        _oddities(store)
    return store


def _oddities(store: ResultStore) -> None:
    scratch = {"track": "scratch", "variant": "tiny"}
    label = "uce · scratch · 1.1M params · 2.6k cells"
    for seed in (0, 1):
        about = {**scratch, "label": label, "seed": seed}
        store.put(record("uce", metrics=_annotated(0.69, ("knn", "logreg", "mlp"), 70 + seed), **about))
    store.put(record("uce", label=label, seed=2, status="failed", error=f"RuntimeError: {EVIL} & more", **scratch))
    for seed in (0, 1, 2):
        why = "12.4 GB asked of 8 GB; try a smaller token budget"
        store.put(record("scfoundation", seed=seed, status="out-of-memory", error=why, **scratch))
    undefined = [row("macro_f1", None, head="knn"), row("macro_f1", math.nan, head="logreg")]
    store.put(record("nan", label="nan · scratch", metrics=undefined, **scratch))
    for seed in (0, 1):
        for name, role, quality in (("random_embedding", "floor", 0.12), ("perfect_embedding", "ceiling", 0.99)):
            numbers = _annotated(quality, ("knn", "logreg", "mlp"), 500 + seed)
            about = {"track": "control", "label": name, "seed": seed, "flags": [role]}
            store.put(record(name, metrics=numbers, cost=_cost(0.1, 0.9), **about))
    smoke = _annotated(0.99, ("knn", "logreg", "mlp"), 5)
    store.put(record("quick", label="quick · scratch", metrics=smoke, flags=["smoke", "cells-seen"], **scratch))


def _cost(embed_s: float | None, task_s: float, n_params: int | None = None, pretrain_s: float | None = None) -> Cost:
    return Cost(
        embed_s=embed_s,
        task_s=task_s,
        pretrain_s=pretrain_s,
        cells_per_s=700 / embed_s if embed_s else None,
        peak_rss_mb=400 + 3 * (embed_s or 0),
        n_params=n_params,
    )


def _annotated(quality: float, heads: tuple[str, ...], seed: int) -> list[MetricRow]:
    rng = np.random.default_rng(seed)
    rows = []
    for head in heads:
        level = quality + {"knn": -0.04, "logreg": 0.02, "mlp": 0.0}.get(head, 0.0) + rng.normal(0, 0.012)
        each = [float(np.clip(level + 0.135 - 0.03 * i + rng.normal(0, 0.05), 0, 1)) for i in range(len(TYPES))]
        rows += [
            row("accuracy", level + 0.05, head=head, n=210),
            row("macro_f1", float(np.mean(each)), head=head, n=210),
        ]
        for name, value, size in zip(TYPES, each, SIZES, strict=True):
            rows.append(row("f1", value, head=head, scope="per-class", key=name, n=size * 3 // 10))
    return rows


def _costs(model: str, track: str, seed: int) -> Cost:
    fast = {"hvg": 0.02, "pca": 0.05, "random_projection": 0.01}.get(model)
    if fast:
        return _cost(fast * (1 + 0.1 * (seed % 3)), 0.9)
    params = {"cellfm": 610_000, "scgpt": 523_000, "geneformer": 710_000}.get(model, 1_100_000)
    return _cost(2.0 + params / 4e5 + seed % 3, 1.4, params, 28.0 if track == "scratch" else None)


def _annotation(store: ResultStore, model: str, about: dict, quality: float, seed: int) -> RunRecord:
    rng = np.random.default_rng(seed)
    truth = rng.choice(TYPES, 210, p=np.array(SIZES) / sum(SIZES))
    wrong = rng.random(210) > quality
    called = np.where(wrong, rng.choice(TYPES, 210), truth)
    predictions = [
        pd.DataFrame({"name": [f"c{i}" for i in range(210)], "true": truth, "predicted": called, "head": head})
        for head in ("knn", "logreg", "mlp")
    ]
    artifacts = [
        store.put_table("predictions", pd.concat(predictions)),
        store.put_table("umap", umap(quality, seed)),
    ]
    return record(
        model,
        metrics=_annotated(quality, ("knn", "logreg", "mlp"), seed),
        artifacts=artifacts,
        cost=_costs(model, about["track"], seed),
        flags=["cells-seen"] if about["track"] == "scratch" else [],
        notes={"cells_left_out": 2, "cell types left out": {"CD34+ (rare)": 2}},
        **about,
    )


def _integration(store: ResultStore, model: str, about: dict, quality: float, seed: int) -> RunRecord:
    rng = np.random.default_rng(seed)
    names = ("avg_bio", "nmi_kmeans", "ari_kmeans", "nmi_leiden", "ari_leiden", "silhouette_label", "clisi")
    metrics = [row(name, quality - 0.03 * i + rng.normal(0, 0.006)) for i, name in enumerate(names)]
    costs = _costs(model, about["track"], seed)
    return record(model, task="integration", metrics=metrics, cost=costs, **about)


def umap(quality: float, seed: int, sizes: tuple[int, ...] = SIZES, batches: int = 2) -> pd.DataFrame:
    """Blobs that lie the further apart the better the model."""
    rng = np.random.default_rng(seed // 10)
    parts = []
    for i, (name, n) in enumerate(zip(TYPES, sizes, strict=False)):
        angle = 2 * math.pi * i / len(TYPES)
        middle = np.array([math.cos(angle), math.sin(angle)]) * (2 + 6 * quality)
        points = middle + rng.normal(0, 1.0, (n, 2))
        parts.append(pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "cell_type": name}))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "name", [f"c{i}" for i in range(len(table))])
    table["batch"] = [f"batch {i % batches}" for i in range(len(table))]
    return table
