"""Repeated folds of genes: drawn at random, and with the members of a family kept together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.gene_function.labels import GeneLabels

#: Kinds of folds, and what the names of their metrics end in.
KINDS = {"random": "", "family": "_family"}


@dataclass(frozen=True)
class GeneFold:
    """One fold of one repeat: genes to train on and genes to test, int (n,)."""

    kind: str
    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray

    @property
    def key(self) -> str:
        """`2.5`: fold 5 of repeat 2, both counted from 1. Folds with the same number before the point share a draw."""
        return f"{self.repeat + 1}.{self.fold + 1}"


def folds(
    labels: GeneLabels, kind: str, n_folds: int, seeds: Sequence[int], families: np.ndarray | None = None
) -> Iterator[GeneFold]:
    """Folds by scikit-learn's splitters, stratified where classes exclude each other.

    They hang on the genes, their labels and the seeds alone: every model is asked the same.

    Parameters
    ----------
    kind
        `random` or `family`.
    seeds
        One per repeat.
    families
        Number of the family of each gene (n,), for `family`.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    nothing = np.zeros(len(labels.genes))
    for repeat, seed in enumerate(seeds):
        shuffled = {"n_splits": n_folds, "shuffle": True, "random_state": int(seed)}
        if kind == "random":
            made = (StratifiedKFold if labels.exclusive else KFold)(**shuffled)
        else:
            made = (StratifiedGroupKFold if labels.exclusive else GroupKFold)(**shuffled)
        target = labels.codes if labels.exclusive else nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class with fewer genes than folds was counted before
            for fold, (train, test) in enumerate(made.split(nothing, target, groups=families)):
                yield GeneFold(kind, repeat, fold, train, test)
