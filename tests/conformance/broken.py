"""Deliberately broken adapters, each with the check that is meant to catch it.

A check that was never seen to fail is no check: every check of `harness.checks` has at least one of these.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from harness.checkpoints import read_torch
from harness.errors import InputError
from harness.genes import GeneMatch
from harness.loss import PretrainingLoss
from harness.spec import ModelSpec
from harness.tokens import CellOutput
from tests.conformance.toy import CONTEXT, Toy

CAUGHT_BY = {}


def caught_by(check):
    def decorate(cls):
        CAUGHT_BY[cls] = check
        return cls

    return decorate


# -- the five the issue names -----------------------------------------------------------------------------


@caught_by("padding")
class AveragesPadding(Toy):
    """The mean over all positions, real or not."""

    def read_out(self, tokens, mask):
        return tokens.mean(1)


@caught_by("companions")
class DependsOnCompanions(Toy):
    """Centred on the batch, as a batch normalisation in training mode does."""

    def forward(self, batch):
        output = super().forward(batch)
        return CellOutput(output.cell - output.cell.mean(0, keepdim=True), output.tokens)


@caught_by("partial-weights")
class LoadsHalfItsWeights(Toy):
    """Takes what fits and says nothing of the rest."""

    def load(self, path):
        self.network.load_state_dict(read_torch(path), strict=False)


@caught_by("row-order")
class ReturnsRowsInAnotherOrder(Toy):
    """Sorts cells by length for speed, and forgets to sort back."""

    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        order = np.argsort(-batch.lengths(), kind="stable")
        return batch.replace(gene_ids=batch.gene_ids[order], values=batch.values[order], mask=batch.mask[order])


@caught_by("global-generators")
class DrawsFromTheGlobalGenerator(Toy):
    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        noise = np.random.uniform(0.5, 1.5, batch.values.shape)
        return batch.replace(values=(batch.values * noise).astype(np.float32))


# -- rows -------------------------------------------------------------------------------------------------


@caught_by("shape")
class GivesDoubles(Toy):
    def embed_cells(self, adata, **options):
        return super().embed_cells(adata, **options).astype(np.float64)


@caught_by("shape")
class DropsEmptyCells(Toy):
    def embed_cells(self, adata, **options):
        found = super().embed_cells(adata, **options)
        return found[~np.isnan(found).any(axis=1)]


@caught_by("shape")
class GivesTheSameVectorToAll(Toy):
    def read_out(self, tokens, mask):
        return tokens[:, 0] * 0


@caught_by("shape")
class LiesAboutItsWidth(Toy):
    def __init__(self, names, readout=None, seed=0):
        super().__init__(names, readout, seed)
        self.embedding_size *= 2


@caught_by("shape")
class TokenizesFewerCells(Toy):
    def tokenize(self, counts, genes, *, seed=0):
        return super().tokenize(counts[1:], genes, seed=seed)


@caught_by("shape")
class GivesUpOnLargeCells(Toy):
    """No vector, and no reason, for cells of more genes than its context."""

    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        return batch.replace(mask=batch.mask & (batch.lengths() < CONTEXT)[:, None])


@caught_by("batch-size")
class PadsToTheLongestOfTheBatch(Toy):
    """The width of the batch enters the number."""

    def read_out(self, tokens, mask):
        return tokens.sum(1) / mask.shape[1]


@caught_by("chunking")
class NormalisesByTheBlock(Toy):
    """The largest count of the block enters the values."""

    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        return batch.replace(values=batch.values / max(1.0, float(batch.values.max())))


@caught_by("padding")
class LeaksPaddedKeys(Toy):
    """Padded positions are attended to."""

    def forward(self, batch):
        batch = batch.tensors(self.device)
        tokens = self.network(batch.gene_ids, batch.values, batch.mask | True)
        return CellOutput(tokens[:, 0], tokens * batch.mask[..., None])


@caught_by("padding")
class LeavesPaddedTokenVectors(Toy):
    def forward(self, batch):
        output = super().forward(batch)
        return CellOutput(output.cell, output.tokens + 1)


@caught_by("masked-rows")
class CrashesWithoutTokens(Toy):
    def forward(self, batch):
        assert batch.tensors().mask.any(1).all()
        return super().forward(batch)


@caught_by("unknown-genes")
class ReadsColumnNumbers(Toy):
    """Takes the number of a column for the id of a gene."""

    def match_genes(self, genes):
        match = super().match_genes(genes)
        return GeneMatch(match.table, np.arange(len(match.table)) % (len(self.token_names) - 2) + 2)


@caught_by("unknown-counts")
class NormalisesByAllCounts(Toy):
    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        total = np.asarray(counts.sum(axis=1))
        return batch.replace(values=(batch.values / np.maximum(total, 1)).astype(np.float32))


@caught_by("gene-order")
class DependsOnTheOrderOfGenes(Toy):
    """Weighs the first column of the file double."""

    def tokenize(self, counts, genes, *, seed=0):
        weights = np.ones(counts.shape[1], np.float32)
        weights[:40] = 2
        return super().tokenize(sp.csr_matrix(counts.multiply(weights)), genes, seed=seed)


# -- input ------------------------------------------------------------------------------------------------


@caught_by("storage")
class ReadsDenseAsSomethingElse(Toy):
    def embed_cells(self, adata, **options):
        found = super().embed_cells(adata, **options)
        return found + 1 if isinstance(adata.X, np.ndarray) else found


@caught_by("dtype")
class ReadsIntegersAsSomethingElse(Toy):
    def embed_cells(self, adata, **options):
        found = super().embed_cells(adata, **options)
        return found + 1 if getattr(adata.X, "dtype", np.float32) == np.int64 else found


@caught_by("empty-cells")
class GivesZerosForEmptyCells(Toy):
    def embed_cells(self, adata, **options):
        return np.nan_to_num(super().embed_cells(adata, **options))


@caught_by("input-untouched")
class NormalisesInPlace(Toy):
    def embed_cells(self, adata, **options):
        found = super().embed_cells(adata, **options)
        if sp.issparse(adata.X):
            adata.X.sort_indices()
            np.log1p(adata.X.data, out=adata.X.data)
        return found


@caught_by("bad-values")
class TakesAnyValue(Toy):
    def embed_cells(self, adata, **options):
        values = adata.X.data if sp.issparse(adata.X) else adata.X
        if isinstance(values, np.ndarray) and (values < 0).any():
            return np.zeros((adata.n_obs, self.embedding_size), np.float32)
        return super().embed_cells(adata, **options)


@caught_by("foreign-genes")
class EmbedsAnything(Toy):
    def embed_cells(self, adata, **options):
        try:
            return super().embed_cells(adata, **options)
        except InputError:
            return np.zeros((adata.n_obs, self.embedding_size), np.float32)


@caught_by("duplicate-genes")
class CannotBearDuplicates(Toy):
    def match_genes(self, genes):
        match = super().match_genes(genes)
        assert len(np.unique(match.ids[match.columns])) == len(match.columns)
        return match


# -- reproducible -----------------------------------------------------------------------------------------


@caught_by("global-generators")
class SeedsTheGlobalGenerator(Toy):
    @classmethod
    def from_scratch(cls, genes, *, size="tiny", seed=0, readout=None):
        import torch

        torch.manual_seed(seed)
        return cls(genes.symbols.tolist(), readout, seed)


@caught_by("threads")
class DependsOnTheNumberOfThreads(Toy):
    def read_out(self, tokens, mask):
        import torch

        return super().read_out(tokens, mask) * (1 + 0.01 * torch.get_num_threads())


@caught_by("processes")
class DependsOnTheProcess(Toy):
    """Orders genes by Python's hash, which differs from process to process."""

    def read_out(self, tokens, mask):
        return super().read_out(tokens, mask) * (1 + hash("TP53") % 1000)


# -- declared ---------------------------------------------------------------------------------------------


@caught_by("spec")
class HasNoPaper(Toy):
    spec = ModelSpec(name="toy", title="Toy")


@caught_by("spec")
class DeclaresAFailureOfNoCheck(Toy):
    spec = replace(Toy.spec, expected_failures={"no-such-check": "because"})


@caught_by("draws")
class DrawsWithoutSayingSo(Toy):
    def embed_cells(self, adata, *, seed=0, **options):
        return super().embed_cells(adata, **options) * np.float32(1 + seed)


@caught_by("draws")
class SaysItDrawsAndDoesNot(Toy):
    spec = replace(Toy.spec, draws=True)


@caught_by("tokens")
class ExceedsItsContext(Toy):
    def __init__(self, names, readout=None, seed=0):
        super().__init__(names, readout, seed)
        self.context_length = CONTEXT - 5


@caught_by("forward")
class CutsTheGradient(Toy):
    def read_out(self, tokens, mask):
        return super().read_out(tokens, mask).detach()


@caught_by("readouts")
class HasOneReadoutUnderTwoNames(Toy):
    def read_out(self, tokens, mask):
        return tokens[:, 0]


@caught_by("gene-table")
class NamesOneGeneTooMany(Toy):
    def gene_table(self):
        names, matrix = super().gene_table()
        return [*names, "ONE-MORE"], matrix


@caught_by("token-level")
class HasTokenVectorsOfGenesNotExpressed(Toy):
    def tokenize(self, counts, genes, *, seed=0):
        batch = super().tokenize(counts, genes, seed=seed)
        return batch.replace(gene_ids=np.where(batch.gene_ids > 1, 2 + (batch.gene_ids % 40), batch.gene_ids))


@caught_by("lora-targets")
class NamesAModuleItLacks(Toy):
    lora_targets = ("query", "Wqkv")


# -- weights ----------------------------------------------------------------------------------------------


@caught_by("frozen")
class IsLeftInTrainingMode(Toy):
    def __init__(self, names, readout=None, seed=0):
        super().__init__(names, readout, seed)
        self.network.train().requires_grad_(True)


@caught_by("seeds")
class ForgetsItsSeed(Toy):
    @classmethod
    def from_scratch(cls, genes, *, size="tiny", seed=0, readout=None):
        return super().from_scratch(genes, size=size, seed=7, readout=readout)


@caught_by("save-load")
class SavesTheVocabularySorted(Toy):
    def save(self, directory):
        super().save(directory)
        names = directory / "genes.json"
        names.write_text(names.read_text().replace("MADE0000", "MADE9999"))


@caught_by("truncated-weights")
class FallsBackToRandomWeights(Toy):
    def load(self, path):
        try:
            super().load(path)
        except InputError as error:
            if "cannot be read" not in str(error):
                raise


@caught_by("gradients")
class TrainsHalfItsTensors(Toy):
    def pretraining_loss(self, batch, generator):
        loss = super().pretraining_loss(batch, generator)

        def sums():
            gene = self.network.gene.weight
            try:
                gene.requires_grad_(False)
                return loss.sums()
            finally:
                gene.requires_grad_(True)

        return PretrainingLoss(loss.counts, sums)


@caught_by("loss-parts")
class DrawsMasksByPlaceInTheBatch(Toy):
    def chances(self, batch, generator):
        import torch

        return torch.rand(batch.mask.shape, generator=generator)
