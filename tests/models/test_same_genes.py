"""The same cells by Ensembl ids, by symbols, or with aliases among the symbols: the same embedding."""

import anndata
import numpy as np
import pandas as pd
import pytest

from harness.gene_aliases import AliasTable
from harness.genes import GeneTable
from harness.loading import load_dataset
from harness.registry import MODELS
from tests.conftest import ROOT, SHARED

GOLDEN = ROOT / "tests" / "golden"
HGNC = SHARED / "data" / "labels" / "hgnc_complete_2021.tsv.gz"
MODELS_HERE = {"scfoundation": {}, "uce": {"sample_size": 64}, "scgpt": {}}


def made_table(var, path):
    """A small table in HGNC's columns: every gene's symbol and id, and an old name for every fifth gene."""
    symbols = var.index.to_numpy()
    pd.DataFrame(
        {
            "Approved symbol": symbols,
            "Status": "Approved",
            "Alias symbols": [f"OLD-{s}" if i % 5 == 0 else "" for i, s in enumerate(symbols)],
            "Previous symbols": "",
            "Ensembl gene ID": var["ensembl_id"].to_numpy(),
        }
    ).to_csv(path, sep="\t", index=False)
    return path


def one_to_one(var, table):
    """Genes that the table knows by symbol and by id as one and the same."""
    symbols, ids = var.index.to_numpy(dtype=str), var["ensembl_id"].to_numpy(dtype=str)
    resolve = AliasTable.read(table).resolve
    by_symbol, _ = resolve(GeneTable.from_names(symbols.tolist()))
    by_id, _ = resolve(GeneTable.from_names(np.where(ids == "", "ENSG99999999999", ids).tolist()))
    return (by_id.symbols == symbols) & (by_symbol.ensembl == ids) & (by_symbol.symbols == symbols)


def old_names(table, symbols):
    """Symbol -> an alias that leads back to it and to nothing else."""
    import csv
    import gzip
    import re

    opener = gzip.open if str(table).endswith(".gz") else open
    with opener(table, "rt") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    lower = {key.lower().replace(" ", "_"): key for key in rows[0]}
    name = lower.get("approved_symbol") or lower["symbol"]
    alias = lower.get("alias_symbols") or lower["alias_symbol"]
    found = {}
    for row in rows:
        for old in re.split(r"[|,]\s*", (row[alias] or "").strip('"')):
            if row[name] in symbols and old and old not in symbols:
                found.setdefault(row[name], old)
    names = list(found)
    back, _ = AliasTable.read(table).resolve(GeneTable.from_names([found[n] for n in names]))
    return {n: found[n] for n, to in zip(names, back.symbols.tolist(), strict=True) if to == n}


@pytest.mark.parametrize("source", ["made", "hgnc"])
@pytest.mark.parametrize("name", MODELS_HERE)
def test_the_same_embedding_whatever_the_ids(name, source, tmp_path):
    cells = anndata.read_h5ad(GOLDEN / name / "cells.h5ad")
    if source == "hgnc" and not HGNC.is_file():
        pytest.skip("the HGNC table is not here (../shared/data/labels)")
    table = HGNC if source == "hgnc" else made_table(cells.var, tmp_path / "table.tsv")
    cells = cells[:, one_to_one(cells.var, table)].copy()
    assert cells.n_vars > 200
    symbols, ids = cells.var_names.to_numpy(dtype=str), cells.var["ensembl_id"].to_numpy(dtype=str)
    old = old_names(table, set(symbols))
    renamed, share = symbols.astype(object), max(1, len(symbols) // 20)
    for i in [i for i, s in enumerate(symbols) if s in old][:share]:
        renamed[i] = old[symbols[i]]
    assert (renamed != symbols).sum() >= min(share, 10)
    model = MODELS.get(name).from_checkpoint(GOLDEN / name / "checkpoint", **MODELS_HERE[name])
    found = {}
    for kind, names in {"symbols": symbols, "ensembl": ids, "aliases": renamed.astype(str)}.items():
        same = anndata.AnnData(cells.X, obs=cells.obs[[]], var=pd.DataFrame(index=names))
        same.write_h5ad(tmp_path / f"{kind}.h5ad")
        found[kind] = model.embed_cells(load_dataset(tmp_path / f"{kind}.h5ad", gene_aliases=str(table)))
    for kind in ("ensembl", "aliases"):
        np.testing.assert_allclose(found[kind], found["symbols"], atol=1e-6, err_msg=kind)
