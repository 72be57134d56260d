import json

import numpy as np
import pytest
import scipy.sparse as sp

from tasks.gene_sets import GeneSets, read_gene_sets
from tasks.perturbation import gears_graphs
from tasks.perturbation.gears_graphs import Graph, coexpression_graph, go_graph, reached
from tests.tasks.perturbation.gears_case import GOLDEN, Case


@pytest.fixture(scope="module")
def case():
    return Case()


def edges(graph):
    return dict(zip(zip(graph.source.tolist(), graph.target.tolist(), strict=True), graph.weight.tolist(), strict=True))


def recorded(case, name):
    return dict(zip(map(tuple, case[name].T.tolist()), case[f"{name}_weight"].tolist(), strict=True))


def same(found, expected):
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[key] for key in expected], list(expected.values()), atol=1e-5)


@pytest.mark.parametrize("rows", [7, 512])
def test_go_graph(case, monkeypatch, rows):
    monkeypatch.setattr(gears_graphs, "ROWS", rows)
    graph = go_graph(read_gene_sets(GOLDEN / "gene2go_all.pkl"), case["pert_names"].tolist())
    same(edges(graph), recorded(case, "G_go"))


@pytest.mark.parametrize("cells", [50, 4096])
def test_coexpression_graph(case, monkeypatch, cells):
    monkeypatch.setattr(gears_graphs, "CELLS", cells)
    train = json.loads((GOLDEN / "split.json").read_text())["set2conditions"]["train"]
    chosen = np.isin(case["cell_condition"], [label for label in train if "ctrl" in label])
    same(edges(coexpression_graph(case.values[chosen], case["gene_names"].tolist())), recorded(case, "G_coexpress"))


def test_normalised_adjacency():
    graph = Graph(("a", "b", "c"), np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.5, 2, 1], np.float32))
    # Incoming weights: a 0.5 + 1, b 2 + 1 of its own, c 1 of its own.
    root = 1 / np.sqrt([1.5, 3, 1])
    weights = np.array([[0.5, 1, 0], [2, 1, 0], [0, 0, 1]])  # target × source
    np.testing.assert_allclose(graph.normalised().toarray(), root[:, None] * weights * root, rtol=1e-6)


def test_a_gene_without_terms_has_no_edge_and_equals_are_told_apart_by_their_order():
    sets = GeneSets({name: frozenset({"t"}) for name in "abcd"})
    graph = go_graph(sets, ["x", "a", "b", "c", "d"], k=1)
    assert not {0} & {*graph.source.tolist(), *graph.target.tolist()}
    assert sorted(edges(graph)) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert graph.with_nodes(["y", "a"]).nodes == ("x", "a", "b", "c", "d", "y")
    assert not edges(go_graph(GeneSets({}), ["a"])) and not edges(go_graph(sets, []))


def test_reached_is_what_a_network_of_so_many_layers_reads():
    chain = sp.csr_matrix((np.ones(3), ([0, 1, 2], [1, 2, 3])), shape=(5, 5))
    assert [reached(chain, np.array([0]), steps).tolist() for steps in (0, 1, 2)] == [[0], [0, 1], [0, 1, 2]]


def test_a_silent_gene_correlates_with_nothing():
    values = np.random.default_rng(0).random((30, 4)).astype(np.float32)
    values[:, 2] = 0
    values[:, 3] = 1 - values[:, 0]
    found = edges(coexpression_graph(sp.csr_matrix(values), list("abcd")))
    assert (0, 3) in found and found[0, 3] == pytest.approx(1, abs=1e-5)
    assert not any(2 in edge for edge in found)
