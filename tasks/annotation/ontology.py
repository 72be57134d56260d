"""The Cell Ontology in annotation: how far off mistakes are, and whether neighbours in the embedding are related."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.task import TaskResult
    from tasks.annotation.predictions import Prediction


class OntologyScores:
    """LCAD of predictions and scGraph-OntoRWR of an embedding, where an ontology is given.

    Parameters
    ----------
    ontology
        Path of the Cell Ontology; None: nothing is scored.
    terms
        Path of a table of cell types and their ids; None: the column `dataset.cell_ontology`, or labels that are ids.
    """

    def __init__(self, ontology: str | None, terms: str | None):
        if terms and not ontology:
            raise InputError(f"task.terms={terms} needs the ontology they are terms of: task.ontology=cl-basic.obo")
        self.ontology, self.terms = ontology, terms
        for key, path in (("ontology", ontology), ("terms", terms)):
            if path and not Path(path).expanduser().is_file():
                raise InputError(f"task.{key}={path}: no such file")

    @property
    def content(self) -> str | None:
        """What stands in the identity of a run: the files' content, not where they lie."""
        from harness.checkpoints import sha256_of

        if self.ontology is None:
            return None
        return sha256_of(Path(path).expanduser() for path in (self.ontology, self.terms) if path)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        if self.ontology is None:
            return ()
        return ("lcad", "lcad_all_cells", "lcad_published", "error_rate", "onto_rwr", "onto_rwr_published")

    def add(
        self,
        data: CellData,
        labels: np.ndarray,
        predictions: Sequence[Prediction],
        vectors: np.ndarray | None,
        seed: int,
        result: TaskResult,
    ) -> None:
        """Add rows and notes to a result.

        Parameters
        ----------
        predictions
            Of all folds; those of one head are pooled.
        vectors
            The embedding (n_obs, d), rows of NaN where there is none; None for what embeds no cell.
        """
        if self.ontology is None:
            return
        from tasks.ontology.graph import read_ontology
        from tasks.ontology.lcad import lcad_rows
        from tasks.ontology.mapping import column_table, map_labels, read_mapping
        from tasks.ontology.onto_rwr import onto_rwr_rows

        ontology, table = read_ontology(self.ontology), None
        if self.terms is not None:
            table = read_mapping(self.terms, data.name)
        elif data.has("cell_ontology"):
            table = column_table(labels, data.labels("cell_ontology"))
        mapping = map_labels(labels.tolist(), ontology, table)
        if not mapping.terms:
            result.notes |= {**mapping.notes, "ontology": "not applicable: no cell type has a term"}
            return
        for head in dict.fromkeys(prediction.head for prediction in predictions):
            own = [prediction for prediction in predictions if prediction.head == head]
            rows = np.concatenate([prediction.rows for prediction in own])
            guesses = np.concatenate([prediction.labels.astype(np.str_) for prediction in own])
            metrics, notes = lcad_rows(labels[rows], guesses, mapping, ontology, head)
            result.metrics += metrics
            result.notes |= notes
        if vectors is not None:
            known = ~np.isnan(vectors).any(axis=1) & (labels != "")
            metrics, notes = onto_rwr_rows(vectors[known], labels[known], mapping, ontology, seed)
            result.metrics += metrics
            result.notes |= notes
