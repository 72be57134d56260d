"""A made-up results directory of predicted perturbations: models under several heads, baselines, a collapse."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from harness.metrics import row
from harness.results import MetricRow, ResultStore
from tests.reports.fake_store import EVIL, record

GENES = ("AHR", "BAK1", "CEBPA", "DUSP9", "FOXA1", "KLF1", EVIL)
SINGLES = [(gene,) for gene in GENES]
PAIRS = list(itertools.combinations(GENES, 2))
SUBGROUPS = ("combo_seen2", "combo_seen1", "combo_seen0", "unseen_single")
METRICS = ("pearson_delta",)
TRUE_SIMILARITY = 0.31

#: model, track, label, quality by head, similarity of its predictions
MODELS = (
    ("additive", "baseline", "additive", {"none": 0.65}, 0.38),
    ("train_mean", "baseline", "train_mean", {"none": 0.55}, 1.0),
    ("go_ridge", "baseline", "go_ridge", {"none": 0.45}, 0.44),
    (
        "cellfm",
        "scratch",
        "cellfm · scratch · 0.6M params",
        {"linear": 0.52, "linear_shuffled": 0.5, "gears": 0.66, "gears_shuffled": 0.64},
        0.35,
    ),
    ("scgpt", "scratch", f"scgpt · scratch · {EVIL}", {"linear": 0.42, "gears": 0.63, "native": 0.4}, 0.93),
    ("cellfm", "untrained", "cellfm · untrained", {"linear": 0.49, "gears": 0.6}, 0.55),
)


def perturbation_store(directory: Path, seeds: tuple[int, ...] = (0, 1)) -> ResultStore:
    """Both tasks for every model and seed; the controls; a baseline whose similarity is undefined."""
    store = ResultStore(directory)
    for place, (model, track, label, qualities, alike) in enumerate(MODELS):
        for seed in seeds:
            about = {"track": track, "label": label, "seed": seed, "dataset": "norman"}
            key = 100 * place + seed
            heads = list(qualities)
            metrics = [r for head, quality in qualities.items() for r in scored(quality, head, alike, key)]
            artifacts = [store.put_table(kind, table) for kind, table in _tables(qualities, key).items()]
            notes = {"similarity of the measured changes": TRUE_SIMILARITY, "test conditions": len(conditions())}
            common = {"task": "perturbation", "split": "simulation", "notes": notes}
            store.put(record(model, metrics=metrics, artifacts=artifacts, **common, **about))
            hits = [r for head, quality in qualities.items() for r in _hits(quality, head, key)]
            ranking = store.put_table("reverse_ranking", pd.concat([reverse_ranking(h, key) for h in heads]))
            common = {"task": "reverse_perturbation", "split": "seen-combinations"}
            store.put(record(model, metrics=hits, artifacts=[ranking], **common, **about))
    _controls(store, seeds)
    return store


def _controls(store: ResultStore, seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        about = {"track": "control", "task": "perturbation", "split": "simulation", "dataset": "norman", "seed": seed}
        floor = scored(0.02, "linear", 0.9, 900 + seed)
        store.put(record("random_embedding", label="random_embedding", metrics=floor, flags=["floor"], **about))
        ceiling = scored(0.95, "none", TRUE_SIMILARITY, 950 + seed)
        store.put(record("split_half", label="split_half", metrics=ceiling, flags=["ceiling"], **about))
        nothing = [row("pearson_delta", None), row("prediction_similarity", None)]
        store.put(record("no_change", metrics=nothing, **{**about, "track": "baseline", "label": "no_change"}))


def conditions() -> list[tuple[str, str]]:
    """Tested condition -> its subgroup."""
    singles = [(gene, "unseen_single") for (gene,) in SINGLES]
    return [*(("+".join(pair), SUBGROUPS[i % 3]) for i, pair in enumerate(PAIRS)), *singles]


def scored(quality: float, head: str, alike: float, seed: int) -> list[MetricRow]:
    """Metric rows as the task gives them: the parts, and their mean."""
    rng = np.random.default_rng([seed, len(head)])
    rows = []
    for name in METRICS:
        parts = {c: float(np.clip(quality + rng.normal(0, 0.12), -1, 1)) for c, _ in conditions()}
        rows.append(row(name, float(np.mean(list(parts.values()))), head=head, n=len(parts)))
        rows += [row(name, value, head=head, scope="per-perturbation", key=c, n=1) for c, value in parts.items()]
    return [*rows, row("prediction_similarity", alike, head=head)]


def _hits(quality: float, head: str, seed: int) -> list[MetricRow]:
    rng = np.random.default_rng([seed, len(head), 1])
    rows = []
    for k in (1, 10):
        parts = {c: float(rng.random() < quality * k / 10) for c, _ in conditions()[:14]}
        rows.append(row(f"hit_at_{k}", float(np.mean(list(parts.values()))), head=head, n=len(parts)))
        for c, value in parts.items():
            rows.append(row(f"hit_at_{k}", value, head=head, scope="per-perturbation", key=c, n=1 + len(c) % 3))
    return rows


def _tables(qualities: dict[str, float], seed: int) -> dict[str, pd.DataFrame]:
    found = {
        "perturbation_effects": pd.concat([effects(q, head, seed) for head, q in qualities.items()]),
        "perturbation_genes": pd.concat([strongest(q, head, seed) for head, q in qualities.items()]),
    }
    if len(qualities) > 1:
        found["perturbation_screen"] = pd.concat([screen(head, seed) for head in qualities])
    return found


def effects(quality: float, head: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed % 100)
    observed = rng.gamma(3.0, 1.2, len(conditions()))
    guess = quality * observed + np.random.default_rng([seed, 2]).normal(0, 0.3, len(observed))
    return pd.DataFrame(
        {
            "condition": [c for c, _ in conditions()],
            "key": [key for _, key in conditions()],
            "head": head,
            "fold": "simulation",
            "cells": 120,
            "observed_l2": observed,
            "predicted_l2": np.abs(guess),
        }
    )


def strongest(quality: float, head: str, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed % 100)
    tables = []
    for condition, _ in conditions()[:6]:
        delta = rng.normal(0, 1.2, 20)
        width = np.abs(rng.normal(0.5, 0.2, 20))
        steps = {"low": -2.0, "q1": -0.7, "median": 0.1, "q3": 0.8, "high": 2.1}
        tables.append(
            pd.DataFrame(
                {
                    "condition": condition,
                    "head": head,
                    "fold": "simulation",
                    "gene": [EVIL, *(f"GENE{i}" for i in range(1, 20))],
                    "observed_delta": delta,
                    "predicted_delta": quality * delta,
                    **{name: delta + step * width for name, step in steps.items()},
                }
            )
        )
    return pd.concat(tables)


def reverse_ranking(head: str, seed: int, folds: tuple[str, ...] = ("split 0", "split 1")) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 3])
    candidates = [*SINGLES, *PAIRS]
    lines = []
    for fold in folds:
        for query in PAIRS[:14]:
            order = [candidates[i] for i in rng.permutation(len(candidates))]
            order.insert(int(rng.integers(0, 14)), query)
            listed = list(dict.fromkeys(order))
            for place, found in enumerate(listed[:10], start=1):
                lines.append(
                    {
                        "condition": "+".join(query),
                        "head": head,
                        "fold": fold,
                        "place": place,
                        "label": "+".join(found),
                        "shared": len(set(query) & set(found)),
                        "rank": float(listed.index(query) + 1),
                    }
                )
    return pd.DataFrame(lines)


def screen(head: str, seed: int, genes: int = 20) -> pd.DataFrame:
    """Pairs around the gene that dominates them."""
    rng = np.random.default_rng([seed, 4])
    names = [*GENES, *(f"TF{i}" for i in range(genes - len(GENES)))]
    middle = dict(zip(names, rng.normal(0, 6, (genes, 2)), strict=True))
    pairs = list(itertools.combinations(names, 2))
    dominant = [pair[int(rng.integers(0, 2))] for pair in pairs]
    xy = np.array([middle[gene] for gene in dominant]) + rng.normal(0, 0.8, (len(pairs), 2))
    return pd.DataFrame(
        {
            "condition": ["+".join(pair) for pair in pairs],
            "head": head,
            "x": xy[:, 0],
            "y": xy[:, 1],
            "label": dominant,
            "effect": rng.gamma(2.0, 1.0, len(pairs)),
            "key": "HBG1 +1.20, HBZ +0.81, LYZ -0.77",
        }
    )
