"""Whole runs of the gene influence task: records, tables, baselines, attention, and wrong input."""

import gzip
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from harness import GeneTable, InputError, NotApplicableError, ResultStore
from harness.data import CellData
from harness.tokens import TypeScores
from models.pca.adapter import PCA
from models.scgpt.adapter import ScGPT
from tasks.gene_influence.attention import lncrna_table
from tasks.gene_influence.baselines import InfluenceCorrelation, InfluenceRandom
from tasks.gene_influence.protocol import GeneInfluence
from tasks.gene_influence.tables import Biotypes, read_biotypes, read_targets

N = 200


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Cells in which 12 targets follow the regulator R0; R1 has other targets; lists, and lists that are wrong."""
    folder, rng = tmp_path_factory.mktemp("influence"), np.random.default_rng(0)
    level = rng.gamma(1.0, 1.0, (120, 1))
    counts = rng.poisson(0.3 + rng.gamma(1.0, 1.0, N) + np.where(np.arange(N) < 13, 4 * level, 0))
    names = ["R0", *(f"T{i}" for i in range(12)), "R1", "R2", *(f"O{i}" for i in range(N - 17)), "SILENT", "RARE"]
    counts[:, -2:] = 0
    counts[:, 13] += 1
    counts[:, 15] += 800  # totals of cells hardly differ: what does not follow R0 is not correlated with it
    counts[:3, -1] = 2
    obs = pd.DataFrame({"kind": np.where(np.arange(120) < 60, "a", "b")}, index=[f"c{i}" for i in range(120)])
    cells = anndata.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs, pd.DataFrame(index=names))
    cells.write_h5ad(folder / "cells.h5ad")
    pairs = [*((("R0", f"T{i}")) for i in range(12)), *(("R1", f"O{i}") for i in range(9)), ("R0", "ABSENT")]
    pairs += [("R2", "ABSENT"), ("R0", "R0"), ("SILENT", "T1"), ("RARE", "T1"), ("RARE", "T2")]
    with gzip.open(folder / "targets.tsv.gz", "wt") as file:
        file.write("Regulator\ttarget\tscore\n" + "".join(f"{a}\t{b}\t1\n" for a, b in pairs))
    (folder / "header.csv").write_text("regulator,target\n")
    (folder / "columns.csv").write_text("tf,target\nA,B\n")
    (folder / "others.csv").write_text("regulator,target\nR0,PAX6\nR1,SOX2\n")
    (folder / "empty.csv").write_text("")
    kinds = [f"{name},{'lncRNA' if name[0] == 'O' else 'protein_coding'}\n" for name in names]
    (folder / "biotypes.csv").write_text("symbol,biotype\n" + "".join(kinds))
    return folder


def asked(made, *more):
    return [f"dataset.path={made}/cells.h5ad", "task=gene_influence", "dataset.cell_type=kind", *more]


@pytest.fixture(scope="module")
def data(made):
    return CellData(anndata.read_h5ad(made / "cells.h5ad"))


def run(model, data, **settings):
    """A run without the command line."""
    subject = SimpleNamespace(spec=model.spec, model=model, progress=False, embedding_seconds=0.0, about={})
    task = GeneInfluence(**settings)
    return task.run(subject, data, task.split(data, 0), 0)


def scored(record, scope="overall"):
    return {(m.name, m.key): m.value for m in record.metrics if m.scope == scope}


def test_correlation_finds_what_was_planted_and_chance_does_not(bench, tmp_path, made):
    models = "influence_correlation,influence_expression,influence_random"
    code, out, err = bench(
        "run",
        "-m",
        f"model={models}",
        "task.perturbed=[R0,R1,R2,SILENT,RARE,PAX6,O1]",
        f"task.targets={made}/targets.tsv.gz",
        *asked(made),
    )
    store = ResultStore(tmp_path / "results")
    records = {record.model: record for record in store.records()}
    assert code == 0, out + err
    assert len(records) == 3
    found = records["influence_correlation"]
    own, mean = scored(found, "per-gene"), scored(found)
    assert own["target_precision", "R0"] == 12 / 20 and own["target_auprc", "R0"] > 0.8
    assert {key for _, key in own} == {"R0", "R1"}
    for metric in ("target_precision", "target_lift", "target_auprc"):
        assert mean[metric, ""] == pytest.approx((own[metric, "R0"] + own[metric, "R1"]) / 2)
    notes = found.notes
    assert notes["perturbed genes"] == "2 of 7"
    assert notes["perturbed genes not measured"] == "1: PAX6"
    assert notes["perturbed genes expressed in no cell"] == "1: SILENT"
    assert notes["perturbed genes without targets in targets.tsv.gz"] == "1: O1"
    assert notes["perturbed genes of whose targets none is measured"] == "1: R2"
    assert (
        notes["perturbed genes with fewer than task.top=20 other genes in task.min_cells of their cells"] == "1: RARE"
    )
    tables = {a.kind: store.table(a) for a in found.artifacts}
    draws = tables["influence_draws"].set_index("perturbed")
    assert draws.loc["R0", "observed"] == 12 and draws.loc["R0", ["random_p", "matched_p"]].max() < 0.01
    assert draws.loc["R0", "n_targets"] == 12 and draws.loc["R1", "n_targets"] == 9
    assert (draws["random_low"] <= draws["random_mean"]).all() and (
        draws["matched_mean"] <= draws["matched_high"]
    ).all()
    listed = tables["influenced_genes"].query("perturbed == 'R0'")
    assert listed["place"].tolist() == list(range(1, 21)) and not listed["name"].isin(["R0", "SILENT"]).any()
    # Beside the targets the gene that has what they leave of a cell's counts.
    assert set(listed["name"][:13]) == {*(f"T{i}" for i in range(12)), "O0"}
    assert (listed["target"] == "True").sum() == 12 and listed["influence"].is_monotonic_decreasing
    assert "floor" in records["influence_random"].flags and not found.flags
    chance = {a.kind: store.table(a) for a in records["influence_random"].artifacts}["influence_draws"]
    assert chance["matched_p"].min() > 0.01


def test_a_network_by_deletion(bench, tmp_path, made):
    code, out, err = bench(
        "run",
        "model=scgpt",
        "track=untrained",
        f"corpus.path={made}/cells.h5ad",
        "task.perturbed=R0",
        "task.cells=12",
        f"task.targets={made}/targets.tsv.gz",
        *asked(made),
    )
    assert code == 0, out + err
    store = ResultStore(tmp_path / "results")
    [record] = store.records()
    assert record.readout == "deletion" and record.cost.n_params and record.split == "all"
    assert scored(record).keys() == {(m, "") for m in ("target_precision", "target_lift", "target_auprc")}
    assert record.notes["cells read"] == "R0 12"
    assert {a.kind for a in record.artifacts} == {"influenced_genes", "influence_draws"}


def test_attention_and_lncrnas(bench, tmp_path, made):
    code, out, err = bench(
        "run",
        "model=cellfm",
        "track=untrained",
        f"corpus.path={made}/cells.h5ad",
        "task.method=attention",
        "task.perturbed=[R0]",
        "task.cells=20",
        "task.top=10",
        f"task.biotypes={made}/biotypes.csv",
        *asked(made),
    )
    store = ResultStore(tmp_path / "results")
    [found] = store.records()
    assert code == 0, out + err
    tables = {a.kind: store.table(a) for a in found.artifacts}
    assert not found.metrics and found.readout == "attention" and len(tables["influenced_genes"]) == 10
    assert set(tables["influenced_genes"]["target"]) == {""}
    genes, lncrnas = tables["attention_genes"], tables["attention_lncrnas"].set_index("cell_type")
    assert set(genes["cell_type"]) == {"a", "b"} and genes["cells"].min() >= 5
    for kind, own in genes.groupby("cell_type"):
        assert own["place"].tolist() == list(range(1, len(own) + 1)) and own["score"].is_monotonic_decreasing
        assert (own["biotype"] == "lncRNA").sum() == lncrnas.loc[kind, "lncrnas"]
    assert found.notes["lncRNAs among the genes read most"].count("by chance") == 2


def test_lncrnas_by_chance():
    genes = np.array([f"G{i}" for i in range(300)])
    scores = TypeScores(np.linspace(1, 0, 300, dtype=np.float32)[None], np.full((1, 300), 9), np.array(["t"]), genes)
    of = {f"G{i}": "lncRNA" if i in (0, 50, 98, 99, 200, 250) else "protein_coding" for i in range(300) if i != 99}
    [line] = lncrna_table(scores, Biotypes(of), 5).to_dict("records")
    assert line["lncrnas"] == 3 and line["genes"] == "G0, G50, G98"  # G99 has no known biotype and takes no part
    assert line["expressed"] == 299 and line["expected"] == pytest.approx(100 * 5 / 299) and 0 < line["p"] < 1


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (40, 6)).astype(np.float32)
    counts[7] = 0
    counts[:, 4] = 0
    data = CellData(anndata.AnnData(sp.csr_matrix(counts)))
    found = InfluenceCorrelation().predict(data, data, np.array([2]), 0)
    filled = np.delete(counts, 7, axis=0)
    values = np.log1p(filled / filled.sum(axis=1, keepdims=True) * 1e4)[:, [0, 1, 2, 3, 5]]
    assert np.abs(found[[0, 1, 2, 3, 5]] - np.abs(np.corrcoef(values.T)[2])).max() < 1e-5 and np.isnan(found[4])
    one, same, other = (InfluenceRandom().predict(data, data, np.array([c]), 0) for c in (2, 2, 3))
    assert (one == same).all() and (one != other).all()


def test_reading_tables(made, tmp_path):
    targets = read_targets(made / "targets.tsv.gz")
    assert targets.of["R0"] == {*(f"T{i}" for i in range(12)), "ABSENT"} and len(targets.content) == 64
    (tmp_path / "kinds.tsv").write_text("ensembl_id\tsymbol\tbiotype\n1\tA\tlncRNA\n2\tA\tpseudogene\n3\t\tlncRNA\n")
    assert read_biotypes(tmp_path / "kinds.tsv").of == {"A": "lncRNA"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"targets": "absent.csv"}, "no such file"),
        ({"targets": "columns.csv"}, "one column regulator is expected; the columns are: tf, target"),
        ({"targets": "header.csv"}, "no pair of a regulator and another gene"),
        ({"targets": "empty.csv"}, "cannot be read as a table"),
        ({"targets": "others.csv"}, "of whose targets none is measured: R0"),
        ({"biotypes": "columns.csv"}, "one column symbol and one biotype is expected"),
        ({"perturbed": ["PAX6"]}, "(not measured: PAX6)"),
        ({"perturbed": ["SILENT"]}, "(expressed in no cell: SILENT)"),
        ({"perturbed": ["O1"]}, "(without targets in targets.tsv.gz: O1)"),
        ({"perturbed": []}, "name the genes whose influence is asked for"),
        ({"top": 200}, "with fewer than task.top=200 other genes in task.min_cells of their cells: R0"),
        ({"method": "other"}, "task.method=other: expected deletion or attention"),
        ({"draws": 0}, "task.draws=0: expected a whole number from 1"),
    ],
)
def test_wrong_input_is_said(made, data, setting, message):
    setting = {key: made / value if key in ("targets", "biotypes") else value for key, value in setting.items()}
    with pytest.raises(InputError) as error:
        run(InfluenceCorrelation(), data, **{"perturbed": ["R0"], "targets": made / "targets.tsv.gz", **setting})
    assert message in str(error.value)


def test_what_a_model_cannot_do(made, data):
    """No network; a network that does not know the gene."""
    with pytest.raises(NotApplicableError, match="has no vectors of genes in a cell"):
        run(PCA(), data, perturbed=["R0"])
    with pytest.raises(NotApplicableError, match="it needs task"):
        run(InfluenceCorrelation(), data, method="attention")
    model = ScGPT.from_scratch(GeneTable.from_names(data.genes.names[1:].tolist()))
    with pytest.raises(NotApplicableError, match="not in the vocabulary of scGPT: R0"):
        run(model, data, perturbed=["R0"])


def test_a_wrong_run_writes_nothing(bench, tmp_path, made):
    code, _, err = bench("run", "model=influence_correlation", "task.perturbed=[PAX6]", *asked(made))
    assert code == 2 and "not measured: PAX6" in err and len(err.strip().splitlines()) == 1
    assert not list((tmp_path / "results").glob("*.json"))
