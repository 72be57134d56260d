"""The tables the figures are drawn from, read once each and checked against their hash."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from harness.results import Artifact, ResultStore, RunRecord

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


class Tables:
    """Artifacts of a results directory. One that is gone or was changed is left out, named in `problems`."""

    def __init__(self, store: ResultStore):
        self.store = store
        self.problems: list[str] = []
        self._read: dict[str, pd.DataFrame | None] = {}

    def get(self, record: RunRecord, kind: str, columns: tuple[str, ...], *, keep: bool = True) -> pd.DataFrame | None:
        """The table of this kind with at least these columns; None if the run has none that can be drawn.

        One with a row for every cell and head is better not kept in memory (`keep=False`).
        """
        for artifact in record.artifacts:
            if artifact.kind == kind:
                table = self._read[artifact.sha256] if artifact.sha256 in self._read else self._load(artifact, record)
                if keep or table is None:
                    self._read[artifact.sha256] = table
                if table is not None and set(columns) <= set(table.columns):
                    return table
        return None

    def _load(self, artifact: Artifact, record: RunRecord) -> pd.DataFrame | None:
        path = self.store.directory / artifact.path
        problem = None
        if not path.resolve().is_relative_to(self.store.directory.resolve()):
            problem = "lies outside the results directory"
        elif not path.is_file():
            problem = "is gone"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != artifact.sha256:
            problem = "was changed after the run"
        else:
            try:
                return self.store.table(artifact)
            except ValueError as error:  # pandas' parser errors are ValueErrors
                problem = f"cannot be read ({error})"
        self.problems.append(f"{artifact.kind} of run {record.run_id}: {artifact.path} {problem}")
        log.warning("%s", self.problems[-1])
        return None
