"""The vocabulary of a fresh network: all genes of its corpus, or a given list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.genes import GeneTable, strip_version


def vocabulary(genes: str | Sequence[str] | None, corpus: GeneTable) -> GeneTable:
    """Genes a network is made over.

    Parameters
    ----------
    genes
        `corpus.genes`: a file with one gene per line (`#` begins a comment), a list of names, or None: all genes of the
        corpus. Symbols and Ensembl ids may stand side by side.
    corpus
        Genes of the corpus. A gene of the list that is among them keeps the symbol and the Ensembl id it has there;
        one that is not is in the vocabulary all the same, and never trained.

    Returns
    -------
    GeneTable
        In the order of the list, each gene once.

    Raises
    ------
    InputError
        No such file, an empty list, or one of which the corpus has no gene.
    """
    if genes is None:
        return corpus
    wanted = _read(genes) if isinstance(genes, str) else [str(name) for name in genes]
    wanted = list(dict.fromkeys(name for name in wanted if name))
    if not wanted:
        raise InputError(f"corpus.genes={genes}: no gene is named; one per line of a file, or [A,B,C], is expected")
    rows = {name: row for column in _columns(corpus) for row, name in reversed(list(enumerate(column))) if name}
    given = GeneTable.from_names(wanted)
    found: dict[object, tuple[str, str, str]] = {}
    known = 0
    for i, name in enumerate(wanted):
        row = rows.get(name, rows.get(strip_version(name)))
        if row is None:
            found.setdefault(name, (name, str(given.symbols[i]), str(given.ensembl[i])))
        elif row not in found:
            known += 1
            found[row] = (str(corpus.names[row]), str(corpus.symbols[row]), str(corpus.ensembl[row]))
    if not known:
        raise InputError(
            f"corpus.genes: the corpus has none of the {len(wanted)} genes ({', '.join(wanted[:3])}, …); its own are "
            f"called {', '.join(corpus.names[:3].tolist())}, …"
        )
    names, symbols, ensembl = (np.array(column, np.str_) for column in zip(*found.values(), strict=True))
    return GeneTable(names, symbols, ensembl)


def _columns(table: GeneTable) -> list[list[str]]:
    """What a gene may be called by, the most telling last: a later column wins where two disagree."""
    return [table.ensembl.tolist(), table.symbols.tolist(), table.names.tolist()]


def _read(file: str) -> list[str]:
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"corpus.genes={file}: no such file; a file with one gene per line, or [A,B,C], is expected")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"corpus.genes={file} is no text file; one gene per line is expected") from None
    return [line.split("#", 1)[0].strip() for line in lines]
