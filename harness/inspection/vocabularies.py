"""What the vocabularies of the weights that are here know of a file's genes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.coverage import sample_coverage
from harness.data import CellData
from harness.errors import InputError, one_line
from harness.places import checkpoint_folders
from harness.registry import MODELS


def coverages(data: CellData, root: Path) -> dict[str, Any]:
    """Model -> its coverage as a dict, or `{"error": …}`; models without weights under `root` are left out."""
    from harness.cards import model_cards

    found: dict[str, Any] = {}
    for name in MODELS.names():
        folders = checkpoint_folders(root, name, None, model_cards().get(name, {}))
        for folder in folders:
            label = name if len(folders) == 1 else folder.name
            try:
                found[label] = _coverage(data, name, folder)
            except InputError as error:
                found[label] = {"error": one_line(error)}
    return found


def _coverage(data: CellData, name: str, folder: Path) -> dict[str, Any]:
    from harness.genes import refuse_other_species

    cls = MODELS.get(name)
    model = cls.from_checkpoint(folder)
    refuse_other_species(name, cls.spec.species, data.genes, gene_ids=cls.spec.gene_ids)
    match = model.match_genes(data.genes)
    met = sample_coverage(name, match, data.blocks(max_nnz=1_000_000), vocabulary=model.vocabulary)
    return {**met.as_dict(), "says": met.describe()}
