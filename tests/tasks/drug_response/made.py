"""Treated cells made for tests: counts of three cell types, and what drugs do to them."""

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

TYPES = ("A", "B", "C")


def made_cells(
    per_group=60, n_genes=60, drugs=("drug",), strength=1.2, responding=TYPES, seed=0, donors=0, control="ctrl"
):
    """AnnData of raw counts, `per_group` cells of each type and condition, in random order.

    Each drug multiplies a third of the genes by factors of its own in the types that respond.
    """
    rng = np.random.default_rng(seed)
    base = {kind: rng.gamma(2.0, 3.0, n_genes) for kind in TYPES}
    change = {drug: np.where(rng.random(n_genes) < 0.33, rng.normal(0, strength, n_genes), 0) for drug in drugs}
    counts, labels, kinds = [], [], []
    for kind in TYPES:
        for condition in (control, *drugs):
            moved = change[condition] if condition in change and kind in responding else 0.0
            depth = rng.lognormal(0, 0.2, (per_group, 1))
            counts.append(rng.poisson(base[kind] * np.exp(moved) * depth))
            labels += [condition] * per_group
            kinds += [kind] * per_group
    order = rng.permutation(len(labels))
    obs = pd.DataFrame({"condition": labels, "cell_type": kinds}).iloc[order].reset_index(drop=True)
    obs.index = [f"cell{i}" for i in range(len(obs))]
    if donors:
        obs["donor"] = [f"donor{i % donors}" for i in range(len(obs))]
    genes = pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    return anndata.AnnData(sp.csr_matrix(np.concatenate(counts)[order].astype(np.float32)), obs=obs, var=genes)
