"""Cell Ontology beside cell types: reading it, mapping labels to it, and scores that know how types are related."""

from tasks.ontology.graph import Ontology, read_ontology
from tasks.ontology.lcad import lcad_rows
from tasks.ontology.mapping import TermMapping, column_table, map_labels, read_mapping
from tasks.ontology.onto_rwr import onto_rwr_rows

__all__ = [
    "Ontology",
    "TermMapping",
    "column_table",
    "lcad_rows",
    "map_labels",
    "onto_rwr_rows",
    "read_mapping",
    "read_ontology",
]
