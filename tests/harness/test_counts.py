import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.counts import canonical, check_counts, highly_variable, log_normalise, recover_counts
from harness.errors import InputError
from harness.loading import load_dataset


def test_pbmc68k_counts_are_whole_and_consistent_with_the_file():
    data = load_dataset("pbmc68k")
    counts = data.counts()
    assert counts.shape == (700, 765)
    assert (counts.data == np.rint(counts.data)).all() and counts.data.min() == 1
    assert len(set(data.labels("cell_type"))) == 10
    # The file's own values come back from the counts: one scale per cell.
    values = canonical(data.adata.raw.X[:], np.float64)
    linear = np.expm1(values.data)
    scale = np.array(
        [np.median(linear[a:b] / counts.data[a:b]) for a, b in zip(values.indptr, values.indptr[1:], strict=False)]
    )
    again = np.log1p(counts.data * np.repeat(scale, np.diff(values.indptr)))
    assert np.abs(again - values.data).max() < 2e-2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_recovery_inverts_log_normalisation(seed):
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(0.7, (12, 40)).astype(np.float32))
    with_one = np.array([m.data.min() if m.nnz else 0 for m in counts]) == 1
    counts = counts[with_one]
    recovered = recover_counts(log_normalise(counts))
    assert (recovered != counts).nnz == 0


def test_canonical_leaves_its_argument_alone_and_drops_zeros():
    messy = sp.csr_matrix((np.array([1.0, 0.0, 2.0, 3.0]), np.array([2, 1, 0, 2]), np.array([0, 2, 4])), shape=(2, 3))
    before = (messy.data.copy(), messy.indices.copy())
    clean = canonical(messy)
    assert clean.data.tolist() == [1, 2, 3] and clean.indices.tolist() == [2, 0, 2]
    assert (messy.data == before[0]).all() and (messy.indices == before[1]).all()
    for other in (messy.tocsc(), messy.toarray(), messy.tocoo(), messy.toarray().astype(np.int64)):
        assert (canonical(other) != clean).nnz == 0


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "NaN"), (np.inf, "NaN or infinite"), (-1, "negative"), (0.5, "non-integers")]
)
def test_not_counts_are_placed(value, says):
    x = np.ones((5, 4), np.float32)
    x[3, 2] = value
    with pytest.raises(InputError, match=f"{says}.*row 103, column 2"):
        check_counts(canonical(x), first_row=100)


def test_log_normalise_and_hvg_follow_scanpy():
    import scanpy

    from tests.conftest import make_cells

    cells = make_cells(n_genes=200)
    cells.X[5] = 0  # an empty cell stays empty
    mine = log_normalise(canonical(cells.X))
    scanpy.pp.normalize_total(cells, target_sum=1e4)
    scanpy.pp.log1p(cells)
    np.testing.assert_allclose(mine.toarray(), cells.X.toarray(), rtol=1e-5)
    scanpy.pp.highly_variable_genes(cells, n_top_genes=50, flavor="seurat")
    assert highly_variable(mine, 50).tolist() == np.flatnonzero(cells.var["highly_variable"]).tolist()
    assert highly_variable(mine, 500).tolist() == list(range(200))
