"""Baselines: predictions as recorded, nothing of the test side read, and what stands in is counted."""

import numpy as np
import pytest
import scipy.sparse as sp

from harness.config import compose_group
from harness.errors import NotApplicableError
from harness.registry import MODELS
from tasks.gene_sets import GeneSets
from tasks.perturbation import baselines
from tasks.perturbation.baselines import additive, likeness, nearest, perturbed_mean, single_profiles, term_vectors
from tasks.perturbation.cells import PerturbedCells
from tasks.perturbation.conditions import CONTROL
from tasks.perturbation.linear import gene_components, linear_fit_predict
from tasks.perturbation.problem import Problem
from tests.tasks.perturbation.recorded import arrays, conditions, predictors, rows_of, same

NAMES = (
    "no_change",
    "train_mean",
    "matching_mean",
    "additive",
    "nearest_perturbation",
    "latent_linear",
    "go_ridge",
)


def problem_of(profiles, genes, train, test, go=None):
    """A problem with one cell per condition, its mean profile; control is the first."""
    known = sorted(train)
    values = sp.csr_matrix(np.stack([profiles[condition] for condition in [CONTROL, *known]]))
    cells = PerturbedCells(values, np.array(genes), (CONTROL, *known), np.arange(len(known) + 1))
    return Problem(cells, tuple(train), (), tuple(test), go)


@pytest.fixture(scope="module")
def recorded():
    """The recorded problem: all conditions are asked, those of the training part are known."""
    given = arrays()
    names = [tuple(name.split("+")) for name in conditions()]
    profiles = dict(zip(names, given["truth_means"], strict=True)) | {CONTROL: given["ctrl_mean"]}
    train = [name for name, part in zip(names, given["split"], strict=True) if part == "train"]
    return problem_of(profiles, given["genes"].tolist(), train, names)


def predict(name, problem):
    return baseline(name).predict(problem)


def baseline(name):
    return MODELS.get(name)()


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("no_change", "no_change"),
        ("train_mean", "mean_of_train_conditions"),
        ("matching_mean", "matching_mean_systema"),
        ("additive", "additive_train_only"),
    ],
)
def test_registered_baselines_predict_what_is_recorded(recorded, name, record):
    same(predict(name, recorded), arrays()[f"pred/{record}"])


def test_perturbed_mean_is_as_recorded(recorded):
    means = baselines.known_means(recorded)
    same(np.tile(perturbed_mean(means, np.full(len(means), 11)), (30, 1)), arrays()["pred/perturbed_mean_systema"])
    np.testing.assert_allclose(perturbed_mean(np.array([[0.0], [3.0]]), np.array([2, 1])), [1])


def test_additive_with_every_single_measured_is_as_recorded():
    given = arrays()
    names = [tuple(name.split("+")) for name in conditions()]
    singles = single_profiles(names, given["truth_means"])
    found = additive(names, singles, given["ctrl_mean"], np.full(200, np.nan))
    same(found, given["pred/additive"])


def test_linear_model_is_as_recorded(recorded, monkeypatch):
    monkeypatch.setattr(baselines, "COMPONENTS", int(arrays()["linear_pca_dim"]))
    found, rows = predict("latent_linear", recorded), rows_of("linear_G_P_from_training")
    same(found[rows], arrays()["pred/linear_G_P_from_training"][rows])
    assert np.isfinite(found).all()  # pairs and a gene that is not measured have a prediction here


@pytest.mark.parametrize("name", ["linear_external_G", "linear_external_P"])
def test_linear_model_with_other_vectors_is_as_recorded(recorded, name):
    given, column = arrays(), recorded.cells.column
    profiles = np.column_stack([recorded.control, *baselines.known_means(recorded)])
    components = gene_components(profiles, int(given["linear_pca_dim"]))
    if name == "linear_external_G":
        genes, vectors = given["ext_gene_embedding"], {gene: components[column[gene]] for gene in column}
    else:
        names = given["ext_pert_names"].tolist()
        genes, vectors = components, dict(zip(names, given["ext_pert_embedding"].T, strict=True))
    learned = [c for c in recorded.known if c[0] in vectors]
    changes = np.column_stack([recorded.cells.mean(c) - recorded.control for c in [CONTROL, *learned]])
    trained = np.column_stack([np.zeros(len(vectors["AHR"])), *(vectors[c[0]] for c in learned)])
    rows = rows_of(name)
    asked = np.column_stack([vectors[conditions()[row]] for row in rows])
    found = linear_fit_predict(changes, genes, trained, asked, float(given["linear_ridge"]))
    same(recorded.control + found.T, given[f"pred/{name}"][rows])


def test_every_recorded_baseline_is_checked():
    made = {"noisy_truth", "shrunk_truth"}  # made from the truth, to be scored
    assert set(predictors()) - made == {
        "no_change",
        "mean_of_train_conditions",
        "perturbed_mean_systema",
        "matching_mean_systema",
        "additive",
        "additive_train_only",
        "linear_G_P_from_training",
        "linear_external_G",
        "linear_external_P",
    }


def small(train=("A", "B", "C", "A+B"), test=("D", "A+C", "A+D", "D+E"), go=None, seed=0):
    rng = np.random.default_rng(seed)
    names = [tuple(name.split("+")) for name in train]
    profiles = {name: rng.gamma(2, 1, 12) for name in [CONTROL, *names]}
    genes = ["A", "B", "D", *(f"X{i}" for i in range(9))]
    return problem_of(profiles, genes, names, [tuple(name.split("+")) for name in test], go)


GO = GeneSets({"A": frozenset("12"), "B": frozenset("3"), "C": frozenset("45"), "D": frozenset("456")}, "made.gmt")


@pytest.mark.parametrize("name", NAMES)
def test_registered_baselines_predict_every_condition(name):
    problem = small(go=GO)
    model = baseline(name)
    found = model.predict(problem)
    assert found.shape == (4, 12) and np.isfinite(found).all()
    assert found.tolist() == model.predict(problem).tolist()
    assert model.spec.name == name and "perturbation" in model.spec.tasks
    assert compose_group("model", name)["name"] == name
    assert all(isinstance(value, str) for value in model.notes(problem).values())


@pytest.mark.parametrize("name", NAMES)
def test_one_training_condition_is_enough(name):
    problem = small(train=("A",), test=("D",), go=GO)
    assert np.isfinite(predict(name, problem)).all()


def test_parts_never_seen_alone_are_counted():
    problem = small()
    mean = baselines.known_means(problem).mean(axis=0)
    found = predict("additive", problem)
    np.testing.assert_allclose(found[0], mean)  # D alone: the mean change
    np.testing.assert_allclose(
        found[1], problem.cells.mean(("A",)) + problem.cells.mean(("C",)) - problem.control, atol=1e-12
    )
    np.testing.assert_allclose(found[2], problem.cells.mean(("A",)) + mean - problem.control)
    notes = baseline("additive").notes(problem)
    assert notes["conditions with a part never seen alone"] == "3 of 4, all parts of 2"
    assert notes["parts never seen alone"].startswith("D, E: the mean change")
    assert baseline("additive").notes(small(test=("A+C",))) == {}


def test_nearest_by_genes_and_by_terms():
    by_genes = small()
    found, means = predict("nearest_perturbation", by_genes), baselines.known_means(by_genes)
    np.testing.assert_allclose(found[0], means.mean(axis=0))  # D: nothing is shared
    np.testing.assert_allclose(found[2], by_genes.cells.mean(("A",)))  # A+D: A alone is nearer than A+B
    np.testing.assert_allclose(found[1], (by_genes.cells.mean(("A",)) + by_genes.cells.mean(("C",))) / 2)  # tie
    assert baseline("nearest_perturbation").notes(by_genes)["conditions similar to none"].startswith("2 of 4")
    by_terms = small(go=GO)
    np.testing.assert_allclose(predict("nearest_perturbation", by_terms)[0], by_terms.cells.mean(("C",)))
    assert "made.gmt" in baseline("nearest_perturbation").notes(by_terms)["similar by"]


def test_likeness_is_the_cosine_of_terms_and_genes():
    found = likeness([("D",), ("A", "D")], [("C",), ("A",)], GO)
    # Vectors: D has three terms and itself, C two and itself, of which two terms are shared.
    np.testing.assert_allclose(found[0], [2 / np.sqrt(4 * 3), 0])
    np.testing.assert_allclose(found[1], [2 / np.sqrt(7 * 3), 3 / np.sqrt(7 * 3)])
    assert nearest(np.zeros((1, 2)), np.eye(2), np.array([5.0, 6.0])).tolist() == [[5, 6]]


def test_linear_model_says_what_is_not_measured():
    problem = small()
    notes = baseline("latent_linear").notes(problem)
    assert notes["conditions not learned from"].startswith("1 of 4")  # C
    assert notes["test genes not measured"].startswith("C, E")
    with pytest.raises(NotApplicableError, match="no gene perturbed in training is measured"):
        predict("latent_linear", small(train=("C",)))


def test_unmeasured_targets_are_not_the_control():
    """Zeros are the control's vector: the prediction of an unmeasured gene must not be that of no perturbation."""
    problem = small(test=("E", "E+Z"))
    one, two = predict("latent_linear", problem)
    assert not np.allclose(one, two)
    learned = [("A",), ("B",), ("A", "B")]
    changes = np.column_stack([np.zeros(12), *(problem.cells.mean(c) - problem.control for c in learned)])
    assert not np.allclose(one - problem.control, changes.mean(axis=1), atol=1e-3)


def test_go_ridge_needs_gene_sets():
    with pytest.raises(NotApplicableError, match="gene sets are needed"):
        predict("go_ridge", small())
    with pytest.raises(NotApplicableError, match=r"made\.gmt"):
        predict("go_ridge", small(go=GeneSets({"Z": frozenset("1")}, "made.gmt")))
    assert baseline("go_ridge").notes(small(go=GO))["targets in no gene set"].startswith("E: mean vector")


def test_term_vectors_have_the_products_of_terms():
    genes = ["A", "B", "C", "D"]
    terms = GO.incidence(genes)
    vectors = term_vectors(GO, genes)
    np.testing.assert_allclose(vectors @ vectors.T, (terms @ terms.T).toarray(), atol=1e-12)


def test_go_ridge_learns_from_shared_terms():
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 1, (3, 12))  # of three terms
    genes = {f"G{i}": [j for j in range(3) if (i >> j) & 1] for i in range(1, 8)}
    go = GeneSets({gene: frozenset(map(str, own)) for gene, own in genes.items()})
    control = rng.gamma(5, 1, 12)
    profiles = {(gene,): control + effects[own].sum(axis=0) for gene, own in genes.items()} | {CONTROL: control}
    test = [("G7",)]
    problem = problem_of(profiles, [f"X{i}" for i in range(12)], [c for c in profiles if c and c not in test], test, go)
    wrong = np.abs(predict("train_mean", problem)[0] - profiles[test[0]]).mean()
    assert np.abs(predict("go_ridge", problem)[0] - profiles[test[0]]).mean() < 0.3 * wrong
