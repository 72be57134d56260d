"""One drug, learned and tested once: its cells by part, and what must hold of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.errors import InputError
from tasks.gene_names import some

PARTS = ("train", "val", "test")
#: Treated cells of a drug, and test cells of either side, below which little can be said.
MIN_CELLS = 20
#: Control and treated cells that are learned from, and that are chosen by.
FEWEST = 2


@dataclass(frozen=True)
class Side:
    """Cells of one part: rows of the data set, int64, ascending."""

    control: np.ndarray
    treated: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """All of them, control cells first."""
        return np.concatenate([self.control, self.treated])


@dataclass(frozen=True)
class DrugFold:
    """A drug, and the cells it is learned from and tested on.

    Parameters
    ----------
    name
        The drug, and the group that is held out, if one is.
    held_out
        The group whose cells are tested; "" where they are of all groups.
    train, val, test
        Cells to learn from, to choose among what was learned, and to test.
    """

    name: str
    drug: str
    held_out: str
    train: Side
    val: Side
    test: Side

    @property
    def train_rows(self) -> np.ndarray:
        """All cells but those that are tested."""
        return np.concatenate([self.train.rows, self.val.rows])

    @property
    def test_rows(self) -> np.ndarray:
        """The cells that are tested."""
        return self.test.rows


#: The folds that can be tested, and counts of what is in none of them, by reason.
Folds = tuple[list[DrugFold], dict[str, int]]


@dataclass(frozen=True)
class Treatments:
    """What was done to the cells, and which of it is asked for.

    Parameters
    ----------
    condition
        Of every cell, Unicode (n,); "" for a cell that takes no part.
    control
        The condition of the untreated cells.
    drugs
        The conditions to predict.
    min_cells
        Drugs with fewer treated cells are left out, and so are folds with fewer test cells on either side.
    name
        Of the data set, for messages.

    Raises
    ------
    InputError
        No control cell; a drug that is the control, or in no cell; no drug with `min_cells` cells.
    """

    condition: np.ndarray
    control: str
    drugs: Sequence[str]
    min_cells: int = MIN_CELLS
    name: str = "the data set"

    def __post_init__(self) -> None:
        found = sorted(self.sizes.keys() - {"", self.control})
        if not self.sizes.get(self.control):
            raise InputError(
                f"{self.name}: no control cell: no cell is labelled {self.control!r}; {meant(self.control, found)}"
                "name the condition of untreated cells: dataset.control=LABEL"
            )
        for drug in self.drugs:
            if drug not in found:
                what = "is the control" if drug == self.control else "has no cell"
                known = f"the drugs are {some(found)}" if found else "there is no treated cell"
                raise InputError(f"{self.name}: drug {drug!r} {what}; {meant(drug, found)}{known}")
        if not self.large:
            raise InputError(
                f"{self.name}: of {len(self.drugs)} drugs none has task.min_cells={self.min_cells} treated cells; "
                "lower it, or take other drugs"
            )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Condition -> cells."""
        names, counts = np.unique(self.condition, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    @cached_property
    def large(self) -> tuple[str, ...]:
        """The drugs with enough cells."""
        return tuple(drug for drug in dict.fromkeys(self.drugs) if self.sizes[drug] >= self.min_cells)

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The control and each drug with enough cells -> its cells, int64, ascending."""
        return {label: np.flatnonzero(self.condition == label) for label in (self.control, *self.large)}

    @cached_property
    def taking_part(self) -> np.ndarray:
        """Cells of the control and of these drugs, bool (n,)."""
        return np.isin(self.condition, list(self.rows))

    def folds(
        self, divisions: Mapping[str, np.ndarray], excluded: Mapping[str, int] | None = None, asked: bool = False
    ) -> Folds:
        """A fold for each drug under each division of the cells.

        Parameters
        ----------
        divisions
            Held-out group -> part of every cell, Unicode (n,); "" for a cell of no part.
        excluded
            Cells that are in no part, by reason.
        asked
            Whether the groups were named: a fold that lacks cells is then an error, and is not left out.

        Raises
        ------
        InputError
            A fold that was asked for lacks cells, or every fold does.
        """
        small = [drug for drug in dict.fromkeys(self.drugs) if drug not in self.large]
        left_out = {f"drugs with fewer than {self.min_cells} treated cells": small}
        found, first = [], ""
        for held_out, part in divisions.items():
            for drug in self.large:
                fold = self._fold(drug, held_out, part)
                lack = self._lack(fold)
                if lack is None:
                    found.append(fold)
                    continue
                first = first or f"{fold.name} has {lack}"
                if asked:
                    raise InputError(f"{self.name}: {first}; hold out another group, or take other drugs")
                left_out.setdefault(f"folds with {lack}", []).append(fold.name)
        if not found:
            raise InputError(f"{self.name}: no fold can be tested: {first}; lower task.min_cells, or divide otherwise")
        counts = {why: n for why, n in (excluded or {}).items() if n}
        return found, counts | {f"{why} ({some(names)})": len(names) for why, names in left_out.items() if names}

    def _fold(self, drug: str, held_out: str, part: np.ndarray) -> DrugFold:
        control, treated = self.rows[self.control], self.rows[drug]
        sides = (Side(control[part[control] == name], treated[part[treated] == name]) for name in PARTS)
        return DrugFold(f"{drug}, {held_out}" if held_out else drug, drug, held_out, *sides)

    def _lack(self, fold: DrugFold) -> str | None:
        """Of which cells a fold has too few; None where of none."""
        needed = (
            (fold.test, self.min_cells, "test"),
            (fold.train, FEWEST, "train on"),
            (fold.val, FEWEST, "validate with"),
        )
        for side, least, use in needed:
            for what, rows in (("control", side.control), ("treated", side.treated)):
                if len(rows) < max(least, 1):
                    return f"{f'fewer than {least}' if len(rows) else 'no'} {what} cells to {use}"
        return None


def meant(name: str, known: Iterable[str]) -> str:
    """`did you mean …? `, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""
