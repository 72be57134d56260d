"""An ontology as a graph of its is_a edges: terms, parents, and how far up an ancestor lies."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError


class Ontology:
    """Terms of an ontology and the is_a edges between them: a directed graph without cycles.

    Parameters
    ----------
    edges
        (child, parent) identifiers; a pair given twice counts once.
    terms
        Further terms, that stand in no edge.
    names
        Name in print of a term, where known.
    replaced
        Identifiers that are no terms any more -> the term that stands for them, "" where none does.

    Raises
    ------
    InputError
        No term at all, or terms that are each other's ancestors.
    """

    def __init__(
        self,
        edges: Iterable[tuple[str, str]],
        terms: Iterable[str] = (),
        names: Mapping[str, str] | None = None,
        replaced: Mapping[str, str] | None = None,
    ):
        pairs = np.array(sorted(set(map(tuple, edges))), dtype=np.str_).reshape(-1, 2)
        #: Identifiers, unicode (n,), sorted.
        self.terms = np.unique(np.concatenate([pairs.ravel(), np.array([*terms], np.str_)]))
        if not len(self.terms):
            raise InputError(
                "the ontology has no terms; a Cell Ontology release (cl-basic.obo) or its edges are expected"
            )
        #: Rows of `terms` (e, 2): child, parent.
        self.edges = np.searchsorted(self.terms, pairs)
        self.names = dict(names or {})
        self.replaced = dict(replaced or {})
        self._refuse_cycles()

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {term: row for row, term in enumerate(self.terms.tolist())}

    def __len__(self) -> int:
        """Number of terms."""
        return len(self.terms)

    def __contains__(self, term: object) -> bool:
        """Whether an identifier is one of its terms."""
        return term in self._rows

    def current(self, identifier: str) -> str | None:
        """The term an identifier stands for today, through alternative and replaced ones; None if there is none."""
        seen: set[str] = set()
        while identifier not in self and identifier in self.replaced and identifier not in seen:
            seen.add(identifier)
            identifier = self.replaced[identifier]
        return identifier if identifier in self else None

    def rows(self, terms: Iterable[str]) -> np.ndarray:
        """Rows of some terms, int (k,).

        Raises
        ------
        InputError
            One is not in the ontology.
        """
        wanted = [str(term) for term in terms]
        unknown = [term for term in wanted if term not in self]
        if unknown:
            raise InputError(f"{unknown[0]} is no term of the ontology, which has {len(self)}")
        return np.array([self._rows[term] for term in wanted], np.int64)

    @cached_property
    def parents(self) -> sp.csr_matrix:
        """Float (n, n): 1 at (child, parent)."""
        child, parent = self.edges.T
        return sp.csr_matrix((np.ones(len(child)), (child, parent)), shape=(len(self), len(self)))

    def steps_up(self, rows: np.ndarray) -> np.ndarray:
        """Fewest is_a edges from some terms up to every term, float (k, n): 0 at itself, inf where no ancestor."""
        from scipy.sparse.csgraph import dijkstra

        rows = np.asarray(rows, np.int64)
        if not len(rows) or not len(self.edges):
            steps = np.full((len(rows), len(self)), np.inf)
            steps[np.arange(len(rows)), rows] = 0
            return steps
        return dijkstra(self.parents, directed=True, indices=rows, unweighted=True)

    def _refuse_cycles(self) -> None:
        from scipy.sparse.csgraph import connected_components

        own = self.edges[self.edges[:, 0] == self.edges[:, 1]] if len(self.edges) else self.edges
        if len(own):
            raise InputError(f"the ontology says {self.terms[own[0, 0]]} is_a itself; remove that edge")
        if not len(self.edges):
            return
        _, component = connected_components(self.parents, directed=True, connection="strong")
        sizes = np.bincount(component)
        if sizes.max() > 1:
            ring = self.terms[component == sizes.argmax()]
            named = ", ".join(ring[:5]) + (", …" if len(ring) > 5 else "")
            raise InputError(f"the ontology has a cycle: {named} are each other's ancestors; is_a edges must have none")


def read_ontology(path: str | Path) -> Ontology:
    """Read is_a edges from OBO (`.obo`, `.obo.gz`) or a table of them (`.tsv`, `.tsv.gz`, `.txt`).

    A table has columns `child` and `parent`, or no header and the child first. Of OBO, terms that are not obsolete
    are kept; alternative identifiers and `replaced_by` are followed. A file that did not change is read once.

    Raises
    ------
    InputError
        No such file, another format, or a graph with a cycle.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no ontology at {path}; download cl-basic.obo of a Cell Ontology release and name it")
    kind = "".join(path.suffixes[-2:]).lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in ("obo", "tsv", "txt"):
        raise InputError(f"{path.name}: an ontology is read from .obo or .tsv (child, parent), gzipped or not")
    return _read(path.resolve(), path.stat().st_mtime_ns, kind)


@cache
def _read(path: Path, _modified: int, kind: str) -> Ontology:
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); a text file or a gzipped one is expected") from None
    return _from_obo(lines, path) if kind == "obo" else _from_table(lines, path)


def _stanzas(lines: list[str]) -> list[dict[str, list[str]]]:
    """The [Term] stanzas: tag -> values, without comments and qualifiers."""
    found: list[dict[str, list[str]]] = []
    inside = False
    for line in lines:
        line = line.strip()
        if line.startswith("["):
            inside = line == "[Term]"
            if inside:
                found.append({})
        elif inside and ": " in line:
            tag, _, value = line.partition(": ")
            found[-1].setdefault(tag, []).append(value)
    return found


def _from_obo(lines: list[str], path: Path) -> Ontology:
    edges: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    replaced: dict[str, str] = {}
    terms: list[str] = []
    for stanza in _stanzas(lines):
        if "id" not in stanza:
            raise InputError(f"{path.name}: a [Term] without an id; is it an OBO file?")
        term = stanza["id"][0].split()[0]
        if stanza.get("is_obsolete") == ["true"]:
            replaced[term] = _first(stanza.get("replaced_by"))
            continue
        terms.append(term)
        names[term] = stanza.get("name", [""])[0]
        edges += [(term, value.split()[0]) for value in stanza.get("is_a", [])]
        replaced |= {value.split()[0]: term for value in stanza.get("alt_id", [])}
    if not terms:
        raise InputError(f"{path.name} holds no [Term]; an OBO file is expected")
    return Ontology(edges, terms, names, replaced)


def _first(values: Any) -> str:
    return values[0].split()[0] if values else ""


def _from_table(lines: list[str], path: Path) -> Ontology:
    cells = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    short = next((i for i, row in enumerate(cells) if len(row) < 2), None)
    if not cells or short is not None:
        raise InputError(f"{path.name}: expected two tab-separated columns, child and parent, on every line")
    header = [cell.strip().lower() for cell in cells[0]]
    child, parent, rows = 0, 1, cells
    if {"child", "parent"} <= set(header):
        child, parent, rows = header.index("child"), header.index("parent"), cells[1:]
    return Ontology((row[child].strip(), row[parent].strip()) for row in rows)
