"""The figures of drug response, in the order in which they are printed; none where no run stored any."""

from __future__ import annotations

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section
from reports.figures.best import Rows
from reports.figures.drug_bars import decoder_bounds
from reports.figures.drug_markers import marker_genes
from reports.figures.drug_umap import population_maps
from reports.figures.figure import Figure


def drug_closeups(rows: Rows, tables: Tables) -> list[Figure]:
    """Of the best model and the best baseline."""
    return [*marker_genes(rows, tables), *population_maps(rows, tables)]


def drug_maps(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """Of every model, under each head."""
    return decoder_bounds(section, order, headline, tables)
