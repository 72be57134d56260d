"""Which transcription factor regulates which gene: a table such as TRRUST's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.places import file_at
from tasks.gene_names import some
from tasks.gene_tables import read_pairs

COLUMNS = ("tf", "target")


@dataclass(frozen=True)
class Universe:
    """The pairs that are scored: each TF with each candidate but itself.

    Parameters
    ----------
    tfs, candidates
        Places in the list of genes, int (t,) and (c,): TFs with a target in the list, and the targets of any of them.
    true
        Bool (t, c), the pairs of the table.
    scored
        Bool (t, c), all but self pairs.
    """

    tfs: np.ndarray
    candidates: np.ndarray
    true: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class Regulation:
    """TF-target pairs, distinct, without self pairs.

    Parameters
    ----------
    pairs
        (TF, target), sorted.
    name
        Of the file, for notes.
    """

    pairs: tuple[tuple[str, str], ...]
    name: str = "regulation"
    #: sha256 of the file, part of what can change a number.
    content: str = field(default="", compare=False)

    @property
    def genes(self) -> frozenset[str]:
        """All TFs and targets."""
        return frozenset(gene for pair in self.pairs for gene in pair)

    def universe(self, genes: Sequence[str]) -> Universe:
        """The pairs among some genes (distinct names); it has no TF where they hold no pair."""
        place = {gene: i for i, gene in enumerate(genes)}
        known = [(place[tf], place[target]) for tf, target in self.pairs if tf in place and target in place]
        pairs = np.array(known, np.int64).reshape(-1, 2)
        tfs, row = np.unique(pairs[:, 0], return_inverse=True)
        candidates, column = np.unique(pairs[:, 1], return_inverse=True)
        true = np.zeros((len(tfs), len(candidates)), bool)
        true[row, column] = True
        return Universe(tfs, candidates, true, tfs[:, None] != candidates[None, :])

    def notes(self, measured: Sequence[str]) -> dict[str, Any]:
        """How many TFs and targets are not among the measured genes, and some of their names."""
        known, found = set(measured), {}
        for what, column in zip(("TFs", "targets"), zip(*self.pairs, strict=True), strict=True):
            names = sorted(set(column))
            missing = [gene for gene in names if gene not in known]
            found[f"{what} measured"] = f"{len(names) - len(missing)} of {len(names)}"
            if missing:
                found[f"{what} not measured"] = some(missing)
        return found


def read_regulation(path: str | Path, setting: str = "task.regulation") -> Regulation:
    """TF-target pairs of a table with a header, tabs or commas between the columns, gzipped or not.

    The columns `tf` and `target` (in any case) hold gene symbols; others (`mode`) are not read: a similarity has no
    sign of regulation. Pairs that repeat count once, and a TF that regulates itself is left out.

    Parameters
    ----------
    path
        `data://FILE` is a file under `CELLFM_BENCH_DATA`.
    setting
        What names it, for messages.

    Raises
    ------
    InputError
        The file is missing, lacks a column, or holds no pair.
    """
    found = file_at(path, setting)
    return _read(found, found.stat().st_mtime_ns, setting)


@cache
def _read(found: Path, changed: int, setting: str) -> Regulation:
    """The pairs of a file, read once for all runs of a grid."""
    both, content = read_pairs(found, changed, setting, COLUMNS)
    pairs = sorted({(tf, target) for tf, target in both if tf != target})
    if not pairs:
        raise InputError(f"{setting}={found}: the file holds no pair of a TF and another gene")
    return Regulation(tuple(pairs), found.name, content)
