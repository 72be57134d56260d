"""A virtual screen: all pairs of a list of genes predicted, laid out by their effect.

GEARS predicts Norman's 5,565 pairs so; the CellFM paper draws them coloured by the gene that dominates the effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.layout import lay_out
from tasks.perturbation.conditions import Condition, name_of

if TYPE_CHECKING:
    import pandas as pd


def screened(genes: Sequence[str]) -> tuple[Condition, ...]:
    """All singles and pairs of some genes, sorted."""
    own = sorted(set(genes))
    return (*((gene,) for gene in own), *itertools.combinations(own, 2))


def screen_table(conditions: Sequence[Condition], changes: np.ndarray, genes: np.ndarray, head: str) -> pd.DataFrame:
    """A line per pair: place in the plane, the gene whose single effect is most like it, size and strongest genes.

    Parameters
    ----------
    conditions
        Of `screened`.
    changes
        Predicted changes from control, (n, g); pairs that are not told are left out.
    genes
        Names of the columns.
    """
    import pandas as pd

    from tasks.profiles import rows_pearson

    place = {condition: i for i, condition in enumerate(conditions)}
    told = [c for c in conditions if len(c) == 2 and not np.isnan(changes[[place[c], *(place[g,] for g in c)]]).any()]
    if not told:
        return pd.DataFrame()
    effects = changes[[place[c] for c in told]]
    xy = lay_out(effects.astype(np.float32))
    alike = np.stack([rows_pearson(effects, changes[[place[c[j],] for c in told]]) for j in (0, 1)], axis=1)
    dominant = [c[int(np.nan_to_num(own, nan=-1.0).argmax())] for c, own in zip(told, alike, strict=True)]
    strongest = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :3]
    return pd.DataFrame(
        {
            "condition": [name_of(c) for c in told],
            "head": head,
            "x": xy[:, 0],
            "y": xy[:, 1],
            "label": dominant,
            "effect": np.linalg.norm(effects, axis=1),
            "key": [
                ", ".join(f"{genes[j]} {effects[i, j]:+.2f}" for j in own) for i, own in enumerate(strongest.tolist())
            ],
        }
    )
