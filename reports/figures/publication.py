"""The boards as figures for a paper or a slide: seaborn, PNG and PDF."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results import atomic_path
from reports.figures.figure import column_title
from reports.wording import track_order

if TYPE_CHECKING:
    from reports.ranking import Ranked

FORMATS = ("png", "pdf")


def write_figures(boards: Iterable[Ranked], directory: Path) -> list[Path]:
    """One figure per task and data set, `<task>-<dataset>.png` and `.pdf`: every seed a dot, the mean a bar.

    Parameters
    ----------
    directory
        Made where it is missing.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import pandas as pd
    import seaborn as sns
    from matplotlib import pyplot as plt

    written = []
    sns.set_theme(style="whitegrid", context="paper", palette="colorblind")
    for ranked in boards:
        rows = [
            {"metric": column_title(column), "model": entry.label, "track": entry.track, "value": value}
            for column in ranked.headline
            for entry in ranked.section.entries
            if column in entry.scores
            for value in entry.scores[column].values
        ]
        if not rows:
            continue
        table = pd.DataFrame(rows)
        order = track_order(table["track"])
        models = table.groupby(["track", "model"])["value"].mean().sort_values(ascending=False).index
        models = [model for track in order for of, model in models if of == track]
        grid = sns.catplot(
            table,
            x="value",
            y="model",
            col="metric",
            hue="track",
            order=models,
            hue_order=order,
            kind="strip",
            alpha=0.7,
            height=0.28 * len(models) + 1.2,
            aspect=1.0,
            sharex=False,
        )
        grid.map_dataframe(
            sns.pointplot, x="value", y="model", order=models, errorbar=None, marker="|", color="k", ls=""
        )
        grid.set_titles("{col_name}")
        grid.set_axis_labels("", "")
        name = re.sub(r"[^\w.-]+", "_", f"{ranked.section.task}-{ranked.section.dataset}")
        for kind in FORMATS:
            path = Path(directory) / f"{name}.{kind}"
            with atomic_path(path) as temporary:
                grid.savefig(temporary, format=kind, dpi=200)
            written.append(path)
        plt.close(grid.figure)
    return written
