"""The smallest model: a cell is the mean of its genes' vectors, weighted by their counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from harness import CellOutput, GeneTable, InputError, ModelAdapter, ModelSpec, TokenBatch
from harness.checkpoints import load_state, read_safetensors
from harness.networks import empty, seeded

WEIGHTS, GENES = "vectors.safetensors", "genes.json"
WIDTH = 32


class ExampleModel(ModelAdapter):
    """Keyword arguments of `from_checkpoint` and `from_scratch` are the options: `model.log_counts=false`.

    Parameters
    ----------
    log_counts
        Whether a gene weighs by log(1 + count), else by its count.
    """

    spec = ModelSpec(
        name="example_model",
        title="Example model",
        readouts=("mean",),
        draws=False,
        paper="none",
        code_licence="MIT",
        pretraining="nothing",
    )

    def __init__(self, network: Any, genes: Sequence[str], *, variant: str = "", log_counts: bool = True):
        self.network = network.eval().requires_grad_(False)
        self.token_names = np.asarray(genes, np.str_)
        self.context_length, self.embedding_size = len(genes), WIDTH
        self.readout, self.variant, self.log_counts = "mean", variant, log_counts

    @classmethod
    def from_checkpoint(
        cls, path: Path, *, variant: str | None = None, readout: str | None = None, log_counts: bool = True
    ) -> Self:
        """Read `vectors.safetensors` and `genes.json` of a folder."""
        import torch

        try:
            genes = json.loads((Path(path) / GENES).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: no readable {GENES} ({error})") from None
        state = read_safetensors(Path(path) / WEIGHTS)
        network = empty(lambda: torch.nn.Embedding(len(genes), WIDTH))
        load_state(network, state, Path(path) / WEIGHTS)
        return cls(network, genes, variant=variant or "", log_counts=log_counts)

    @classmethod
    def from_scratch(
        cls,
        genes: GeneTable,
        *,
        size: str = "tiny",
        seed: int = 0,
        readout: str | None = None,
        log_counts: bool = True,
    ) -> Self:
        """Random vectors for the symbols of `genes`."""
        import torch

        symbols = [name for name in dict.fromkeys(genes.symbols.tolist()) if name]
        network = seeded(lambda: torch.nn.Embedding(len(symbols), WIDTH), seed)
        return cls(network, symbols, variant=size, log_counts=log_counts)

    def save(self, directory: Path) -> None:
        """What `from_checkpoint` reads."""
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), directory / WEIGHTS)
        (directory / GENES).write_text(json.dumps(self.token_names.tolist()))

    def tokenize(self, counts: csr_matrix, genes: Any, *, seed: int = 0) -> TokenBatch:
        """Genes in the order of the vocabulary; columns of one gene add up."""
        ids = self.match_genes(genes).ids
        known = np.flatnonzero(ids >= 0)
        place = csr_matrix((np.ones(len(known)), (known, ids[known])), shape=(len(ids), len(self.token_names)))
        table = csr_matrix(counts @ place)
        table.sort_indices()
        sizes = np.diff(table.indptr)
        row = np.repeat(np.arange(table.shape[0]), sizes)
        where = (row, np.arange(table.nnz) - np.repeat(table.indptr[:-1], sizes))
        shape = (table.shape[0], int(sizes.max(initial=0)))
        tokens, values, mask = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, bool)
        tokens[where], values[where], mask[where] = table.indices, table.data, True
        return TokenBatch(tokens, values, mask)

    def forward(self, batch: TokenBatch) -> CellOutput:
        """The weighted mean, and each gene's own vector."""
        batch = batch.tensors(self.device)
        tokens = self.network(batch.gene_ids) * batch.mask[..., None]
        weights = (batch.values.log1p() if self.log_counts else batch.values) * batch.mask
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
        return CellOutput((tokens * weights[..., None]).sum(1), tokens)

    def gene_table(self) -> tuple[list[str], np.ndarray]:
        """The vectors."""
        return self.token_names.tolist(), self.network.weight.detach().cpu().numpy()
