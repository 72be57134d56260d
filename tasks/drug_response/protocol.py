"""Drug and stimulus response: which treated cells would the untreated ones have become?

Protocols of CellOT (Bunne et al. 2023, Nat Methods) and of the CellFM paper's drug experiment, made leak-free: what is
learned is chosen on validation cells, and encoders and decoders see control as well as treated cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError
from harness.registry import register_task
from harness.results import Scope
from harness.task import Split, Task, TaskResult
from harness.tuning import SETTINGS
from tasks.drug_response.answers import NO_HEAD, Answer, answer
from tasks.drug_response.cellot_settings import CellOTSettings
from tasks.drug_response.cells import FoldCells, Prepared, cells_of, prepare
from tasks.drug_response.decoder_settings import DecoderSettings
from tasks.drug_response.model_space import CODES
from tasks.drug_response.rows import FoldScores, metric_rows
from tasks.drug_response.scores import response_scores
from tasks.drug_response.spaces import HEADS
from tasks.drug_response.splits import DrugFold, cells_split, given_split, group_split
from tasks.drug_response.steps import step_lines
from tasks.drug_response.tables import DRAWN, Drawn, map_table, marker_table

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject

#: What is held out -> the scope of its groups' scores.
HOLDOUTS: dict[str, Scope | None] = {"cells": None, "cell_type": "per-class", "donor": "per-donor", "given": None}
PROTOCOLS = ("fair", "published")
#: Metrics the board ranks by, and those that are given besides.
RANKED = ("l2_means", "pearson_delta", "mmd", "e_distance")
METRICS = (
    *RANKED,
    "l2_means_all",
    "l2_stds",
    "pearson_means",
    "pearson_delta_markers",
    "r2_means",
    "decoding_l2_means",
    "decoding_pearson_delta",
)
#: Cell types with fewer test cells, control or treated, have no scores of their own.
FEWEST_OF_TYPE = 10


@dataclass(frozen=True)
class FoldSplit(Split):
    """A fold of cells: validation cells are on the training side."""

    fold: DrugFold | None = None


@register_task("drug_response")
class DrugResponse(Task):
    """Treated cells predicted from control cells, drug by drug, and compared with measured ones.

    Parameters
    ----------
    heads
        Of `tasks.drug_response.spaces.HEADS`, for models that give cell vectors.
    holdout, held_out
        `cells`, `cell_type`, `donor` or `given`; names of the groups, None: each in turn.
    drugs, cells_per_condition, min_cells
        Which cells take part.
    protocol
        `fair`, or `published`, which leaks.
    test_share, val_share
        Of the split.
    n_top_genes, markers
        Genes that are predicted, and those that some metrics compare.
    code, code_size
        How a frozen model's vectors become codes, and how many numbers a code has.
    cellot, decoder
        Settings, see `tasks.drug_response.cellot` and `decoder`.
    layout
        Whether to lay the three populations out.
    """

    name = "drug_response"
    title = "Drug response"
    needs = ("condition",)
    settings = SETTINGS
    reads_features = True
    headline = tuple((metric, head) for metric in RANKED for head in (*HEADS, NO_HEAD))
    #: The other settings say which cells and genes are compared: runs that differ in these stand on different boards.
    answered_by = ("heads", "code", "code_size", "cellot", "decoder", "layout")
    controls: ClassVar = {"floor": ("identity", "random_embedding"), "ceiling": ("treated_half",)}

    def __init__(
        self,
        heads: Sequence[str] = HEADS,
        holdout: str = "cells",
        held_out: Sequence[str] | str | None = None,
        drugs: Sequence[str] | str | None = None,
        protocol: str = "fair",
        cells_per_condition: int | None = None,
        min_cells: int = 20,
        test_share: float = 0.2,
        val_share: float = 0.1,
        n_top_genes: int | None = 1000,
        markers: int = 50,
        code: str = "pca",
        code_size: int = 50,
        cellot: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        layout: bool = True,
    ):
        super().__init__(
            heads=_names(heads) or [],
            holdout=holdout,
            held_out=_names(held_out),
            drugs=_names(drugs),
            protocol=protocol,
            cells_per_condition=cells_per_condition,
            min_cells=min_cells,
            test_share=test_share,
            val_share=val_share,
            n_top_genes=n_top_genes,
            markers=markers,
            code=code,
            code_size=code_size,
            # What is not said is part of what was asked: a default that changes is another run.
            cellot=asdict(CellOTSettings.of(cellot or {}, "task.cellot")),
            decoder=asdict(DecoderSettings.of(decoder or {}, "task.decoder")),
            layout=layout,
        )
        for name, value, known in (
            ("holdout", holdout, tuple(HOLDOUTS)),
            ("protocol", protocol, PROTOCOLS),
            ("code", code, CODES),
            *(("heads", head, HEADS) for head in self.config["heads"]),
        ):
            if value not in known:
                raise InputError(f"task.{name}={value}: expected {', '.join(known)}")
        if not self.config["heads"]:
            raise InputError(f"task.heads=[]: expected some of {', '.join(HEADS)}")
        for name in ("min_cells", "markers", "code_size", "n_top_genes", "cells_per_condition"):
            value = self.config[name]
            optional = name in ("n_top_genes", "cells_per_condition")
            if not (type(value) is int and value >= 2) and not (optional and value is None):
                raise InputError(f"task.{name}={value}: expected a whole number from 2{' or null' * optional}")
        for name, share in (("test_share", test_share), ("val_share", val_share)):
            if type(share) not in (int, float) or not 0 < share < 0.5:
                raise InputError(f"task.{name}={share}: expected a share above 0 and under 0.5")

    def prepared(self, data: CellData) -> Prepared:
        """The cells that take part."""
        return prepare(data, self.config["drugs"], self.config["cells_per_condition"])

    def split(self, data: CellData, seed: int) -> Split:
        """Some of the cells, or whole groups of them, tested with each drug."""
        prepared, holdout, held_out = self.prepared(data), self.config["holdout"], self.config["held_out"]
        whom: dict[str, Any] = {
            "condition": prepared.condition,
            "control": prepared.control,
            "drugs": prepared.drugs,
            "strata": data.labels("cell_type") if data.has("cell_type") else None,
            "seed": seed,
            "val_share": self.config["val_share"],
            "min_cells": self.config["min_cells"],
            "name": data.name,
            "cell_names": data.obs_names,
        }
        if holdout == "given":
            folds, excluded = given_split(data.labels("split"), **whom)
        elif holdout == "cells":
            folds, excluded = cells_split(**whom, test_share=self.config["test_share"])
        else:
            folds, excluded = group_split(**whom, groups=data.labels(holdout), held_out=held_out)
        name = holdout
        if holdout in ("cell_type", "donor"):
            name = f"leave-{holdout.replace('_', '-')}-out" if held_out is None else f"without {', '.join(held_out)}"
        if self.config["protocol"] == "published":
            name += " (published protocol)"
        parts = tuple(
            FoldSplit(fold.name, np.sort(fold.train_rows), np.sort(fold.test_rows), fold=fold) for fold in folds
        )
        train, test = (np.unique(np.concatenate([getattr(part, side) for part in parts])) for side in ("train", "test"))
        return Split(name, train, test, {**prepared.excluded, **excluded}, parts)

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Predict the treated cells of each fold, and compare them with the measured ones."""
        prepared = self.prepared(data)
        result = TaskResult(notes=dict(prepared.notes))
        published = self.config["protocol"] == "published"
        if published or subject.spec.reads_batches:  # an integration method reads all cells
            result.flags.append("leaks")
        if published:
            result.notes["protocol"] = (
                "published: decoding learned from treated cells alone, steps chosen by test cells"
            )
        scored: dict[str, list[FoldScores]] = {}
        drawn: list[Drawn] = []
        lines: list[dict[str, Any]] = []
        folds = [part.fold for part in split.each() if isinstance(part, FoldSplit) and part.fold is not None]
        for fold in folds:
            cells = cells_of(fold, prepared, self.config["n_top_genes"], published)
            found = answer(subject, data, cells, self.config["heads"], self.config, seed, result, len(folds) == 1)
            _note(result, found.notes)
            for head, scores in self._scores(data, cells, found, seed).items():
                scored.setdefault(head, []).append(scores)
            lines += step_lines(cells, found, self.config["markers"], seed)
            if len({(each.drug, each.held_out) for each in drawn}) < DRAWN:
                drawn += _drawn(data, cells, found)
        if all(np.isnan(scores.scores["l2_means"]) for own in scored.values() for scores in own):
            raise InputError(str(result.notes.get("not learned", f"{subject.spec.name} predicted nothing")))
        scope = HOLDOUTS[self.config["holdout"]]
        result.metrics = [line for head, own in scored.items() for line in metric_rows(head, own, scope)]
        self._draw(subject, drawn, lines, seed, result)
        result.notes["drugs"] = len({fold.drug for fold in folds})
        return result

    def _scores(self, data: CellData, cells: FoldCells, found: Answer, seed: int) -> dict[str, FoldScores]:
        """Head -> scores of a fold, of all cells and of each type where types are not held out."""
        fold, markers = cells.fold, cells.markers[: self.config["markers"]]
        control, treated = cells.expression(fold.test.control), cells.expression(found.true)
        kinds = data.labels("cell_type") if data.has("cell_type") and not fold.held_out else None
        alone = {}
        if found.decoded is not None:
            whole = response_scores(found.decoded, treated, control, markers, most=0)
            alone = {f"decoding_{name}": whole[name] for name in ("l2_means", "pearson_delta")}
        scored = {}
        for head, predicted in found.predicted.items():
            by_type = {}
            for kind in () if kinds is None else np.unique(kinds[found.true]).tolist():
                parts = kinds[found.moved] == kind, kinds[found.true] == kind, kinds[fold.test.control] == kind
                if kind and min(part.sum() for part in parts) >= FEWEST_OF_TYPE:
                    own = (predicted[parts[0]], treated[parts[1]], control[parts[2]])
                    by_type[kind] = response_scores(*own, markers, seed=seed)
            scores = {**response_scores(predicted, treated, control, markers, seed=seed), **alone}
            scored[head] = FoldScores(fold.drug, fold.held_out, scores, by_type, len(found.moved))
        return scored

    def _draw(
        self, subject: Subject, drawn: list[Drawn], lines: list[dict[str, Any]], seed: int, result: TaskResult
    ) -> None:
        import pandas as pd

        result.tables["drug_bars"] = pd.DataFrame(lines)
        if not drawn:
            return
        result.tables["drug_markers"] = marker_table(drawn)
        if self.config["layout"]:
            first = [each for each in drawn if each.head == drawn[0].head]
            result.tables["drug_umap"] = map_table(subject, first[:1], seed)

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return METRICS


def _names(asked: Sequence[str] | str | None) -> list[str] | None:
    """Names asked for, sorted; None: all. Donors may be numbers."""
    if asked is None:
        return None
    several = [asked] if isinstance(asked, str | int | float) else asked
    return sorted(set(map(str, several))) or None


def _note(result: TaskResult, notes: Mapping[str, Any]) -> None:
    """Add the notes of a fold; where folds differ, one after the other."""
    for what, value in notes.items():
        earlier = result.notes.get(what)
        result.notes[what] = value if earlier in (None, value) else f"{earlier}; {value}"


def _drawn(data: CellData, cells: FoldCells, found: Answer) -> list[Drawn]:
    fold = cells.fold
    if not np.isin(found.moved, fold.test.control).all():  # the ceiling moves nothing
        return []
    kinds = None
    if data.has("cell_type"):
        labels = data.labels("cell_type")
        kinds = labels[found.moved], labels[found.true]
    measured = cells.expression(found.moved), cells.expression(found.true)
    names = cells.prepared.genes[cells.columns]
    return [
        Drawn(fold.drug, fold.held_out, head, names, cells.markers, *measured, predicted, kinds)
        for head, predicted in found.predicted.items()
        if np.isfinite(predicted).all()
    ]
