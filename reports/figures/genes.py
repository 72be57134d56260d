"""The figures of tasks on genes, in the order in which they are printed; none where no run stored any."""

from __future__ import annotations

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section
from reports.figures.best import Rows
from reports.figures.enrichment import enrichment_curves
from reports.figures.figure import Figure
from reports.figures.gene_folds import gene_folds
from reports.figures.gene_network import gene_networks
from reports.figures.gene_programs import gene_programs
from reports.figures.gene_similarity import gene_similarities
from reports.figures.influence import influences


def gene_closeups(rows: Rows, tables: Tables) -> list[Figure]:
    """Of the best model and the best baseline."""
    networks = [*gene_networks(rows, tables), *gene_programs(rows, tables), *gene_similarities(rows, tables)]
    return [*networks, *influences(rows, tables)]


def gene_maps(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """Of every model, under each head."""
    return [*gene_folds(section, order, headline), *enrichment_curves(section, order, headline, tables)]
