"""Whole runs of the perturbation tasks: records, controls, what is said, and wrong input."""

import numpy as np
import pytest

from harness import ResultStore
from tests.tasks.perturbation.made import made_cells

BASELINES = "no_change,train_mean,additive,matching_mean,nearest_perturbation,latent_linear"


@pytest.fixture
def screen(tmp_path):
    path = tmp_path / "screen.h5ad"
    made_cells(singles=8, pairs=6, per_condition=25).write_h5ad(path)
    return [f"dataset.path={path}", "dataset.condition=condition", "task=perturbation", "task.min_cells=5"]


def values(record, scope="overall"):
    return {(m.name, m.head, m.key): m.value for m in record.metrics if m.scope == scope}


def test_baselines_and_controls_in_one_grid(bench, tmp_path, screen):
    code, out, err = bench("run", "-m", f"model={BASELINES},split_half,random_embedding", "seed=1", *screen)
    assert code == 0, out + err
    records = {record.model: record for record in ResultStore(tmp_path / "results").records()}
    delta = {name: values(record).get(("pearson_delta", "none", "")) for name, record in records.items()}
    assert delta["no_change"] is None, "no change has no correlation: null, not zero"
    mean = values(records["train_mean"])
    assert mean["pearson_delta_perturbed", "none", ""] is None, "the reference itself says nothing of any perturbation"
    assert delta["split_half"] > max(delta["train_mean"], delta["latent_linear"])
    mse = {name: values(record).get(("mse", "none", "")) for name, record in records.items()}
    assert mse["split_half"] < mse["additive"] < mse["no_change"]
    assert "ceiling" in records["split_half"].flags and "floor" in records["no_change"].flags
    assert ("pearson_delta", "linear", "") in values(records["random_embedding"])
    for record in records.values():
        units = [m for m in record.metrics if (m.name, m.scope) == ("mse", "per-perturbation")]
        assert np.mean([m.value for m in units]) == pytest.approx(
            next(m.value for m in record.metrics if (m.name, m.scope, m.head) == ("mse", "overall", units[0].head))
        )
        assert record.notes["targets measured"] == "8 of 8"
        assert {a.kind for a in record.artifacts} >= {"perturbation_effects", "perturbation_genes"}


def test_gene_vectors_of_a_network_and_shuffled(bench, tmp_path, screen):
    code, out, err = bench(
        "run",
        "model=scgpt",
        "track=untrained",
        "seed=1",
        "task.heads=[linear,linear_shuffled]",
        f"corpus.path={screen[0].partition('=')[2]}",
        *screen,
    )
    assert code == 0, out + err
    [record] = ResultStore(tmp_path / "results").records()
    found = values(record)
    assert found["pearson_delta", "linear", ""] != found["pearson_delta", "linear_shuffled", ""]
    assert record.readout == "static" and record.notes["targets with a gene vector"] == "8 of 8"


def test_a_screen_of_pairs(bench, tmp_path, screen):
    code, out, err = bench("run", "model=additive", "seed=1", "task.screen=[GENE0,GENE1,GENE2]", *screen)
    assert code == 0, out + err
    store = ResultStore(tmp_path / "results")
    [record] = store.records()
    table = store.table(next(a for a in record.artifacts if a.kind == "perturbation_screen"))
    assert len(table) == 3 and set(table["label"]) <= {"GENE0", "GENE1", "GENE2"}
    assert table["effect"].gt(0).all() and table["x"].notna().all()
    assert record.notes["test conditions"] == len([m for m in record.metrics if m.name == "mse" and m.key])


def test_genes_left_out_in_folds(bench, tmp_path, screen):
    code, out, err = bench("run", "model=train_mean", "task.split=genes", "task.gene_folds=4", *screen)
    assert code == 0, out + err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.split == "leave-genes-out" and record.notes["test conditions"] == 14


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.heads=[nonsense]", "task.heads=['nonsense']"),
        ("dataset.control=absent", "labelled 'absent'"),
        ("task.min_cells=1", "task.min_cells=1: expected a whole number from 2"),
        ("task.min_cells=1000", "have at least 1000 cells"),
        ("task.go=/absent.gmt", "task.go=/absent.gmt: no such file"),
        ("task.embedding=other", "task.embedding=other"),
        ("task.split=other", "task.split=other"),
    ],
)
def test_wrong_input(setting, message, bench, screen):
    code, _, err = bench("run", "model=no_change", *screen, setting)
    assert code == 2 and message in err and "Traceback" not in err


def test_normalised_values_are_refused(bench, tmp_path):
    cells = made_cells()
    cells.X = cells.X.log1p()
    cells.write_h5ad(tmp_path / "log.h5ad")
    code, _, err = bench(
        "run",
        "model=no_change",
        "task=perturbation",
        f"dataset.path={tmp_path}/log.h5ad",
        "dataset.condition=condition",
    )
    assert code == 2 and "raw counts are expected" in err


def test_reverse_search(bench, tmp_path):
    path = tmp_path / "pairs.h5ad"
    made_cells(singles=6, pairs=6, per_condition=25, n_genes=80).write_h5ad(path)
    code, out, err = bench(
        "run",
        "-m",
        "model=additive,no_change",
        "task=reverse_perturbation",
        f"dataset.path={path}",
        "dataset.condition=condition",
        "task.n_genes=6",
        "task.split_seeds=[0,1]",
    )
    assert code == 0, out + err
    records = {record.model: record for record in ResultStore(tmp_path / "results").records()}
    found = values(records["additive"])
    assert found["hit_at_10", "none", ""] == 1, "what was made to add up is found by adding up"
    assert records["additive"].notes["candidates"] == 21
    chance = values(records["no_change"])
    assert chance["hit_at_10", "none", ""] == pytest.approx(10 / 21), "equal candidates: the chance, and no luck"
    assert found["hit_at_5", "none", ""] > chance["hit_at_5", "none", ""]
    assert "steps of" in records["additive"].notes["resolution"]
