"""Where a run takes its ontology from, and the terms of its cell types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from tasks.ontology.graph import Ontology, read_ontology
from tasks.ontology.mapping import TermMapping, column_table, map_labels, read_mapping

if TYPE_CHECKING:
    from harness.data import CellData

#: The role of the obs column that holds identifiers of cell types.
ROLE = "cell_ontology"


def cell_type_terms(
    data: CellData, labels: np.ndarray, ontology: str | Path, table: str | Path | None = None
) -> tuple[Ontology, TermMapping]:
    """The ontology, and the term of each cell type.

    Parameters
    ----------
    labels
        Cell types of all cells (n,), "" where unknown.
    ontology
        A file that `read_ontology` reads.
    table
        A file that `read_mapping` reads. Without it the column `dataset.cell_ontology` is used, and without that the
        labels must be identifiers themselves.

    Raises
    ------
    InputError
        A file or column that cannot be used.
    """
    graph = read_ontology(ontology)
    given: dict[str, str] = {}
    if table is not None:
        given = read_mapping(table, data.name)
    elif ROLE in data.columns:
        given = column_table(labels, data.labels(ROLE), f"{data.name}: dataset.{ROLE}={data.columns[ROLE]}")
    mapping = map_labels(labels, graph, given)
    if not mapping.terms and table is None and ROLE not in data.columns:
        raise InputError(
            f"{data.name}: which ontology terms are its cell types? Name a table with the columns cell_type and cl_id, "
            f"or the obs column that holds them: dataset.{ROLE}=COLUMN"
        )
    return graph, mapping
