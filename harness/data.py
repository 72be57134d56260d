"""Cells: raw counts in row blocks, gene ids and the columns a task needs. Never all cells at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from harness.counts import canonical, check_counts, check_finite, recover_counts
from harness.errors import InputError
from harness.genes import GeneTable

#: The roles an obs column can play; `dataset.<role>=COLUMN` names it.
ROLES = ("cell_type", "batch", "donor", "label", "condition", "split", "cell_ontology")
#: Stored values per block: about 200 MB while a block is tokenized.
BLOCK_NNZ = 4_000_000
BLOCK_ROWS = 4096


class CellData:
    """A data set as the engine sees it.

    Parameters
    ----------
    adata
        AnnData, in memory or backed. It is never changed.
    name
        Name in records and on the board.
    layer
        None for `X`, `raw` for `.raw.X`, else a key of `.layers`.
    recover
        Recover counts from log-normalised values (see `harness.counts.recover_counts`).
    columns
        Role (`cell_type`, `batch`, `donor`, `label`, `condition`) -> obs column.
    control
        Label of the control cells in the condition column.
    genes
        The genes; by default read off `var`, by `gene_ids` (see `GeneTable.from_var`).
    on_empty_cell
        `nan`: a cell that cannot be embedded gets a row of NaN; `error`: refuse the data set.
    values
        `counts`; or `features`: measured numbers of any kind, such as stains, which only a task that says so reads.
    min_coverage, warn_coverage
        Share of counts in genes a model knows, under which it refuses, and under which it says so.
    """

    def __init__(
        self,
        adata: Any,
        *,
        name: str = "cells",
        layer: str | None = None,
        recover: bool = False,
        columns: dict[str, str] | None = None,
        control: str | None = None,
        genes: GeneTable | None = None,
        gene_ids: str = "auto",
        on_empty_cell: str = "nan",
        values: str = "counts",
        min_coverage: float = 0.1,
        warn_coverage: float = 0.8,
    ):
        if on_empty_cell not in ("nan", "error"):
            raise InputError(f"dataset.on_empty_cell={on_empty_cell}: expected nan or error")
        if values not in ("counts", "features"):
            raise InputError(f"dataset.values={values}: expected counts or features")
        self.values = values
        self.min_coverage, self.warn_coverage = min_coverage, warn_coverage
        self.adata, self.name, self.layer, self.recover = adata, name, layer, recover
        self.columns = {role: column for role, column in (columns or {}).items() if column}
        self.control = None if control is None else str(control)
        self.on_empty_cell = on_empty_cell
        #: What a reader must know of the cells, for the record.
        self.notes: dict[str, Any] = {}
        #: What was planted in the cells (`harness.planting`); None for cells as nature made them.
        self.planted: dict[str, Any] | None = None
        self._matrix, var = self._locate()
        self.genes = genes if genes is not None else GeneTable.from_var(var, gene_ids)
        for role, column in self.columns.items():
            if column not in adata.obs.columns:
                raise InputError(
                    f"dataset.{role}={column}: {name} has no such obs column; it has "
                    + (", ".join(map(str, adata.obs.columns)) or "none")
                )
        if self.n_obs == 0 or self.n_vars == 0:
            raise InputError(f"{name} has {self.n_obs} cells and {self.n_vars} genes; nothing can be embedded")

    @classmethod
    def of(cls, cells: Any) -> Self:
        """`cells` itself if it is a CellData, else wrapped with the defaults."""
        return cells if isinstance(cells, cls) else cls(cells)

    def _locate(self) -> tuple[Any, Any]:
        adata, layer = self.adata, self.layer
        if layer in (None, "X"):
            if adata.X is None:
                raise InputError(f"{self.name} has no X; layers: {', '.join(_layers(adata)) or 'none'}")
            return adata.X, adata.var
        if layer == "raw":
            if adata.raw is None:
                raise InputError(f"dataset.layer=raw: {self.name} has no .raw")
            # .raw often lost its var columns; those of the same genes in .var still hold.
            var = adata.raw.var
            return adata.raw.X, var.join(adata.var[[c for c in adata.var.columns if c not in var.columns]])
        if layer not in adata.layers:
            raise InputError(
                f"dataset.layer={layer}: {self.name} has no such layer; it has "
                f"{', '.join(['X', *(['raw'] if adata.raw is not None else []), *_layers(adata)])}"
            )
        return adata.layers[layer], adata.var

    # -- sizes and labels -----------------------------------------------------------------------------

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self._matrix.shape[0])

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return int(self._matrix.shape[1])

    @cached_property
    def obs_names(self) -> np.ndarray:
        """Names of the cells, unicode (n_obs,)."""
        return np.asarray(self.adata.obs_names.astype(str), dtype=np.str_)

    def has(self, role: str) -> bool:
        """Whether a column is named for this role."""
        return role in self.columns

    def labels(self, role: str) -> np.ndarray:
        """The column of a role as unicode (n_obs,); missing labels are "".

        Raises
        ------
        InputError
            No column is named for this role.
        """
        if role not in self.columns:
            raise InputError(
                f"{self.name}: which obs column holds the {role.replace('_', ' ')}? Say dataset.{role}=COLUMN; "
                f"it has {', '.join(map(str, self.adata.obs.columns)) or 'none'}"
            )
        values = self.adata.obs[self.columns[role]]
        missing = values.isna().to_numpy()
        text = values.astype(str).to_numpy().astype(np.str_)
        return np.where(missing, "", text)

    # -- counts ---------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """Where the counts are read from, for messages."""
        return f"{self.name}: {'X' if self.layer in (None, 'X') else self.layer}"

    @cached_property
    def _sliceable(self) -> Any:
        """The matrix in a form whose rows are cheap to read; column-major ones are turned once."""
        matrix = self._matrix
        if sp.issparse(matrix):
            return matrix.tocsr()
        if getattr(matrix, "format", None) == "csc" and hasattr(matrix, "group"):
            from harness.readers import by_rows

            return by_rows(matrix)
        return matrix

    def rows(self, start: int, stop: int) -> sp.csr_matrix:
        """Raw counts (or features) of some consecutive cells, float32 CSR, checked.

        Raises
        ------
        InputError
            NaN, negative or non-integer values.
        """
        block = canonical(self._sliceable[start:stop])
        if self.recover:
            block = recover_counts(block, first_row=start, source=self.source)
        check = check_counts if self.values == "counts" else check_finite
        check(block, first_row=start, source=self.source)
        return block

    def block_slices(self, max_nnz: int = BLOCK_NNZ) -> list[slice]:
        """The row blocks `blocks` reads: consecutive, in order, of at most about `max_nnz` stored values."""
        rows = _rows_per_block(self._sliceable, max_nnz)
        return [slice(start, min(start + rows, self.n_obs)) for start in range(0, self.n_obs, rows)]

    def blocks(self, max_nnz: int = BLOCK_NNZ) -> Iterator[tuple[slice, sp.csr_matrix]]:
        """Row blocks of raw counts, (rows, float32 CSR), in order, each read once and checked.

        Raises
        ------
        InputError
            NaN, negative or non-integer values.
        """
        for rows in self.block_slices(max_nnz):
            yield rows, self.rows(rows.start, rows.stop)

    def counts(self, rows: np.ndarray | None = None) -> sp.csr_matrix:
        """Raw counts of some rows (default: all) in memory; for tasks and baselines of moderate size."""
        whole = sp.vstack([block for _, block in self.blocks()], format="csr")
        return whole if rows is None else whole[rows]

    @cached_property
    def expressed(self) -> np.ndarray:
        """Genes that any cell has a count of, bool (n_vars,)."""
        found = np.zeros(self.n_vars, bool)
        for _, block in self.blocks():
            found[block.indices[block.data > 0]] = True
        return found

    def subset(self, rows: np.ndarray, name: str | None = None) -> CellData:
        """The given cells, in memory, as a data set of their own."""
        import anndata

        part = anndata.AnnData(self.counts(rows), obs=self.adata.obs.iloc[rows].copy())
        part.var_names = self.genes.names
        part.var_names_make_unique()
        data = CellData(
            part,
            name=name or self.name,
            columns=self.columns,
            control=self.control,
            genes=self.genes,
            on_empty_cell=self.on_empty_cell,
            values=self.values,
            min_coverage=self.min_coverage,
            warn_coverage=self.warn_coverage,
        )
        data.planted = self.planted
        return data

    # -- content --------------------------------------------------------------------------------------

    @cached_property
    def cell_hashes(self) -> np.ndarray:
        """A hash of each cell's counts by gene name, uint64 (n_obs,): equal cells have equal hashes.

        Independent of the order of the genes, of storage and dtype; this is how overlap between a corpus and
        evaluated cells, and identical cells on both sides of a split, are found.
        """
        from harness.draws import cell_keys

        names = [hashlib.blake2b(n.encode(), digest_size=8).digest() for n in self.genes.names.tolist()]
        ids = np.frombuffer(b"".join(names), dtype="<u8")
        parts = [cell_keys(m.indptr, ids[m.indices], m.data) for _, m in self.blocks()]
        return np.concatenate(parts)

    @cached_property
    def content_hash(self) -> str:
        """Hash of what can change an embedding: counts, genes and cell order; not of labels or file names."""
        digest = hashlib.sha256(b"" if self.values == "counts" else self.values.encode())
        digest.update(self.cell_hashes.tobytes())
        for column in (self.genes.names, self.genes.symbols, self.genes.ensembl):
            digest.update("\x1f".join(column.tolist()).encode() + b"\x1e")
        return digest.hexdigest()

    def labels_hash(self) -> str:
        """Hash of the named columns and the cell names: what can change a task's number beside the counts."""
        digest = hashlib.sha256("\x1f".join(self.obs_names.tolist()).encode())
        for role in sorted(self.columns):
            digest.update(f"\x1e{role}\x1e".encode() + "\x1f".join(self.labels(role).tolist()).encode())
        digest.update(f"\x1econtrol={self.control}".encode())
        return digest.hexdigest()


def _layers(adata: Any) -> list[str]:
    """Names of the layers; anndata 0.13 also counts X as one, called None."""
    return [name for name in adata.layers if name is not None]


def _rows_per_block(matrix: Any, max_nnz: int) -> int:
    n_rows, n_cols = matrix.shape
    # Only the row pointer is read here: `indptr` is in memory also for a backed matrix.
    indptr = getattr(matrix, "indptr", getattr(matrix, "_indptr", None))
    per_row = max(1, int(np.diff(indptr).max(initial=1))) if indptr is not None else n_cols
    return int(max(1, min(BLOCK_ROWS, n_rows, max_nnz // max(per_row, 1))))
