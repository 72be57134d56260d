"""Gene sets that the programs of each row are enriched for, by the resolution of the programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.artifacts import Tables
from reports.entries import Column, Entry, Section
from reports.figures.curves import Axis, Curve, line_plot
from reports.figures.figure import Figure, short_names
from reports.ranking import own_head
from reports.wording import head_order, head_title, score

if TYPE_CHECKING:
    import pandas as pd

KIND = "enrichment_curve"
COUNTS = ("programs", "genes", "enriched_sets")
METRIC = "enriched_sets"


def enrichment_curves(section: Section, order: list[Entry], headline: list[Column], tables: Tables) -> list[Figure]:
    """A figure per head with a line for each row: the mean over its seeds at each resolution."""
    found = {entry: table for entry in order if (table := _counts(entry, tables)) is not None}
    own = {entry: own_head(section, entry, METRIC) for entry in found}
    heads = sorted({head for table in found.values() for head in table["head"]}, key=head_order)
    names = short_names(list(found))
    figures = []
    for head in [each for each in heads if each not in own.values()] or heads:
        curves = []
        for entry, table in found.items():
            line = table[table["head"] == (own[entry] or head)].sort_values("resolution")
            if len(line):
                curves.append(_curve(f"{names[entry]} · {entry.track}", entry.track, line))
        if curves:
            title = " · ".join(filter(None, ("Enriched gene sets by resolution", head_title(head))))
            across, up = Axis("resolution of the programs", 0.0), Axis("enriched gene sets", 0.0)
            figures.append(Figure(title, line_plot(curves, across, up, label=title), _CAPTION, head))
    return figures


_CAPTION = (
    "Gene sets enriched in at least one program of genes, the mean over seeds; beside the name its mean over the "
    "resolutions. A higher resolution makes more and smaller programs. Dashes: untrained long, baselines short."
)


def _curve(name: str, track: str, table: pd.DataFrame) -> Curve:
    points, hints = [], []
    for at, programs, genes, sets in table[["resolution", *COUNTS]].itertuples(index=False):
        points.append((float(at), float(sets)))
        hints.append(f"{name}, resolution {at:g}: {sets:.4g} sets; {programs:.4g} programs of {genes:,.0f} genes")
    return Curve(name, points, track, hints, score(sum(b for _, b in points) / len(points)))


def _counts(entry: Entry, tables: Tables) -> pd.DataFrame | None:
    """Head and resolution -> counts, the mean over runs; None where no gene set was tested.

    Genes are counted here and named in other tables, so that the store reads that column as text.
    """
    import pandas as pd

    read = [tables.get(run, KIND, ("head", "resolution", *COUNTS)) for run in entry.runs]
    kept = [table for table in read if table is not None]
    if not kept:
        return None
    every = pd.concat(kept).dropna(subset=["resolution", METRIC])
    every["genes"] = pd.to_numeric(every["genes"], errors="coerce")
    return every.groupby(["head", "resolution"])[list(COUNTS)].mean().reset_index() if len(every) else None
