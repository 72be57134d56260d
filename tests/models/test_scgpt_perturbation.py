"""scGPT's perturbation predictor: the authors' numbers, and the rules of ours."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.recipe import Recipe
from harness.torch_learner import make_optimizer, training_mode
from models.geneformer.adapter import Geneformer
from models.scgpt.adapter import ScGPT
from models.scgpt.perturbation import LEFT_OUT, NOT_FLAGGED, OUTSIDE
from models.scgpt.perturbation_cells import Pairs, by_condition, mean_change
from models.scgpt.perturbation_network import BACKBONE, from_network, squared_error, training_step

GOLDEN = Path(__file__).parents[1] / "golden" / "scgpt"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
GENES = [f"G{i}" for i in range(40)]


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "perturbation.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def released():
    return ScGPT.from_checkpoint(GOLDEN / "checkpoint")


@pytest.fixture
def generator(released, expected):
    """The authors' heads on the released backbone."""
    generator = from_network(released.network, released.special.pad, seed=0)
    heads = {key[5:]: torch.as_tensor(value) for key, value in expected.items() if key.startswith("head.")}
    report = generator.load_state_dict(heads, strict=False)
    assert not report.unexpected_keys
    assert all(key.startswith(BACKBONE) for key in report.missing_keys)
    return generator


@pytest.fixture(scope="module")
def scratch():
    """Five genes are outside its vocabulary."""
    return ScGPT.from_scratch(GeneTable.from_names(GENES[:35]))


@pytest.fixture(scope="module")
def screen():
    """60 control cells and 20 of each of four conditions, one of which perturbs a gene scGPT does not know."""
    rng = np.random.default_rng(0)
    conditions = [("G0",), ("G1",), ("G0", "G1"), ("G38",)]
    base = rng.gamma(1.0, 0.6, 40)
    cells = [np.maximum(0, base + rng.normal(0, 0.2, (60, 40)))]
    for _ in conditions:
        cells.append(np.maximum(0, base + rng.normal(0, 0.5, 40) + rng.normal(0, 0.2, (20, 40))))
    values = sp.csr_matrix(np.concatenate(cells).astype(np.float32))
    return values, np.arange(60), np.arange(60, 140), [c for c in conditions for _ in range(20)]


def batch(expected):
    ids, before, flags, after = (expected[f"pert_{part}"] for part in ("gene_ids", "ctrl", "flags", "post"))
    return (
        torch.as_tensor(ids, dtype=torch.int64),
        torch.as_tensor(before),
        torch.as_tensor(flags, dtype=torch.int64),
        torch.as_tensor(after),
    )


def test_recorded_predictions(generator, expected):
    ids, before, flags, _ = batch(expected)
    with torch.inference_mode():
        predicted = generator(ids, before, flags)
        on = (before != 0).any(dim=0)
        batchwise = torch.zeros_like(before)
        batchwise[:, on] = generator(ids[on], before[:, on], flags[:, on])
    np.testing.assert_allclose(predicted, expected["pert_pred_all"], **CLOSE)
    np.testing.assert_allclose(batchwise, expected["pert_pred_batchwise"], **CLOSE)


def test_recorded_names_and_flags_are_those_we_would_make(released, expected):
    genes = expected["pert_genes"].tolist()
    ids = released.match_genes(genes).ids
    np.testing.assert_array_equal(np.where(ids < 0, released.special.pad, ids), expected["pert_gene_ids"])
    perturbed = [[g for g in name.split("+") if g != "ctrl"] for name in expected["pert_names"].tolist()]
    places = [np.array([genes.index(gene) for gene in names]) for names in perturbed]
    pairs = Pairs(sp.csr_matrix(expected["pert_ctrl"]), np.arange(8), np.arange(8), places)
    _, flags, _ = pairs.tensors(np.arange(8), np.arange(120))
    np.testing.assert_array_equal(flags, expected["pert_flags"])


def test_recorded_training_steps(generator, expected):
    cells = batch(expected)
    recipe = Recipe(learning_rate=1e-4, optimizer="adam", weight_decay=0.0)
    losses, norms = [], []
    with training_mode(generator, 0):
        optimizer = make_optimizer(generator.parameters(), recipe)
        for _ in range(3):
            gradients = torch.autograd.grad(
                squared_error(generator(*cells[:3]), cells[3]), list(generator.parameters())
            )
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))
            losses.append(training_step(generator, optimizer, recipe, cells))
    np.testing.assert_allclose(losses[0], expected["pert_train_losses"][0], **CLOSE)
    np.testing.assert_allclose(losses, expected["pert_train_losses"], rtol=1e-3)
    np.testing.assert_allclose(norms, expected["pert_train_gradnorm"], rtol=1e-3)


def test_backbone_is_copied_and_the_rest_is_drawn_from_the_seed(released):
    before = {key: value.clone() for key, value in released.network.state_dict().items()}
    one, same, other = (from_network(released.network, 900, seed).state_dict() for seed in (1, 1, 2))
    for key, value in one.items():
        assert torch.equal(value, same[key])
        if key.startswith(BACKBONE):
            assert torch.equal(value, before[key])
            assert value.data_ptr() != released.network.state_dict()[key].data_ptr()
    assert not torch.equal(one["pert_encoder.weight"], other["pert_encoder.weight"])
    assert not one["pert_encoder.weight"][0].any()
    assert {key.split(".")[0] for key in one} == {
        "encoder",
        "value_encoder",
        "pert_encoder",
        "transformer_encoder",
        "decoder",
    }


def fitted(scratch, screen, **more):
    settings = {"batch_cells": 16, "genes_per_step": 20, "learning_rate": 1e-3, **more}
    return scratch.perturbation_model(GENES, seed=3, **settings)


def test_learns_is_reproducible_and_leaves_the_model_alone(scratch, screen):
    values, control = screen[0], screen[0][:60].toarray()
    before = {key: value.clone() for key, value in scratch.network.state_dict().items()}
    wanted = [("G0",), ("G1",), ("G0", "G1")]
    first, again = (fitted(scratch, screen).fit(*screen, steps=60) for _ in range(2))
    predicted = first.predict(control, wanted)
    assert predicted.shape == (3, 40) and predicted.dtype == np.float64
    np.testing.assert_array_equal(predicted, again.predict(control, wanted))
    assert np.mean(first.losses[-10:]) < 0.5 * first.losses[0]
    observed = np.stack([values[60 + 20 * i : 80 + 20 * i].toarray().mean(axis=0) for i in range(3)])
    assert ((predicted - observed)[:, :35] ** 2).mean() < ((control.mean(axis=0) - observed)[:, :35] ** 2).mean()
    assert all(torch.equal(value, before[key]) for key, value in scratch.network.state_dict().items())
    assert not first.network.training and not any(p.requires_grad for p in first.network.parameters())


def test_cells_are_predicted_alone(scratch, screen, monkeypatch):
    control = screen[0][:60].toarray()
    model = fitted(scratch, screen).fit(*screen, steps=2)
    whole = model.predict(control, [("G0",)])
    monkeypatch.setattr("models.scgpt.perturbation.PREDICT_VALUES", {"cpu": 36})
    np.testing.assert_allclose(model.predict(control, [("G0",)]), whole, atol=1e-6)
    with torch.inference_mode():
        flags = torch.zeros((60, 35), dtype=torch.int64)
        flags[:, 0] = 1
        cells = model.network(torch.arange(35), torch.as_tensor(control[:, :35]), flags).numpy()
    np.testing.assert_allclose(whole[0, :35], cells.mean(axis=0), atol=1e-5)


def test_genes_outside_the_vocabulary_change_as_in_training(scratch, screen):
    values, control, perturbed, targets = screen
    model = fitted(scratch, screen).fit(*screen, steps=1)
    predicted = model.predict(values[:10].toarray(), [("G0",), ("G38",), ("G0", "nothing")])
    dense = values.toarray().astype(float)
    conditions = np.stack([dense[60 + 20 * i : 80 + 20 * i].mean(axis=0) for i in range(4)])
    change = (conditions - dense[:60].mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(predicted[0, 35:], (dense[:10].mean(axis=0) + change)[35:], atol=1e-6)
    assert abs(change[35:]).max() > 0.01
    np.testing.assert_allclose(mean_change(values, control, perturbed, targets), change, atol=1e-6)
    # A perturbed gene that cannot be flagged: no prediction, and it is named.
    assert np.isnan(predicted[1:]).all() and np.isfinite(predicted[0]).all()
    assert model.notes[OUTSIDE].startswith("5 of 40")
    assert model.notes[NOT_FLAGGED].startswith("G38, nothing:")
    assert model.notes[LEFT_OUT] == "20 of 80"


def test_genes_of_a_step_hold_the_perturbed_ones(scratch, screen):
    places = [np.array([7]), np.array([3, 7])]
    keeping, published = (fitted(scratch, screen, keep_targets=keep) for keep in (True, False))
    drawn = [keeping._draw_genes(np.random.default_rng(i), places) for i in range(50)]
    assert all({3, 7} <= set(d.tolist()) and len(set(d.tolist())) == 20 for d in drawn)
    assert set(np.concatenate(drawn).tolist()) == set(range(35))
    lost = [published._draw_genes(np.random.default_rng(i), places) for i in range(50)]
    assert any(not {3, 7} <= set(d.tolist()) for d in lost) and all(len(d) == 20 for d in lost)


def test_the_best_epoch_is_kept_and_training_stops(scratch, screen, monkeypatch):
    model = fitted(scratch, screen, patience=2)
    scores, kept = iter([0.1, 0.5, 0.4, 0.3, 0.9]), []

    def score(*_):
        kept.append({key: value.clone() for key, value in model.network.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(model, "_score", score)
    model.fit(*screen, val=(screen[2][:5], screen[3][:5]), epochs=5)
    assert model.scores == [0.1, 0.5, 0.4, 0.3]
    assert len(model.losses) == 4 * 4
    assert all(torch.equal(value, kept[1][key]) for key, value in model.network.state_dict().items())


def test_validation_score_is_the_correlation_of_mean_profiles(scratch, screen):
    values, control, perturbed, targets = screen
    model = fitted(scratch, screen).fit(*screen, steps=3)
    ours = model._score(values, control[:8], perturbed, targets)
    names, members = by_condition(targets)
    assert names == [("G0",), ("G1",), ("G0", "G1"), ("G38",)]
    predicted, observed = model.predict(values[:8].toarray(), names), members @ values[perturbed].toarray()
    expected = np.mean([np.corrcoef(predicted[i], observed[i])[0, 1] for i in range(3)])
    assert ours == pytest.approx(expected, abs=1e-6)


def test_what_is_refused(scratch, screen):
    values, control, perturbed, targets = screen
    with pytest.raises(InputError, match="no setting depth; it has genes_per_step"):
        scratch.perturbation_model(GENES, depth=3)
    with pytest.raises(InputError, match="none of the 2 genes"):
        scratch.perturbation_model(["a", "b"])
    model = scratch.perturbation_model(GENES)
    with pytest.raises(InputError, match="0 control cells and 60 perturbed"):
        model.fit(values, control[:0], perturbed, targets)
    with pytest.raises(InputError, match="60 control cells and 0 perturbed"):
        model.fit(values, control, perturbed[60:], targets[60:])
    with pytest.raises(InputError, match="fit the predictor first"):
        model.predict(values[:3].toarray(), [("G0",)])
    with pytest.raises(InputError, match=r"shape \(3, 7\)"):
        model.predict(np.zeros((3, 7)), [("G0",)])
    with pytest.raises(NotApplicableError, match="no perturbation predictor"):
        Geneformer.perturbation_model(Geneformer.__new__(Geneformer), GENES)
