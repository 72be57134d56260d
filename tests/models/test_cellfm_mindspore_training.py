"""CellFM trained by MindSpore: PyTorch's curve, resumed exactly, saved for both."""

from functools import partial
from shutil import copyfile

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from harness import InputError
from harness.data import CellData
from harness.errors import InternalError, NotApplicableError
from harness.recipe import Recipe
from harness.torch_learner import clip_gradients, make_optimizer
from harness.training import objective_error, pretrain
from models.cellfm.config import CellFMConfig
from models.cellfm.mindspore_backend import select_device
from models.cellfm.torch_network import CellFMNetwork
from tests.conftest import make_cells
from tests.golden.cellfm.case import CellFM
from tests.models import mindspore_parts as parts
from tests.models.mindspore_parts import made_batch, tensors

pytestmark = parts.needs_mindspore
BACKENDS = ("torch", "mindspore")


@pytest.fixture(autouse=True)
def graph_mode():
    select_device("cpu")


def small_data():
    return CellData.of(make_cells(64, 40))


def scratch(backend, **options):
    return CellFM.from_scratch(small_data().genes, seed=3, backend=backend, **options)


# -- through the engine -------------------------------------------------------------------------------


def test_fifty_steps_are_those_of_torch(tmp_path):
    """Same weights, same masks, no dropout; batches of many shapes. Then what was trained goes both ways."""
    curves, models = {}, {}
    for backend in BACKENDS:
        models[backend] = scratch(backend, dropout=0.0)
        models[backend].embed_cells(make_cells(8, 40))  # a graph of the old weights
        recipe = Recipe(accumulate=2, clip=0.5)
        log = pretrain(models[backend], small_data(), tokens=50 * 8 * 26, batch_cells=8, recipe=recipe, seed=1)
        curves[backend] = log.losses
    assert len(curves["torch"]) >= 50
    assert_allclose(curves["mindspore"], curves["torch"], rtol=1e-3)
    assert np.mean(curves["mindspore"][-5:]) < 0.7 * np.mean(curves["mindspore"][:5])
    ours, theirs = (objective_error(models[b], small_data()) for b in ("mindspore", "torch"))
    assert ours.keys() == theirs.keys()
    assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-3)
    trained = models["mindspore"]
    assert not any(parameter.requires_grad for parameter in trained.network.parameters())
    trained.save(tmp_path)
    cells = make_cells(8, 40, seed=4)
    found = trained.embed_cells(cells)
    for backend in BACKENDS:
        again = CellFM.from_checkpoint(tmp_path, backend=backend)
        assert_allclose(again.embed_cells(cells), found, atol=1e-4, err_msg=backend)
    assert_allclose(found, models["torch"].embed_cells(cells), atol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_and_resumed(backend, tmp_path):
    """With dropout, and layer by layer: from what a kill leaves on disk, the curve goes on as if nothing had been."""
    train = partial(
        pretrain,
        corpus=small_data(),
        tokens=9 * 16 * 26,
        batch_cells=16,
        recipe=Recipe(recompute=True),
        seed=2,
        save_every=4,
    )

    def kill(log):
        if log.steps == 6:
            copyfile(tmp_path / "whole.pt", tmp_path / "killed.pt")

    whole = train(scratch(backend, dropout=0.3), state=tmp_path / "whole.pt", on_step=kill).losses
    resumed = train(scratch(backend, dropout=0.3), state=tmp_path / "killed.pt").losses
    assert len(whole) >= 8
    assert_allclose(resumed, whole, rtol=1e-6)


def test_what_is_refused():
    model = scratch("mindspore")
    with pytest.raises(InputError, match=r"training\.shard"):
        model.learner(Recipe(shard=True))
    with pytest.raises(NotApplicableError, match=r"model\.backend=torch"):
        model.pretraining_loss(None, None)


# -- its parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(weight_decay=0.1, clip=0.5, betas=(0.9, 0.95), epsilon=1e-3),
        Recipe(optimizer="adam", weight_decay=0.1, clip=0.3, clip_by="tensor"),
        Recipe(optimizer="adam", weight_decay=0.0, clip=0.0),
    ],
    ids=["default", "adamw", "adam-each", "adam-plain"],
)
def test_optimizer_is_that_of_torch(recipe):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (5,), (1, 1))]
    theirs = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in start]
    ours = [parts.ms.Parameter(parts.ms.Tensor(array), name=f"p{i}") for i, array in enumerate(start)]
    reference, optimizer = make_optimizer(theirs, recipe), parts.optimizer.Optimizer(ours, recipe)
    for step in range(1, 7):
        rate = 0.1 / step
        gradients = [(rng.normal(size=a.shape) * 10.0 ** -(step % 3)).astype(np.float32) for a in start]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        reference.param_groups[0]["lr"] = rate
        clip_gradients(theirs, recipe)
        reference.step()
        optimizer.step(tensors(*(4 * g for g in gradients)), rate, 0.25)
        for mine, wanted in zip(ours, theirs, strict=True):
            assert_allclose(mine.asnumpy(), wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_layer_by_layer_is_the_same(dropout):
    config = CellFMConfig(n_genes=40, width=16, layers=2, heads=2, value_bins=8, dropout=dropout)
    network = CellFMNetwork.allocate(config).initialise(torch.Generator().manual_seed(0))
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    ours = parts.network.CellFMNetwork.of_state(config, state)
    parameters = ours.trainable_params()
    whole = parts.gradients.Gradients(ours, parameters)
    layered = parts.gradients.LayerwiseGradients(ours, parameters)
    totals = []
    for n, length in ((5, 30), (1, 1), (3, 12)):
        batch = tensors(*made_batch(n, length), *parts.gradients.dropout_of(config, n, length, (0,)))
        (one, some), (other, others) = whole(*batch), layered(*batch)
        assert_allclose(float(one), float(other), rtol=1e-5)
        for parameter, mine, wanted in zip(parameters, some, others, strict=True):
            assert_allclose(mine.asnumpy(), wanted.asnumpy(), rtol=1e-4, atol=1e-4, err_msg=parameter.name)
        totals.append(float(one))
    assert np.isfinite(totals).all()


def test_dropout_drops_its_share():
    """Of every column, in each branch by other draws, and neighbours independently; the mean stays."""
    config = CellFMConfig(n_genes=40, width=48, layers=4, heads=2, dropout=0.4)
    noise, lowest, scale = parts.gradients.dropout_of(config, 20, 299, (1, 2))
    again = parts.gradients.dropout_of(config, 20, 299, (1, 2))[0]
    assert_array_equal(noise, again)
    assert (noise != parts.gradients.dropout_of(config, 20, 299, (1, 3))[0]).mean() > 0.99
    ones = np.ones((20, 300, 48), np.float32)
    drops = [parts.network.Dropout(48, branch) for branch in (1, 2)]
    for layer, rate in enumerate((0.0, 0.1, 0.2, 0.3)):
        first, second = (drop(*tensors(ones, noise[layer], lowest[layer], scale[layer])).asnumpy() for drop in drops)
        dropped = first == 0
        assert_allclose(dropped.mean((0, 1)), rate, atol=0.02)
        assert_allclose(first.mean(), 1, atol=0.01)
        assert_allclose((dropped & (second == 0)).mean(), rate**2, atol=0.01)
        assert_allclose((dropped[..., 1:] & dropped[..., :-1]).mean(), rate**2, atol=0.01)
        assert_allclose((dropped[:, 1:] & dropped[:, :-1]).mean(), rate**2, atol=0.01)
    assert parts.gradients.dropout_of(CellFMConfig(n_genes=4, width=32, layers=1, heads=1, dropout=0.0), 1, 1, ()) == ()


def test_learner_state_is_plain(tmp_path):
    """What is kept is read back without running code, and is all there is."""
    model = scratch("mindspore")
    batch = model.tokenize(small_data().rows(0, 8), small_data().genes)
    with model.learner(Recipe(), seed=1) as learner:
        assert isinstance(learner, parts.learner.MindSporeLearner)
        learner.step(batch, torch.Generator().manual_seed(0), 1e-3)
        torch.save(learner.state(), tmp_path / "state.pt")
        expected = learner.step(batch, torch.Generator().manual_seed(1), 1e-3)
        learner.restore(torch.load(tmp_path / "state.pt", weights_only=True))
        assert learner.step(batch, torch.Generator().manual_seed(1), 1e-3) == expected
        batch.values[0, 0] = np.nan
        with pytest.raises(InternalError, match="nan"):
            learner.step(batch, torch.Generator().manual_seed(2), 1e-3)
