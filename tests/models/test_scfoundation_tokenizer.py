"""scFoundation's tokens where the golden case has none: undefined cells, duplicates, other inputs, other targets."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness.data import CellData
from harness.errors import InputError
from models.scfoundation.tokenizer import Target
from tests.golden.scfoundation.other_sizes import GENES, cells_of, other_model, some_cells

T, S, PAD = len(GENES), len(GENES) + 1, len(GENES) + 2


def matrix(*rows):
    return sp.csr_matrix(np.asarray(rows, np.float32))


def test_one_cell_by_hand():
    batch = other_model().tokenize(matrix([0, 3, 7, 0, 90]), [GENES[9], GENES[4], "STRANGER", GENES[0], GENES[2]])
    assert batch.gene_ids.tolist() == [[2, 4, T, S]]
    assert batch.gene_ids.dtype == np.int64
    assert batch.values.dtype == np.float32
    np.testing.assert_allclose(batch.values[0, :2], np.log1p([90 / 93 * 1e4, 3 / 93 * 1e4]), rtol=1e-6)
    np.testing.assert_allclose(batch.values[0, 2:], [4, np.log10(93)], rtol=1e-6)
    assert batch.mask.all()


@pytest.mark.parametrize(
    ("target", "expected"),
    [("t4.5", 4.5), ("f1", 2.0), ("f2.5", np.log10(250)), ("a1", 3.0), ("a-0.5", 1.5), ("t5", 5)],
)
def test_targets(target, expected):
    batch = other_model(target=target).tokenize(matrix([60, 40]), GENES[:2])
    np.testing.assert_allclose(batch.values[0, 2:], [expected, 2.0], rtol=1e-6)


@pytest.mark.parametrize("text", ["4", "t", "x4", "t0", "f-1", "tnan", "", "a", "tinf", None])
def test_bad_targets(text):
    with pytest.raises(InputError, match=r"model\.target=.*expected t, f or a"):
        Target.parse(text)


def test_cells_for_which_the_model_is_undefined():
    """Totals 0 and 1 give no S above zero; such cells have no token and a row of NaN, and disturb no other."""
    model = other_model()
    counts = matrix([0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 9], [2, 0, 0])
    names = [GENES[0], GENES[1], "STRANGER"]
    batch = model.tokenize(counts, names)
    assert batch.mask.any(axis=1).tolist() == [False, False, True, False, True]
    vectors = model.embed_cells(cells_of(counts, names))
    assert np.isnan(vectors).all(axis=1).tolist() == [True, True, False, True, False]
    alone = model.embed_cells(cells_of(counts[[2, 4]], names))
    np.testing.assert_allclose(vectors[[2, 4]], alone, atol=1e-6)
    nothing = model.tokenize(counts[[0, 1]], names)
    assert nothing.gene_ids.shape == (2, 0)
    assert np.isnan(model.embed_cells(cells_of(counts[[0, 1]], names))).all()
    # A target that is not above zero loses the T token: half of two counts.
    half = other_model(target="f0.5").tokenize(counts, names)
    assert not half.mask.any()


def test_columns_of_one_gene_are_added():
    model = other_model()
    twice = model.tokenize(matrix([3, 4, 5, 6]), [GENES[1], GENES[2], GENES[1], GENES[0]])
    once = model.tokenize(matrix([8, 4, 6]), [GENES[1], GENES[2], GENES[0]])
    for part in ("gene_ids", "values", "mask"):
        np.testing.assert_array_equal(getattr(twice, part), getattr(once, part))
    with pytest.raises(InputError, match="more than one column"):
        model.tokenize(matrix([3, 4]), [GENES[1], GENES[1]], normalised=True)


def test_rows_do_not_depend_on_companions_and_follow_their_order():
    model, cells = other_model(), some_cells()
    counts, genes = CellData(cells).counts(), cells.var_names.tolist()
    whole = model.tokenize(counts, genes)
    order = np.random.default_rng(5).permutation(len(whole))
    shuffled = model.tokenize(counts[order], genes)
    for row, place in enumerate(order):
        alone = model.tokenize(counts[[place]], genes)
        width = alone.mask.shape[1]
        assert width == whole.mask[place].sum()
        np.testing.assert_array_equal(whole.values[place, :width], alone.values[0])
        np.testing.assert_array_equal(shuffled.gene_ids[row], whole.gene_ids[place])
        np.testing.assert_array_equal(shuffled.values[row], whole.values[place])
    assert (whole.gene_ids[~whole.mask] == PAD).all()
    assert not whole.values[~whole.mask].any()


def test_normalised_values_are_taken_as_they_are():
    model = other_model()
    values = matrix([0.5, 0, 1.5], [2.0, 0.25, 0])
    batch = model.tokenize(values, GENES[:3], normalised=True)
    np.testing.assert_allclose(batch.values[0], [0.5, 1.5, 4, np.log10(2.0)])
    batch = other_model(target="a1").tokenize(values, GENES[:3], normalised=True, totals=np.array([100, 1000]))
    np.testing.assert_allclose(batch.values[:, 2:], [[3, 2], [4, 3]])
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="finite and not negative"):
            model.tokenize(matrix([1.0, bad]), GENES[:2], normalised=True)
    with pytest.raises(InputError, match="totals go with normalised"):
        model.tokenize(values, GENES[:3], totals=np.array([1, 2]))


def test_bulk_needs_a_depth_and_is_then_alone():
    cells = some_cells()
    counts, genes = CellData(cells).counts(), cells.var_names.tolist()
    with pytest.raises(InputError, match=r"model\.bulk_depth=NUMBER"):
        other_model(input_type="bulk").embed_cells(cells)
    model = other_model(input_type="bulk", bulk_depth=500)
    whole = model.embed_cells(cells)
    np.testing.assert_allclose(whole[3:5], model.embed_cells(cells[3:5].copy()), atol=1e-5)
    batch = model.tokenize(counts[[3]], genes)
    values = batch.values[0]
    np.testing.assert_allclose(values[-2:], np.log10(values[:-2].sum()), rtol=1e-6)
    np.testing.assert_allclose(np.expm1(values[:-2]).sum(), 500, rtol=1e-5)
    assert model.median_total(counts, genes) == np.median([t for t in counts.sum(axis=1).A1.tolist() if t > 0])
    with pytest.raises(InputError, match="single cells"):
        model.pretraining_loss(batch, torch.Generator())


def test_data_that_are_not_counts_are_refused_by_the_engine():
    with pytest.raises(InputError, match="raw counts"):
        other_model().embed_cells(cells_of(matrix([0.5, 1.5]), GENES[:2]))


@pytest.mark.parametrize(
    "options",
    [{"readout": "cls"}, {"input_type": "cells"}, {"context": "none"}, {"bulk_depth": 0}, {"bulk_depth": "1e4"}],
)
def test_bad_options(options):
    [(name, _)] = options.items()
    with pytest.raises(InputError, match=rf"model\.{name}="):
        other_model(**options)
