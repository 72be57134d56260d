"""The figures of predicted perturbations, in the order in which they are printed; none where no run stored any."""

from __future__ import annotations

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section
from reports.figures.best import Rows
from reports.figures.collapse import collapse
from reports.figures.figure import Figure
from reports.figures.interactions import interaction_kinds, interactions_found
from reports.figures.perturbation_effects import effect_sizes, subgroup_maps
from reports.figures.perturbation_genes import gene_boxes
from reports.figures.reverse_hits import reverse_hits
from reports.figures.screen import screens


def perturbation_closeups(rows: Rows, tables: Tables) -> list[Figure]:
    """Of the best model and the best baseline."""
    return [
        *gene_boxes(rows, tables),
        *effect_sizes(rows, tables),
        *reverse_hits(rows, tables),
        *interactions_found(rows, tables),
        *interaction_kinds(rows, tables),
        *screens(rows, tables),
    ]


def perturbation_maps(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """Of every model, under each head."""
    return [*subgroup_maps(section, order, headline, tables), *collapse(section, order)]
