"""Scores of predicted labels, and the tables the figures are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.metrics import row

if TYPE_CHECKING:
    import pandas as pd

    from harness.results import MetricRow


def classification_rows(true: np.ndarray, predicted: np.ndarray, head: str) -> list[MetricRow]:
    """Accuracy, macro F1 over the true types, and F1 of each true type (scikit-learn's definitions).

    Parameters
    ----------
    true, predicted
        Labels (n,).
    """
    from sklearn.metrics import accuracy_score, f1_score

    types, sizes = np.unique(true, return_counts=True)
    each = f1_score(true, predicted, labels=types, average=None, zero_division=0.0)
    n = len(true)
    rows = [
        row("accuracy", accuracy_score(true, predicted), head=head, n=n),
        row("macro_f1", float(each.mean()), head=head, n=n),
    ]
    for name, value, size in zip(types, each, sizes, strict=True):
        rows.append(row("f1", value, head=head, scope="per-class", key=str(name), n=int(size)))
    return rows


def prediction_table(names: np.ndarray, true: np.ndarray, predicted: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Columns name, true, head, predicted."""
    import pandas as pd

    return pd.concat(
        [
            pd.DataFrame({"name": names, "true": true, "head": head, "predicted": found})
            for head, found in predicted.items()
        ]
    )


def confusion_table(true: np.ndarray, predicted: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Columns head, true, predicted, n; pairs that occur."""
    import pandas as pd

    table = pd.concat(
        [pd.DataFrame({"head": head, "true": true, "predicted": found}) for head, found in predicted.items()]
    )
    return table.groupby(["head", "true", "predicted"], sort=True).size().reset_index(name="n")
