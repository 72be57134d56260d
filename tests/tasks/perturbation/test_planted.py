"""The metrics recover what was planted: the truth is best, the sum of singles is right where pairs add up."""

import numpy as np
import pytest

from harness.data import CellData
from harness.planting import plant
from tasks.perturbation.planted import PlantedAdditive, PlantedTruth
from tasks.perturbation.prepare import prepare
from tasks.perturbation.scoring import Fold, score
from tasks.perturbation.splits import ConditionSplit
from tests.conftest import make_cells

SETTINGS = {"separator": None, "min_cells": 5, "cells_per_condition": None, "n_top_genes": None}


@pytest.fixture(scope="module")
def scored():
    """Metric -> predictor -> pair -> value, and the pairs that interact."""
    cells = CellData(make_cells(n_cells=4000, n_genes=200, n_types=1))
    data = plant(cells, {"effect": "perturbation", "groups": 4, "genes": 30}, {})
    prepared = prepare(data, **SETTINGS)
    pairs = tuple(c for c in prepared.cells.conditions if len(c) == 2)
    singles = tuple(c for c in prepared.cells.conditions if len(c) == 1)
    fold = Fold("all", prepared.cells, ConditionSplit(singles, (), pairs), 100)
    control = np.tile(prepared.cells.control_mean, (len(pairs), 1))
    guesses = {
        "truth": PlantedTruth().profiles(data, prepared, pairs, 0),
        "added": PlantedAdditive().profiles(data, prepared, pairs, 0),
        "no change": control,
    }
    found = {}
    for name, guess in guesses.items():
        for m in score([fold], {"none": [guess]}, 0):
            if m.scope == "per-perturbation":
                found.setdefault(m.name, {}).setdefault(name, {})[m.key] = m.value
    interacting = {"+".join(sorted(each["pair"].split("+"))) for each in data.planted["interactions"]}
    return found, interacting


@pytest.mark.parametrize("metric", ["mse", "mse_de20", "l2_top"])
def test_the_planted_truth_is_nearest(scored, metric):
    found, interacting = scored
    mean = {name: np.mean(list(values.values())) for name, values in found[metric].items()}
    assert mean["truth"] < mean["added"] < mean["no change"]
    for pair, value in found[metric]["truth"].items():
        if pair in interacting:
            assert value < found[metric]["added"][pair], pair
        else:
            assert value == pytest.approx(found[metric]["added"][pair], rel=1e-9)


def test_correlations_find_it_too(scored):
    found, _ = scored
    assert all(value is None for value in found["pearson_delta"]["no change"].values())
    truth = np.mean(list(found["pearson_delta"]["truth"].values()))
    assert truth >= np.mean(list(found["pearson_delta"]["added"].values())) > 0.3
