"""Every registered model keeps the contract. A model is here by being registered; nothing is to be added."""

from functools import cache

import pytest

from harness.checks import CHECKS, run_check
from harness.conformance.reproducible import embed_elsewhere
from harness.conformance.trial import Trial
from harness.registry import MODELS

#: Versions of a model that share a class: name of the trial -> (registered name, options).
VERSIONS = {"geneformer-v1": ("geneformer", {"version": "V1"})}


def _names():
    registered = MODELS.names()
    return registered + [name for name, (model, _) in VERSIONS.items() if model in registered]


@cache
def trial(name):
    model, options = VERSIONS.get(name, (name, {}))
    return Trial(MODELS.get(model), options=options, name=model)


@pytest.fixture(scope="module")
def other_process():
    """What all the models give in one other process."""
    specs = {name: trial(name).spec for name in _names()}
    embed_elsewhere([trial(n) for n, spec in specs.items() if spec.kind != "predictor" and not spec.reads_labels])


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("model", _names())
def test_model(model, check, request):
    if check == "processes":
        request.getfixturevalue("other_process")
    result = run_check(check, trial(model))
    if result.status == "not-applicable":
        pytest.skip(result.message)
    assert result.status != "fail", result.message
