"""The recorded metric values (tests/golden/perturbation), as tests compare with them."""

import gzip
import json
from functools import cache

import numpy as np

from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/perturbation"
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


@cache
def arrays(name="metrics_perturb"):
    return dict(np.load(GOLDEN / f"{name}.npz"))


@cache
def numbers(name="metrics_perturb"):
    with gzip.open(GOLDEN / f"{name}.json.gz", "rt") as stream:
        return json.load(stream)


@cache
def predictors():
    """Predictor -> its recorded metrics."""
    return {name: found for name, found in numbers().items() if name not in ("cell_eval", "reverse")}


@cache
def conditions():
    return arrays()["conditions"].tolist()


def rows_of(predictor):
    """Rows of the conditions that the predictor was scored on."""
    return [conditions().index(name) for name in predictors()[predictor]["conditions_scored"]]


def as_array(by_condition, names):
    """Recorded values in the order of `names`; null is NaN."""
    return np.array([np.nan if by_condition[name] is None else by_condition[name] for name in names], float)


def same(found, recorded):
    """Equal within the tolerance of recorded metrics, undefined where undefined."""
    np.testing.assert_allclose(found, recorded, **TOLERANCE)
