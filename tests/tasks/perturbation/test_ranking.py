"""Reverse search: ranks as recorded, ties as chances."""

import gzip
import json

import numpy as np
import pytest

from tasks.perturbation.ranking import rank_candidates, relevant
from tasks.perturbation.reverse import _densest
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/perturbation"


@pytest.fixture(scope="module")
def case():
    arrays = np.load(GOLDEN / "metrics_perturb.npz")
    with gzip.open(GOLDEN / "metrics_perturb.json.gz", "rt") as stream:
        recorded = json.load(stream)["reverse"]
    candidates, queries = arrays["reverse/candidates"].tolist(), arrays["reverse/queries"].tolist()
    truth = np.array([candidates.index(query) for query in queries])
    ranking = rank_candidates(arrays["reverse/query_profiles"], arrays["reverse/candidate_profiles"], truth)
    return ranking, queries, candidates, recorded


def test_order_is_as_recorded(case):
    ranking, queries, candidates, recorded = case
    shares = relevant(ranking, [tuple(q.split("+")) for q in queries], [tuple(c.split("+")) for c in candidates], 5)
    places = []
    for i, query in enumerate(queries):
        own = recorded["per_query"][query]
        assert [candidates[at] for at in ranking.order[i][:10]] == own["top10"]
        places.append(ranking.order[i].tolist().index(candidates.index(query)) + 1)
        assert places[-1] == own["rank_of_truth"]
        assert shares[i] == pytest.approx(own["relevant_fraction_top5"])
    for k, rate in recorded["hit_rate"].items():  # recorded with ties in the order of listing
        assert np.mean(np.array(places) <= int(k)) == pytest.approx(rate)


def test_the_rate_lies_between_that_of_the_best_and_of_the_worst_order_of_ties(case):
    ranking, *_ = case
    for k in (1, 3, 5, 10):
        best, worst = ranking.nearer + 1 <= k, ranking.nearer + ranking.tied <= k
        assert worst.mean() <= ranking.hits(k).mean() <= best.mean()


def test_equal_candidates_share_the_chance():
    found = rank_candidates(np.zeros((1, 3)), np.zeros((10, 3)), np.array([4]))
    assert found.rank[0] == 5.5
    assert [float(found.hits(k)[0]) for k in (1, 5, 10)] == pytest.approx([0.1, 0.5, 1.0])


def test_masked_genes_are_not_compared():
    queries, candidates = np.array([[0.0, 5.0]]), np.array([[0.0, 0.0], [1.0, 5.0]])
    assert rank_candidates(queries, candidates, np.array([1])).rank[0] == 1
    assert rank_candidates(queries, candidates, np.array([1]), np.array([True, False])).rank[0] == 2


def test_the_space_holds_as_many_measured_conditions_as_can_be():
    conditions = [("A",), ("B",), ("C",), ("D",), ("A", "B"), ("B", "C"), ("A", "C"), ("D", "E")]
    assert _densest(conditions, 3) == ["A", "B", "C"]
