"""scmap: the recorded values of both forms, a case by hand, and the baselines made of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from harness.data import CellData
from harness.errors import InputError
from harness.registry import MODELS
from harness.task import Split
from tasks.annotation import scmap
from tests.conftest import make_cells

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
NAMES = ("scmap_cluster", "scmap_cell", "scmap_cell_published")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "annotation.npz", allow_pickle=False) as arrays:
        return {name[6:]: arrays[name] for name in arrays.files if name.startswith("scmap/")}


@pytest.fixture(scope="module")
def cases():
    return json.loads((GOLDEN / "annotation.json").read_text())["scmap"]


@pytest.fixture(scope="module")
def features(golden, cases):
    logs, counts = sp.csr_matrix(golden["ref_logcounts"]), sp.csr_matrix(golden["ref_counts"])
    scores = scmap.feature_scores(logs, counts)
    np.testing.assert_allclose(scores, golden["feature_score"], atol=1e-6)
    return scmap.select_features(scores, cases["n_features"])


@pytest.fixture(scope="module")
def query(golden, features):
    """Query cells over the features they share with the reference, and which these are."""
    column = {name: i for i, name in enumerate(golden["query_genes"].tolist())}
    names = golden["genes"][features]
    shared = np.isin(names, golden["query_genes"])
    return golden["query_logcounts"][:, [column[name] for name in names[shared]]], shared


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6)


def test_features_are_the_recorded(golden, features):
    assert (np.isin(np.arange(len(golden["genes"])), features) == golden["feature_selected"]).all()
    assert (golden["genes"][features] == golden["cell_feature_order"]).all()
    zeros = scmap.feature_scores(sp.csr_matrix(golden["ref_logcounts"]))  # counts are zero where their logs are
    close(zeros, golden["feature_score"])


def test_scmap_cluster_is_the_recorded(golden, features, query, cases):
    cells, shared = query
    types, medians = scmap.cluster_index(golden["ref_logcounts"][:, features], golden["ref_label"])
    assert (types == golden["cluster_index_names"]).all()
    close(medians[:, np.argsort(golden["genes"][features])].T, golden["cluster_index"])
    similarities = scmap.cluster_similarities(cells, medians[:, shared])
    close(similarities, golden["similarities_cos_pearson_spearman"])
    for threshold in (0.5, 0.7, 0.9):
        labels, similarity = scmap.cluster_labels(similarities, types, threshold)
        assert (labels == golden[f"cluster_label_{threshold}"]).all()
        close(similarity, golden["cluster_similarity"])
        if threshold > 0.5:
            expected = cases[f"cluster_0_{str(threshold)[2:]}"]
            assert (labels != scmap.UNASSIGNED).sum() == expected["assigned"]
            assert (labels == golden["query_truth"]).mean() == pytest.approx(expected["accuracy_all"])


def test_scmap_cell_is_the_recorded(golden, features, query):
    cells, shared = query
    index = scmap.CellIndex(
        np.arange(60).reshape(6, 10),
        golden["cell_subcentroids"].transpose(0, 2, 1),
        golden["cell_subclusters"] - 1,
    )
    full = np.zeros((len(cells), 60))
    full[:, shared] = cells
    similarities, labels = index.similarities(full), golden["ref_label"]
    close(similarities, golden["cell_all_similarities"])
    published = scmap.nearest_as_published(similarities)
    assert (golden["cell_nn_unsorted"] == published.T + 1).all()
    close(np.take_along_axis(similarities, published, axis=1).T, golden["cell_nn_similarity_unsorted"])
    as_written = scmap.neighbour_labels(similarities, published, labels)
    assert (as_written == golden["cell_label_w3_thr0.5_as_written"]).all()
    assert (scmap.neighbour_labels(similarities, published, labels, 10) == golden["cell_label_w10_thr0.5"]).all()
    plain = scmap.neighbour_labels(similarities, scmap.nearest(similarities), labels)
    assert (plain == golden["cell_label_w3_thr0.5_sorted"]).all()
    assert (plain != as_written).sum() == 6
    exact = scmap.cosine(cells, golden["ref_logcounts"][:, features][:, shared])
    close(exact, golden["exact_cosine"])
    found = scmap.neighbour_labels(exact, scmap.nearest(exact), labels)
    assert (found == golden["exact_label_w3_thr0.5"]).all()


def test_neighbours_by_hand():
    similar = np.array([[0.6, 0.9, 0.2, 0.7, 0.1, 0.8]])
    labels = np.array(["a", "b", "a", "b", "a", "b"])
    assert scmap.nearest(similar, 3).tolist() == [[1, 5, 3]]
    # 0.6 0.9 0.2 -> 0.7 takes the place of 0.2 -> 0.8 that of 0.6
    assert scmap.nearest_as_published(similar, 3).tolist() == [[5, 1, 3]]
    assert scmap.neighbour_labels(similar, scmap.nearest(similar), labels).tolist() == ["b"]
    # In the list of six, in which nothing is ever replaced, the first three are a, b and a.
    assert scmap.neighbour_labels(similar, scmap.nearest_as_published(similar), labels).tolist() == ["unassigned"]
    assert scmap.neighbour_labels(similar, scmap.nearest(similar), labels, threshold=0.9).tolist() == ["unassigned"]
    assert scmap.neighbour_labels(similar[:, :2], scmap.nearest(similar[:, :2]), labels[:2]).tolist() == ["unassigned"]


def test_two_of_three_measures_must_agree():
    types = np.array(["a", "b", "c"])
    agree = [[0.9, 0.1, 0.1], [0.2, 0.75, 0.1], [0.8, 0.1, 0.1]]
    apart = [[0.9, 0.1, 0.1], [0.2, 0.8, 0.1], [0.1, 0.1, 0.8]]
    undefined = [[0.9, 0.1, 0.1], [np.nan] * 3, [0.9, 0.1, 0.1]]
    edge = [[0.7, 0.1, 0.1], [0.7, 0.1, 0.1], [0.1, 0.2, 0.1]]
    labels, similarity = scmap.cluster_labels(np.array([agree, apart, undefined, edge]), types)
    assert labels.tolist() == ["a", "unassigned", "unassigned", "a"]  # the threshold itself is enough
    assert similarity[[0, 3]].tolist() == [0.9, 0.7] and np.isnan(similarity[[1, 2]]).all()


def test_cells_without_features_and_types_without_medians():
    rng = np.random.default_rng(0)
    x = rng.poisson(3, (40, 30)).astype(float)
    x[0] = 0
    index = scmap.cell_index(x, seed=0)
    assert np.isfinite(index.similarities(x)).all() and (index.similarities(x)[0] == 0).all()
    labels = np.array(["zero"] + ["b"] * 39)
    types, medians = scmap.cluster_index(x, labels)
    assert types.tolist() == ["b"]
    assert scmap.cluster_labels(scmap.cluster_similarities(x[:1], medians), types)[0].tolist() == ["unassigned"]
    with pytest.raises(InputError, match="more features"):
        scmap.cluster_index(np.zeros((4, 3)), np.array(["a", "a", "b", "b"]))
    with pytest.raises(InputError, match="too alike"):
        scmap.cell_index(np.ones((40, 30)))


def task_data(n_types=4, n_cells=160, seed=0):
    data = CellData(make_cells(n_cells, 120, n_types, seed), columns={"cell_type": "cell_type"}, name="made")
    order = np.random.default_rng(seed).permutation(n_cells)
    cut = n_cells * 7 // 10
    return data, Split("made", np.sort(order[:cut]), np.sort(order[cut:])), data.labels("cell_type").astype("U32")


@pytest.mark.parametrize("name", NAMES)
def test_baselines_label_made_cells(name):
    data, split, labels = task_data()
    model = MODELS.get(name)(n_features=60)
    found = model.predict(data, split, labels, 0)
    assert found.shape == split.test.shape
    assigned = found != scmap.UNASSIGNED
    assert assigned.mean() > 0.5 and (found == labels[split.test])[assigned].mean() > 0.9
    blind = labels.copy()
    blind[split.test] = "hidden"
    assert (model.predict(data, split, blind, 0) == found).all()  # labels of test cells are not looked at
    alone = Split("made", split.train, split.test[:3])
    assert (model.predict(data, alone, labels, 0) == found[:3]).all()  # nor are other test cells


def test_exact_search_and_blocks(monkeypatch):
    data, split, labels = task_data()
    model = MODELS.get("scmap_cell")(n_features=60, exact=True)
    found = model.predict(data, split, labels, 0)
    assert (found == labels[split.test]).mean() > 0.8
    monkeypatch.setattr(scmap, "BLOCK", 7)
    assert (model.predict(data, split, labels, 0) == found).all()


@pytest.mark.parametrize("name", NAMES)
def test_odd_splits(name):
    data, split, labels = task_data()
    model = MODELS.get(name)(n_features=60)
    one = labels.copy()
    one[:] = "only"
    assert set(model.predict(data, split, one, 0)) <= {"only", scmap.UNASSIGNED}
    rare = labels.copy()
    rare[split.train[0]] = "a class with one cell"
    assert len(model.predict(data, split, rare, 0)) == len(split.test)
    many = np.array([f"type {i:03}" for i in range(len(labels))])  # a type per cell
    assert len(model.predict(data, split, many, 0)) == len(split.test)
    named = labels.copy()
    named[split.train[:5]] = "unassigned"
    with pytest.raises(InputError, match="rename it"):
        model.predict(data, split, named, 0)
