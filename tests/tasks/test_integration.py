"""Values equal a direct call of scib-metrics on the same embedding."""

import numpy as np
import pytest

from harness import ResultStore, load_dataset, load_model
from tests.conftest import make_cells


def values(record):
    return {m.name: m.value for m in record.metrics}


def test_equal_to_scib_metrics(bench, tmp_path):
    import scib_metrics as scib

    from tasks.integration.scib import neighbour_graph

    code, _, err = bench("run", "model=pca", "task=integration")
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    data = load_dataset("pbmc68k")
    x, labels = load_model("pca").embed_cells(data), data.labels("cell_type")
    found = values(record)
    kmeans = scib.nmi_ari_cluster_labels_kmeans(x, labels)
    assert found["nmi_kmeans"] == pytest.approx(kmeans["nmi"], abs=1e-6)
    assert found["silhouette_label"] == pytest.approx(scib.silhouette_label(x, labels), abs=1e-6)
    assert found["clisi"] == pytest.approx(float(scib.clisi_knn(neighbour_graph(x, 90), labels)), abs=1e-6)
    bio = ("nmi_kmeans", "ari_kmeans", "nmi_leiden", "ari_leiden", "silhouette_label", "clisi")
    assert found["avg_bio"] == pytest.approx(np.mean([found[name] for name in bio]), abs=1e-9)
    assert set(found) == {*bio, "avg_bio"}, "one batch: no batch metric is made up"
    assert "one batch" in record.notes["batch correction"]
    assert all("scib-metrics-" in m.version for m in record.metrics)


def test_batches_add_batch_metrics(bench, tmp_path):
    cells = make_cells(n_cells=150, batches=2)
    cells.write_h5ad(tmp_path / "two.h5ad")
    code, _, err = bench(
        "run",
        "model=pca",
        "task=integration",
        f"dataset.path={tmp_path}/two.h5ad",
        "dataset.cell_type=cell_type",
        "dataset.batch=batch",
    )
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    found = values(record)
    for name in ("bras", "ilisi", "kbet", "graph_connectivity", "pcr_comparison", "isolated_labels", "overall"):
        assert found[name] is not None, name
    assert found["overall"] == pytest.approx(0.6 * found["avg_bio"] + 0.4 * found["avg_batch"], abs=1e-9)


def test_a_predictor_is_not_applicable(bench, tmp_path):
    code, out, _ = bench("run", "model=svm", "task=integration")
    assert code == 0 and "not-applicable" in out
    [record] = ResultStore(tmp_path / "results").records()
    assert record.status == "not-applicable" and not record.metrics


def test_identical_cells_find_themselves_first():
    from tasks.integration.scib import neighbour_graph

    x = np.repeat(np.arange(5.0), 4)[:, None].astype(np.float32)
    graph = neighbour_graph(x, 3)
    assert (graph.indices[:, 0] == np.arange(20)).all()
    assert all(len(set(row)) == 3 for row in graph.indices)
