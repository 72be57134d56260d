"""Baselines that move all cells alike, and the ceiling."""

import numpy as np
import pytest

from harness.config import compose_group
from harness.errors import InputError, NotApplicableError
from harness.registry import MODELS
from tasks.drug_response.ceiling import TreatedHalf
from tasks.drug_response.problem import Populations, Problem
from tasks.drug_response.shifts import Components, both
from tests.tasks.drug_response.autoencoder_case import TOLERANCE, arrays, made_problem, recorded_problem

SMALL = {"hidden": [32], "latent": 6, "steps": 600, "batch": 64, "learning_rate": 0.005, "check_every": 20}
SHIFTS = {"mean_shift": {}, "pca_shift": {}, "scgen": SMALL}
NAMES = ("identity", *SHIFTS, "nearest_neighbour", "entropic_ot", "treated_half")


def method(name, **settings):
    return MODELS.get(name)(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_configured_baselines_can_be_made(name):
    node = compose_group("model", name)
    settings = {
        key: value for key, value in node.items() if key in ("components", "neighbors", "epsilon", "cells", "steps")
    }
    made = method(name, **settings)
    assert node["name"] == made.spec.name == name
    assert made.spec.tasks == ("drug_response",)
    assert (made.spec.control, made.spec.reads_labels) == ((name == "treated_half"),) * 2


@pytest.mark.parametrize(("name", "record"), [("identity", "identity"), ("mean_shift", "average")])
def test_predictions_are_as_recorded(name, record):
    found = method(name).predict(recorded_problem())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, arrays()[f"eval_pred/{record}"], **TOLERANCE)


def test_identity_gives_a_copy():
    problem = made_problem(np.ones(5))
    found = method("identity").predict(problem)
    assert np.array_equal(found, problem.test) and found is not problem.test


@pytest.mark.parametrize("name", SHIFTS)
def test_a_planted_shift_is_recovered(name):
    shift = np.zeros(20)
    shift[:6] = [2.0, -1.5, 1.0, -1.0, 0.8, 2.5]
    problem = made_problem(shift, n=400, m=400, k=200)
    found = method(name, **SHIFTS[name]).predict(problem)
    assert found.shape == problem.test.shape and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0) - problem.test.mean(axis=0), shift, atol=0.15)


@pytest.mark.parametrize("name", SHIFTS)
def test_where_nothing_was_done_nothing_is_invented(name):
    problem = made_problem(np.zeros(20))
    same = Populations(problem.train.control, problem.train.control)
    problem = Problem("none", problem.genes, same, problem.val, problem.test)
    model = method(name, **SHIFTS[name])
    found, back = model.predict(problem), model.decoded(problem.test)
    np.testing.assert_allclose(found, problem.test if back is None else back, atol=1e-5)


def test_components_give_back_what_lies_along_them():
    problem = made_problem([[3, 0, 0, 0.0], [0, 2, 0, 0]], n=60, m=60)
    space = Components(both(problem.train), 2)
    np.testing.assert_allclose(space.axes @ space.axes.T, np.eye(2), atol=1e-9)
    once = space.decode(space.encode(problem.test))
    np.testing.assert_allclose(space.decode(space.encode(once)), once, atol=1e-5)
    centred = both(problem.train) - both(problem.train).mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    codes = space.encode(both(problem.train)).astype(float)
    np.testing.assert_allclose((codes**2).sum(axis=0), values[:2], rtol=1e-4)


def test_pca_shift_with_every_component_is_the_mean_shift():
    problem = made_problem([[3, 0, 0, 0.0], [0, 2, 0, 1]])
    np.testing.assert_allclose(method("pca_shift").predict(problem), method("mean_shift").predict(problem), atol=1e-5)
    few = method("pca_shift", components=2)
    assert few.predict(problem).var(axis=0).sum() < method("mean_shift").predict(problem).var(axis=0).sum()
    np.testing.assert_allclose(
        few.decoded(problem.test).var(axis=0).sum(), few.predict(problem).var(axis=0).sum(), rtol=1e-3
    )
    assert method("mean_shift").decoded(problem.test) is None


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("name", SHIFTS)
def test_few_cells_and_constant_genes(name, n, m):
    shift = np.zeros(30)
    shift[0] = 4.0
    problem = made_problem(shift, n=n, m=m)
    for cells in (problem.train.control, problem.train.treated, problem.val.control, problem.val.treated, problem.test):
        cells[:, 10:] = 0
    model = method(name, **({**SMALL, "steps": 20} if name == "scgen" else SHIFTS[name]))
    found = model.predict(problem)
    assert np.isfinite(found).all()
    if name != "scgen":
        np.testing.assert_allclose(found[:, 10:], 0, atol=1e-6)
        np.testing.assert_allclose(
            (found.mean(axis=0) - model_mean(model, problem))[0], problem.train.shift[0], rtol=1e-3
        )


def model_mean(model, problem):
    back = model.decoded(problem.test)
    return (problem.test if back is None else back).mean(axis=0)


def test_cells_that_are_all_alike():
    ones = np.ones((4, 3), np.float32)
    problem = Problem("none", np.array(list("abc")), Populations(ones, ones), Populations(ones, ones), ones[:2])
    np.testing.assert_allclose(method("pca_shift").predict(problem), ones[:2])


def test_notes_and_the_way_back():
    model = method("scgen", **{**SMALL, "steps": 20})
    problem = made_problem(np.ones(6))
    assert model.notes() == {} and model.decoded(problem.test) is None
    model.predict(problem)
    assert model.notes() == {"autoencoder steps, kept": "20, 20"}
    assert model.decoded(problem.test).shape == problem.test.shape


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"model\.components=0"):
        method("pca_shift", components=0)
    with pytest.raises(InputError, match=r"model\.depth: the autoencoder has"):
        method("scgen", depth=3)


# -- the ceiling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 40])
def test_halves_are_all_rows_once(n):
    rows = np.arange(100, 100 + n)[::-1]
    predicts, truth = TreatedHalf().halves(rows, 0)
    assert (len(predicts), len(truth)) == ((n + 1) // 2, n // 2)
    assert np.array_equal(np.sort(np.concatenate([predicts, truth])), np.sort(rows))
    assert (np.diff(predicts) > 0).all() and (np.diff(truth) > 0).all()


def test_halves_depend_on_the_seed():
    rows = np.arange(40)
    assert np.array_equal(TreatedHalf().halves(rows, 1)[0], TreatedHalf().halves(rows, 1)[0])
    assert not np.array_equal(TreatedHalf().halves(rows, 1)[0], TreatedHalf().halves(rows, 2)[0])


def test_one_treated_cell_has_no_halves():
    with pytest.raises(NotApplicableError, match="two are needed"):
        TreatedHalf().halves(np.array([3]), 0)
