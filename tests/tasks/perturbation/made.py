"""Perturbed cells made for tests: effects that add up, on counts."""

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp


def made_cells(singles=6, pairs=3, per_condition=20, n_genes=60, seed=0, controls=60, notation="gears"):
    """AnnData of raw counts; gene `GENEi` is perturbed in condition i, pairs add in the log."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(2.0, 2.0, n_genes)
    names = [f"GENE{i}" for i in range(n_genes)]
    effects = {name: np.where(rng.random(n_genes) < 0.3, rng.normal(0, 0.8, n_genes), 0) for name in names[:singles]}
    conditions = {(): np.zeros(n_genes)} | {(name,): effect for name, effect in effects.items()}
    for i in range(pairs):
        a, b = names[i], names[(i + 1) % singles]
        conditions[a, b] = effects[a] + effects[b]
    rows, labels = [], []
    for condition, change in conditions.items():
        n = per_condition if condition else controls
        rows.append(rng.poisson(base * np.exp(change), (n, n_genes)))
        labels += [spell(condition, notation)] * n
    obs = pd.DataFrame({"condition": labels}, index=[f"cell{i}" for i in range(len(labels))])
    counts = sp.csr_matrix(np.concatenate(rows).astype(np.float32))
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=names))


def spell(condition, notation):
    """`A+ctrl`, `A+B` and `ctrl`, or `A`, `A_B` and `control`."""
    if notation == "gears":
        return "+".join(condition if len(condition) == 2 else (*condition, "ctrl"))
    return "_".join(condition) or "control"
