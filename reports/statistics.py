"""Intervals and tests of paired scores. Pure functions on arrays; nothing here knows a record or a model.

A *cell* is one score of one model: a data set, a split, a unit (class, batch, perturbation) and a seed. The cells
form a tree: `levels` (n_cells, depth), whole numbers, names the node of each cell at each level, the outermost first
and the seed last. The *blocks* are the nodes of the outermost level that has more than one: they are what was
sampled, and their number decides what can be said. Where the seeds alone are left they give Student's t and nothing
else: repeats on the same cells are no independent evidence, so that nothing is resampled and nothing is tested.
Folds of repeated draws from the same units are widened, see `overlapping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reports.paired_tests import SAME, corrected_t, paired_test

Array = NDArray[np.float64]

LEVEL = 0.95
DRAWS = 10_000
#: With five pairs the smallest two-sided p of an exact test is 2 / 2**5 = 0.0625: below six nothing is told apart.
FEWEST = 6
_SEED = 20_240_229
_MOST_WEIGHTS = 20_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval. `low`, `high` None: there is none (one block, or seeds that change nothing)."""

    estimate: float
    low: float | None
    high: float | None
    n_blocks: int


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference of two columns; `p` None where no test was made."""

    p: float | None = None
    test: str = ""

    @property
    def tied(self) -> bool | None:
        """Whether the interval contains 0. None: there is no interval, or one that excludes 0 on too few blocks."""
        if abs(self.estimate) <= SAME and self.low is None:
            return True
        if self.low is None or self.high is None:
            return None
        if self.low <= SAME and self.high >= -SAME:
            return True
        return None if self.n_blocks < FEWEST else False


def blocks(levels: NDArray) -> tuple[NDArray, int]:
    """The tree without the levels above its first branching, and the number of blocks there."""
    while levels.shape[1] > 1 and len(np.unique(levels[:, 0])) == 1:
        levels = levels[:, 1:]
    return levels, len(np.unique(levels[:, 0]))


def equal_weights(levels: NDArray) -> Array:
    """Weight of each cell (n_cells,) in the mean of the means of its levels; they sum to 1."""
    return _weights(levels, None)[0]


def resampled_weights(levels: NDArray, draws: int = DRAWS, seed: int = _SEED) -> Array:
    """Weights (draws, n_cells) of a hierarchical bootstrap: nodes are drawn with replacement, then nodes within each.

    Davison & Hinkley (1997), section 3.8: resampling with replacement at every level. A node that
    is drawn c times draws c times its s children, so that their counts are multinomial(c s), and no draw is looped
    over. Draws are fewer than asked where the table would pass 160 MB.
    """
    draws = max(1, min(draws, _MOST_WEIGHTS // max(1, len(levels))))
    _, codes = np.unique(levels, return_inverse=True)
    key = np.ascontiguousarray(codes.reshape(levels.shape), dtype=np.int64)  # whatever the nodes are called
    return _resampled(key.tobytes(), levels.shape, draws, seed)


@lru_cache(maxsize=4)
def _resampled(key: bytes, shape: tuple[int, int], draws: int, seed: int) -> Array:
    levels = np.frombuffer(key, dtype=np.int64).reshape(shape)
    return _weights(levels, np.random.default_rng(seed), draws)


def _weights(levels: NDArray, rng: np.random.Generator | None, draws: int = 1) -> Array:
    found = np.zeros((len(levels), draws))  # a row per cell: the tree is walked node by node

    def descend(rows: NDArray, depth: int, counts: NDArray, share: float) -> None:
        if depth == levels.shape[1]:
            found[rows] = counts * share / len(rows)
            return
        nodes, member = np.unique(levels[rows, depth], return_inverse=True)
        n = len(nodes)
        if rng is None or n == 1:
            drawn = np.broadcast_to(counts, (n, draws))
        elif (counts == 1).all():  # the blocks: the same, and much faster where they are many
            chosen = draws * rng.integers(n, size=(draws, n)) + np.arange(draws)[:, None]
            drawn = np.bincount(chosen.ravel(), minlength=draws * n).reshape(n, draws)
        else:
            drawn = rng.multinomial(counts * n, np.full(n, 1 / n)).T
        for node in range(n):
            descend(rows[member == node], depth + 1, drawn[node], share / n)

    descend(np.arange(len(levels)), 0, np.ones(draws, dtype=np.int64), 1.0)
    return found.T


def block_means(values: Array, levels: NDArray) -> Array:
    """Mean of each block (n_blocks, ...), of the equally weighted means of its inner levels."""
    levels, _ = blocks(levels)
    weights = equal_weights(levels)
    names, member = np.unique(levels[:, 0], return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, member, (values.T * weights).T)
    return sums * len(names)


def overlapping(levels: NDArray, ratio: float) -> float:
    """By how much folds of repeated draws from the same units widen an interval: sqrt(1 + n ratio).

    Folds of several draws share training units and tested ones, so that their mean varies by s² (1 / n + ratio) and not
    by s² / n (Nadeau & Bengio 2003; for repeated k-fold cross-validation Bouckaert & Frank 2004). 1 where blocks are
    something else than such folds, for data sets are independent.

    Parameters
    ----------
    levels
        A tree that `blocks` has cut: (fold, seed).
    ratio
        Tested units by training units of a fold; 0 for units that share nothing.
    """
    return float(np.sqrt(1 + len(np.unique(levels[:, 0])) * ratio)) if ratio and levels.shape[1] == 2 else 1.0


def mean_interval(values: Array, levels: NDArray, *, level: float = LEVEL, ratio: float = 0.0) -> Interval:
    """Mean of the cells of one model (n_cells,) with its interval.

    Hierarchical bootstrap, expanded percentile interval: the percentiles are those at which a normal interval with
    the plug-in standard error equals Student's (Hesterberg 2015, "What teachers should know about the
    bootstrap"), so that it is not too short with few blocks. It stays within the range of the scores.
    Student's t where the seeds alone are left. `ratio`: see `overlapping`.
    """
    from scipy.stats import norm

    levels, n = blocks(levels)
    if levels.shape[1] == 1:
        return _student(values, level)
    estimate = float(equal_weights(levels) @ values)
    tail = norm.cdf(-np.sqrt(n / (n - 1)) * _quantile(level, n))
    ends = np.quantile(resampled_weights(levels) @ values, [tail, 1 - tail])
    low, high = estimate + (ends - estimate) * overlapping(levels, ratio)
    return Interval(estimate, float(low), float(high), n)


def _student(values: Array, level: float) -> Interval:
    """Student's t interval of a mean (Student 1908); none for values that are all the same."""
    n, estimate = len(values), float(np.mean(values))
    if n < 2 or np.ptp(values) <= SAME:
        return Interval(estimate, None, None, n)
    half = float(_quantile(level, n) * np.std(values, ddof=1) / np.sqrt(n))
    return Interval(estimate, estimate - half, estimate + half, n)


def jackknife(estimate: float, left_out: Array, *, level: float = LEVEL) -> Interval:
    """Interval of a number that is made of all blocks together, from its values (n,) with one block left out each.

    Standard error of the jackknife and Student's quantile with n - 1 degrees of freedom (Tukey 1958; Efron & Tibshirani
    1993, chapter 11). None below two blocks, or where no block changes it.
    """
    n = len(left_out)
    if n < 2 or np.ptp(left_out) <= SAME:
        return Interval(estimate, None, None, n)
    half = float(_quantile(level, n) * np.sqrt((n - 1) * np.var(left_out)))
    return Interval(estimate, estimate - half, estimate + half, n)


def every_pair(n_models: int, level: float = LEVEL) -> float:
    """Level of each interval such that those of all pairs of `n_models` hold together with probability `level`.

    The tail beyond Tukey's studentised range with known variance (Tukey 1953). Every pair keeps a standard error and
    degrees of freedom of its own, as in Games & Howell (1976), whose quantile is a little shorter than Student's
    at this level. Two models: `level` itself.
    """
    return level if n_models < 3 else 1 - 2 * _tukey_tail(n_models, level)


@lru_cache
def _tukey_tail(n_models: int, level: float) -> float:
    from scipy.stats import norm, studentized_range

    return float(norm.sf(studentized_range.ppf(level, n_models, np.inf) / np.sqrt(2)))


def bonferroni(n_pairs: int, level: float = LEVEL) -> float:
    """Level of each of `n_pairs` intervals such that all hold together with probability `level` or more."""
    return 1 - (1 - level) / max(1, n_pairs)


def differences(
    values: Array, levels: NDArray, pairs: list[tuple[int, int]], *, level: float = LEVEL, ratio: float = 0.0
) -> list[Difference | None]:
    """Paired differences with their intervals and tests.

    Hierarchical bootstrap t interval: d +- t s with the standard error s of the bootstrap, corrected for the plug-in
    by sqrt(n / (n - 1)), and Student's quantile with n - 1 degrees of freedom for the n blocks
    (Hesterberg 2015). Both models are drawn by the same draws, so that what units have in common drops out.

    Parameters
    ----------
    values
        Scores (n_cells, n_models); NaN where a model has none. A pair uses the cells that both have.
    levels
        Tree of the cells (n_cells, depth).
    pairs
        Columns (a, b); the difference is a - b.
    level
        Of each interval. The best of a board is chosen after looking: use `every_pair` there.
    ratio
        See `overlapping`. Where it widens, the test is the corrected resampled t test (Nadeau & Bengio 2003).

    Returns
    -------
    list
        In the order of `pairs`; None for a pair without a common cell. Where the seeds alone are left: Student's
        paired t, and no test.
    """
    found: list[Difference | None] = [None] * len(pairs)
    for mask, members in _by_cells(values, pairs):
        delta = np.stack([values[mask, a] - values[mask, b] for a, b in (pairs[i] for i in members)], axis=1)
        tree, n = blocks(levels[mask])
        if tree.shape[1] == 1:
            for i, each in zip(members, delta.T, strict=True):
                found[i] = Difference(**vars(_student(each, level)))
            continue
        centre = equal_weights(tree) @ delta
        error = (resampled_weights(tree) @ delta).std(axis=0) * np.sqrt(n / (n - 1)) * overlapping(tree, ratio)
        half = _quantile(level, n) * error
        if overlapping(tree, ratio) > 1:
            p, test = corrected_t(centre, error, n), "corrected resampled t"
        else:
            p, test = paired_test(block_means(delta, tree))
        for j, i in enumerate(members):
            low, high = float(centre[j] - half[j]), float(centre[j] + half[j])
            found[i] = Difference(float(centre[j]), low, high, n, float(p[j]), test)
    return found


def _quantile(level: float, n: int) -> float:
    from scipy.stats import t

    return float(t.isf((1 - level) / 2, n - 1))


def _by_cells(values: Array, pairs: list[tuple[int, int]]) -> list[tuple[NDArray, list[int]]]:
    """Pairs that share the same cells, so that they share their draws."""
    there = np.isfinite(values)
    groups: dict[bytes, tuple[NDArray, list[int]]] = {}
    for i, (a, b) in enumerate(pairs):
        mask = there[:, a] & there[:, b]
        if mask.any():
            groups.setdefault(mask.tobytes(), (mask, []))[1].append(i)
    return list(groups.values())


def mean_ranks(
    values: Array, levels: NDArray, *, higher_is_better: bool = True, ratio: float = 0.0
) -> list[Interval] | None:
    """Mean rank of each column (n_cells, n_models) over the blocks, 1 the best, with its bootstrap interval.

    Blocks are ranked one by one, ties share the mean of their ranks (Friedman 1937; Demšar 2006). Cells that any
    model lacks are left out, for ranks of fewer models are not ranks of all. None when no cell is left; no interval
    where the seeds alone are left.
    """
    from scipy.stats import rankdata

    mask = np.isfinite(values).all(axis=1)
    if not mask.any():
        return None
    by_block = block_means(values[mask], levels[mask])
    by_block = np.round(-by_block if higher_is_better else by_block, 12)
    ranks = rankdata(by_block, axis=1)
    if blocks(levels[mask])[0].shape[1] == 1:
        return [Interval(float(column.mean()), None, None, len(ranks)) for column in ranks.T]
    if overlapping(blocks(levels[mask])[0], ratio) == 1:
        ratio = 0.0
    flat = np.stack([np.arange(len(ranks)), np.zeros(len(ranks), dtype=int)], axis=1)
    return [_within(mean_interval(column, flat, ratio=ratio), 1.0, ranks.shape[1]) for column in ranks.T]


def _within(interval: Interval, least: float, most: float) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return Interval(interval.estimate, max(interval.low, least), min(interval.high, most), interval.n_blocks)
