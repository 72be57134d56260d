"""The statistics against scipy, statsmodels, plain loops, and boards whose truth is known."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reports.paired_tests import holm, paired_test, sign_flip
from reports.statistics import (
    Difference,
    bonferroni,
    differences,
    equal_weights,
    every_pair,
    jackknife,
    mean_interval,
    mean_ranks,
    resampled_weights,
)


def grid(units: int, seeds: int = 1) -> np.ndarray:
    """One data set, one split, units, seeds."""
    return np.array([(0, 0, u, s) for u, s in product(range(units), range(seeds))])


def all_pairs(k: int) -> list[tuple[int, int]]:
    return list(combinations(range(k), 2))


# ---- tests and corrections


@pytest.mark.parametrize("n", [15, 40])
def test_many_blocks_are_tested_by_wilcoxon(n: int) -> None:
    values = np.random.default_rng(n).normal(0.2, 1, (n, 3))
    values[:2, 0] = 0.0
    p, test = paired_test(values)
    assert test == "Wilcoxon signed-rank"
    np.testing.assert_allclose(p, [stats.wilcoxon(column).pvalue for column in values.T], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_sign_flips_are_scipys_exact_permutation(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 1, (n, 2))
    flips = np.array([np.abs(np.dot(signs, values)) for signs in product((1, -1), repeat=n)])
    loop = (flips >= np.abs(values.sum(axis=0)) - 1e-12).mean(axis=0)
    np.testing.assert_allclose(sign_flip(values), loop)
    if n > 1:
        exact = stats.permutation_test(
            (values[:, 0],), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
        )
        assert sign_flip(values)[0] == pytest.approx(exact.pvalue)


def test_five_pairs_can_never_reach_five_per_cent() -> None:
    assert sign_flip(np.ones((5, 1)))[0] == 0.0625
    assert sign_flip(np.ones((6, 1)))[0] < 0.05


def test_no_difference_has_p_one() -> None:
    for n in (8, 30):
        assert paired_test(np.zeros((n, 1)))[0][0] == 1.0


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        p = rng.random(n) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    with_gap = holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap[[0, 2]], [0.02, 0.04])
    assert np.isnan(with_gap[1])
    assert len(holm(np.array([]))) == 0


# ---- bootstrap


def loop_bootstrap(cells: dict[tuple, float], draws: int, rng: np.random.Generator) -> np.ndarray:
    """A hierarchical bootstrap as one would write it down: node by node, draw by draw."""

    def draw(prefix: tuple, depth: int) -> float:
        children = sorted({key[depth] for key in cells if key[:depth] == prefix})
        chosen = rng.choice(len(children), len(children))
        below = [(*prefix, children[i]) for i in chosen]
        return float(np.mean([cells[key] if depth == 3 else draw(key, depth + 1) for key in below]))

    return np.array([draw((), 0) for _ in range(draws)])


def test_bootstrap_is_the_loop_over_an_uneven_tree() -> None:
    rng = np.random.default_rng(3)
    keys = [(d, s, u, r) for d in range(3) for s in range(1 + d % 2) for u in range(3 + s) for r in range(1 + u % 3)]
    cells = {key: float(rng.normal(key[0] + 0.3 * key[2], 1)) for key in keys}
    levels, values = np.array(keys), np.array(list(cells.values()))
    ours = resampled_weights(levels) @ values
    loop = loop_bootstrap(cells, 4000, rng)
    assert ours.mean() == pytest.approx(loop.mean(), abs=4 * loop.std() / np.sqrt(4000))
    assert ours.std() == pytest.approx(loop.std(), rel=0.06)
    np.testing.assert_allclose(np.quantile(ours, [0.05, 0.5, 0.95]), np.quantile(loop, [0.05, 0.5, 0.95]), atol=0.06)
    np.testing.assert_allclose(resampled_weights(levels).sum(axis=1), 1.0)
    assert equal_weights(levels) @ values == pytest.approx(ours.mean(), abs=0.03)


def test_all_resamples_of_three_units() -> None:
    values = np.array([0.1, 0.4, 0.9])
    exact = np.sort([np.mean(values[list(i)]) for i in product(range(3), repeat=3)])
    ours = resampled_weights(grid(3)) @ values
    assert set(np.round(ours, 12)) == set(np.round(exact, 12))
    assert ours.std() == pytest.approx(exact.std(), rel=0.02)


def test_equal_weights_are_means_of_means() -> None:
    levels = np.array([(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (1, 0, 0, 0)])
    np.testing.assert_allclose(equal_weights(levels), [1 / 8, 1 / 8, 1 / 4, 1 / 2])


def test_draws_are_the_same_every_time_and_many_cells_take_fewer() -> None:
    values = np.random.default_rng(0).random(20)
    assert mean_interval(values, grid(20)) == mean_interval(values, grid(20))
    assert resampled_weights(grid(5)).shape == (10_000, 5)
    assert len(resampled_weights(grid(4000))) == 5_000


def test_interval_of_a_mean_covers_it() -> None:
    rng = np.random.default_rng(5)
    hits = [(i := mean_interval(rng.beta(4, 2, 10), grid(10))).low <= 2 / 3 <= i.high for _ in range(300)]
    assert 0.91 <= np.mean(hits) <= 0.99
    inside = mean_interval(np.array([0.0, 0.0, 0.0, 1.0]), grid(4))
    assert 0 <= inside.low <= inside.high <= 1


# ---- seeds alone


def test_seeds_alone_are_students_t_and_no_test() -> None:
    a, b = np.array([0.5, 0.6, 0.7, 0.55]), np.array([0.4, 0.45, 0.65, 0.5])
    found = mean_interval(a, grid(1, 4))
    expected = stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    (pair,) = differences(np.stack([a, b], axis=1), grid(1, 4), [(0, 1)])
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high))
    assert (pair.p, pair.test, pair.n_blocks) == (None, "", 4)
    assert pair.tied is None  # it excludes 0, on too few


def test_seeds_that_change_nothing_have_no_interval() -> None:
    assert mean_interval(np.full(3, 0.7), grid(1, 3)).low is None
    (pair,) = differences(np.array([[0.7, 0.6]] * 8), grid(1, 8), [(0, 1)])
    assert (pair.low, pair.tied) == (None, None)
    (pair,) = differences(np.array([[0.7, 0.7]] * 8), grid(1, 8), [(0, 1)])
    assert pair.tied is True


def test_one_cell_says_nothing() -> None:
    assert mean_interval(np.array([0.5]), grid(1)).low is None
    (pair,) = differences(np.array([[0.5, 0.4]]), grid(1), [(0, 1)])
    assert (pair.low, pair.tied, pair.n_blocks) == (None, None, 1)


# ---- differences


def test_two_rows_with_one_seed_are_near_students_paired_t() -> None:
    values = np.random.default_rng(2).normal(0, 1, (12, 2))
    (pair,) = differences(values, grid(12), [(0, 1)])
    expected = stats.ttest_rel(values[:, 0], values[:, 1]).confidence_interval(0.95)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_missing_is_missing() -> None:
    values = np.random.default_rng(2).normal(0, 1, (12, 3))
    values[3, 1] = values[5, 2] = np.nan
    found = differences(values, grid(12), all_pairs(3))
    assert [pair.n_blocks for pair in found] == [11, 11, 10]
    kept = np.delete(values[:, :2], 3, axis=0)
    (alone,) = differences(kept, np.delete(grid(12), 3, axis=0), [(0, 1)])
    assert found[0] == alone
    values[:, 2] = np.nan
    assert differences(values, grid(12), all_pairs(3))[1] is None


def test_what_units_share_drops_out() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 10, (12, 1))
    values = hard + np.array([0.5, 0.0]) + rng.normal(0, 0.1, (12, 2))
    (pair,) = differences(values, grid(12), [(0, 1)])
    assert pair.tied is False
    assert pair.high - pair.low < 0.3


def test_ties_everywhere() -> None:
    found = differences(np.full((12, 4), 0.3), grid(12), all_pairs(4), level=every_pair(4))
    assert all(pair.tied and pair.p == 1.0 and pair.low == pair.high == 0.0 for pair in found)


def test_more_rows_need_wider_intervals() -> None:
    assert every_pair(1) == every_pair(2) == 0.95
    levels = [every_pair(k) for k in (2, 3, 8, 20)]
    assert levels == sorted(levels)
    for k in (3, 8, 20):  # never wider than Bonferroni over the pairs
        assert every_pair(k) < bonferroni(k * (k - 1) // 2)


def test_few_data_sets_say_nothing_of_others() -> None:
    levels = np.array([(d, 0, u, 0) for d in range(2) for u in range(30)])
    values = np.random.default_rng(0).normal(0, 0.01, (60, 2)) + np.array([0.5, 0.0])
    (pair,) = differences(values, levels, [(0, 1)])
    assert pair.n_blocks == 2
    assert pair.tied is not False


# ---- boards whose truth is known


def crowned(values: np.ndarray, levels: np.ndarray) -> bool:
    """Whether any row is told from the best of the board."""
    k = values.shape[1]
    best = int(np.argmax(values.mean(axis=0)))
    pairs = [(best, other) for other in range(k) if other != best]
    return any(pair.tied is False for pair in differences(values, levels, pairs, level=every_pair(k)))


@pytest.mark.parametrize(("k", "units", "seeds"), [(2, 12, 1), (8, 12, 1), (8, 10, 3), (13, 6, 1), (6, 30, 1)])
def test_boards_of_equal_models_seldom_crown_one(k: int, units: int, seeds: int) -> None:
    rng = np.random.default_rng(k * units)
    n = 200
    hits = 0
    for _ in range(n):
        unit = rng.normal(0, 2, (units, 1, 1)) + rng.normal(0, 1, (units, 1, k))
        values = (unit + rng.normal(0, 0.5, (units, seeds, k))).reshape(-1, k)
        hits += crowned(values, grid(units, seeds))
    assert hits / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize(("k", "seeds"), [(2, 1), (8, 1), (8, 3)])
def test_two_standard_deviations_over_twelve_units_are_found(k: int, seeds: int) -> None:
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(100):
        values = rng.normal(0, 1, (12, k))
        values[:, 0] += 2 * np.sqrt(2)  # the paired differences have the standard deviation sqrt(2)
        told = differences(np.repeat(values, seeds, axis=0), grid(12, seeds), [(0, 1)], level=every_pair(k))
        found += told[0].tied is False and told[0].estimate > 0
    assert found > 80


# ---- ranks


def test_mean_ranks_share_ties_and_skip_what_is_missing() -> None:
    values = np.array([[0.9, 0.5, 0.5], [0.8, 0.9, 0.1], [0.7, 0.6, np.nan]])
    found = mean_ranks(values, grid(3))
    assert [rank.estimate for rank in found] == pytest.approx([1.5, 1.75, 2.75])
    down = mean_ranks(values, grid(3), higher_is_better=False)
    assert [rank.estimate for rank in down] == pytest.approx([2.5, 2.25, 1.25])
    assert mean_ranks(np.full((2, 2), np.nan), grid(2)) is None
    seeds = mean_ranks(np.array([[0.9, 0.5], [0.9, 0.4]]), grid(1, 2))
    assert [(rank.estimate, rank.low) for rank in seeds] == [(1.0, None), (2.0, None)]


def test_a_difference_that_touches_zero_is_a_tie() -> None:
    assert Difference(0.1, 0.0, 0.2, 12).tied is True
    assert Difference(0.1, 1e-6, 0.2, 12).tied is False
    assert Difference(0.1, 1e-6, 0.2, 5).tied is None
    assert Difference(0.1, None, None, 1).tied is None


# ---- numbers that are made of all blocks together


def test_jackknife_of_a_mean_is_students_t() -> None:
    values = np.random.default_rng(3).normal(0.6, 0.1, 7)
    left_out = np.array([np.delete(values, i).mean() for i in range(7)])
    found = jackknife(values.mean(), left_out)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert (found.low, found.high, found.n_blocks) == (pytest.approx(low), pytest.approx(high), 7)


def test_jackknife_of_a_ratio_covers_it() -> None:
    """F1 over eight donors that differ: the interval holds the number of many donors about as often as it says."""
    rng = np.random.default_rng(5)

    def donors(n: int) -> np.ndarray:
        rate = rng.beta(12, 4, n)
        size = rng.integers(20, 60, n)
        hits = rng.binomial(size, rate)
        return np.stack([hits, size, hits + rng.binomial(size, 0.1)], axis=1)

    def f1(counts: np.ndarray) -> float:
        hits, true, called = counts.sum(axis=0)
        return 2 * hits / (true + called)

    truth, inside = f1(donors(40_000)), 0
    for _ in range(400):
        sample = donors(8)
        found = jackknife(f1(sample), np.array([f1(np.delete(sample, i, axis=0)) for i in range(8)]))
        inside += found.low <= truth <= found.high
    assert 0.90 < inside / 400 < 0.99


@pytest.mark.parametrize("left_out", [[], [0.5], [0.5, 0.5, 0.5]])
def test_jackknife_of_nothing_has_no_interval(left_out: list[float]) -> None:
    found = jackknife(0.5, np.array(left_out))
    assert (found.estimate, found.low, found.high) == (0.5, None, None)


def test_folds_of_repeated_draws_are_widened_by_what_they_share() -> None:
    """Nadeau and Bengio: the variance of the mean is s² (1 / n + ratio), and the test is Student's with n - 1."""
    rng = np.random.default_rng(5)
    values = rng.normal(0.1, 1, (25, 2))
    levels = grid(25)
    delta = values[:, 0] - values[:, 1]
    error = np.std(delta, ddof=1) * np.sqrt(1 / 25 + 1 / 4)
    [found] = differences(values, levels, [(0, 1)], ratio=1 / 4)
    assert found is not None and found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.isf(0.025, 24) * error, rel=0.03)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(delta.mean()) / error, 24), abs=0.03)
    assert found.test == "corrected resampled t"
    plain, wide = mean_interval(values[:, 0], levels), mean_interval(values[:, 0], levels, ratio=1 / 4)
    assert wide.high - wide.low == pytest.approx((plain.high - plain.low) * np.sqrt(1 + 25 / 4), rel=1e-9)


def test_data_sets_are_independent_whatever_their_folds_share() -> None:
    levels = np.array([(d, 0, u, 0) for d, u in product(range(8), range(10))])
    values = np.random.default_rng(6).normal(size=(80, 2))
    assert differences(values, levels, [(0, 1)], ratio=1 / 4) == differences(values, levels, [(0, 1)])
    assert mean_interval(values[:, 0], levels, ratio=1 / 4) == mean_interval(values[:, 0], levels)


def test_ranks_of_repeated_draws_stay_within_the_models() -> None:
    values = np.random.default_rng(7).normal(size=(25, 3))
    for rank in mean_ranks(values, grid(25), ratio=1 / 4) or []:
        assert 1 <= rank.low <= rank.estimate <= rank.high <= 3
