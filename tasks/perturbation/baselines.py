"""What predicts a perturbation without a network: no change, the mean change, the parts added, the nearest known one.

Every table needs them: Ahlmann-Eltze et al. 2025 and Vinas Torne et al. 2025 (Systema) show that published networks are
not better. They learn from the conditions that train or validate (`Problem.known`). No test condition is ever read,
also not where a part of a test pair was measured alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import NotApplicableError
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.gene_names import some
from tasks.gene_sets import GeneSets
from tasks.perturbation.conditions import Condition
from tasks.perturbation.embedding_ridge import ridge_on_vectors
from tasks.perturbation.linear import COMPONENTS, gene_components, linear_fit_predict
from tasks.perturbation.problem import PerturbationBaseline, Problem

LINEAR = "Ahlmann-Eltze et al., Nature Methods 2025, doi:10.1038/s41592-025-02772-6"
SYSTEMA = "Vinas Torne et al., Nature Biotechnology 2025, doi:10.1038/s41587-025-02777-8"


def single_profiles(conditions: Sequence[Condition], means: np.ndarray) -> dict[str, np.ndarray]:
    """Gene -> mean profile (g,) of the condition in which it alone was perturbed."""
    return {c[0]: mean for c, mean in zip(conditions, means, strict=True) if len(c) == 1}


def perturbed_mean(means: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean of all perturbed cells, (g,): means of conditions (n, g) weighted by their sizes (n,)."""
    return np.average(means, axis=0, weights=sizes)


def matching_mean(test: Sequence[Condition], singles: Mapping[str, np.ndarray], unseen: np.ndarray) -> np.ndarray:
    """Mean of the profiles of a condition's parts, (n_test, g); `unseen` (g,) for a part that was not seen alone."""
    return np.stack([np.mean([singles.get(gene, unseen) for gene in condition], axis=0) for condition in test])


def additive(
    test: Sequence[Condition], singles: Mapping[str, np.ndarray], control: np.ndarray, unseen: np.ndarray
) -> np.ndarray:
    """Control and the changes of the parts, (n_test, g); the change of `unseen` (g,) for a part not seen alone."""
    return np.stack(
        [control + np.sum([singles.get(gene, unseen) - control for gene in condition], axis=0) for condition in test]
    )


def likeness(a: Sequence[Condition], b: Sequence[Condition], go: GeneSets | None) -> np.ndarray:
    """Cosine of what conditions are about, float (n, m) from 0 to 1.

    A condition is the sum over its genes of their terms, each gene being a term of its own: without gene sets it is the
    perturbed genes that are shared.
    """
    genes = sorted({gene for condition in (*a, *b) for gene in condition})
    place = {gene: i for i, gene in enumerate(genes)}
    of_genes = np.eye(len(genes))
    if go is not None:
        terms = go.incidence(genes)
        of_genes += (terms @ terms.T).toarray()

    def products(left: Sequence[Condition], right: Sequence[Condition]) -> np.ndarray:
        rows, columns = ([[place[gene] for gene in c] for c in each] for each in (left, right))
        sums = np.stack([of_genes[row].sum(axis=0) for row in rows])
        return np.stack([sums[:, column].sum(axis=1) for column in columns], axis=1)

    own = [np.array([products([c], [c])[0, 0] for c in each]) for each in (a, b)]
    return products(a, b) / np.sqrt(np.outer(*own))


def nearest(similar: np.ndarray, known: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Profile of the most similar known condition, (n_test, g); of several the mean; `fallback` where none is similar.

    Parameters
    ----------
    similar
        (n_test, n_known).
    known
        Mean profiles, (n_known, g).
    """
    best = np.isclose(similar, similar.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    profiles = best @ known / best.sum(axis=1, keepdims=True)
    return np.where(similar.max(axis=1, keepdims=True) > 0, profiles, fallback)


def known_means(problem: Problem) -> np.ndarray:
    """Mean profiles of the known conditions, float64 (n, g)."""
    return np.stack([problem.cells.mean(condition) for condition in problem.known])


def constant(problem: Problem, profile: np.ndarray) -> np.ndarray:
    """The same profile for every test condition, (n_test, g)."""
    return np.tile(profile, (len(problem.test), 1))


@register_model("no_change")
class NoChange(PerturbationBaseline):
    """The control mean."""

    spec = baseline_spec("perturbation", "no_change", "No change", paper=LINEAR)

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        return constant(problem, problem.control)


@register_model("train_mean")
class TrainMean(PerturbationBaseline):
    """The mean of the known conditions, each counting once."""

    spec = baseline_spec("perturbation", "train_mean", "Mean perturbation", paper=LINEAR)

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        return constant(problem, known_means(problem).mean(axis=0))


class OfParts(PerturbationBaseline):
    """Put together from the single perturbations of a condition's genes, those that are known."""

    stand_in: str

    def notes(self, problem: Problem) -> dict[str, Any]:
        """How many conditions have parts that were never seen alone."""
        singles = single_profiles(problem.known, known_means(problem))
        missing = [[gene for gene in condition if gene not in singles] for condition in problem.test]
        names = sorted({gene for genes in missing for gene in genes})
        if not names:
            return {}
        some_parts = sum(map(bool, missing))
        all_parts = sum(len(genes) == len(c) for genes, c in zip(missing, problem.test, strict=True))
        return {
            "conditions with a part never seen alone": f"{some_parts} of {len(missing)}, all parts of {all_parts}",
            "parts never seen alone": f"{some(names)}: {self.stand_in} in their place",
        }


@register_model("matching_mean")
class MatchingMean(OfParts):
    """The mean of the profiles of a condition's parts."""

    spec = baseline_spec("perturbation", "matching_mean", "Matching mean", paper=SYSTEMA)
    stand_in = "the mean of all perturbed cells"

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        means = known_means(problem)
        sizes = np.array([problem.cells.sizes[problem.cells.index[c]] for c in problem.known])
        return matching_mean(problem.test, single_profiles(problem.known, means), perturbed_mean(means, sizes))


@register_model("additive")
class Additive(OfParts):
    """Control and the sum of the changes of a condition's parts."""

    spec = baseline_spec("perturbation", "additive", "Additive", paper=LINEAR)
    stand_in = "the mean change of the known conditions"

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        means = known_means(problem)
        return additive(problem.test, single_profiles(problem.known, means), problem.control, means.mean(axis=0))


@register_model("nearest_perturbation")
class NearestPerturbation(PerturbationBaseline):
    """The known condition with the most similar genes; the mean perturbation where nothing is shared."""

    spec = baseline_spec("perturbation", "nearest_perturbation", "Nearest perturbation")

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        means = known_means(problem)
        return nearest(likeness(problem.test, problem.known, problem.go), means, means.mean(axis=0))

    def notes(self, problem: Problem) -> dict[str, Any]:
        """By what conditions are similar, and how many are similar to none."""
        alone = (likeness(problem.test, problem.known, problem.go) == 0).all(axis=1).sum()
        by = "perturbed genes" if problem.go is None else f"perturbed genes and their terms of {problem.go.name}"
        return {
            "similar by": by,
            "conditions similar to none": f"{alone} of {len(problem.test)}: the mean perturbation in their place",
        }


@register_model("latent_linear")
class LatentLinear(PerturbationBaseline):
    """The published linear model: genes by their principal components, a perturbation by the row of its gene.

    It learns from the conditions whose genes are all measured. A test gene that is not measured has the mean row of the
    genes that were learned from, never zeros, which would be the control's.
    """

    spec = baseline_spec("perturbation", "latent_linear", "Linear model", paper=LINEAR)

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`."""
        learned = self._learned(problem)
        if not learned:
            raise NotApplicableError(f"{self.spec.title}: no gene perturbed in training is measured in these cells")
        column, control = problem.cells.column, problem.control
        genes = gene_components(np.column_stack([control, *known_means(problem)]), COMPONENTS)
        mean_row = np.mean([genes[column[gene]] for gene in sorted({g for c in learned for g in c})], axis=0)

        def vectors(conditions: Sequence[Condition]) -> np.ndarray:
            rows = [[genes[column[g]] if g in column else mean_row for g in condition] for condition in conditions]
            return np.stack([np.sum(row, axis=0) for row in rows], axis=1)

        changes = np.column_stack([np.zeros(len(control)), *(problem.cells.mean(c) - control for c in learned)])
        trained = np.column_stack([np.zeros(genes.shape[1]), vectors(learned)])
        return control + linear_fit_predict(changes, genes, trained, vectors(problem.test)).T

    def notes(self, problem: Problem) -> dict[str, Any]:
        """Conditions left out of the fit, and test genes that are not measured."""
        found: dict[str, Any] = {}
        if left := len(problem.known) - len(self._learned(problem)):
            found["conditions not learned from"] = f"{left} of {len(problem.known)}: a gene is not measured"
        absent = sorted({gene for c in problem.test for gene in c if gene not in problem.cells.column})
        if absent:
            found["test genes not measured"] = f"{some(absent)}: the mean row of the training genes in their place"
        return found

    def _learned(self, problem: Problem) -> list[Condition]:
        return [c for c in problem.known if all(gene in problem.cells.column for gene in c)]


@register_model("go_ridge")
class GoRidge(PerturbationBaseline):
    """Ridge regression of the change on which terms the perturbed genes have, summed over them."""

    spec = baseline_spec("perturbation", "go_ridge", "Ridge on gene sets")

    def predict(self, problem: Problem) -> np.ndarray:
        """See `PerturbationBaseline.predict`; NotApplicableError without gene sets, or where no target is in them."""
        if problem.go is None:
            raise NotApplicableError(f"{self.spec.title}: gene sets are needed, task.go=FILE (GMT, or GEARS' gene2go)")
        genes = [gene for gene in problem.targets if problem.go.terms.get(gene)]
        if not {gene for condition in problem.known for gene in condition} & set(genes):
            raise NotApplicableError(f"{self.spec.title}: no gene perturbed in training is in {problem.go.name}")
        return ridge_on_vectors(problem, dict(zip(genes, term_vectors(problem.go, genes), strict=True)))

    def notes(self, problem: Problem) -> dict[str, Any]:
        """Targets without terms."""
        terms = {} if problem.go is None else problem.go.terms
        without = [gene for gene in problem.targets if not terms.get(gene)]
        return {"targets in no gene set": f"{some(without)}: mean vector in their place"} if without else {}


def term_vectors(go: GeneSets, genes: list[str]) -> np.ndarray:
    """Vectors whose products are the numbers of shared terms, float64 (n, n): a ridge regression reads no more."""
    terms = go.incidence(genes)
    values, axes = np.linalg.eigh((terms @ terms.T).toarray())
    return axes * np.sqrt(np.maximum(values, 0))
