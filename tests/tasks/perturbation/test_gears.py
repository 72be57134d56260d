import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import InputError
from tasks.gene_sets import GeneSets
from tasks.perturbation.cells import PerturbedCells
from tasks.perturbation.gears import FittedGears, Gears, GearsSettings, fit_predict, missing_terms, perturbation_graph
from tasks.perturbation.gears_files import read_weights
from tasks.perturbation.gears_layers import WeightedBatchNorm
from tasks.perturbation.gears_network import GearsNetwork
from tasks.perturbation.gears_training import gears_loss, make_optimizer, mean_profile, train, train_step, update
from tasks.perturbation.gears_vectors import GraftedVectors
from tasks.perturbation.prepare import log_normalise
from tasks.perturbation.problem import Problem
from tests.tasks.perturbation.gears_case import FORWARD, GOLDEN, Case, normalised
from tests.tasks.perturbation.made import made_cells


@pytest.fixture(scope="module")
def case():
    return Case()


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, **FORWARD)


def test_forward_in_evaluation(case):
    network = case.network()
    basal, sets, _, _ = case.batch(case["batch_graphs"])
    with torch.no_grad():
        close(network(basal, sets), case["forward_eval"])
        close(network(basal[2:3], sets[2:3]), case["forward_eval_single_cell"])
        close(network(basal[:2], sets[:2]), case["forward_eval_all_ctrl"])


def test_forward_in_training_and_its_running_statistics(case):
    network = case.network().train()
    basal, sets, observed, codes = case.batch(case["batch_graphs"])
    predicted = network(basal, sets)
    close(predicted, case["forward_train"])
    state = network.state_dict()
    for name in (name for name in case.arrays if name.startswith("running/")):
        close(state[name.removeprefix("running/")], case[name])
    others = (observed, codes, case.retained, torch.from_numpy(case["ctrl_expression"]))
    np.testing.assert_allclose(gears_loss(predicted, *others).item(), case["loss_train_mode"], rtol=1e-4)
    plain = gears_loss(predicted, *others, direction=0).item()
    np.testing.assert_allclose(plain, case["loss_train_mode_no_direction"], rtol=1e-4)
    evaluated = torch.from_numpy(case["forward_eval"])
    np.testing.assert_allclose(gears_loss(evaluated, *others).item(), case["loss_eval_mode"], rtol=1e-4)


def test_twenty_training_steps(case):
    network = case.network().train()
    optimizer, losses = make_optimizer(network, 1e-3), []
    for graphs in case["train_steps_graphs"]:
        basal, sets, observed, codes = case.batch(graphs)
        others = (observed, codes, case.retained, torch.from_numpy(case["ctrl_expression"]))
        losses.append(train_step(network, (basal, sets, None), *others).item())
        update(network, optimizer)
    np.testing.assert_allclose(losses[0], case["train_steps_loss"][0], rtol=1e-4)
    np.testing.assert_allclose(losses, case["train_steps_loss"], rtol=1e-3)
    basal, sets, _, _ = case.batch(case["batch_graphs"])
    with torch.no_grad():
        found, expected = network.eval()(basal, sets), case.network("model_after20.pt")(basal, sets)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-3, rtol=1e-3)


def test_uncertainty(case):
    network = case.network("model_uncertainty_init.pt", uncertainty=True)
    basal, sets, observed, codes = case.batch(case["batch_graphs"])
    predicted, log_variance = network(basal, sets)
    close(predicted, case["unc_forward_eval"])
    close(log_variance, case["unc_logvar_eval"])
    control = torch.from_numpy(case["ctrl_expression"])
    loss = gears_loss(predicted, observed, codes, case.retained, control, log_variance=log_variance)
    np.testing.assert_allclose(loss.item(), case["unc_loss"], rtol=1e-4)
    loss.backward()  # which the released code cannot on a CPU
    assert network.uncertainty_w.network[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("row", "label"), [(0, "UBASH3B"), (1, "UBASH3B_PRTG"), (2, "FEV_IRF1")])
def test_predicted_profile(case, row, label):
    network, places = case.network("model_after20.pt"), case["predict_draws"][row]
    controls = np.flatnonzero(case["cell_condition"] == "ctrl")
    basal, nodes = case.values[controls[places]].toarray(), case.nodes(label.replace("_", "+"))
    found = mean_profile(network, basal, places, nodes, lambda places: None, 32)
    np.testing.assert_allclose(found, case[f"predict/{label}"], **FORWARD)


GRAFTS = {
    "cellfm": ("cellfm_style_model.pt", "cellfm", "cellfm_ctrl_embeddings", {"middle": 20}),
    "scfoundation": ("scfoundation_style_model.pt", "scf", "scf_cell_embeddings", {}),
    "none": ("fork_baseline_model.pt", "fork_baseline", None, {}),
}


@pytest.mark.parametrize("graft", GRAFTS)
def test_published_grafts(graft):
    weights, prefix, source, more = GRAFTS[graft]
    arrays = np.load(GOLDEN / "fm" / "expected_fm.npz")
    go = normalised(arrays["G_go"], arrays["G_go_weight"], 12)
    coexpress = normalised(arrays["G_coexpress"], arrays["G_coexpress_weight"], 30)
    basal, vectors, width = torch.from_numpy(arrays["ctrl_expression_cells"][arrays["basal"]]), None, None
    if source:
        width = arrays[source].shape[-1]
        vectors = GraftedVectors(arrays[source], 30, 12, standardise=False)(arrays["basal"])
    network = GearsNetwork(go, coexpress, 16, graft=graft, width=width, **more)
    read_weights(network, GOLDEN / "fm" / weights)
    with torch.no_grad():
        close(network.eval()(basal, arrays["pert_idx"], vectors), arrays[f"{prefix}_forward_eval"])
        if source:
            close(network.train()(basal, arrays["pert_idx"], vectors), arrays[f"{prefix}_forward_train"])


def test_weighted_batch_norm_is_that_of_repeated_rows():
    torch.manual_seed(0)
    ours, theirs = WeightedBatchNorm(5), nn.BatchNorm1d(5)
    states, times = torch.randn(3, 4, 5, requires_grad=True), torch.tensor([1.0, 4.0, 2.0])
    repeated = torch.repeat_interleave(states.detach(), times.long(), 0).requires_grad_()
    wanted = torch.randn(3, 4, 5)
    found = ours(states, times)
    expected = theirs(repeated.reshape(-1, 5)).reshape(-1, 4, 5)
    (found * wanted * times[:, None, None]).sum().backward()
    (expected * torch.repeat_interleave(wanted, times.long(), 0)).sum().backward()
    close(found[1], expected[1].detach())
    close(ours.running_var, theirs.running_var)
    close(states.grad[1], repeated.grad[1:5].sum(dim=0))
    close(ours.weight.grad, theirs.weight.grad)
    with pytest.raises(ValueError, match="at least two cells"):
        ours(torch.zeros(1, 1, 5), torch.ones(1))


def made_problem(go="some", seed=0, **cells):
    made = made_cells(singles=5, pairs=2, per_condition=12, n_genes=40, controls=30, **cells)
    labels = made.obs["condition"].tolist()
    conditions = ((), *sorted({parts(label) for label in labels} - {()}))
    code = np.array([conditions.index(parts(label)) for label in labels])
    of = PerturbedCells(log_normalise(made.X.tocsr()), np.array(made.var_names, np.str_), conditions, code)
    test, val = (("GENE4",), ("GENE1", "GENE2")), (("GENE3",),)
    train = tuple(c for c in conditions if c and c not in (*test, *val))
    sets = GeneSets({f"GENE{i}": frozenset({f"T{i % 3}", f"T{i % 4}"}) for i in range(20)}) if go == "some" else go
    return Problem(of.of((*train, *val)), train, val, test, go=sets, seed=seed)


def parts(label):
    return tuple(sorted(part for part in label.split("+") if part != "ctrl"))


QUICK = GearsSettings(hidden=8, epochs=2, batch=16, control_cells=20)


def test_a_seed_gives_the_same_profiles_and_leaves_the_generators_alone():
    before = torch.random.get_rng_state()
    first, again, other = (fit_predict(made_problem(seed=seed), QUICK) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.shape == (2, 40) and first.dtype == np.float64 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_training_lowers_the_loss_with_and_without_the_uncertainty_head():
    settings = GearsSettings(hidden=16, epochs=4, batch=16, learning_rate=5e-3, control_cells=20)
    losses = FittedGears(made_problem(), settings).losses
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert np.isfinite(fit_predict(made_problem(), GearsSettings(hidden=8, epochs=1, uncertainty=True))).all()


def test_the_epoch_with_the_smallest_validation_error_is_kept():
    fitted = FittedGears(made_problem(), QUICK)
    pairs, states, errors = fitted._pairs(np.random.default_rng(0)), [], iter([3.0, 1.0, 2.0])

    def validate():
        assert not fitted.network.training
        states.append({name: value.clone() for name, value in fitted.network.state_dict().items()})
        return next(errors)

    control, none = fitted.problem.control, fitted.vectors_of
    train(fitted.network, pairs, control, none, np.random.default_rng(0), epochs=3, batch=16, validate=validate)
    for name, value in fitted.network.state_dict().items():
        assert torch.equal(value, states[1][name])
    assert not torch.equal(states[1]["indv_w1"], states[2]["indv_w1"])


def test_targets_without_terms_are_nodes_of_their_own():
    sets = GeneSets({f"GENE{i}": frozenset({"T", f"T{i % 4}"}) for i in range(4)}, "sets.gmt")
    problem = made_problem(go=sets)
    assert missing_terms(problem) == ["GENE4"]
    names, adjacency = perturbation_graph(problem, QUICK)
    node = names.index("GENE4")
    assert adjacency[node].toarray().ravel().tolist() == [float(i == node) for i in range(len(names))]
    note = Gears().notes(problem)["targets without GO terms"]
    assert "1 of 5" in note and "GENE4" in note and "sets.gmt" in note
    assert missing_terms(made_problem(go=None)) == [f"GENE{i}" for i in range(5)]
    assert np.isfinite(fit_predict(made_problem(go=None), QUICK)).all()
    fitted = FittedGears(problem, QUICK)
    control, perturbed = fitted.predict([(), ("GENE4",)])
    assert np.abs(control - perturbed).max() > 1e-3


def test_a_genes_own_vector_stands_in_where_the_model_has_none():
    matrix = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    matrix[[3, 7]] = np.nan
    fitted = FittedGears(made_problem(), QUICK, matrix)
    network = fitted.network
    assert network.gene_without.weight.shape == (2, 8) and network.gene_projection.weight.shape == (8, 12)
    assert not hasattr(network, "gene_emb")
    with torch.no_grad():
        genes = network._genes(fitted.vectors_of(np.array([0])))[0]
    np.testing.assert_array_equal(genes[[3, 7]], network.gene_without.weight.detach())
    lengths = np.square(fitted.vectors_of(np.array([0])).numpy()[0]).sum(axis=1)
    np.testing.assert_allclose(np.nanmean(lengths), 1, rtol=1e-5)
    scaled = fit_predict(made_problem(), QUICK, 100 * matrix + 7)  # neither scale nor offset is an advantage
    np.testing.assert_allclose(fitted.predict(fitted.problem.test), scaled, atol=1e-3)


@pytest.mark.parametrize("graft", ["projected", "scfoundation", "cellfm"])
def test_contextual_vectors_are_read_for_the_batch_alone(graft):
    rng, most = np.random.default_rng(0), []
    held = rng.normal(size=(30, 40, 8)).astype(np.float32)

    def vectors(places):
        most.append(len(places))
        return held[places]

    settings = GearsSettings(hidden=8, epochs=1, batch=8, control_cells=10, graft=graft)
    found = fit_predict(made_problem(), settings, vectors)
    assert np.isfinite(found).all() and max(most) <= 16
    np.testing.assert_array_equal(found, fit_predict(made_problem(), settings, held))
    held[4, 5] = np.nan  # a gene that one cell does not express
    assert np.isfinite(fit_predict(made_problem(), settings, held)).all()


def test_static_vectors_equal_the_same_in_every_cell():
    """The short way, gene vectors once for all cells, gives what the long way gives."""
    torch.manual_seed(0)
    coexpress, go = (
        normalised(np.array([[0, 1], [2, 0]]), np.ones(2, np.float32), 6),
        normalised(np.array([[0], [1]]), np.ones(1, np.float32), 3),
    )
    network = GearsNetwork(go, coexpress, 4, graft="projected", width=5)
    other = GearsNetwork(go, coexpress, 4, graft="projected", width=5)
    other.load_state_dict(network.state_dict())
    vectors, basal, sets = torch.randn(1, 6, 5), torch.randn(5, 6), [(), (0,), (0, 2), (0,), ()]
    short, long = network(basal, sets, vectors), other(basal, sets, vectors.expand(5, -1, -1))
    close(short, long.detach())
    for net, out in ((network, short), (other, long)):
        (out**2).sum().backward()
        assert net.gene_projection.weight.grad is not None
    for name, own in network.named_parameters():
        if own.grad is not None:
            torch.testing.assert_close(own.grad, other.get_parameter(name).grad, atol=1e-4, rtol=1e-3)
    for name, own in network.state_dict().items():
        torch.testing.assert_close(own, other.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_wrong_settings_and_vectors_are_refused():
    with pytest.raises(InputError, match=r"gears\.graft=whole"):
        GearsSettings(graft="whole")
    with pytest.raises(InputError, match="at least two cells"):
        GearsSettings(batch=1)
    with pytest.raises(InputError, match=r"model\.layers"):
        Gears(layers=3)
    problem = made_problem()
    with pytest.raises(InputError, match=r"\(40, d\)"):
        fit_predict(problem, QUICK, np.zeros((39, 4)))
    with pytest.raises(InputError, match="no measured gene"):
        fit_predict(problem, QUICK, np.full((40, 4), np.nan))
    with pytest.raises(InputError, match=r"gears\.hidden=4"):
        fit_predict(problem, GearsSettings(hidden=8, graft="scfoundation"), np.ones((40, 4)))


def test_registered():
    from harness.loading import load_model

    assert isinstance(load_model("gears", epochs=1), Gears)
