"""Network scores, enrichment, programs and ranks: recorded values, independent computations, planted truths."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from harness.errors import InputError
from tasks.gene_relationships.directions import Directions
from tasks.gene_relationships.enrichment import enrichment, known_sets
from tasks.gene_relationships.network_scores import edge_scores, network_scores, tf_average_precision
from tasks.gene_relationships.pair_ranks import pair_ranks, parse_pairs
from tasks.gene_relationships.programs import leiden, programs, similarity_graph
from tasks.gene_relationships.regulation import Regulation
from tasks.gene_sets import GeneSets
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "gene_relationships"


def planted_vectors(n_tfs=8, n_targets=20, n_others=0, noise=0.2, seed=0):
    """Gene -> vector, where a TF and its targets share a direction, and the regulation that says so."""
    rng = np.random.default_rng(seed)
    of_tf, vectors, pairs = np.linalg.qr(rng.normal(size=(30, n_tfs)))[0].T, {}, []
    for i in range(n_tfs):
        for name in (f"TF{i}", *(f"T{i}_{j}" for j in range(n_targets))):
            vectors[name] = of_tf[i] + noise * rng.normal(size=30) / np.sqrt(30)
            pairs += [(f"TF{i}", name)] if name != f"TF{i}" else []
    vectors |= {f"O{i}": rng.normal(size=30) for i in range(n_others)}
    return vectors, Regulation(tuple(pairs))


def directions(vectors):
    return Directions.of(np.array(list(vectors)), np.stack(list(vectors.values())))


def test_recorded_values_of_beeline():
    recorded = json.loads((GOLDEN / "grn.json").read_text())
    with np.load(GOLDEN / "grn.npz") as held:
        truth, edges, weight = (held[name].tolist() for name in ("truth", "pred_edges", "pred_weight"))
    for tf_edges in (False, True):
        found = edge_scores(truth, edges, np.array(weight), tf_edges=tf_edges)
        assert found.auprc == pytest.approx(recorded["auprc"], abs=1e-6)
        assert found.auprc_ratio == pytest.approx(recorded["auprc_ratio"], abs=1e-6)
        assert found.early_precision_ratio == pytest.approx(recorded[f"epr_tf_edges_{tf_edges}"], abs=1e-6)
        assert found.n_possible == recorded[f"n_possible_{tf_edges}"]
        if not tf_edges:
            assert found.n_true / found.n_possible == pytest.approx(recorded["random"], abs=1e-6)


def test_network_scores_at_the_edges():
    true = np.array([True, True, False, False])
    tied = network_scores(np.array([3.0, 1.0, 1.0, 1.0]), true)
    assert tied.early_precision == 0.5, "ties at the cut all count"
    few = network_scores(np.array([0.0, 0.0, 2.0, 0.0]), true)
    assert few.early_precision == 0.0, "pairs of no weight are not pulled in"
    assert network_scores(np.zeros(4), true).early_precision == 0.0
    assert np.isnan(network_scores(np.ones(4), np.zeros(4, bool)).auprc)


def test_planted_regulation_is_found_and_shuffled_is_not():
    vectors, regulation = planted_vectors()
    genes = directions(vectors)
    universe = regulation.universe(genes.names.tolist())
    assert universe.true.shape == (8, 160) and universe.true.sum() == 160

    def scores(of):
        weight = of.unit[universe.tfs] @ of.unit[universe.candidates].T
        return network_scores(weight[universe.scored], universe.true[universe.scored]), weight

    found, weight = scores(genes)
    assert found.auprc > 0.95 and found.early_precision_ratio > 7.5
    own = tf_average_precision(weight, universe.true, universe.scored, 5)
    direct = average_precision_score(universe.true[3], weight[3])
    assert own[3] == pytest.approx(direct, abs=1e-12) and own.min() > 0.95
    assert np.isnan(tf_average_precision(weight, universe.true, universe.scored, 21)).all()
    shuffled = [scores(genes.shuffled(seed))[0].auprc for seed in range(5)]
    assert np.mean(shuffled) == pytest.approx(1 / 8, abs=0.05)


def test_universe_leaves_out_self_pairs_and_unknown_genes():
    regulation = Regulation((("A", "B"), ("A", "X"), ("B", "A"), ("Y", "B")))
    universe = regulation.universe(["A", "B", "C"])
    assert universe.tfs.tolist() == [0, 1] and universe.candidates.tolist() == [0, 1]
    assert universe.scored.tolist() == [[False, True], [True, False]]
    notes = regulation.notes(["A", "B", "C"])
    assert notes["TFs measured"] == "2 of 3" and notes["TFs not measured"] == "Y"
    assert notes["targets measured"] == "2 of 3" and notes["targets not measured"] == "X"


def test_enrichment_equals_scipy():
    rng = np.random.default_rng(1)
    genes = [f"G{i}" for i in range(120)]
    terms = {
        g: frozenset(f"S{j}" for j in range(15) if rng.random() < 0.12 or i // 10 == j) for i, g in enumerate(genes)
    }
    sets = known_sets([GeneSets(terms), GeneSets({"G1": frozenset({"small"})})], genes)
    groups = [np.arange(0, 10), np.arange(5, 40), rng.choice(120, 25, replace=False)]
    found = enrichment(groups, sets)
    expected = np.ones((3, len(sets.names)))
    for i, group in enumerate(groups):
        for j, name in enumerate(sets.names):
            own = {g for g in genes if name in terms[g]}
            shared = len(own & {genes[k] for k in group})
            expected[i, j] = stats.hypergeom.sf(shared - 1, 120, len(own), len(group))
            assert found.overlap[i, j] == shared
    assert "small" not in sets.names and np.abs(found.p - expected).max() < 1e-12
    q = stats.false_discovery_control(expected.ravel(), method="bh").reshape(expected.shape)
    assert np.abs(found.q - q).max() < 1e-12 and found.n_enriched == (q < 0.05).any(axis=0).sum() > 0
    assert sets.names[found.best()[0]] == "S0"
    assert enrichment([], sets).n_enriched == 0
    with pytest.raises(InputError, match="no set has 5 of the 2 genes"):
        known_sets([GeneSets(terms)], ["X", "Y"])


def test_planted_programs_are_found_whatever_the_seed():
    vectors, _ = planted_vectors(n_tfs=5, n_targets=19)
    graph = similarity_graph(directions(vectors), 10)
    assert len(graph.edges) == len(np.unique(graph.edges, axis=0)) and (graph.edges[:, 0] < graph.edges[:, 1]).all()
    for seed in (0, 1):
        found = programs(leiden(graph.igraph(), 1.0, seed), graph.genes)
        assert sorted(sorted(p.tolist()) for p in found) == [list(range(20 * i, 20 * i + 20)) for i in range(5)]
    again = leiden(graph.igraph(), 20.0, 3)
    assert np.array_equal(again, leiden(graph.igraph(), 20.0, 3))
    assert not programs(np.arange(100), graph.genes), "groups under five genes are no programs"
    with pytest.raises(InputError, match=r"task\.n_neighbors=100: a graph needs more genes than that, and 100"):
        similarity_graph(graph.genes, 100)


def test_vectors_of_nan_or_zero_are_none():
    found = Directions.of(np.array(["A", "B", "C"]), np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]]))
    assert found.names.tolist() == ["A"] and found.unit.tolist() == [[0.6, 0.8]]


def test_pair_ranks_equal_a_direct_ranking():
    rng = np.random.default_rng(4)
    vectors = {f"G{i}": rng.normal(size=6) for i in range(40)}
    vectors["G7"] = vectors["G5"] * 2  # tied with G5 for every gene
    found = pair_ranks(vectors, [("G0", "G5"), ("G3", "G9"), ("G0", "absent")])
    matrix = np.stack(list(vectors.values()))
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = np.round(unit @ unit.T, 12)
    every = stats.rankdata(-cosine[np.triu_indices(40, 1)])
    place = {pair: i for i, pair in enumerate(zip(*map(list, np.triu_indices(40, 1)), strict=True))}
    for line, (a, b) in zip(found.itertuples(), [(0, 5), (3, 9)], strict=True):
        others = [i for i in range(40) if i != a]
        assert line.cosine == pytest.approx(cosine[a, b]) and line.n == 39 and line.n_all == 780
        assert line.rank == stats.rankdata(-cosine[a, others])[others.index(b)]
        assert line.rank_all == every[place[a, b]]
    assert found["rank"][0] % 1 == 0.5


def test_pairs_as_they_are_written():
    assert parse_pairs(["IL2-IL3", ["HLA-A", "CD74"]]) == (("IL2", "IL3"), ("HLA-A", "CD74"))
    for wrong in ("HLA-A-CD74", "IL2", "IL2-IL2", ["A", "B", "C"]):
        with pytest.raises(InputError, match="no pair of two genes"):
            parse_pairs([wrong])
