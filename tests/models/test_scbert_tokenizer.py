"""scBERT's tokens where the golden case has none: edges of the levels, duplicates, cells that cannot be read."""

import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness.errors import InputError
from harness.tokens import TokenBatch
from models.scbert import tokenizer
from models.scbert.tokenizer import first_columns, levels
from tests.golden.scbert import case
from tests.golden.scbert.other_sizes import GENES, cells_of, other_model, some_cells

N = len(GENES)


def matrix(*rows):
    return sp.csr_matrix(np.asarray(rows, np.float32))


def test_one_cell_by_hand():
    counts = matrix([0, 1, 2, 500, 9497, 0])
    batch = other_model().tokenize(counts, [GENES[9], GENES[4], GENES[60], "STRANGER", GENES[0], GENES[2]])
    # 9500 counts in the panel; 1.05, 2.1 and 9997 per 10,000.
    assert batch.gene_ids.tolist() == [[0, 4, 60, N]]
    assert batch.values.tolist() == [[5, 1, 1, 0]]
    assert batch.gene_ids.dtype == np.int64 and batch.values.dtype == np.float32
    assert batch.mask.all()


def test_edges_of_the_levels():
    """Counts per 10,000 of exactly 1, 3, 7, 15, 31 are the lowest of their level, whatever they are divided by."""
    edges = np.array([1, 3, 7, 15, 31])
    for total in range(200, 50_001, 100):
        counts = edges * total / 10_000
        whole = counts == np.rint(counts)
        found = levels(counts[whole].astype(np.float32), np.full(whole.sum(), total, np.float32))
        np.testing.assert_array_equal(found, np.arange(1, 6)[whole], err_msg=str(total))


def test_levels_are_those_of_scanpys_float32():
    totals = np.arange(200, 40_000, 7, dtype=np.float32)[:, None]
    counts = np.arange(1, 200, dtype=np.float32)
    theirs = np.log1p(counts / (totals / np.float32(1e4))) / np.float32(np.log(2))
    np.testing.assert_array_equal(levels(counts, totals), np.minimum(theirs, 5).astype(np.int64))


def test_an_expressed_gene_may_be_of_level_0():
    batch = other_model().tokenize(matrix([1, 20_000]), GENES[:2])
    assert batch.values.tolist() == [[0, 5, 0]] and batch.mask.all()


def test_of_several_columns_of_a_gene_the_first_is_read():
    np.testing.assert_array_equal(first_columns(np.array([3, -1, 3, 0, -1, 0, 2])), [3, -1, -1, 0, -1, -1, 2])
    names = [GENES[3], "STRANGER", GENES[3], GENES[0]]
    model = other_model()
    found = model.tokenize(matrix([2, 9, 50, 2]), names)
    alone = model.tokenize(matrix([2, 2]), [GENES[3], GENES[0]])
    np.testing.assert_array_equal(found.values, alone.values)
    assert found.gene_ids.tolist() == [[0, 3, N]]
    # The first column counts also where it is zero.
    assert not model.tokenize(matrix([0, 0, 5, 0]), names).mask.any()


def test_cells_without_a_count_in_the_panel():
    model = other_model()
    counts = matrix([0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 9])
    names = [GENES[0], GENES[1], "STRANGER"]
    batch = model.tokenize(counts, names)
    assert batch.mask.any(axis=1).tolist() == [False, True, True, False]
    vectors = model.embed_cells(cells_of(counts, names))
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, False, True]
    alone = model.embed_cells(cells_of(counts[[1, 2]], names))
    np.testing.assert_allclose(vectors[[1, 2]], alone, atol=1e-6)
    nothing = model.tokenize(counts[[0, 3]], names)
    assert nothing.gene_ids.shape == (2, 0)
    whole = model.tokenize(counts, names, whole_panel=True)
    assert whole.mask.all(axis=1).tolist() == [False, True, True, False] and whole.gene_ids.shape == (4, N + 1)
    with torch.inference_mode():
        for found in (model.forward(batch).cell, model.forward(whole).cell, model.forward_cells(batch)):
            np.testing.assert_allclose(found, vectors, atol=1e-6)  # NaN where nothing can be read


def test_explicit_zeros_and_the_order_of_columns_change_nothing():
    model, cells = other_model(), some_cells()
    dense = cells.X.toarray()
    stored = sp.csr_matrix((dense.ravel(), np.tile(np.arange(N), 12), np.arange(0, 12 * N + 1, N)), dense.shape)
    order = np.random.default_rng(0).permutation(N)
    wanted = model.tokenize(cells.X, GENES)
    for counts, names in ((stored, GENES), (cells.X[:, order], np.array(GENES)[order].tolist())):
        found = model.tokenize(counts, names)
        for part in ("gene_ids", "values", "mask"):
            np.testing.assert_array_equal(getattr(found, part), getattr(wanted, part))


def test_whole_panels_give_the_same():
    for readout in ("mean-genes", "mean-expressed", "last-token", "attention"):
        model = other_model(readout=readout)
        batch, whole = (model.tokenize(some_cells().X[1:], GENES, whole_panel=how) for how in (False, True))
        with torch.inference_mode():
            ours, theirs = model.forward(batch), model.forward(whole)
            np.testing.assert_allclose(ours.cell, theirs.cell, atol=1e-6)
            np.testing.assert_allclose(model.forward_cells(batch), ours.cell, atol=1e-6)
        for row in range(len(batch)):
            there = batch.gene_ids[row][batch.mask[row]]
            np.testing.assert_allclose(ours.tokens[row][batch.mask[row]], theirs.tokens[row][there], atol=1e-6)


def test_a_batch_without_levels_is_refused():
    with pytest.raises(InputError, match=r"TokenBatch\.values is missing"):
        other_model().forward(TokenBatch(np.zeros((1, 2), np.int64)))


def test_cells_the_authors_would_drop_are_kept_with_one_warning(caplog):
    model = case.ScBert.from_checkpoint(case.CHECKPOINT)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model.tokenize(case.counts(), case.genes())
            other_model().tokenize(some_cells().X, GENES)  # no released weights: nothing is said
    assert [record.args[:3] for record in caplog.records] == [(2, 36, 200)]
    assert tokenizer.tokenize(matrix([0])).mask.shape == (1, 0)
