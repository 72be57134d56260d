"""A model on trial: made once from scratch or from a checkpoint, with made cells and what it gives for them."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.conformance.cells import made_cells, made_genes
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.model import FittedEmbedder, ModelAdapter
from harness.precomputed import PrecomputedVectors
from harness.spec import ModelSpec

#: Two computations of one cell's embedding may differ by this much: batches of other shapes and other numbers
#: of threads sum in another order (float32).
ATOL, RTOL = 1e-5, 1e-4
#: After saving and loading the same network computes the same thing.
SAVE_ATOL = 1e-6
#: Genes of a made vocabulary; more where the context is longer, so that one cell exceeds it.
N_GENES, LONGEST_CONTEXT = 120, 4096
SEED = 0


class CheckFailedError(AssertionError):
    """A model does not keep its contract; the message says what was seen."""


def require(condition: Any, message: str) -> None:
    """Fail the check unless `condition` holds."""
    if not condition:
        raise CheckFailedError(message)


def same(
    found: np.ndarray,
    expected: np.ndarray,
    cells: Any,
    when: str,
    *,
    atol: float = ATOL,
    rtol: float = RTOL,
) -> None:
    """Fail unless two embeddings of the same cells agree; NaN rows agree with NaN rows.

    Parameters
    ----------
    cells
        Names of the rows.
    when
        What was changed, for the message: "embedded one at a time".
    """
    require(found.shape == expected.shape, f"{when}: the shape is {found.shape} and was {expected.shape} before")
    bad = ~np.isclose(found, expected, atol=atol, rtol=rtol, equal_nan=True)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        names = ", ".join(str(cells[row]) for row in rows[:4]) + (", …" if len(rows) > 4 else "")
        by = np.where(bad, np.abs(found - expected), 0).reshape(len(bad), -1).max(axis=1)
        lost = np.flatnonzero(np.isnan(by))
        most = int(np.nan_to_num(by).argmax())
        how = (
            f"{cells[lost[0]]} to or from NaN"
            if len(lost)
            else f"the most {cells[most]} by {by[most]:.2g} (allowed: {atol:g} + {rtol:g} of the value)"
        )
        raise CheckFailedError(f"{when}: {len(rows)} of {len(found)} rows change ({names}), {how}")


class Trial:
    """One model under test.

    Parameters
    ----------
    cls
        The registered class.
    checkpoint
        Release files to test with; None: `from_scratch` over made genes.
    variant
        Which weights of the checkpoint.
    options
        Further arguments of the model's own.
    name
        The name it is registered under; None: `spec.name`.
    """

    def __init__(
        self,
        cls: Any,
        *,
        checkpoint: str | Path | None = None,
        variant: str | None = None,
        options: dict[str, Any] | None = None,
        name: str | None = None,
    ):
        self.cls, self.variant, self.options = cls, variant, dict(options or {})
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.name = name or cls.spec.name
        #: What another process gives for the cells, once it was asked, or why it gives nothing.
        self.elsewhere: np.ndarray | Exception | None = None

    @property
    def spec(self) -> ModelSpec:
        """Spec of the model."""
        return self.cls.spec

    # -- the model ------------------------------------------------------------------------------------

    def build(self, *, seed: int = 0, **options: Any) -> Any:
        """Another instance, made the same way; `options` over those of the trial.

        Raises
        ------
        NotApplicableError
            The model predicts without embedding.
        InputError
            It cannot be made from scratch and no checkpoint is given.
        """
        options = {**self.options, **options}
        if self.spec.kind == "predictor":
            raise NotApplicableError("a predictor embeds no cell")
        if self.spec.reads_labels:
            raise NotApplicableError("a control that reads labels: a vector is no function of the counts")
        if issubclass(self.cls, PrecomputedVectors):
            return self.cls(**self._made_vectors, **options)
        if not issubclass(self.cls, ModelAdapter):
            return self.cls(**options)
        if self.checkpoint is not None:
            return self.cls.from_checkpoint(self.checkpoint, variant=self.variant, **options)
        model = self._from_scratch(self.vocabulary, seed, options)
        model.calibrate(CellData(self.cells))
        return model

    @cached_property
    def _made_vectors(self) -> dict[str, Any]:
        """Options that name files of made vectors: nobody's file holds the cells of a trial."""
        return self.cls.on_trial(self.options, self.vocabulary, self.folder)

    def _from_scratch(self, genes: GeneTable, seed: int, options: dict[str, Any]) -> Any:
        try:
            return self.cls.from_scratch(genes, size="tiny", seed=seed, **options)
        except NotApplicableError as error:
            raise InputError(f"{error}: it can be checked with weights only; say model.checkpoint=DIR") from None

    @cached_property
    def model(self) -> Any:
        """The instance all checks share; a check that changes it makes its own with `build`."""
        return self.build()

    @property
    def adapter(self) -> ModelAdapter:
        """The model, if it is a foundation model."""
        if self.spec.kind != "predictor" and isinstance(self.model, ModelAdapter):
            return self.model
        raise NotApplicableError("not a foundation model")

    # -- its cells ------------------------------------------------------------------------------------

    @cached_property
    def vocabulary(self) -> GeneTable:
        """Genes the model knows: made ones, or some of the checkpoint's."""
        if self.checkpoint is None or not issubclass(self.cls, ModelAdapter):
            n = N_GENES
            if issubclass(self.cls, ModelAdapter):
                probe = self._from_scratch(made_genes(N_GENES), 0, self.options)
                if probe.context_length <= LONGEST_CONTEXT:
                    n = max(N_GENES, probe.context_length + 16)
            return made_genes(n)
        names = GeneTable.from_names([name for name in self.model.token_names.tolist() if name])
        usable = self.model.match_genes(names).columns
        wanted = max(N_GENES, min(self.model.context_length, LONGEST_CONTEXT) + 16)
        some = usable[np.linspace(0, len(usable) - 1, min(wanted, len(usable))).astype(int)]
        return GeneTable(names.names[some], names.symbols[some], names.ensembl[some])

    @cached_property
    def cells(self) -> Any:
        """The made cells (AnnData, CSR); no check changes them."""
        return made_cells(self.vocabulary)

    @property
    def names(self) -> list[str]:
        """Names of the cells."""
        return self.cells.obs_names.tolist()

    def rows(self, *names: str) -> np.ndarray:
        """Rows of the cells with these names."""
        return np.asarray([self.names.index(name) for name in names])

    @cached_property
    def readable(self) -> np.ndarray:
        """Which cells hold a count the model can read, bool (n,)."""
        counts = self.cells.X
        if hasattr(self.model, "match_genes"):
            counts = counts[:, self.model.match_genes(GeneTable.from_var(self.cells.var)).columns]
        return np.asarray(counts.sum(axis=1)).ravel() > 0

    # -- what it gives --------------------------------------------------------------------------------

    @cached_property
    def reference(self) -> np.ndarray:
        """Embedding of the cells, in one piece."""
        return self.embed(self.cells)

    def embed(self, adata: Any, *, model: Any = None, refit: bool = True, seed: int = SEED) -> np.ndarray:
        """Embedding of some cells, as a user gets it.

        Parameters
        ----------
        refit
            Whether a fitted baseline is fitted to these cells; if not, it stays fitted to the cells of the trial.
        """
        model = self.model if model is None else model
        if isinstance(model, FittedEmbedder) and not refit:
            return self._transform(adata)
        return np.asarray(model.embed_cells(adata, seed=seed))

    @cached_property
    def _fitted(self) -> FittedEmbedder:
        model = self.build()
        model.fit(CellData(self.cells), SEED)
        return model

    def _transform(self, adata: Any) -> np.ndarray:
        counts = CellData(adata).counts()
        result = np.array(self._fitted.transform(counts), np.float32)
        result[np.diff(counts.indptr) == 0] = np.nan
        return result

    @cached_property
    def folder(self) -> Path:
        """A temporary directory that lives as long as the trial."""
        self._temporary = tempfile.TemporaryDirectory(prefix="cellfm-bench-check-")
        return Path(self._temporary.name)

    @cached_property
    def saved(self) -> Path:
        """Where the model was saved."""
        path = self.folder / "saved"
        self.adapter.save(path)
        return path

    @cached_property
    def stored_cells(self) -> Path:
        """The cells as an h5ad."""
        path = self.folder / "cells.h5ad"
        self.cells.write_h5ad(path)
        return path
