"""Contextual gene vectors, averaged over cells as they come."""

import tracemalloc

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from harness.data import CellData
from harness.errors import InternalError, NotApplicableError
from harness.gene_vectors import contextual_genes
from harness.genes import GeneTable
from harness.tokens import CellOutput
from models.geneformer.adapter import Geneformer
from models.scgpt.adapter import ScGPT
from models.uce.adapter import UCE
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
#: UCE draws genes with replacement, so that they repeat in a cell; two names of Geneformer's cells are one token.
MODELS = {
    "scgpt": (ScGPT, "scgpt", {}),
    "geneformer": (Geneformer, "geneformer/v2", {}),
    "uce": (UCE, "uce", {"sample_size": 32}),
}
N_GENES = 300


def cells(n, seed=0, genes=N_GENES):
    """Each gene is expressed by a tenth of the cells, the last one by none."""
    counts = sp.random(n, genes, 0.1, "csr", np.float32, np.random.default_rng(seed))
    counts.data[:] = np.ceil(counts.data * 9)
    counts = counts.tolil()
    counts[:, -1] = 0
    counts[:, 0] = 1
    data = anndata.AnnData(counts.tocsr())
    data.var_names = [f"G{i}" for i in range(genes)]
    return CellData(data)


@pytest.fixture(scope="module")
def scratch():
    return ScGPT.from_scratch(GeneTable.from_names([f"G{i}" for i in range(N_GENES)]))


def plain(model, data, seed=0):
    """Gene -> mean of its rows in `embed_tokens`."""
    tokens = model.embed_tokens(data, seed=seed)
    return {gene: tokens.matrix[tokens.genes == gene].mean(axis=0, dtype=float) for gene in np.unique(tokens.genes)}


@pytest.mark.parametrize("name", MODELS)
def test_is_the_plain_average_of_token_vectors(name):
    cls, folder, options = MODELS[name]
    model = cls.from_checkpoint(GOLDEN / folder / "checkpoint", **options)
    data = CellData(anndata.read_h5ad(GOLDEN / folder / "cells.h5ad"))
    found, expected = contextual_genes(model, data, data.genes, seed=2), plain(model, data, seed=2)
    assert found.matrix.dtype == np.float32
    vectors = dict(zip(found.names.tolist(), found.matrix, strict=True))
    assert set(expected) <= set(vectors)
    for gene, vector in expected.items():
        np.testing.assert_allclose(vectors[gene], vector, atol=1e-6)
    # What stands in no row of the tokens is another name of a token that does.
    ids = dict(zip(data.genes.names.tolist(), model.match_genes(data.genes).ids.tolist(), strict=True))
    for gene in set(vectors) - set(expected):
        assert ids[gene] in {ids[other] for other in expected}
    whole = [*found.names.tolist(), *found.missing.tolist()]
    assert sorted(whole) == sorted(data.genes.names.tolist()) and len(found.missing)


def test_genes_in_the_order_asked_and_the_others_missing(scratch):
    data = cells(20)
    whole = contextual_genes(scratch, data, data.genes)
    found = contextual_genes(scratch, data, ["G7", "nothing", "G299", "G2"])
    assert found.names.tolist() == ["G7", "G2"]
    assert found.missing.tolist() == ["nothing", "G299"]  # not in the vocabulary; expressed by no cell
    rows = [whole.names.tolist().index(gene) for gene in found.names]
    np.testing.assert_allclose(found.matrix, whole.matrix[rows], atol=1e-7)
    none = contextual_genes(scratch, data, ["nothing", "G299"])
    assert none.matrix.shape == (0, 64) and len(none.missing) == 2


def test_genes_need_not_be_called_as_in_the_cells(scratch):
    data = cells(60)
    renamed = data.adata.copy()
    renamed.var["gene_symbol"] = renamed.var_names.to_numpy()
    renamed.var_names = [f"ENSG{i:011d}" for i in range(N_GENES)]
    one, other = (contextual_genes(scratch, CellData(d), ["G3", "G5"]) for d in (data.adata, renamed))
    np.testing.assert_array_equal(one.matrix, other.matrix)
    assert other.names.tolist() == ["G3", "G5"]


def test_blocks_change_nothing(scratch):
    data = cells(30)
    one, other = (contextual_genes(scratch, data, data.genes, block_nnz=n) for n in (10**6, 100))
    assert one.names.tolist() == other.names.tolist()
    np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-6)


def test_memory_does_not_grow_with_the_cells(scratch):
    peaks, data = [], [cells(n) for n in (100, 800)]
    for part in (data[0], *data):  # once to warm up
        tracemalloc.start()
        contextual_genes(scratch, part, part.genes, block_nnz=2_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1] + 200_000
    assert peaks[2] < 800 * N_GENES * 64 * 4 / 4  # the array that is never made holds 800 x genes x width floats


def test_out_of_memory_counts_no_cell_twice(scratch, monkeypatch):
    import torch

    data, forward = cells(16), scratch.forward
    expected = contextual_genes(scratch, data, data.genes)

    def cramped(batch):
        if len(batch) > 5:
            raise torch.OutOfMemoryError("no room")
        return forward(batch)

    monkeypatch.setattr(scratch, "forward", cramped)
    found = contextual_genes(scratch, data, data.genes)
    assert found.names.tolist() == expected.names.tolist()
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-6)


def test_a_model_without_token_vectors_or_with_broken_ones(scratch, monkeypatch):
    data, forward = cells(4), scratch.forward
    monkeypatch.setattr(scratch, "forward", lambda batch: CellOutput(forward(batch).cell))
    with pytest.raises(NotApplicableError, match="no token level with readout=cls"):
        contextual_genes(scratch, data, data.genes)
    monkeypatch.setattr(scratch, "forward", lambda b: CellOutput(None, forward(b).tokens * float("nan")))
    with pytest.raises(InternalError, match="non-finite"):
        contextual_genes(scratch, data, data.genes)
