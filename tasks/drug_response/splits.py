"""Which cells a response is learned from, and on which it is tested: cells at random, whole groups, a column's word.

Cells are divided once for all drugs: a control cell that is tested with one drug trains with none. Of `condition`,
`control`, `drugs`, `min_cells` and `name` see `Treatments`; each split gives the folds that can be tested and counts of
what is in none of them. What is drawn of a condition depends on the seed and on its cells alone: by their names
(`cell_names`, Unicode (n,)) it is the same in any order of the file; without names it goes by that order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.errors import InputError
from tasks.drug_response.folds import FEWEST, MIN_CELLS, DrugFold, Folds, Side, Treatments, meant
from tasks.drug_response.published_splits import Size, train_test_eval
from tasks.gene_names import some

__all__ = ["DrugFold", "Side", "cells_split", "given_split", "group_split", "published_split"]

#: What a column may call the parts, in any case. CellOT's `eval` cells are those that it leaves alone.
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval"),
    "test": ("test", "testing"),
}
#: Streams of random numbers.
_TEST, _VAL = 1, 2


def cells_split(
    condition: np.ndarray,
    control: str,
    drugs: Sequence[str],
    strata: np.ndarray | None,
    seed: int,
    test_share: float = 0.2,
    val_share: float = 0.1,
    *,
    min_cells: int = MIN_CELLS,
    name: str = "the data set",
    cell_names: np.ndarray | None = None,
) -> Folds:
    """Cells at random: one fold for each drug, all with the same control cells in each part.

    Parameters
    ----------
    strata
        Cell types, Unicode (n,), that every part has in like shares; None: not regarded.
    test_share
        Of the cells of each condition and cell type, to within a cell.
    val_share
        Of those that are not tested.

    Raises
    ------
    InputError
        No control cell, a drug without cells, a share that is none, or no fold that can be tested.
    """
    _check_share("test", test_share)
    _check_share("val", val_share)
    treatments = Treatments(condition, control, drugs, min_cells, name)
    part = np.where(treatments.taking_part, "train", "").astype("<U5")
    for own, share, stream in (("test", test_share, _TEST), ("val", val_share, _VAL)):
        part[_draw(treatments, part == "train", _codes(strata, len(part)), share, [seed, stream], cell_names)] = own
    return treatments.folds({"": part})


def group_split(
    condition: np.ndarray,
    control: str,
    drugs: Sequence[str],
    strata: np.ndarray | None,
    seed: int,
    val_share: float = 0.1,
    *,
    groups: np.ndarray,
    held_out: Sequence[str] | None = None,
    min_cells: int = MIN_CELLS,
    name: str = "the data set",
    cell_names: np.ndarray | None = None,
) -> Folds:
    """Whole cell types or donors: one fold for each drug and group. All cells of the group are tested, none trains.

    Parameters
    ----------
    strata
        Cell types, Unicode (n,).
    val_share
        Of the cells of the other groups that validate: of each condition, group and cell type, to within a cell.
    groups
        Of every cell, Unicode (n,); a cell of no group ("") takes no part, for it may be of the one held out.
    held_out
        Groups that are tested, one after the other. None: each; those that lack cells are left out, and counted.

    Raises
    ------
    InputError
        As for `cells_split`; fewer than two groups; a group of `held_out` that is not there, or lacks cells.
    """
    _check_share("val", val_share)
    treatments = Treatments(condition, control, drugs, min_cells, name)
    known = treatments.taking_part & (groups != "")
    found = np.unique(groups[known]).tolist()
    for group in held_out or ():
        if group not in found:
            raise InputError(
                f"{name}: task.held_out={group}: no such group; {meant(group, found)}there are {some(found) or 'none'}"
            )
    if len(found) < 2:
        raise InputError(
            f"{name}: to hold a group out takes two, and there is {f'only {found[0]}' if found else 'none'}; "
            "use task.holdout=cells"
        )
    types = _codes(strata, len(groups))
    stratum = _codes(groups, len(groups)) * (types.max() + 1) + types
    divisions = {}
    for group in dict.fromkeys(held_out or found):
        part = np.where(known, np.where(groups == group, "test", "train"), "").astype("<U5")
        part[_draw(treatments, part == "train", stratum, val_share, [seed, _VAL], cell_names)] = "val"
        divisions[group] = part
    without = {"cells of no group": int((treatments.taking_part & ~known).sum())}
    return treatments.folds(divisions, without, asked=bool(held_out))


def given_split(
    labels: np.ndarray,
    condition: np.ndarray,
    control: str,
    drugs: Sequence[str],
    strata: np.ndarray | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    *,
    min_cells: int = MIN_CELLS,
    name: str = "the data set",
    cell_names: np.ndarray | None = None,
) -> Folds:
    """The parts that a column says; one fold for each drug.

    Parameters
    ----------
    labels
        Unicode (n,): `PART_NAMES`. Cells of other labels (CellOT's `ood` and `ignore`) are left out, and counted.
    strata, seed, val_share
        Of the training cells so many validate, where the column names none that do.

    Raises
    ------
    InputError
        As for `cells_split`; the column calls no cell train, or none test.
    """
    treatments = Treatments(condition, control, drugs, min_cells, name)
    lower, part = np.char.lower(labels), np.full(len(labels), "", "<U5")
    for own, words in PART_NAMES.items():
        part[treatments.taking_part & np.isin(lower, words)] = own
    if not (part == "train").any() or not (part == "test").any():
        found = sorted(set(labels[treatments.taking_part].tolist()) - {""})
        raise InputError(f"{name}: dataset.split needs cells called train and test; it says {some(found) or 'nothing'}")
    if not (part == "val").any():
        _check_share("val", val_share)
        part[_draw(treatments, part == "train", _codes(strata, len(part)), val_share, [seed, _VAL], cell_names)] = "val"
    other, counts = np.unique(labels[treatments.taking_part & (part == "")], return_counts=True)
    excluded = {f"cells of part {label or 'unknown'}": int(n) for label, n in zip(other, counts, strict=True)}
    return treatments.folds({"": part}, excluded)


def published_split(
    condition: np.ndarray,
    control: str,
    drugs: Sequence[str],
    test_size: Size = 1000,
    eval_size: Size = 1000,
    random_state: int = 0,
    *,
    min_cells: int = MIN_CELLS,
    name: str = "the data set",
) -> Folds:
    """CellOT's split of sci-Plex 3, drawn in the order of the file; its `eval` cells validate.

    Parameters
    ----------
    test_size, eval_size
        Numbers or shares of the cells of the control and of each drug; a drug with too few for them is left out.

    Raises
    ------
    InputError
        As for `cells_split`; too few control cells.
    """
    treatments = Treatments(condition, control, drugs, min_cells, name)
    part = np.full(len(condition), "", "<U5")
    for label, rows in treatments.rows.items():
        try:
            part[rows] = train_test_eval(
                {"condition": condition[rows]},
                groupby="condition",
                test_size=test_size,
                eval_size=eval_size,
                random_state=random_state,
            )
        except InputError:
            if label == control:
                raise
    part[part == "eval"] = "val"
    return treatments.folds({"": part})


def _draw(
    treatments: Treatments,
    among: np.ndarray,
    stratum: np.ndarray,
    share: float,
    key: Sequence[int],
    cell_names: np.ndarray | None,
) -> np.ndarray:
    """A share of the cells of each condition, of each stratum in proportion, bool (n,)."""
    chosen = np.zeros(len(among), bool)
    for rows in treatments.rows.values():
        rows = rows[among[rows]]
        if cell_names is not None:
            rows = rows[np.argsort(cell_names[rows], kind="stable")]
        _, own, sizes = np.unique(stratum[rows], return_inverse=True, return_counts=True)
        shuffled = np.random.default_rng(key).permutation(len(rows))
        shuffled = shuffled[np.argsort(own[shuffled], kind="stable")]  # stratum after stratum
        place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen[rows[shuffled[place < np.repeat(_allotted(sizes, share), sizes)]]] = True
    return chosen


def _allotted(sizes: np.ndarray, share: float) -> np.ndarray:
    """How many to draw of strata of such sizes, int (k,): in proportion to within a cell, by the largest remainders.

    Of the share of all, but so that `FEWEST` are drawn and as many are not, where there are enough.
    """
    n = int(sizes.sum())
    if n == 0:
        return sizes
    fewest = min(FEWEST, n // 2)
    total = min(max(round(n * share), fewest), n - fewest)
    least, remainder = np.divmod(sizes * total, n)
    least[np.argsort(-remainder, kind="stable")[: total - least.sum()]] += 1
    return least


def _codes(labels: np.ndarray | None, n: int) -> np.ndarray:
    """Numbers of the labels in their own order, int (n,); 0 without labels."""
    return np.zeros(n, np.int64) if labels is None else np.unique(labels, return_inverse=True)[1].ravel()


def _check_share(part: str, share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"task.{part}_share={share}: a share between 0 and 1 is expected")
