"""Which term of the ontology a cell type is: from a table, from a column of the data, or from the labels themselves."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import InputError
from tasks.ontology.graph import Ontology

#: What the columns of a mapping table may be called, the first being ours.
LABEL_COLUMNS = ("cell_type", "label", "celltype")
TERM_COLUMNS = ("cl_id", "term", "cell_type_ontology_term_id", "ontology_term_id")


@dataclass(frozen=True)
class TermMapping:
    """Labels and the ontology terms they stand for.

    Parameters
    ----------
    terms
        Label -> term.
    unmapped
        Label without a term -> why.
    """

    terms: Mapping[str, str]
    unmapped: Mapping[str, str]

    def of(self, labels: np.ndarray) -> np.ndarray:
        """Terms of labels, unicode (n,), "" where there is none."""
        types, code = np.unique(np.asarray(labels, np.str_), return_inverse=True)
        return np.array([self.terms.get(t, "") for t in types.tolist()], np.str_)[code]

    @property
    def notes(self) -> dict[str, str]:
        """What a reader must know: the cell types that are left out of ontology scores, and why."""
        if not self.unmapped:
            return {}
        return {
            "cell types without an ontology term": ", ".join(f"{label} ({why})" for label, why in self.unmapped.items())
        }


def map_labels(labels: Iterable[str], ontology: Ontology, table: Mapping[str, str] | None = None) -> TermMapping:
    """Map cell types to terms.

    Parameters
    ----------
    labels
        Cell types; "" (unknown) is passed over.
    table
        Label -> identifier. A label that is itself a term of the ontology needs no entry.
    """
    table = table or {}
    terms, unmapped = {}, {}
    for label in sorted({str(label) for label in labels} - {""}):
        identifier = table.get(label) or (label if ontology.current(label) else "")
        term = ontology.current(identifier) if identifier else None
        if term is not None:
            terms[label] = term
        elif not identifier:
            unmapped[label] = "no id given"
        elif identifier in ontology.replaced:
            unmapped[label] = f"{identifier} is obsolete"
        else:
            unmapped[label] = f"{identifier} is not in the ontology"
    return TermMapping(terms, unmapped)


def column_table(labels: np.ndarray, identifiers: np.ndarray, source: str = "the ontology column") -> dict[str, str]:
    """A mapping table from two columns of the data: cell types (n,) and identifiers (n,), "" where unknown.

    Raises
    ------
    InputError
        Cells of one type have different identifiers.
    """
    return _consistent(zip(map(str, labels), map(str, identifiers), strict=True), source)


def read_mapping(path: str | Path, dataset: str | None = None) -> dict[str, str]:
    """Read a table (`.tsv` or `.csv`, gzipped or not): columns `cell_type` and `cl_id`, and `dataset` where it has one.

    Where it has a column `dataset` and rows of this one, only these count; otherwise all do.

    Raises
    ------
    InputError
        No such file, other columns, no row, or a label with two identifiers.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no mapping table at {path}; columns cell_type and cl_id are expected")
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); a tab- or comma-separated text is expected") from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first else ",")
    names = reader.fieldnames or []
    label = next((name for name in LABEL_COLUMNS if name in names), None)
    term = next((name for name in TERM_COLUMNS if name in names), None)
    if label is None or term is None:
        raise InputError(
            f"{path.name} has the columns {', '.join(map(str, names)) or 'none'}; expected {LABEL_COLUMNS[0]} and "
            f"{TERM_COLUMNS[0]}"
        )
    rows = [row for row in reader if row[label]]
    if not rows:
        raise InputError(f"{path.name} holds no row; expected a cell type and its identifier on each")
    own = [row for row in rows if dataset and row.get("dataset") == dataset]
    return _consistent(((row[label], row[term] or "") for row in own or rows), path.name)


def _consistent(pairs: Iterable[tuple[str, str]], source: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for label, identifier in dict.fromkeys((label.strip(), identifier.strip()) for label, identifier in pairs):
        if not label or not identifier:
            continue
        if label in table:
            raise InputError(f"{source}: {label} is {table[label]} and {identifier}; one identifier is expected")
        table[label] = identifier
    return table
