"""The ways back from codes to expression."""

import numpy as np
import pytest
import torch

from harness.errors import InputError, NotApplicableError
from tasks.drug_response.decoder import train_decoder
from tasks.drug_response.decoder_settings import DecoderSettings
from tasks.drug_response.reconstruction import Reconstruction


def made(n=400, codes=6, genes=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (n, codes)).astype(np.float32)
    return x, (x @ rng.normal(0, 0.5, (codes, genes)) + rng.normal(0, 1, genes)).astype(np.float32)


def test_a_linear_truth_is_found_by_ridge():
    x, y = made()
    decoder = train_decoder(x[:300], y[:300], x[300:], y[300:], DecoderSettings(kind="linear", ridge=1e-6), 0)
    np.testing.assert_allclose(decoder(x[300:]), y[300:], atol=1e-2)


def test_ridge_is_scikit_learns():
    from sklearn.linear_model import Ridge

    x, y = made(n=50)
    noisy = y + np.random.default_rng(1).normal(0, 1, y.shape).astype(np.float32)
    decoder = train_decoder(x, noisy, x, noisy, DecoderSettings(kind="linear", ridge=0.1), 0)
    penalty = 0.1 * np.sum((x - x.mean(0)) ** 2) / x.shape[1]
    np.testing.assert_allclose(decoder(x), Ridge(alpha=penalty).fit(x, noisy).predict(x), atol=1e-4)


def test_the_mlp_learns_and_keeps_its_best_step():
    x, y = made()
    settings = DecoderSettings(steps=300, check_every=20, hidden=64)
    decoder = train_decoder(x[:300], y[:300], x[300:], y[300:], settings, 0)
    error = np.mean((decoder(x[300:]) - y[300:]) ** 2)
    assert error < 0.2 * y[300:].var() and 0 < decoder.kept_step <= decoder.steps


def test_a_decoder_stops_where_validation_gets_no_better():
    x, y = made(n=40)
    noise = np.random.default_rng(1).permutation(y[20:])
    settings = DecoderSettings(steps=2000, check_every=10, patience=2, hidden=64)
    assert train_decoder(x[:20], y[:20], x[20:], noise, settings, 0).steps < 2000


def test_the_global_generator_is_left_alone_and_a_seed_names_one_decoder():
    x, y = made(n=60)
    before = torch.random.get_rng_state()
    first, second = (train_decoder(x, y, x, y, DecoderSettings(steps=20), 3)(x) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state()) and np.array_equal(first, second)


def test_codes_and_genes_that_never_change():
    x, y = made(n=60)
    x[:, 0], y[:, 0] = 1.0, 0.0
    for kind in ("mlp", "linear"):
        assert np.isfinite(train_decoder(x, y, x, y, DecoderSettings(kind=kind, steps=20), 0)(x)).all()


@pytest.mark.parametrize("settings", [{"depth": 2}, {"kind": "tree"}, {"steps": 0}, {"batch": 1.5}])
def test_settings_that_mean_nothing(settings):
    with pytest.raises(InputError, match=r"task\.decoder\." + next(iter(settings))):
        DecoderSettings.of(settings, "task.decoder")


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_the_bottleneck_gives_codes_and_the_way_back(kind):
    vectors = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    objective = Reconstruction(5, torch.arange(7.0))
    head = objective.head(None, kind, vectors, torch.Generator().manual_seed(1))
    head.eval()
    codes = head(vectors, None, None)
    assert codes.shape == (30, 5) and head.decode(codes).shape == (30, 7)


def test_no_model_has_an_autoencoder_of_its_own():
    from harness.registry import MODELS

    with pytest.raises(NotApplicableError, match="no autoencoder"):
        Reconstruction(5, torch.zeros(3)).head(MODELS.get("cellfm"), "native", torch.zeros(2, 2), torch.Generator())
