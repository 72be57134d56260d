"""Which conditions train and which test: GEARS' simulation split, a column of the data set, or genes left out.

Roohani et al. 2024, Methods, "Data splits"; the draws are those of cell-gears 0.1.2: a seed names the same split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.errors import InputError
from tasks.perturbation.conditions import Condition, name_of

#: What of a test condition was seen in training, as GEARS names it.
UNSEEN_SINGLE, SEEN_0, SEEN_1, SEEN_2 = "unseen_single", "combo_seen0", "combo_seen1", "combo_seen2"
SUBGROUPS = (UNSEEN_SINGLE, SEEN_0, SEEN_1, SEEN_2)
#: Share of genes, and of pairs of seen genes, that train; then the share of these that does not validate.
TRAIN_SHARE, FIT_SHARE = 0.75, 0.9


@dataclass(frozen=True)
class ConditionSplit:
    """Perturbed conditions by their part; the control trains in every split.

    Parameters
    ----------
    subgroup
        Test condition -> what of it was seen (`SUBGROUPS`).
    """

    train: tuple[Condition, ...]
    val: tuple[Condition, ...]
    test: tuple[Condition, ...]
    subgroup: Mapping[Condition, str] = field(default_factory=dict)


def simulation(
    conditions: Sequence[Condition], seed: int, written: Mapping[Condition, str] | None = None
) -> ConditionSplit:
    """Genes drawn as seen; singles of unseen genes and pairs with one of them are tested, of the other pairs a quarter.

    Parameters
    ----------
    conditions
        Perturbed conditions of one or two genes.
    written
        How the file spells a pair (`B+A`): GEARS draws from pairs sorted by their spelling.
    """
    train, test, subgroup = _divide(conditions, TRAIN_SHARE, seed, written or {})
    fit, val, _ = _divide(train, FIT_SHARE, seed, written or {})
    return ConditionSplit(tuple(fit), tuple(val), tuple(test), subgroup)


def _divide(
    conditions: Sequence[Condition], share: float, seed: int, written: Mapping[Condition, str]
) -> tuple[list[Condition], list[Condition], dict[Condition, str]]:
    """Train and test of one round of drawing, by numpy's legacy generator, seeded anew for the pairs as GEARS does."""
    genes = np.unique([gene for condition in conditions for gene in condition])
    seen = set(np.random.RandomState(seed).choice(genes, int(len(genes) * share), replace=False).tolist())
    n_seen = {condition: sum(gene in seen for gene in condition) for condition in conditions}
    singles = [condition for condition in conditions if len(condition) == 1]
    pairs = [condition for condition in conditions if len(condition) == 2]
    subgroup = {c: UNSEEN_SINGLE for c in singles if not n_seen[c]}
    subgroup |= {c: (SEEN_0, SEEN_1)[n_seen[c]] for c in pairs if n_seen[c] < 2}
    both = sorted((c for c in pairs if n_seen[c] == 2), key=lambda c: written.get(c, name_of(c)))
    chosen = np.random.RandomState(seed).choice(len(both), int(len(both) * share), replace=False) if both else []
    kept = {both[i] for i in chosen}
    subgroup |= {c: SEEN_2 for c in both if c not in kept}
    return [c for c in conditions if c not in subgroup], [c for c in conditions if c in subgroup], subgroup


def given(conditions: Sequence[Condition], of_cell: np.ndarray, parts: np.ndarray, name: str) -> ConditionSplit:
    """The split that a column says; a condition is of one part whole.

    Parameters
    ----------
    of_cell
        Int (n,): index into `conditions`, negative for cells of no concern (controls).
    parts
        Unicode (n,): `train`, `val` or `test`; "" is left out.

    Raises
    ------
    InputError
        A condition of several parts, or no test or training condition.
    """
    found: dict[str, list[Condition]] = {"train": [], "val": [], "test": []}
    aliases = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
    for i, condition in enumerate(conditions):
        own = {aliases.get(part.lower(), part.lower()) for part in np.unique(parts[of_cell == i]).tolist()} - {""}
        if len(own) > 1 or own - set(found):
            raise InputError(
                f"{name}: dataset.split says {', '.join(sorted(own))} of cells of {name_of(condition)}; one of train, "
                "val and test is expected for all cells of a condition"
            )
        for part in own:
            found[part].append(condition)
    train, val, test = (tuple(found[part]) for part in ("train", "val", "test"))
    if not train or not test:
        raise InputError(f"{name}: dataset.split names {len(train)} training and {len(test)} test conditions")
    return ConditionSplit(train, val, test, subgroups_of(train + val, test))


def leave_genes_out(conditions: Sequence[Condition], folds: int, seed: int) -> list[tuple[str, ConditionSplit]]:
    """Perturbed genes in folds; all conditions that hold a gene of a fold are tested, none of them trains.

    Returns
    -------
    name of the fold (its genes) and its split

    Raises
    ------
    InputError
        Fewer genes than folds.
    """
    genes = np.unique([gene for condition in conditions for gene in condition])
    if len(genes) < folds or folds < 2:
        raise InputError(
            f"task.gene_folds={folds}: between 2 and {len(genes)}, the number of perturbed genes, is expected"
        )
    order = np.random.default_rng(seed).permutation(genes)
    found = []
    for part in np.array_split(order, folds):
        out = set(part.tolist())
        test = tuple(c for c in conditions if out & set(c))
        rest = tuple(c for c in conditions if not out & set(c))
        val = tuple(rest[i] for i in np.random.default_rng([seed, 1]).permutation(len(rest))[: len(rest) // 10])
        train = tuple(c for c in rest if c not in val)
        found.append(("+".join(sorted(out)), ConditionSplit(train, val, test, subgroups_of(rest, test))))
    return found


def subgroups_of(train: Sequence[Condition], test: Sequence[Condition]) -> dict[Condition, str]:
    """What of each test condition was perturbed, alone or in a pair, in training; a single that trains has none."""
    seen = {gene for condition in train for gene in condition}
    named = {}
    for condition in test:
        n = sum(gene in seen for gene in condition)
        if len(condition) == 2:
            named[condition] = (SEEN_0, SEEN_1, SEEN_2)[n]
        elif n == 0:
            named[condition] = UNSEEN_SINGLE
    return named
