"""What an overlap is worth: draws of as many genes, at random and of like expression."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from tasks.gene_influence.draws import Chance, deciles, matched_draws, random_draws
from tasks.gene_influence.influenced import Influenced

N = 400


def made(target, influence, expression):
    names = np.array(["P", *(f"G{i}" for i in range(N - 1))])
    return Influenced.of("P", 9, names, influence, expression, set(names[target].tolist()))


def test_targets_that_are_only_highly_expressed_are_told_by_matched_draws():
    """Half of the highly expressed genes are targets, no others are, and the influenced genes are highly expressed."""
    rng = np.random.default_rng(0)
    expression = rng.gamma(0.5, 2.0, N)
    high = expression >= np.quantile(expression, 0.9)
    target = high & (rng.random(N) < 0.5)
    influence = np.where(high, 1.0, 0.0) + rng.random(N)
    influence[0] = np.nan  # the perturbed gene itself
    found = made(target, influence, expression).overlap(20, 1000, 0)
    assert found.observed >= 7 and found.random.p < 0.01 and found.observed > found.random.high
    assert found.matched.p > 0.2 and found.matched.low <= found.observed <= found.matched.high
    assert found.lift == pytest.approx(1, abs=0.4) and found.precision == found.observed / 20
    # The same overlap by influence that knows the targets is beyond both.
    known = made(target, np.where(target, 2.0, 0.0) + influence, expression).overlap(20, 1000, 0)
    assert known.matched.p < 0.01 and known.lift > 1.5


def test_draws_are_those_of_different_genes():
    rng = np.random.default_rng(1)
    expression, target = rng.random(N), rng.random(N) < 0.2
    chosen = rng.permutation(N)[:20]
    draws = random_draws(target, 20, 20_000, rng)
    exact = hypergeom(N, target.sum(), 20)
    assert draws.mean() == pytest.approx(exact.mean(), abs=0.05) and draws.std() == pytest.approx(exact.std(), rel=0.03)
    # One by one: for every chosen gene another one of its decile.
    decile, plain = deciles(expression), []
    for _ in range(1_000):
        drawn = [
            rng.choice(np.flatnonzero(decile == each), (decile[chosen] == each).sum(), replace=False)
            for each in range(10)
        ]
        plain.append(target[np.concatenate(drawn)].sum())
    matched = matched_draws(chosen, target, expression, 20_000, rng)
    assert matched.mean() == pytest.approx(np.mean(plain), abs=0.15)
    assert matched.std() == pytest.approx(np.std(plain), rel=0.08)
    assert np.bincount(decile).tolist() == [40] * 10 and expression[decile == 9].min() > expression[decile == 8].max()


def test_p_and_range():
    found = Chance.of(3, np.array([0, 1, 2, 3, 4] * 200))
    assert found.p == (1 + 400) / 1001 and found.mean == 2 and (found.low, found.high) == (0, 4)
    assert Chance.of(9, np.zeros(1000, int)).p == 1 / 1001


def test_seeds_ties_and_what_takes_part():
    influence = np.zeros(N)
    influence[[3, 4]] = np.nan
    expression, target = np.arange(N, dtype=float), np.arange(N) % 3 == 0
    found = made(target, influence, expression)
    assert len(found.names) == N - 3 and "P" not in found.names and "G2" not in found.names
    assert found.names[found.top(3)].tolist() == ["G0", "G1", "G4"]  # equals in their order
    one, same, other = (found.overlap(20, 500, seed) for seed in (0, 0, 1))
    assert one == same and one.random != other.random
    names = np.array(["P", "A", "B", "A"])
    twice = Influenced.of("P", 1, names, np.array([1.0, np.nan, 3, 4]), np.arange(4.0), {"A"})
    assert (
        twice.names.tolist() == ["B", "A"] and twice.expression.tolist() == [2, 3] and twice.target.tolist() == [0, 1]
    )
    none = made(np.arange(N) == 399, -np.arange(N, dtype=float), expression).overlap(20, 50, 0)
    assert none.observed == 0 and np.isnan(none.lift)  # no gene of like expression is a target
