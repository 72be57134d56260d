"""Values equal a direct call of scib-metrics on the same embedding."""

import numpy as np
import pytest

from harness import ResultStore, load_dataset, load_model
from tests.conftest import make_cells

pytestmark = pytest.mark.xdist_group("integration")


def values(record):
    return {m.name: m.value for m in record.metrics if m.scope == "overall"}


def parts(record, name):
    return [m.value for m in record.metrics if (m.name, m.scope) == (name, "per-class")]


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
    one_start = {"nmi_kmeans", "ari_kmeans"}
    bio = ("nmi_kmeans_starts", "ari_kmeans_starts", "nmi_leiden", "ari_leiden", "silhouette_label", "clisi")
    assert found["avg_bio"] == pytest.approx(np.mean([found[name] for name in bio]), abs=1e-9)
    assert set(found) == {*bio, *one_start, "avg_bio", "macro_silhouette_label"}, (
        "one batch: no batch metric is made up"
    )
    assert len(parts(record, "silhouette_label")) == len(set(labels))
    assert found["macro_silhouette_label"] == pytest.approx(np.mean(parts(record, "silhouette_label")), abs=1e-9)
    assert "one batch" in record.notes["batch correction"]
    assert all("scib-metrics-" in m.version for m in record.metrics if not m.name.endswith("_starts"))


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


def test_scores_of_types_make_the_number_of_scib_metrics():
    """Their mean is scib-metrics' own number; a type of one batch has no part in mixing."""
    import scib_metrics as scib

    from tasks.integration.scib import CLUSTERING_NEIGHBORS, KBET_NEIGHBORS, _nearest, neighbour_graph, per_type

    rng = np.random.default_rng(0)
    kinds = np.arange(300) % 5
    labels, batches = np.array([f"t{k}" for k in kinds]), np.array([f"b{k}" for k in rng.integers(0, 3, 300)])
    batches[labels == "t4"] = "b0"
    x = (rng.normal(size=(300, 6)) + 2 * np.eye(6)[kinds]).astype(np.float32)
    graph = neighbour_graph(x, 60)
    found = per_type(x, labels, batches, graph)
    whole = {
        "silhouette_label": scib.silhouette_label(
            x, labels
        ),  # a mean over cells: equal, as the types are equally large
        "graph_connectivity": scib.graph_connectivity(_nearest(graph, CLUSTERING_NEIGHBORS), labels),
        "kbet": scib.kbet_per_label(_nearest(graph, KBET_NEIGHBORS), batches, labels),
        "bras": scib.bras(x, labels, batches),
        "silhouette_batch": scib.silhouette_batch(x, labels, batches),
    }
    assert {name: np.mean(list(each.values())) for name, each in found.items()} == pytest.approx(whole, abs=1e-6)
    assert "t4" in found["graph_connectivity"] and not {"t4"} & {*found["bras"], *found["kbet"]}
    assert set(per_type(x, labels, None, graph)) == {"silhouette_label"}


@pytest.mark.parametrize(("model", "task"), [("svm", "integration"), ("harmony", "annotation")])
def test_a_baseline_of_another_task_is_not_applicable(model, task, bench, tmp_path):
    code, out, _ = bench("run", f"model={model}", f"task={task}")
    assert code == 0 and "not-applicable" in out
    [record] = ResultStore(tmp_path / "results").records()
    assert record.status == "not-applicable" and not record.metrics


def test_identical_cells_find_themselves_first():
    from tasks.integration.scib import neighbour_graph

    x = np.repeat(np.arange(5.0), 4)[:, None].astype(np.float32)
    graph = neighbour_graph(x, 3)
    assert (graph.indices[:, 0] == np.arange(20)).all()
    assert all(len(set(row)) == 3 for row in graph.indices)
