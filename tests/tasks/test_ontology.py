"""Ontology scores: the recorded values under their published names, hand-computed ones under the plain names."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.ontology import (
    Ontology,
    lcad_rows,
    map_labels,
    onto_rwr_rows,
    read_mapping,
    read_ontology,
)
from tasks.ontology.lcad import lca_steps, lcad, lcad_published
from tasks.ontology.onto_rwr import centroid_distances, edge_weights, onto_rwr, random_walk, term_distances

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CL = Path(__file__).parents[3] / "shared" / "data" / "ontology"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "annotation.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def cases():
    return json.loads((GOLDEN / "annotation.json").read_text())


@pytest.fixture(scope="module")
def toy(golden):
    return Ontology(map(tuple, golden["onto/edges_child_parent"].tolist()))


@pytest.fixture(scope="module")
def tree():
    """A tree of 81 leaves, four levels below its root, and coordinates in which it is what it is."""
    edges = [(f"{node}{i}", node) for level in range(4) for node in level_nodes(level) for i in "abc"]
    return Ontology(edges)


def level_nodes(level):
    nodes = ["r"]
    for _ in range(level):
        nodes = [f"{node}{i}" for node in nodes for i in "abc"]
    return nodes


def identity(labels, ontology):
    return map_labels(labels, ontology)


def values(rows, scope="overall"):
    return {(r.name, r.key): r.value for r in rows if r.scope == scope}


def close(a, b, atol=1e-6):
    np.testing.assert_allclose(a, b, atol=atol, rtol=1e-6)


# -- LCAD ---------------------------------------------------------------------------------------------


def test_lcad_published_is_the_recorded(golden, cases, toy):
    terms = golden["onto/terms"]
    true, predicted = (m.ravel() for m in np.meshgrid(terms, terms, indexing="ij"))
    close(lca_steps(toy, true, predicted)[1].reshape(12, 12), golden["onto/lcad_min"])
    true, predicted = golden["onto/pred_gt"], golden["onto/pred_pred"]
    distance = lcad_published(toy, true, predicted)
    wrong = true != predicted
    close(distance[wrong], cases["lcad"]["per_wrong_cell"])
    rows, _ = lcad_rows(true, predicted, identity(terms, toy), toy, "knn")
    found = values(rows)
    close(found["lcad_published", ""], cases["lcad"]["mean_over_wrong"])
    close(distance.mean(), cases["lcad"]["mean_over_all_cells"])
    close(found["error_rate", ""], cases["lcad"]["n_wrong"] / cases["lcad"]["n_cells"])


def test_lcad_by_hand(toy):
    # 8 and 7 meet in 4: 4-6-8 and 4-7. 8 and 2 meet in the root. 4 is an ancestor of 6.
    # 11 and 9 meet in 4 (4-7-11 and 4-9) and in 5 (5-11 and 5-9): the nearer one counts.
    pairs = {("08", "07"): 3, ("08", "02"): 6, ("06", "04"): 1, ("11", "09"): 2, ("10", "11"): 2, ("05", "05"): 0}
    first = np.array([f"T:{a}" for a, _ in pairs])
    second = np.array([f"T:{b}" for _, b in pairs])
    expected = list(pairs.values())
    assert lcad(toy, first, second).tolist() == expected
    assert lcad(toy, second, first).tolist() == expected  # symmetric, which the published one is not
    assert lcad_published(toy, first, second).tolist() == [2, 5, 1, 1, 1, 0]
    assert lcad_published(toy, second, first).tolist() == [1, 1, 0, 1, 1, 0]


def test_a_nearer_ancestor_that_is_not_the_lowest_does_not_count():
    shortcut = Ontology(
        [("a", "p"), ("p", "m"), ("b", "q"), ("q", "m"), ("m", "r"), ("a", "r"), ("b", "r")],
    )
    assert lcad(shortcut, np.array(["a"]), np.array(["b"])).tolist() == [4]


def test_lcad_comes_with_the_error_rate_and_its_product(toy):
    true = np.array(["T:08"] * 6 + ["T:06"] * 4)
    predicted = np.array(["T:08"] * 5 + ["T:07"] + ["T:06"] * 3 + ["T:04"])
    rows, notes = lcad_rows(true, predicted, identity(true.tolist() + predicted.tolist(), toy), toy, "knn")
    assert values(rows) == {
        ("lcad", ""): 2.0,  # (3 + 1) / 2
        ("lcad_all_cells", ""): pytest.approx(0.4),
        ("error_rate", ""): pytest.approx(0.2),
        ("lcad_published", ""): 1.5,
    }
    assert values(rows, "per-class") == {("lcad", "T:08"): 3.0, ("lcad", "T:06"): 1.0}
    assert {r.head for r in rows} == {"knn"} and not notes
    rows, _ = lcad_rows(true, true, identity(true, toy), toy, "knn")
    assert values(rows)["lcad", ""] is None and values(rows)["error_rate", ""] == 0


def test_cells_without_a_term_are_left_out_and_counted(toy):
    mapping = map_labels(["x", "y", "line"], toy, {"x": "T:08", "y": "T:07", "line": "CVCL_0023"})
    true = np.array(["x", "x", "line", "y"])
    predicted = np.array(["y", "unassigned", "x", "line"])
    rows, notes = lcad_rows(true, predicted, mapping, toy, "scmap")
    found = values(rows)
    assert {r.name: r.n for r in rows if r.scope == "overall"} == {
        "lcad": 1,
        "lcad_all_cells": 2,
        "error_rate": 2,
        "lcad_published": 1,
    }
    # An unassigned cell is wrong, at no distance: a method that leaves cells out is not ranked by the mean of all.
    assert found["lcad", ""] == 3.0 and found["error_rate", ""] == 1 and found["lcad_all_cells", ""] is None
    assert notes["cells left out of LCAD (scmap)"] == 2
    assert notes["unassigned cells, wrong but without LCAD (scmap)"] == 1
    assert notes["cell types without an ontology term"] == "line (CVCL_0023 is not in the ontology)"
    rows, notes = lcad_rows(true, predicted, map_labels(true, toy, {}), toy, "scmap")
    assert not rows and notes["LCAD"].startswith("not applicable")
    empty = np.array([], np.str_)
    assert lcad_rows(empty, empty, mapping, toy, "scmap")[0] == []


def test_terms_without_a_common_ancestor_are_undefined_and_counted():
    forest = Ontology([("a", "r"), ("b", "s")])
    rows, notes = lcad_rows(np.array(["a", "a"]), np.array(["b", "r"]), identity("abrs", forest), forest, "knn")
    assert values(rows)["lcad", ""] == 1.0 and notes["mistakes without a common ancestor (knn)"] == 1


def test_five_hundred_types(tree):
    rng = np.random.default_rng(0)
    wide = Ontology([(f"t{i:03}", f"g{i % 20}") for i in range(500)] + [(f"g{i}", "root") for i in range(20)])
    kinds = np.array([f"t{i:03}" for i in range(500)])
    true, predicted = rng.choice(kinds, 20_000), rng.choice(kinds, 20_000)
    rows, _ = lcad_rows(true, predicted, identity(kinds, wide), wide, "knn")
    number = np.array([int(name[1:]) % 20 for name in np.concatenate([true, predicted])]).reshape(2, -1)
    wrong = true != predicted
    assert values(rows)["lcad", ""] == pytest.approx(np.where(number[0] == number[1], 2, 4)[wrong].mean())


# -- scGraph-OntoRWR ----------------------------------------------------------------------------------


def test_onto_rwr_is_the_recorded(golden, cases, toy):
    text, terms, width = golden["onto/text_vectors"], golden["onto/terms"], int(golden["onto/dca_dim"])
    assert (toy.terms == terms).all()
    weights = edge_weights(toy, text)
    recorded = dict(
        zip(map(tuple, golden["onto/edges_child_parent"].tolist()), golden["onto/edge_weight"], strict=True)
    )
    close(weights, [recorded[str(terms[c]), str(terms[p])] for c, p in toy.edges])
    close(random_walk(toy, weights), golden["onto/rwr"])
    close(random_walk(toy, weights), golden["onto/rwr_closed_form"], atol=1e-4)
    close(term_distances(toy, terms, text, width), golden["onto/onto_distance"])
    types, apart = centroid_distances(golden["onto/cell_embedding"], golden["onto/cell_label"])
    assert (types == golden["onto/kept_types"]).all()
    close(apart, golden["onto/centroid_distance"])
    found = onto_rwr(golden["onto/cell_embedding"], golden["onto/cell_label"], toy, text_vectors=text, width=width)
    close(found.published, cases["ontorwr"]["score"])
    close(found.score, cases["ontorwr"]["variant_without_diagonal"])
    close(found.per_type_published, [cases["ontorwr"]["per_type"][t] for t in types])


def leaves_embedded(tree, n_types, noise, seed=0, cells=12):
    """Cells of leaves of the tree: at the leaf's place among its ancestors, or, with `noise`, anywhere."""
    rng = np.random.default_rng(seed)
    leaves = rng.choice(level_nodes(4), n_types, replace=False)
    axes = rng.normal(size=(len(tree), 40))
    path = np.isfinite(tree.steps_up(tree.rows(leaves)))
    centres = rng.normal(size=(n_types, 40)) * 5 if noise else path.astype(float) @ axes
    labels = np.repeat(leaves, cells)
    return np.repeat(centres, cells, axis=0) + 0.1 * rng.normal(size=(len(labels), 40)), labels


def test_a_tree_in_the_embedding_scores_and_noise_does_not(tree):
    x, labels = leaves_embedded(tree, 30, noise=False)
    good = onto_rwr(x, labels, tree)
    assert good.score > 0.6 and good.p < 0.01 and abs(good.null_mean) < 0.05
    noise = [onto_rwr(*leaves_embedded(tree, 30, True, seed), tree, permutations=50) for seed in range(6)]
    assert abs(np.mean([found.score for found in noise])) < 0.1
    assert min(found.published for found in noise) > 0.5  # the zero distance of each type from itself
    assert onto_rwr(x, labels, tree).score == good.score


def test_onto_rwr_by_hand():
    # Off-diagonal distances (row by row) are compared with those of a star: all leaves equally far, so undefined;
    # with the root among them, root and leaf differ from leaf and leaf.
    star = Ontology([(f"l{i}", "root") for i in range(4)])
    apart = term_distances(star, np.array(["l0", "l1", "root"]))
    assert apart[0, 1] > 0 and apart[0, 2] == pytest.approx(apart[1, 2])
    x = np.repeat([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], 10, axis=0)  # distances 3, 4, 5
    labels = np.repeat(["l0", "l1", "root"], 10)
    found = onto_rwr(x, labels, star)
    # Two values per column: their correlation is a sign, or undefined where the ontology's two are equal (root).
    sign = np.sign(apart[0, 2] - apart[0, 1])
    assert found.per_type[:2].tolist() == pytest.approx([sign * np.sign(4 - 3), sign * np.sign(5 - 3)])
    assert np.isnan(found.per_type[2])


def test_rows_from_ten_types_on(tree):
    x, labels = leaves_embedded(tree, 10, noise=False)
    rows, notes = onto_rwr_rows(x, labels, identity(labels, tree), tree)
    found = values(rows)
    each = values(rows, "per-class")
    assert found["onto_rwr", ""] == pytest.approx(np.mean(list(each.values()))) and len(each) == 10
    assert found["onto_rwr_published", ""] > found["onto_rwr", ""]
    assert "p = " in notes["scGraph-OntoRWR of exchanged types"]
    few = np.concatenate([np.flatnonzero(labels == kind)[: 9 if i == 0 else 12] for i, kind in enumerate(set(labels))])
    rows, notes = onto_rwr_rows(x[few], labels[few], identity(labels, tree), tree)
    assert not rows and notes["scGraph-OntoRWR"].startswith("too few: 9 cell types")


def test_odd_embeddings(tree):
    x, labels = leaves_embedded(tree, 12, noise=False)
    mapping = identity(labels, tree)
    rows, notes = onto_rwr_rows(np.ones_like(x), labels, mapping, tree)
    assert all(row.value is None for row in rows) and notes["types without a defined scGraph-OntoRWR"] == 12
    one = np.full(len(labels), labels[0])
    assert "too few: 1" in onto_rwr_rows(x, one, mapping, tree)[1]["scGraph-OntoRWR"]
    rows, notes = onto_rwr_rows(x, labels, map_labels(labels, Ontology([("a", "b")])), Ontology([("a", "b")]))
    assert not rows and "too few: 0" in notes["scGraph-OntoRWR"]
    assert len(notes["cell types without an ontology term"].split(", ")) == 12
    # Two labels of one term count as one type.
    table = {str(kind): str(kind) for kind in labels} | {"twin": str(labels[0])}
    twins = np.where(np.arange(len(labels)) < 6, "twin", labels)
    [first, *_], _ = onto_rwr_rows(x, twins, map_labels(twins, tree, table), tree)
    assert first.n == len(labels)


@pytest.fixture(scope="module")
def cell_ontology():
    if not CL.is_dir():
        pytest.skip("the Cell Ontology is not here (../shared/data/ontology)")
    return read_ontology(CL / "cl-basic.2022-11-25.obo.gz")


def test_the_cell_ontology(golden, cell_ontology):
    edges = read_ontology(CL / "cl_is_a_edges.tsv.gz")
    assert len(edges) == 2526 and len(edges.edges) == len(cell_ontology.edges) == 3561
    ids = golden["cl/ids"]
    true, predicted = (m.ravel() for m in np.meshgrid(ids, ids, indexing="ij"))
    close(lca_steps(cell_ontology, true, predicted)[1].reshape(12, 12), golden["cl/lcad_min"])


def test_real_labels_are_mapped_and_cell_lines_are_not(cell_ontology):
    table = read_mapping(CL / "cell_type_to_cl.tsv", "kang18_ctrl_8donors")
    mapping = map_labels(table, cell_ontology, table)
    assert len(mapping.terms) == 8 and not mapping.unmapped
    types = np.array(sorted(table))
    rows, notes = lcad_rows(np.repeat(types, 8), np.tile(types, 8), mapping, cell_ontology, "knn")
    assert 2 < values(rows)["lcad", ""] < 12 and not notes
    rows, notes = onto_rwr_rows(np.zeros((400, 3)), np.repeat(types, 50), mapping, cell_ontology)
    assert not rows and notes["scGraph-OntoRWR"].startswith("too few: 8")
    lines = map_labels(["A549", "H838"], cell_ontology, table)
    assert set(lines.unmapped) == {"A549", "H838"}
    assert not lcad_rows(np.array(["A549"]), np.array(["H838"]), lines, cell_ontology, "knn")[0]
