"""A made-up results directory of drug response: models under three heads, baselines, a poor decoder, odd names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.metrics import row
from harness.results import ResultStore
from tests.reports.fake_store import EVIL, record

Pair = tuple[str, str]
PAIRS: tuple[Pair, ...] = (("trametinib", "A549"), ("trametinib", "MCF7"), (EVIL, ""), ("dabrafenib", "K562"))
GENES = (EVIL, "ISG15", "IFI6", "CXCL10", "MALAT1", "HLA-DRB1")
HEADS = ("cellot", "shift", "untransported")
#: Way that is left from the treated cells: by the transport, and of it what the decoder alone leaves.
MODELS = (
    ("identity", "baseline", "identity", {"none": 1.0}, None),
    ("mean_shift", "baseline", "mean_shift", {"none": 0.34}, None),
    ("cellot", "baseline", "cellot", {"none": 0.25}, (0.95, 0.14)),
    ("scgen", "baseline", "scgen", {"none": 0.42}, (0.97, 0.2)),
    ("cellfm", "scratch", "cellfm · scratch · 0.6M params", {"cellot": 0.3, "shift": 0.36}, (0.9, 0.22)),
    ("scgpt", "scratch", f"scgpt · scratch · {EVIL}", {"cellot": 0.45, "shift": 0.4}, (0.48, 0.35)),
    ("cellfm", "untrained", "cellfm · untrained", {"cellot": 3.2, "shift": 1.3}, (1.6, 1.25)),
)


def drug_store(directory: Path, seeds: Sequence[int] = (0, 1), copies: int = 1, pairs: Sequence[Pair] = PAIRS):
    """Every model and seed, with tables; `copies` makes a crowd of models."""
    store = ResultStore(directory)
    for copy in range(copies):
        for place, (model, track, label, left, decoder) in enumerate(MODELS):
            heads = dict(left) if decoder is None or "none" in left else {**left, "untransported": decoder[0]}
            name = f"{model}{copy or ''}"
            for seed in seeds:
                key = 1000 * copy + 100 * place + seed
                tables = {
                    "drug_markers": pd.concat([markers(head, way, key, pairs[:4]) for head, way in heads.items()]),
                    "drug_umap": pd.concat([layout(head, way, key, pairs[:4]) for head, way in heads.items()]),
                    "drug_bars": pd.concat([bars(head, way, decoder, key, pairs) for head, way in heads.items()]),
                }
                kept = [store.put_table(kind, table) for kind, table in tables.items()]
                metrics = []
                for head, way in heads.items():
                    each = {drug: 0.1 * way + 0.01 * i for i, drug in enumerate(sorted({d for d, _ in pairs}))}
                    metrics.append(row("mmd", float(np.mean(list(each.values()))), head=head, n=200))
                    metrics += [row("mmd", v, head=head, scope="per-drug", key=d, n=50) for d, v in each.items()]
                about = {"track": track, "label": label.replace(model, name, 1), "seed": seed, "dataset": "sciplex"}
                about |= {"task": "drug_response", "split": "leave-one-cell_type-out", "flags": []}
                if model == "scgpt":
                    about["flags"] = ["leaks"]
                store.put(record(name, metrics=metrics, artifacts=kept, **about))
    return store


def markers(head: str, way: float, seed: int, pairs: Sequence[Pair] = PAIRS, genes: Sequence[str] = GENES):
    """Zero-inflated genes, one of them with a single value."""
    lines = []
    for place, (drug, held_out) in enumerate(pairs):
        for rank, gene in enumerate(genes):
            rng = np.random.default_rng([seed % 100, place, rank])
            before, after = rng.uniform(0.2, 2.2, 2)
            values = {
                "control": _counts(rng, before),
                "treated": _counts(rng, after),
                "predicted": np.maximum(0, after + way * (before - after) + rng.normal(0, 0.25 + 0.2 * way, 300)),
            }
            if gene == "MALAT1":
                values = {name: np.full(300, 3.0) for name in values}
            low = min(float(v.min()) for v in values.values())
            high = max(float(v.max()) for v in values.values())
            high = high if high > low else low + 1.0
            for name, found in values.items():
                shares = np.histogram(found, bins=20, range=(low, high))[0] / len(found)
                about = {"drug": drug, "held_out": held_out, "head": head, "gene": gene, "rank": rank}
                about |= {"population": name, "mean": float(found.mean()), "low": low, "high": high}
                lines.append({**about, **{f"b{i}": share for i, share in enumerate(shares)}})
    return pd.DataFrame(lines)


def _counts(rng: np.random.Generator, level: float, n: int = 300) -> np.ndarray:
    return np.log1p(rng.poisson(np.expm1(level) * rng.gamma(3.0, 1 / 3, n)))


def layout(head: str, way: float, seed: int, pairs: Sequence[Pair] = PAIRS, n: int = 300) -> pd.DataFrame:
    """Two cell types before and after, and predictions on the way between them."""
    rng = np.random.default_rng([seed, len(head)])
    tables = []
    for drug, held_out in pairs:
        kind = np.arange(n) % 2
        before = np.stack([4.0 * kind, np.zeros(n)], axis=1)
        moved = before + np.array([1.5, 5.0]) * rng.uniform(0.8, 1.2, (1, 2))
        middles = {"control": before, "treated": moved, "predicted": moved + min(way, 1.0) * (before - moved)}
        for name, middle in middles.items():
            xy = middle + rng.normal(0, 0.8, (n, 2))
            about = {"drug": drug, "held_out": held_out, "head": head, "population": name}
            cells = {"cell_type": np.where(kind, "T", EVIL), "x": xy[:, 0], "y": xy[:, 1]}
            tables.append(pd.DataFrame({**about, **cells}))
    return pd.concat(tables)


def bars(head: str, way: float, decoder: tuple[float, float] | None, seed: int, pairs: Sequence[Pair] = PAIRS):
    """Steps of each pair: the later pairs change less. Untouched cells have no change to correlate."""
    rng = np.random.default_rng([seed, len(head), 1])
    lines = []
    for place, (drug, held_out) in enumerate(pairs):
        size = 6.0 / (1 + 0.3 * place)
        left = {"identity": 1.0, "predicted": way + rng.normal(0, 0.03), "half": 0.06}
        if decoder is not None:
            left |= {"untransported": decoder[0], "decoded": decoder[1]}
        for step, share in left.items():
            about = {"drug": drug, "held_out": held_out, "step": step, "head": head}
            lines.append({**about, "metric": "l2_means", "value": size * share})
            same = np.nan if share == 1.0 else max(-0.4, 1 - 0.8 * share)
            lines.append({**about, "metric": "pearson_delta", "value": same})
    return pd.DataFrame(lines)
