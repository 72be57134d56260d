"""Nearest treated cells, and entropic optimal transport."""

import sys
import warnings

import numpy as np
import pytest

from harness.errors import InputError
from harness.registry import MODELS
from tasks.drug_response.problem import Populations, Problem
from tasks.drug_response.transport import TOLERANCE, dual_potential
from tests.tasks.drug_response.autoencoder_case import made_problem

METHODS = ("nearest_neighbour", "entropic_ot")
#: Two types far apart, each with a shift of its own.
CENTRES = [[0, 0, 5, 5, 1, 1, 1, 1], [12, 12, 5, 5, 1, 1, 1, 1]]
SHIFTS = [[0, 0, 3, 0, 0, 0, 0, 0.0], [0, 0, 0, -2, 0, 0, 0, 0.0]]


@pytest.fixture(autouse=True)
def no_warnings():
    import ot  # noqa: F401  (what importing it warns of is not ours)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def method(name, **settings):
    return MODELS.get(name)(**settings)


@pytest.mark.parametrize("name", METHODS)
def test_a_planted_shift_is_recovered(name):
    shift = np.zeros(20)
    shift[:4] = [2.0, -1.5, 1.0, 2.5]
    problem = made_problem(shift, n=400, m=400, k=200)
    found = method(name).predict(problem)
    assert found.shape == problem.test.shape and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0) - problem.test.mean(axis=0), shift, atol=0.15)


@pytest.mark.parametrize("name", METHODS)
def test_where_nothing_was_done_nothing_is_invented(name):
    problem = made_problem(np.zeros(20), n=400, m=400, k=200)
    found = method(name).predict(problem)
    np.testing.assert_allclose(found.mean(axis=0), problem.test.mean(axis=0), atol=0.1)


def errors_by_type(name, problem):
    """Largest error of the mean change of each type's cells, in any gene."""
    changes = method(name).predict(problem) - problem.test
    return np.array([abs(changes[i::2].mean(axis=0) - shift).max() for i, shift in enumerate(SHIFTS)])


def test_each_type_of_cell_takes_its_own_shift():
    problem = made_problem(SHIFTS, n=300, m=240, centres=CENTRES, k=100)
    assert (errors_by_type("mean_shift", problem) > 0.9).all()  # which cannot tell them apart
    assert (errors_by_type("entropic_ot", problem) < 0.15).all()
    # Of the right treated cells, neighbours are those on the side of the mean shift.
    assert (errors_by_type("nearest_neighbour", problem) < 0.3 * errors_by_type("mean_shift", problem)).all()


def test_one_neighbour_is_a_measured_cell():
    problem = made_problem(np.ones(6))
    found = method("nearest_neighbour", neighbors=1).predict(problem)
    treated = {row.tobytes() for row in problem.train.treated}
    assert all(row.tobytes() in treated for row in found)


def test_as_many_neighbours_as_cells_is_the_treated_mean():
    problem = made_problem(np.ones(6), m=7)
    found = method("nearest_neighbour", neighbors=50).predict(problem)
    np.testing.assert_allclose(found, np.tile(problem.train.treated.mean(axis=0), (len(found), 1)), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("n", "m"), [(5, 1), (1, 1), (1, 5), (3, 2)])
def test_few_cells_and_constant_genes(name, n, m):
    problem = made_problem(np.full(30, 2.0), n=n, m=m)
    for cells in (problem.train.control, problem.train.treated, problem.test):
        cells[:, 10:] = 3
    found = method(name).predict(problem)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 10:], 3, rtol=1e-6)
    if m == 1:
        np.testing.assert_allclose(found, np.tile(problem.train.treated, (len(found), 1)), rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_cells_that_are_all_alike(name):
    ones = np.ones((4, 3), np.float32)
    problem = Problem("none", np.array(list("abc")), Populations(ones, ones), Populations(ones, ones), ones[:2])
    np.testing.assert_allclose(method(name).predict(problem), ones[:2], rtol=1e-6)


def test_training_cells_are_mapped_onto_the_treated_mean():
    """The map of the training cells has the marginals of the plan: on average it is the treated mean."""
    problem = made_problem(SHIFTS, n=120, m=90, centres=CENTRES)
    problem = Problem("made", problem.genes, problem.train, problem.val, problem.train.control)
    model = method("entropic_ot")
    found = model.predict(problem).mean(axis=0)
    np.testing.assert_allclose(found, problem.train.treated.mean(axis=0), atol=0.02)
    assert model.notes() == {}


def test_potential_makes_the_plan_by_softmax():
    rng = np.random.default_rng(0)
    cost = rng.random((12, 9))
    potential, off = dual_potential(cost, 0.1, 1000)
    weights = np.exp(potential - cost / 0.1)
    plan = weights / weights.sum(axis=1, keepdims=True) / 12
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 9, atol=TOLERANCE / 9**0.5)
    assert off <= TOLERANCE


def test_a_small_epsilon_is_the_assignment():
    """Cells on a line, in order: the optimal plan keeps the order, also where nearest neighbours would not."""
    control, treated = np.arange(6.0)[:, None], np.arange(6.0)[:, None] + 4
    both = Populations(control.astype(np.float32), treated.astype(np.float32))
    problem = Problem("line", np.array(["a"]), both, both, both.control)
    found = method("entropic_ot", epsilon=0.005, iterations=20_000).predict(problem)
    np.testing.assert_allclose(found, treated, atol=0.1)


def test_what_did_not_converge_is_said_without_a_warning():
    problem = made_problem(SHIFTS, n=60, m=50, centres=CENTRES)
    model = method("entropic_ot", epsilon=0.001, iterations=1)
    assert np.isfinite(model.predict(problem)).all()
    assert "not converged in 1 iterations" in model.notes()["Sinkhorn"]
    far = made_problem(1e4 * np.ones(3), n=30, m=30)  # potentials beyond what exp can hold
    far.train.control[0] += 1e6
    assert np.isfinite(method("entropic_ot", epsilon=1e-4, iterations=10).predict(far)).all()


def test_cells_are_drawn_by_the_seed():
    problem = made_problem(np.ones(6), n=50, m=40)
    model = method("entropic_ot", cells=20)
    first = model.predict(problem)
    assert model.notes()["cells transported"] == "20 control, 20 treated, drawn"
    assert np.array_equal(first, model.predict(problem))
    other = Problem("made", problem.genes, problem.train, problem.val, problem.test, seed=1)
    assert not np.array_equal(first, model.predict(other))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nearest_neighbour", {"neighbors": 0}, r"model\.neighbors=0"),
        ("nearest_neighbour", {"components": 2.5}, r"model\.components=2\.5"),
        ("entropic_ot", {"epsilon": 0}, r"model\.epsilon=0"),
        ("entropic_ot", {"epsilon": "small"}, r"model\.epsilon=small"),
        ("entropic_ot", {"cells": 0}, r"model\.cells=0"),
    ],
)
def test_settings_are_checked(name, settings, message):
    with pytest.raises(InputError, match=message):
        method(name, **settings)


def test_pot_is_imported_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    method("entropic_ot")
    method("nearest_neighbour").predict(made_problem(np.ones(4)))
