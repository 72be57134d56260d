"""Whole runs of the gene relationships task: records, tables, baselines, and wrong input."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from harness import ResultStore
from harness.data import CellData
from tasks.gene_relationships.coexpression import Coexpression
from tasks.gene_relationships.measured import measured_genes

N_TFS, N_TARGETS = 6, 9


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Cells in which a TF and its targets go up and down together, the regulation, and gene sets of two of them."""
    folder, rng = tmp_path_factory.mktemp("relationships"), np.random.default_rng(0)
    level = rng.gamma(1.0, 1.0, (150, N_TFS)).repeat(N_TARGETS + 1, axis=1)
    counts = rng.poisson(np.hstack([6 * level, rng.gamma(1.0, 3.0, (1, 30)).repeat(150, axis=0)]))
    names = [name for i in range(N_TFS) for name in (f"TF{i}", *(f"T{i}X{j}" for j in range(N_TARGETS)))]
    names += [f"O{i}" for i in range(28)] + ["SILENT1", "SILENT2"]
    counts[:, -2:] = 0
    cells = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), var=pd.DataFrame(index=names))
    cells.write_h5ad(folder / "cells.h5ad")
    lines = [f"TF{i}\tT{i}X{j}\tActivation" for i in range(N_TFS) for j in range(N_TARGETS)]
    text = "\n".join(["TF\ttarget\tmode", *lines, "TF0\tABSENT\tUnknown", "TF1\tSILENT1\tUnknown"])
    (folder / "regulation.tsv").write_text(text + "\n")
    sets = [f"SET{i}\tmade\t" + "\t".join(f"T{i}X{j}" for j in range(N_TARGETS)) for i in range(2)]
    (folder / "sets.gmt").write_text("\n".join(sets) + "\n")
    (folder / "empty.gmt").write_text("")
    (folder / "columns.csv").write_text("gene,other\nA,B\n")
    (folder / "others.csv").write_text("tf,target\nPAX6,SOX2\n")
    (folder / "selves.csv").write_text("tf,target\nPAX6,PAX6\n")
    return folder


def asked(made, *more):
    return [
        f"dataset.path={made}/cells.h5ad",
        "task=gene_relationships",
        "task.n_neighbors=6",
        "task.resolutions=[0.5,1,2]",
        *more,
    ]


def values(record, scope="overall"):
    return {(m.name, m.head, m.key): m.value for m in record.metrics if m.scope == scope}


def test_coexpression_finds_what_was_planted_and_random_does_not(bench, tmp_path, made):
    code, out, err = bench(
        "run",
        "-m",
        "model=coexpression,random_embedding,pca,hvg,svm",
        "task.heads=[cosine,cosine_shuffled]",
        f"task.regulation={made}/regulation.tsv",
        f"task.gene_sets=[{made}/sets.gmt]",
        "task.pairs=[TF0-T0X1,O1-SILENT2]",
        *asked(made),
    )
    store = ResultStore(tmp_path / "results")
    records = {record.model: record for record in store.records()}
    assert code == 0, out + err
    assert records["hvg"].status == records["svm"].status == "not-applicable"
    found, base = values(records["coexpression"]), 1 / N_TFS
    assert found["tf_auprc", "cosine", ""] > 0.9 and found["tf_average_precision", "cosine", ""] > 0.9
    assert found["early_precision_ratio", "cosine", ""] > 5 and found["enriched_sets", "cosine", ""] == 2
    assert values(records["pca"])["tf_auprc", "cosine", ""] > 0.8
    for model, head in (("coexpression", "cosine_shuffled"), ("random_embedding", "cosine")):
        assert abs(values(records[model])["tf_auprc", head, ""] - base) < 0.1
    units = values(records["coexpression"], "per-gene")
    own = [value for (name, head, _), value in units.items() if head == "cosine"]
    assert len(own) == N_TFS and np.mean(own) == pytest.approx(found["tf_average_precision", "cosine", ""])
    assert "floor" in records["random_embedding"].flags and not records["coexpression"].flags
    notes = records["coexpression"].notes
    assert notes["targets measured"] == f"{N_TFS * N_TARGETS} of {N_TFS * N_TARGETS + 2}"
    assert notes["targets not measured"] == "ABSENT, SILENT1" and notes["TFs scored"].startswith("6, 6 of them")
    assert notes["pairs left out, of genes not expressed or without a vector"] == "SILENT2"
    tables = {a.kind: store.table(a) for a in records["coexpression"].artifacts}
    assert len(tables["enrichment_curve"]) == 6 and tables["enrichment_curve"]["programs"].min() >= 1
    named = tables["gene_programs"].query("head == 'cosine' and resolution == 1 and q < 0.05")
    assert set(named["set"]) == {"SET0", "SET1"} and named["overlap"].eq(N_TARGETS).all()
    assert named["genes"].str.count(", ").eq(9).all()
    nodes, edges = tables["gene_network"], tables["gene_edges"]
    alike = tables["gene_similarity"].query("head == 'cosine'")
    assert np.allclose(alike.query("a == b")["cosine"], 1) and set(alike["a"]) <= set(nodes["name"])
    assert nodes["x"].notna().all() and nodes["program"].max() <= 5
    assert set(edges["source"]) | set(edges["target"]) <= set(nodes["name"])
    ranks = tables["pair_ranks"].query("head == 'cosine'")
    assert ranks["a"].tolist() == ["TF0"] and ranks["rank"].item() <= N_TARGETS and ranks["n"].item() == 87


def test_programs_alone(bench, tmp_path, made):
    code, out, err = bench("run", "model=coexpression", "task.n_top_genes=40", *asked(made))
    assert code == 0, out + err
    store = ResultStore(tmp_path / "results")
    [record] = store.records()
    tables = {a.kind: store.table(a) for a in record.artifacts}
    assert not record.metrics and record.notes["genes"] == "40 of 88 that the reference cells express"
    assert tables["enrichment_curve"]["enriched_sets"].isna().all() and tables["gene_programs"]["set"].eq("").all()


def test_contextual_vectors_of_a_network(bench, tmp_path, made):
    code, out, err = bench(
        "run",
        "model=scgpt",
        "track=untrained",
        f"corpus.path={made}/cells.h5ad",
        "task.embedding=contextual",
        "task.reference_cells=20",
        f"task.regulation={made}/regulation.tsv",
        *asked(made),
    )
    assert code == 0, out + err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.readout == record.notes["gene vectors"] == "contextual" and record.notes["reference cells"] == 20
    assert ("tf_auprc", "cosine", "") in values(record)


def test_coexpression_is_the_correlation_and_constant_genes_have_none():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (40, 7)).astype(np.float32)
    counts[:, 4:6] = 4, 0
    counts[:, 6] = 60 - counts[:, :6].sum(axis=1)  # the same total in every cell: a constant count stays constant
    names = ["A", "B", "A", "D", "CONSTANT", "ABSENT", "REST"]
    cells = CellData(anndata.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=names)))
    measured = measured_genes(cells, 300, None, ())
    assert measured.table.names.tolist() == ["A", "B", "D", "CONSTANT", "REST"]
    found = Coexpression().predict(measured.table, measured.reference)
    assert np.isnan(found).all(axis=1).tolist() == [False, False, False, True, False]
    values = np.log1p(counts / 60 * 1e4)[:, [0, 1, 3, 6]]
    kept = found[[0, 1, 2, 4]]
    assert np.abs(kept @ kept.T - np.corrcoef(values.T)).max() < 1e-6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.gene_sets=[{}/empty.gmt]", "the file holds no gene"),
        ("task.gene_sets=[{}/absent.gmt]", "no such file"),
        ("task.regulation={}/absent.tsv", "no such file"),
        ("task.regulation={}/empty.gmt", "the file is empty"),
        ("task.regulation={}/columns.csv", "one column tf and one target is expected; the columns are: gene, other"),
        ("task.regulation={}/selves.csv", "no pair of a TF and another gene"),
        ("task.regulation={}/others.csv", "expresses no TF together with a target"),
        ("task.n_neighbors=500", "a graph needs more genes than that, and 88 have a vector"),
        ("task.heads=[nonsense]", "task.heads=['nonsense']"),
        ("task.resolutions=[0]", "task.resolutions=[0]"),
        ("task.embedding=other", "task.embedding=other"),
        ("task.min_targets=0", "task.min_targets=0: expected a whole number from 1"),
        ("task.pairs=[IL2]", "no pair of two genes"),
    ],
)
def test_wrong_input_is_said(bench, tmp_path, made, setting, message):
    key = setting.partition("=")[0]
    rest = [argument for argument in asked(made) if argument.partition("=")[0] != key]
    code, _, err = bench("run", "model=coexpression", setting.format(made), *rest)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err
    assert not list((tmp_path / "results").glob("*.json"))
