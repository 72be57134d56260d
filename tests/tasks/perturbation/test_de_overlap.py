"""DE genes found: as recorded from cell-eval; the form without predicted tests is at chance where nothing is said."""

import numpy as np
import pytest

from tasks.perturbation.de_overlap import (
    DeTable,
    de_auprc,
    de_overlap,
    direction_match,
    overlap_at,
    pr_auc,
    precision_at,
    recall,
    roc_auc,
    spearman_counts,
    spearman_lfc,
)
from tests.tasks.perturbation.recorded import arrays, as_array, numbers, same

PREDICTORS = sorted(numbers()["cell_eval"])


def tables(name):
    given = arrays()
    return tuple(
        DeTable(given[f"cell_eval/de_{kind}_lfc{suffix}"], given[f"cell_eval/de_{kind}_fdr{suffix}"])
        for kind, suffix in (("real", ""), ("pred", f"/{name}"))
    )


@pytest.mark.parametrize("name", PREDICTORS)
def test_two_tables_are_compared_as_in_cell_eval(name):
    true, predicted = tables(name)
    recorded, targets = numbers()["cell_eval"][name], arrays()["cell_eval/targets"].tolist()
    for metric, found in {
        "de_direction_match": direction_match(true, predicted),
        "de_spearman_lfc_sig": spearman_lfc(true, predicted),
        "de_sig_genes_recall": recall(true, predicted),
        "pr_auc": pr_auc(true, predicted),
        "roc_auc": roc_auc(true, predicted),
    }.items():
        # cell-eval leaves a perturbation without DE genes out of some tables; here it is NaN.
        same(found, as_array(dict.fromkeys(targets) | recorded[metric], targets))
    same(spearman_counts(true, predicted), as_array({"": recorded["de_spearman_sig"]}, [""])[0])


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(("suffix", "k"), [("N", None), ("10", 10), ("50", 50)])
def test_overlap_and_precision_are_cell_evals(name, suffix, k):
    true, predicted = tables(name)
    recorded, targets = numbers()["cell_eval"][name], arrays()["cell_eval/targets"].tolist()
    shared, of_calls = overlap_at(true, predicted, k), precision_at(true, predicted, k)
    # Undefined is NaN here and 0 there: the share of no true gene, and of no call.
    assert (np.isnan(shared) == ~true.significant.any(axis=1)).all()
    assert (np.isnan(of_calls) == ~predicted.significant.any(axis=1)).all()
    same(np.nan_to_num(shared), as_array(recorded[f"overlap_at_{suffix}"], targets))
    same(np.nan_to_num(of_calls), as_array(recorded[f"precision_at_{suffix}"], targets))


def test_no_true_de_gene_is_undefined():
    true = DeTable(np.ones((1, 3)), np.ones((1, 3)))
    called = DeTable(np.ones((1, 3)), np.zeros((1, 3)))
    for metric in (overlap_at, direction_match, recall, spearman_lfc, pr_auc, roc_auc):
        assert np.isnan(metric(true, called)).all(), metric
    assert np.isnan(spearman_counts(true, called))
    assert np.isnan(precision_at(called, true)).all()
    assert precision_at(true, called).tolist() == [0]
    assert np.isnan(pr_auc(called, true)).all()  # all of them are


def test_nan_tests_are_not_significant():
    true = DeTable(np.array([[2.0, np.nan, 1.0]]), np.array([[0.01, np.nan, 0.01]]))
    assert [own.tolist() for own in true.ranked()] == [[0, 2]]
    assert overlap_at(true, true).tolist() == [1] and pr_auc(true, true).tolist() == [1]


def test_changes_are_ranked_by_size():
    change = np.array([[0.0, -3.0, 2.0, 0.5, 0.1]])
    assert de_overlap(change, [np.array([1, 2])]).tolist() == [1]
    assert de_overlap(change, [np.array([1, 3])]).tolist() == [0.5]
    assert de_auprc(change, [np.array([1, 2])]).tolist() == [1]
    assert de_auprc(change, [np.array([2])]).tolist() == [0.5]


def test_ties_are_at_chance():
    rng = np.random.default_rng(0)
    for nothing in (np.zeros((1, 20)), 1e-8 * rng.normal(size=(1, 20))):
        assert de_overlap(nothing, [np.arange(5)]) == pytest.approx(0.25)
        assert de_auprc(nothing, [np.arange(5)]) == pytest.approx(0.25)
    # Two of three tied genes fit in, and one of the tied is DE.
    assert de_overlap(np.array([[3.0, 1.0, 1.0, 1.0, 0.0]]), [np.array([0, 1, 4])]) == pytest.approx((1 + 2 / 3) / 3)


def test_overlap_is_the_mean_over_orders_of_tied_genes():
    change = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    de, rng, drawn = np.array([1, 2, 5]), np.random.default_rng(0), []
    for _ in range(2000):
        order = np.lexsort((rng.random(6), -change))
        drawn.append(len(np.intersect1d(order[:3], de)) / 3)
    assert de_overlap(change[None], [de])[0] == pytest.approx(np.mean(drawn), abs=0.02)


def test_undefined_without_de_genes_or_prediction():
    change = np.array([[1.0, 2.0], [1.0, 2.0], [np.nan, np.nan]])
    genes = [np.array([], int), np.array([0, 1]), np.array([0])]
    np.testing.assert_array_equal(de_overlap(change, genes), [np.nan, 1, np.nan])
    assert np.isnan(de_auprc(change, genes)).all()
