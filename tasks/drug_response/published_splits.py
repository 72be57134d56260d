"""CellOT's splits of cells: what its configurations ask for is drawn as it draws it.

Bunne et al. 2023, the `datasplit` node of the released task configurations; cells are drawn by scikit-learn's
`train_test_split`, so that a split depends on the order of the cells in the file. CellOT chooses its training step by
the `test` cells; the `eval` cells of `train_test_eval` are what it leaves alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import InputError

#: Columns of cell labels by name, Unicode (n,); "" is a label that is missing.
Columns = Mapping[str, np.ndarray]
#: Cells drawn: a number, or a share of a group.
Size = int | float


def published_labels(obs: Columns, name: str = "train_test", **settings: Any) -> np.ndarray:
    """The split of a `datasplit` node: `published_labels(obs, **config["datasplit"])`.

    Parameters
    ----------
    obs
        Cells of one treatment and its control, in the order of the file.
    name
        `train_test`, `train_test_eval` or `toggle_ood`.
    settings
        Of that split; `subset` (column -> labels) leaves other cells out of it.

    Returns
    -------
    Unicode (n,): `train`, `test`, `eval`, `ood`, `ignore`; "" for a cell outside.

    Raises
    ------
    InputError
        Unknown split, setting, column or mode, or sizes that the cells do not suffice for.
    """
    kinds: dict[str, Callable[..., np.ndarray]] = {
        "train_test": train_test,
        "train_test_eval": train_test_eval,
        "toggle_ood": toggle_ood,
    }
    if name not in kinds:
        raise InputError(f"datasplit.name={name}: one of {', '.join(kinds)} is expected")
    inside = np.ones(_length(obs), bool)
    for column, labels in (settings.pop("subset", None) or {}).items():
        inside &= _among(obs, column, labels)
    known = inspect.signature(kinds[name]).parameters
    unknown = sorted((set(settings) - set(known)) | (set(settings) & {"obs"}))
    missing = [key for key, of in known.items() if key != "obs" and of.default is of.empty and key not in settings]
    if unknown or missing:
        what = f"does not take {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise InputError(
            f"datasplit: {name} {what}; its settings are {', '.join(key for key in known if key != 'obs')}"
        )
    found = np.full(len(inside), "", "<U6")
    found[inside] = kinds[name]({column: labels[inside] for column, labels in obs.items()}, **settings)
    return found


def train_test(
    obs: Columns,
    *,
    groupby: str | Sequence[str] | None = None,
    holdout: Mapping[str, Any] | None = None,
    test_size: Size = 0.25,
    random_state: int = 0,
) -> np.ndarray:
    """`train` and `test` in each group of cells; held-out cells are `ood`.

    Parameters
    ----------
    groupby
        Columns whose combinations are split one by one; None: all cells at once.
    holdout
        Column -> label or labels. These cells are drawn with the others, and relabelled.
    test_size
        Cells of each group.
    """
    found = np.full(_length(obs), "", "<U6")
    for what, rows in _groups(obs, groupby):
        train, test = _cut(rows, test_size, random_state, what)
        found[train], found[test] = "train", "test"
    found[_held_out(obs, holdout)] = "ood"
    return found


def train_test_eval(
    obs: Columns,
    *,
    groupby: str | Sequence[str] | None = None,
    holdout: Mapping[str, Any] | None = None,
    test_size: Size = 0.15,
    eval_size: Size = 0.15,
    random_state: int = 0,
) -> np.ndarray:
    """`eval` cells are cut off first, then `test` of the others; held-out cells are `ood` and are not drawn from."""
    out = _held_out(obs, holdout)
    found = np.where(out, "ood", "").astype("<U6")
    for what, rows in _groups(obs, groupby, ~out):
        rest, found_eval = _cut(rows, eval_size, random_state, what)
        train, test = _cut(rest, test_size, random_state, what)
        found[train], found[test], found[found_eval] = "train", "test", "eval"
    return found


def toggle_ood(
    obs: Columns,
    *,
    key: str,
    holdout: Any,
    mode: str,
    groupby: str | Sequence[str] | None = None,
    test_size: Size = 0.25,
    random_state: int = 0,
) -> np.ndarray:
    """Half of the held-out cells are `ood`, the same in both modes, so that two trainings are tested on one set.

    Parameters
    ----------
    key, holdout
        The column, and which label or labels of it are held out.
    mode
        `iid`: the other half trains. `ood`: it is `ignore`, and nothing of these cells trains.
    groupby, test_size
        How the other cells are split (`train_test`).
    """
    if mode not in ("iid", "ood"):
        raise InputError(f"datasplit.mode={mode}: iid or ood is expected")
    found = train_test(obs, groupby=groupby, test_size=test_size, random_state=random_state)
    rows = np.flatnonzero(_among(obs, key, holdout))
    other, scored = _cut(rows, 0.5, random_state, f"{key}={holdout}")
    found[other], found[scored] = "train" if mode == "iid" else "ignore", "ood"
    return found


def _groups(
    obs: Columns, groupby: str | Sequence[str] | None, among: np.ndarray | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """What a group is, and its rows in the order of the file; a cell without a label is in none."""
    names = [] if groupby is None else [groupby] if isinstance(groupby, str) else list(groupby)
    rows = np.arange(_length(obs)) if among is None else np.flatnonzero(among)
    if not names:
        yield "all cells", rows
        return
    labels = np.stack([_column(obs, name)[rows] for name in names], axis=1)
    rows, labels = rows[(labels != "").all(axis=1)], labels[(labels != "").all(axis=1)]
    kinds, of_row = np.unique(labels, axis=0, return_inverse=True)
    for i, kind in enumerate(kinds.tolist()):
        yield ", ".join(f"{name}={label}" for name, label in zip(names, kind, strict=True)), rows[of_row.ravel() == i]


def _cut(rows: np.ndarray, size: Size, random_state: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows that remain and those that are cut off."""
    from sklearn.model_selection import train_test_split

    try:
        rest, cut = train_test_split(rows, test_size=size, random_state=random_state)
    except ValueError:
        raise InputError(
            f"CellOT's split: {len(rows)} cells of {what} do not suffice to cut off {size}; give smaller sizes"
        ) from None
    return rest, cut


def _held_out(obs: Columns, holdout: Mapping[str, Any] | None) -> np.ndarray:
    out = np.zeros(_length(obs), bool)
    for column, labels in (holdout or {}).items():
        out |= _among(obs, column, labels)
    return out


def _among(obs: Columns, column: str, labels: Any) -> np.ndarray:
    """Cells with one of the labels, bool (n,); a number in a configuration is a label too."""
    chosen = [labels] if isinstance(labels, str) or not isinstance(labels, Sequence) else labels
    return np.isin(_column(obs, column), [str(label) for label in chosen])


def _column(obs: Columns, name: str) -> np.ndarray:
    if name not in obs:
        raise InputError(f"CellOT's split: there is no column {name}; the columns are {', '.join(obs) or 'none'}")
    return obs[name]


def _length(obs: Columns) -> int:
    if not obs:
        raise InputError("CellOT's split: no column of cell labels is given")
    return len(next(iter(obs.values())))
