"""Which gene sets a group of genes holds more of than chance gives: the hypergeometric test, and Benjamini-Hochberg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from tasks.gene_relationships.programs import SMALLEST
from tasks.gene_sets import GeneSets

if TYPE_CHECKING:
    import scipy.sparse as sp

#: False discovery rate under which a set is enriched.
FDR = 0.05


@dataclass(frozen=True)
class KnownSets:
    """The sets that are tested, among the genes of a background.

    Parameters
    ----------
    names
        One per set; a name may stand in two files.
    members
        Genes × sets, 0 or 1.
    """

    names: tuple[str, ...]
    members: sp.csr_matrix


@dataclass(frozen=True)
class Enrichment:
    """Programs × sets.

    Parameters
    ----------
    overlap
        Genes that a program and a set share, int.
    p
        Probability of so many or more in a random draw of the program's size.
    q
        p adjusted over all programs and sets (Benjamini-Hochberg).
    """

    overlap: np.ndarray
    p: np.ndarray
    q: np.ndarray

    @property
    def n_enriched(self) -> int:
        """Sets with q below 0.05 in any program."""
        return int((self.q < FDR).any(axis=0).sum())

    def best(self) -> np.ndarray:
        """The set of the least p of each program, int; -1 where no set shares a gene with it."""
        if not self.p.size:
            return np.full(len(self.p), -1)
        return np.where(self.overlap.any(axis=1), self.p.argmin(axis=1), -1)


def known_sets(files: Sequence[GeneSets], background: Sequence[str], smallest: int = SMALLEST) -> KnownSets:
    """Sets of several files that have at least `smallest` genes in the background.

    Raises
    ------
    InputError
        There is none.
    """
    import scipy.sparse as sp

    place = {gene: i for i, gene in enumerate(background)}
    names: list[str] = []
    rows: list[int] = []
    columns: list[int] = []
    for file in files:
        for name, genes in file.sets.items():
            inside = sorted(place[gene] for gene in genes if gene in place)
            if len(inside) >= smallest:
                rows += inside
                columns += [len(names)] * len(inside)
                names.append(name)
    if not names:
        raise InputError(
            f"{', '.join(file.name for file in files)}: no set has {smallest} of the {len(background)} genes "
            f"({', '.join(list(background)[:3])} …); gene symbols of the same species are expected"
        )
    members = sp.csr_matrix((np.ones(len(rows), np.int64), (rows, columns)), shape=(len(background), len(names)))
    return KnownSets(tuple(names), members)


def enrichment(groups: Sequence[np.ndarray], sets: KnownSets) -> Enrichment:
    """Test each group of genes against each set; the background is all genes.

    Parameters
    ----------
    groups
        Places of the genes of each, int.
    """
    import scipy.sparse as sp
    from scipy.stats import false_discovery_control, hypergeom

    n_genes, n_sets = sets.members.shape
    sizes = np.array([len(group) for group in groups], np.int64)
    where = (np.repeat(np.arange(len(groups)), sizes), np.concatenate([np.zeros(0, np.int64), *groups]))
    of_group = sp.csr_matrix((np.ones(len(where[0]), np.int64), where), shape=(len(groups), n_genes))
    overlap = (of_group @ sets.members).toarray()
    p = np.ones((len(groups), n_sets))
    if not len(groups):
        return Enrichment(overlap, p, p.copy())
    # Most pairs share nothing (p = 1), and the others repeat: each distinct case is computed once.
    row, column = np.nonzero(overlap)
    set_sizes = np.asarray(sets.members.sum(axis=0)).ravel()
    cases = np.stack([overlap[row, column], set_sizes[column], sizes[row]])
    distinct, which = np.unique(cases, axis=1, return_inverse=True)
    shared, of_set, drawn = distinct
    p[row, column] = np.minimum(hypergeom.sf(shared - 1, n_genes, of_set, drawn), 1.0)[which.ravel()]
    return Enrichment(overlap, p, false_discovery_control(p.ravel(), method="bh").reshape(p.shape))
