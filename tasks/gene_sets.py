"""Which terms a gene has: GO, pathways, any sets of genes, from the files they come in."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.places import file_at

if TYPE_CHECKING:
    import scipy.sparse as sp


@dataclass(frozen=True)
class GeneSets:
    """Gene -> its terms.

    Parameters
    ----------
    terms
        Gene symbol -> names of the sets it is in.
    name
        Of the file, for notes.
    """

    terms: dict[str, frozenset[str]]
    name: str = "gene sets"
    #: sha256 of the file, part of what can change a number.
    content: str = field(default="", compare=False)

    @cached_property
    def genes(self) -> list[str]:
        """Genes that have a term, sorted."""
        return sorted(gene for gene, terms in self.terms.items() if terms)

    @cached_property
    def sets(self) -> dict[str, frozenset[str]]:
        """Term -> its genes, terms sorted."""
        found: dict[str, set[str]] = {}
        for gene, own in self.terms.items():
            for term in own:
                found.setdefault(term, set()).add(gene)
        return {term: frozenset(found[term]) for term in sorted(found)}

    def incidence(self, genes: list[str]) -> sp.csr_matrix:
        """Genes × terms, float64 of 0 and 1; a gene without terms has an empty row."""
        import scipy.sparse as sp

        names = sorted({term for gene in genes for term in self.terms.get(gene, ())})
        place = {term: i for i, term in enumerate(names)}
        rows = [(i, place[term]) for i, gene in enumerate(genes) for term in self.terms.get(gene, ())]
        where = np.array(rows, np.int64).reshape(-1, 2).T
        return sp.csr_matrix((np.ones(len(rows)), where), shape=(len(genes), len(names)))


def read_gene_sets(path: str | Path, setting: str = "task.go") -> GeneSets:
    """Gene sets of a GMT file (`.gmt`, `.gmt.gz`: name, description, genes), or GEARS' `gene2go` pickle (`.pkl`).

    Parameters
    ----------
    path
        `data://FILE` is a file under `CELLFM_BENCH_DATA`.
    setting
        What names it, for messages.

    Raises
    ------
    InputError
        The file is missing, empty, or of another form.
    """
    found = file_at(path, setting)
    return _read(found, found.stat().st_mtime_ns, setting)


@cache
def _read(found: Path, changed: int, setting: str) -> GeneSets:
    """The gene sets of a file, read once for all runs of a grid."""
    from harness.checkpoints import sha256_of

    terms: dict[str, set[str]] = {}
    if found.suffix == ".pkl":
        from harness.safe_pickle import load_plain_pickle

        held = load_plain_pickle(found)
        if not isinstance(held, dict):
            raise InputError(
                f"{setting}={found}: a dictionary of gene -> terms is expected, found {type(held).__name__}"
            )
        terms = {str(gene): {str(term) for term in own} for gene, own in held.items()}
    else:
        opener = gzip.open if found.suffix == ".gz" else open
        try:
            with opener(found, "rt", encoding="utf-8-sig") as file:
                lines = file.read().splitlines()
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{setting}={found}: it cannot be read as text ({error})") from None
        for number, line in enumerate(lines, 1):
            parts = line.split("\t")
            if len(parts) < 3 and line.strip():
                raise InputError(
                    f"{found.name}, line {number}: a GMT line is a name, a description and genes, separated by "
                    f"tabs; found {len(parts)} fields"
                )
            for gene in parts[2:]:
                if gene := gene.split(",")[0].strip():
                    terms.setdefault(gene, set()).add(parts[0])
    if not terms:
        raise InputError(f"{setting}={found}: the file holds no gene")
    return GeneSets({gene: frozenset(own) for gene, own in terms.items()}, found.name, sha256_of([found]))
