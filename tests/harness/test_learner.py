"""Training steps: parts of a batch, recomputation, recipes; several processes that make the step of one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from harness import CellData, InputError
from harness.checkpoints import read_safetensors
from harness.ranks import Ranks
from harness.recipe import Recipe
from harness.registry import MODELS
from harness.torch_learner import TorchLearner, clip_gradients, layers_of
from harness.training import pretrain
from tests.conftest import make_cells

MODELS_THAT_LEARN = [name for name in MODELS.names() if MODELS.get(name).spec.kind == "foundation"]


@pytest.fixture(scope="module")
def corpus():
    cells = make_cells(n_cells=48, n_genes=90)
    cells.X = cells.X.toarray()
    cells.X[5] = 0  # a cell that no model can read
    return CellData(cells)


def fresh(name, corpus, **options):
    model = MODELS.get(name).from_scratch(corpus.genes, size="tiny", seed=0, **options)
    model.calibrate(corpus)
    return model


def curve(name, corpus, tokens=6000, **settings):
    model = fresh(name, corpus)
    for module in model.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    recipe = Recipe(learning_rate=1e-3, **settings)
    return model, np.array(pretrain(model, corpus, tokens=tokens, batch_cells=12, recipe=recipe).losses)


def whole_state(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


@pytest.mark.parametrize("name", MODELS_THAT_LEARN)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(name, corpus):
    model = fresh(name, corpus)
    batch = next(corpus_batches(model, corpus))
    gradients = []
    for accumulate in (1, 5):
        recipe = Recipe(accumulate=accumulate, clip=0.0)
        with TorchLearner(model, recipe) as learner:
            model.network.eval()  # no dropout, whatever a network calls it
            value = learner.step(batch, torch.Generator().manual_seed(3), 1e-12)
            gradients.append(
                (value, {n: p.grad.clone() for n, p in model.network.named_parameters() if p.grad is not None})
            )
    (one, whole), (five, parts) = gradients
    assert five == pytest.approx(one, rel=1e-5)
    assert set(whole) == set(parts)
    for key, gradient in whole.items():
        scale = max(float(gradient.abs().max()), 1e-3)
        assert float((parts[key] - gradient).abs().max()) <= 1e-4 * scale, key


def corpus_batches(model, corpus):
    from harness.corpus import Corpus

    for portion in Corpus.of(corpus).batches(model, 20, seed=0):
        yield portion.batch


@pytest.mark.parametrize("name", MODELS_THAT_LEARN)
def test_recomputing_changes_memory_and_nothing_else(name, corpus):
    model = fresh(name, corpus)
    assert layers_of(model.network), "no repeated layers to recompute"
    batch = next(corpus_batches(model, corpus))
    values = []
    for recompute in (False, True):
        model = fresh(name, corpus)
        with TorchLearner(model, Recipe(recompute=recompute), seed=1) as learner:  # with dropout
            values.append([learner.step(batch, torch.Generator().manual_seed(i), 1e-3) for i in range(3)])
        assert all("forward" not in vars(layer) for layer in layers_of(model.network))
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)


def test_the_network_is_left_as_it_was(corpus):
    model = fresh("cellfm", corpus)
    before = torch.get_rng_state()
    with TorchLearner(model, Recipe(), seed=1) as learner:
        assert model.network.training
        learner.step(next(corpus_batches(model, corpus)), torch.Generator(), 1e-3)
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_weight_nought_only_keeps_company(corpus):
    model = fresh("cellfm", corpus)
    with TorchLearner(model, Recipe(weight_decay=0.0)) as learner:
        before = whole_state(model)
        assert learner.step(next(corpus_batches(model, corpus)), torch.Generator(), 1e-3, weight=0.0) == 0
        for name, tensor in whole_state(model).items():
            assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"schedule": "constant"}, {"clip_by": "tensor"}])
def test_recipes_train(settings, corpus):
    _, losses = curve("cellfm", corpus, tokens=15_000, **settings)
    assert losses[-5:].mean() < losses[:5].mean()


def test_bf16_trains(corpus):
    model = fresh("cellfm", corpus).to("cpu", "bf16")
    losses = pretrain(model, corpus, tokens=15_000, batch_cells=12).losses
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert all(p.dtype == torch.float32 for p in model.network.parameters())


def test_the_learning_rate_rises_and_falls():
    recipe = Recipe(learning_rate=2.0)
    assert recipe.rate_at(0) == pytest.approx(0.1)
    assert recipe.rate_at(0.05) == pytest.approx(1.0)
    assert recipe.rate_at(0.1) == pytest.approx(2.0)
    assert recipe.rate_at(0.55) == pytest.approx(1.0)
    assert recipe.rate_at(1.0) == pytest.approx(0.0)
    constant = Recipe(learning_rate=2.0, warm_up=0.0, schedule="constant")
    assert [constant.rate_at(x) for x in (0, 0.5, 1)] == [2.0, 2.0, 2.0]


def test_each_tensor_is_clipped_by_itself():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    clip_gradients(parameters, Recipe(clip_by="tensor"))
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"speed": 3}, "training has no speed"),
        ({"optimizer": "sgd"}, "adamw"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"accumulate": 0}, "greater than or equal to 1"),
        ({"warm_up": 1.0}, "less than 1"),
        ({"betas": [0.9]}, "betas"),
        ({"betas": "abc"}, "betas"),
        ({"clip": "x"}, "number"),
        ({"epsilon": True}, "number"),
        ({"recompute": "yes"}, "bool"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_line(node, says):
    with pytest.raises(InputError, match=says):
        Recipe.of(node)


def test_one_process_needs_no_others():
    ranks = Ranks()
    assert ranks.first and ranks.sums({"a": 1.5}) == {"a": 1.5} and ranks.gather("x") == ["x"]


# -- several processes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    cells = make_cells(n_cells=150, n_genes=80)
    cells.X = cells.X.toarray()
    cells.X[:17] = 0  # one process has a cell where the other has none
    path = tmp_path_factory.mktemp("corpus") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


def launch(corpus_file, out, processes, batch_cells, *more):
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", f"--nproc_per_node={processes}", "--rdzv-backend=c10d"]
        start += ["--rdzv-endpoint=localhost:0", "-m"]
    given = ["model=cellfm", "model.dropout=0.0", f"corpus.path={corpus_file}", "corpus.tokens=22000", "device=cpu"]
    done = subprocess.run(
        [*start, "harness", "pretrain", *given, f"corpus.batch_cells={batch_cells}", f"out={out}", *more],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    about = json.loads((out / "pretraining.json").read_text())
    return np.array(about["losses"]), read_safetensors(out / "model.safetensors"), done.stdout


def test_two_processes_make_the_steps_of_one_with_twice_the_batch(corpus_file, tmp_path):
    one, weights, _ = launch(corpus_file, tmp_path / "one", 1, 8)
    assert len(one) >= 20 and one[-5:].mean() < one[:5].mean()
    for name, more in {"ddp": [], "fsdp": ["training.shard=true", "save_every=7"]}.items():
        two, found, out = launch(corpus_file, tmp_path / name, 2, 4, *more)
        assert out.count("2 processes") == 1
        assert len(two) == len(one)
        np.testing.assert_allclose(two[0], one[0], rtol=1e-5)
        np.testing.assert_allclose(two, one, rtol=1e-3)
        for key, tensor in weights.items():
            torch.testing.assert_close(found[key], tensor, atol=2e-3, rtol=1e-2)
