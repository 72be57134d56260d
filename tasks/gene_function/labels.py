"""Which class a gene is in, or which functions it has: from CSV, from gene sets, from the bundled classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.genes import ENSEMBL, ENSEMBL_COLUMNS, strip_version
from harness.places import file_at
from harness.results import content_id
from tasks.gene_function.bundled import CLASSES
from tasks.gene_names import some
from tasks.gene_sets import read_gene_sets
from tasks.gene_tables import read_table

BUNDLED = "bundled"
#: Ends of the names of files with gene sets; all other files are tables.
SETS = (".gmt", ".gmt.gz", ".pkl")
#: What tables write where a gene has no class.
MISSING = ("", "NA", "NaN", "nan", "N/A", "null")
#: Columns of a table that are looked at for genes, in this order.
GENE_COLUMNS = ("gene", "symbol", "gene_symbol", "gene_name", "Gene name", "ensembl_id", "ensembl", "Gene")


@dataclass(frozen=True)
class GeneLabels:
    """Genes and what is known of them.

    Parameters
    ----------
    genes
        Unicode (n,), each once: symbols or Ensembl ids.
    classes
        Names (c,).
    member
        Bool (n, c).
    exclusive
        Whether each gene is in exactly one class; if not, classes are functions, of which a gene may have several.
    name
        Of the file, without its ending.
    notes
        What was left out, in words.
    """

    genes: np.ndarray
    classes: tuple[str, ...]
    member: np.ndarray
    exclusive: bool
    name: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    #: Ensembl ids beside the names, Unicode (n,), "" where there is none; None where there are none at all.
    ensembl: np.ndarray | None = None

    @property
    def codes(self) -> np.ndarray:
        """Number of the class of each gene, int64 (n,); only where they exclude each other."""
        return self.member.argmax(axis=1)

    @cached_property
    def content(self) -> str:
        """Hash of what can change a number."""
        bits = hashlib.sha256(np.packbits(self.member).tobytes()).hexdigest()
        ids = [] if self.ensembl is None else self.ensembl.tolist()
        return content_id([self.genes.tolist(), ids, list(self.classes), bits, self.exclusive], 32)

    def of(self, rows: np.ndarray) -> GeneLabels:
        """Those of some genes, int (m,)."""
        ensembl = None if self.ensembl is None else self.ensembl[rows]
        return replace(self, genes=self.genes[rows], member=self.member[rows], ensembl=ensembl)


def read_labels(
    source: str | Path, *, gene_column: str | None = None, label_column: str = "label", setting: str = "task.labels"
) -> GeneLabels:
    """Labels by name (`bundled`) or from a file; `data://FILE` is one under `CELLFM_BENCH_DATA`.

    A table (`.csv`, `.tsv`, `.txt`, each also `.gz`) has a row per gene, with its class; gene sets (`.gmt`,
    `.gmt.gz`, GEARS' `gene2go` pickle) give functions. A gene that a table has in two classes is left out and named.

    Raises
    ------
    InputError
        The file is missing or of another form, holds no gene, or one class only.
    """
    if str(source) == BUNDLED:
        return _exclusive({gene: [name] for name, genes in CLASSES.items() for gene in genes}, BUNDLED)
    path = file_at(source, setting)
    return _read(path, path.stat().st_mtime_ns, gene_column, label_column, setting)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, gene_column: str | None, label_column: str, setting: str) -> GeneLabels:
    """The labels of a file, read once for all runs of a grid."""
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    if path.name.lower().endswith(SETS):
        return _functions(path, name, setting)
    said, ids, notes = _table(path, gene_column, label_column, setting)
    return _exclusive(said, name, ids, notes)


def _functions(path: Path, name: str, setting: str) -> GeneLabels:
    sets = read_gene_sets(path, setting)
    genes = np.array(sets.genes, np.str_)
    member = sets.incidence(sets.genes).astype(bool).toarray()
    return GeneLabels(genes, tuple(sorted(sets.sets)), member, False, name)


def _table(
    path: Path, gene_column: str | None, label_column: str, setting: str
) -> tuple[dict[str, list[str]], dict[str, str], dict[str, Any]]:
    """Gene -> labels, gene -> Ensembl id where a column beside it has one, and what was left out."""
    table = read_table(path, setting, by_name=True)
    columns = list(table.columns)
    gene_column = gene_column or next((name for name in GENE_COLUMNS if name in columns), None)
    for what, column in (("gene", gene_column), ("label", label_column)):
        if column not in columns:
            raise InputError(
                f"{setting}={path.name}: which column holds the {what}? Say task.{what}_column=COLUMN; it has "
                + ", ".join(columns)
            )
    beside = next((name for name in ENSEMBL_COLUMNS if name in columns and name != gene_column), gene_column)
    found: dict[str, list[str]] = {}
    ids: dict[str, str] = {}
    lost = 0
    for gene, label, other in zip(table[gene_column], table[label_column], table[beside], strict=True):
        if not gene or label in MISSING:
            lost += 1
            continue
        found.setdefault(gene, []).append(label)
        if ENSEMBL.match(other):
            ids[gene] = strip_version(other)
    if not found:
        raise InputError(f"{setting}={path.name}: no row has a gene and a label")
    return found, ids, {"rows without a gene or a label": lost} if lost else {}


def _exclusive(
    said: Mapping[str, Sequence[str]], name: str, ids: Mapping[str, str] | None = None, notes: Any = None
) -> GeneLabels:
    """Genes with one class each; those of several are left out, and named."""
    notes = dict(notes or {})
    repeated = [gene for gene, labels in said.items() if len(labels) > 1 and len(set(labels)) == 1]
    torn = [gene for gene, labels in said.items() if len(set(labels)) > 1]
    if repeated:
        notes["genes listed more than once"] = f"{some(repeated)}: counted once"
    if torn:
        notes["genes in several classes"] = f"{some(torn)}: left out"
    kept = {gene: labels[0] for gene, labels in sorted(said.items()) if len(set(labels)) == 1}
    classes = tuple(sorted(set(kept.values())))
    if len(classes) < 2:
        have = f"all {len(kept)} genes are in {classes[0]}" if classes else "every gene is in several"
        raise InputError(f"task.labels={name}: two classes are needed, and {have}")
    member = np.array([[label == each for each in classes] for label in kept.values()])
    ensembl = np.array([(ids or {}).get(gene, "") for gene in kept], np.str_)
    return GeneLabels(np.array(list(kept), np.str_), classes, member, True, name, notes, ensembl)
