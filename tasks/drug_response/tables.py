"""The tables that the figures are drawn from: markers before and after, the three populations, what each step gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from harness.subject import Subject

#: Drugs (times held-out groups) that are drawn, and genes of each.
DRAWN, GENES = 4, 6
#: Bins of a distribution.
BINS = 20
#: Cells of a population on a map.
CELLS = 600
#: Dimensions that a map is made of.
COMPONENTS = 50


@dataclass(frozen=True)
class Drawn:
    """The cells of a fold under one head, log-normalised: measured and predicted ones.

    Parameters
    ----------
    markers
        Columns, the strongest first.
    cell_types
        Of the control cells (and so of the predicted ones) and of the treated cells; None where unknown.
    """

    drug: str
    held_out: str
    head: str
    genes: np.ndarray
    markers: np.ndarray
    control: np.ndarray
    treated: np.ndarray
    predicted: np.ndarray
    cell_types: tuple[np.ndarray, np.ndarray] | None

    @property
    def populations(self) -> dict[str, np.ndarray]:
        """Name -> cells."""
        return {"control": self.control, "treated": self.treated, "predicted": self.predicted}


def marker_table(folds: Sequence[Drawn]) -> pd.DataFrame:
    """A line per fold, gene and population: mean, and the share of cells in each of 20 bins from `low` to `high`."""
    import pandas as pd

    lines = []
    for fold in folds:
        for rank, gene in enumerate(fold.markers[:GENES].tolist()):
            values = {name: cells[:, gene] for name, cells in fold.populations.items()}
            low = min(float(v.min()) for v in values.values())
            high = max(float(v.max()) for v in values.values())
            high = high if high > low else low + 1.0
            for name, found in values.items():
                shares = np.histogram(found, bins=BINS, range=(low, high))[0] / len(found)
                lines.append(
                    {
                        "drug": fold.drug,
                        "held_out": fold.held_out,
                        "head": fold.head,
                        "gene": str(fold.genes[gene]),
                        "rank": rank,
                        "population": name,
                        "mean": float(found.mean()),
                        "low": low,
                        "high": high,
                        **{f"b{i}": float(share) for i, share in enumerate(shares)},
                    }
                )
    return pd.DataFrame(lines)


def map_table(subject: Subject, folds: Sequence[Drawn], seed: int) -> pd.DataFrame:
    """UMAP of the three populations together, fold by fold, on principal components of the measured cells."""
    import pandas as pd
    from sklearn.decomposition import PCA

    tables = []
    for fold in folds:
        rng = np.random.default_rng([seed, 23])
        moved = np.sort(rng.permutation(len(fold.control))[:CELLS])
        seen = np.sort(rng.permutation(len(fold.treated))[:CELLS])
        parts = {"control": fold.control[moved], "treated": fold.treated[seen], "predicted": fold.predicted[moved]}
        measured = np.concatenate([parts["control"], parts["treated"]])
        pca = PCA(min(COMPONENTS, *measured.shape), svd_solver="full").fit(measured)
        xy = subject.layout(np.concatenate([pca.transform(cells) for cells in parts.values()]).astype(np.float32))
        kinds = [np.full(len(cells), "") for cells in parts.values()]
        if fold.cell_types is not None:
            kinds = [fold.cell_types[0][moved], fold.cell_types[1][seen], fold.cell_types[0][moved]]
        tables.append(
            pd.DataFrame(
                {
                    "drug": fold.drug,
                    "held_out": fold.held_out,
                    "head": fold.head,
                    "population": np.repeat(list(parts), [len(cells) for cells in parts.values()]),
                    "cell_type": np.concatenate(kinds),
                    "x": xy[:, 0],
                    "y": xy[:, 1],
                }
            )
        )
    return pd.concat(tables) if tables else pd.DataFrame()
