"""The genes of a species: which row of the token table each is, and where on a chromosome it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.errors import InputError

#: Rows 0 to 3 of the token table; 1 (chromosome open) is never used.
PAD, CLOSE, CLS, N_SPECIAL = 0, 2, 3, 4
#: Tables of one release agree on nearly all genes; under this share they are of different ones, or damaged.
AGREEMENT = 0.9


@dataclass(frozen=True)
class Places:
    """Rows of `species_chrom.csv`: symbol in upper case, chromosome, start and species of each gene."""

    gene_symbol: np.ndarray
    chromosome: np.ndarray
    start: np.ndarray
    species: np.ndarray

    @cached_property
    def codes(self) -> tuple[np.ndarray, int]:
        """Code of the chromosome of each row, over the chromosomes of all species sorted as text; their number."""
        pairs = [f"{species}_{name}" for species, name in zip(self.species, self.chromosome, strict=True)]
        found, codes = np.unique(np.asarray(pairs, np.str_), return_inverse=True)
        return codes.astype(np.int64), len(found)

    def rows_of(self, species: str) -> dict[str, int]:
        """Symbol in upper case -> row; the first where there are several."""
        rows = np.flatnonzero(self.species == species)[::-1].tolist()
        return {str(self.gene_symbol[row]).upper(): row for row in rows if self.gene_symbol[row]}


@dataclass(frozen=True)
class GeneTables:
    """Tokens of one species.

    Parameters
    ----------
    species
        Name of the species.
    symbols
        Its genes in the order of their rows, each once whatever its case.
    offsets
        First row of each species in the token table.
    places
        Where genes stand, for all species.
    rows
        Rows of the token table; the last ones are the chromosomes.
    """

    species: str
    symbols: tuple[str, ...]
    offsets: Mapping[str, int]
    places: Places
    rows: int

    @property
    def first(self) -> int:
        """Row of the first gene."""
        return self.offsets[self.species]

    @property
    def chromosome_offset(self) -> int:
        """Row of the chromosome with code 0: the rows of the table less the number of chromosomes."""
        return self.rows - self.places.codes[1]

    @cached_property
    def genome(self) -> Genome:
        """Names and places by token id."""
        rows_of = self.places.rows_of(self.species)
        symbols = np.asarray(self.symbols, np.str_)
        rows = np.asarray([rows_of.get(name.upper(), -1) for name in self.symbols], np.int64)
        ids = self.first + np.flatnonzero(rows >= 0)
        codes, starts = self.places.codes[0][rows[rows >= 0]], self.places.start[rows[rows >= 0]]
        names = np.full(self.rows, "", symbols.dtype)
        names[ids] = symbols[rows >= 0]
        chromosome = np.zeros(self.rows, np.int64)
        chromosome[ids] = codes + self.chromosome_offset
        rank = np.full(self.rows, -1, np.int64)
        # The authors leave open how genes of equal start are ordered: here by token.
        rank[ids[np.lexsort((ids, starts, codes))]] = np.arange(len(ids))
        return Genome(names, chromosome, rank)

    def check(self, source: Path) -> None:
        """Refuse tables that are not of one release.

        Raises
        ------
        InputError
            Genes, offsets and chromosomes do not fit together, or into the token table.
        """
        # The chromosomes of all species are counted from the end of the token table: none may be lacking.
        absent = sorted(set(self.offsets) - set(self.places.species.tolist()))
        if absent:
            raise InputError(
                f"{source}: the table of chromosomes has no gene of {', '.join(absent)}, which the token table covers. "
                "Keep the files of one release together, and whole"
            )
        end = min([first for first in self.offsets.values() if first > self.first] + [self.chromosome_offset])
        block = end - self.first
        if self.first < N_SPECIAL or not AGREEMENT * block <= len(self.symbols) <= block:
            raise InputError(
                f"{source}: the {len(self.symbols)} genes of {self.species} do not fit into the token table, where the "
                f"tables of species and chromosomes leave the rows {self.first} to {end} of {self.rows}. Keep the "
                "files of one release together"
            )
        placed = int((self.genome.rank >= 0).sum())
        if placed < AGREEMENT * len(self.symbols):
            raise InputError(
                f"{source}: the table of chromosomes knows the place of only {placed} of the {len(self.symbols)} genes "
                f"of {self.species}. Keep the files of one release together"
            )


@dataclass(frozen=True)
class Genome:
    """What the tokenizer needs of the genes, by token id; a gene without a known place is no token.

    Parameters
    ----------
    names
        Symbol of each token, "" for all that are not genes of the species.
    chromosome
        int64, token of the gene's chromosome.
    rank
        int64, place of the gene among all, by chromosome and start; -1 for what is no gene.
    """

    names: np.ndarray
    chromosome: np.ndarray
    rank: np.ndarray


def distinct_symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    """Symbols in order, each once whatever its case: the authors look all of them up in upper case."""
    first: dict[str, str] = {}
    for name in symbols:
        first.setdefault(name.upper(), name)
    return tuple(first.values())
