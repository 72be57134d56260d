"""The space of a model's cell vectors: as it gives them, or tuned on the training cells, and the way back to genes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from tasks.drug_response.problem import Populations
from tasks.drug_response.spaces import Space
from tasks.tuning_notes import note_tuning

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject
    from harness.task import TaskResult
    from tasks.drug_response.cells import FoldCells
    from tasks.drug_response.splits import DrugFold

#: How the vectors of a frozen model become codes.
CODES = ("pca", "vectors")


@dataclass(frozen=True)
class Reading:
    """A model's space of one fold.

    Parameters
    ----------
    space
        Of the cells it can read.
    tested, true
        Which of the fold's control and treated test cells these are, bool (k,) and (m,).
    """

    space: Space
    tested: np.ndarray
    true: np.ndarray


def frozen_space(
    vectors: np.ndarray, cells: FoldCells, code: str, size: int, decoder: dict[str, Any], seed: int, progress: bool
) -> tuple[Reading, dict[str, Any]]:
    """Codes of a frozen model's vectors (n_obs, d), and a decoder trained on the fold's `decoding` cells.

    Raises
    ------
    InputError
        The model reads too few of the cells.
    """
    from tasks.drug_response.decoder import train_decoder
    from tasks.drug_response.decoder_settings import DecoderSettings

    settings = DecoderSettings.of(decoder, "task.decoder")
    readable = ~np.isnan(vectors).any(axis=1)
    fold = cells.fold

    def read(rows: np.ndarray) -> np.ndarray:
        return rows[readable[rows]]

    _check(fold, readable)
    of_train = read(np.concatenate([fold.train.control, fold.train.treated]))
    project = _projection(vectors[of_train], code, size)

    def codes(rows: np.ndarray) -> np.ndarray:
        return project(vectors[read(rows)])

    learn, check = map(read, cells.decoding)
    fitted = train_decoder(
        project(vectors[learn]),
        cells.expression(learn),
        project(vectors[check]),
        cells.expression(check),
        settings,
        seed,
        progress=progress,
    )
    reading = _reading(fold, readable, codes, fitted)
    notes: dict[str, Any] = {
        "codes": f"{reading.space.test.shape[1]} ({'PCA of the vectors' if code == 'pca' else 'vectors'})"
    }
    if fitted.steps:
        notes["decoder steps, kept"] = f"{fitted.steps}, {fitted.kept_step}"
    return reading, notes


def _reading(
    fold: DrugFold,
    readable: np.ndarray,
    codes: Callable[[np.ndarray], np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
) -> Reading:
    """The space of a fold; `codes` are those of the rows it is given that the model can read."""
    space = Space(
        Populations(codes(fold.train.control), codes(fold.train.treated)),
        Populations(codes(fold.val.control), codes(fold.val.treated)),
        codes(fold.test.control),
        decode,
        codes(fold.test.treated),
    )
    return Reading(space, readable[fold.test.control], readable[fold.test.treated])


def _check(fold: DrugFold, readable: np.ndarray) -> None:
    for side in (fold.train, fold.val, fold.test):
        for what, rows in (("control", side.control), ("treated", side.treated)):
            if readable[rows].sum() < 2:
                raise InputError(
                    f"the model reads {int(readable[rows].sum())} of {len(rows)} {what} cells of a part of "
                    f"{fold.name}, and two are needed; see the coverage of its genes (cellfm-bench check-data)"
                )


def _projection(vectors: np.ndarray, code: str, size: int) -> Any:
    """Vectors -> codes: principal components of the training cells' vectors, or nothing."""
    if code == "vectors":
        return lambda rows: np.asarray(rows, np.float32)
    from sklearn.decomposition import PCA

    pca = PCA(min(size, *vectors.shape), svd_solver="full").fit(vectors.astype(np.float64))
    return lambda rows: pca.transform(rows.astype(np.float64)).astype(np.float32)


def tuned_space(
    subject: Subject, data: CellData, cells: FoldCells, size: int, result: TaskResult
) -> tuple[Reading, dict[str, Any]]:
    """Codes of a network that is tuned, with its decoder, on the fold's `decoding` cells to give expression back.

    The curve of the training goes into `result.tables`, each fold's own.
    """
    import torch

    from tasks.drug_response.reconstruction import Reconstruction

    fold = cells.fold
    rows = cells.decoding[0]
    targets = cells.expression(rows)
    objective = Reconstruction(size, torch.as_tensor(targets.mean(axis=0)))
    tuned, outputs = subject.finetune(rows, targets, objective, strata=np.isin(rows, fold.train.treated))
    head, device = tuned.head.eval(), tuned.model.device

    def decode(codes: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = head.decode(torch.as_tensor(np.asarray(codes, np.float32), device=device))  # type: ignore[operator]
        return found.float().cpu().numpy()

    note_tuning(tuned, fold.name, result)
    readable = ~np.isnan(outputs).any(axis=1)
    _check(fold, readable)

    def codes(part: np.ndarray) -> np.ndarray:
        return outputs[part[readable[part]]]

    return _reading(fold, readable, codes, decode), {"codes": f"{size} (tuned)"}
