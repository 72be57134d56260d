"""Marker genes: scanpy's order as recorded; ties, few cells, either form of a matrix."""

import warnings

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from harness.errors import InputError
from tasks.drug_response.markers import marker_genes
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/cellot"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made(seed=0, n=60, g=12):
    """Cells, half of them treated; gene 3 rises, gene 7 falls more, gene 5 falls less."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.5, 1, (n, g)).astype(np.float32) * (rng.random((n, g)) < 0.7)
    treated = np.arange(n) % 2 == 0
    values[treated, 3] += 4
    values[:, 7] += np.where(treated, 0, 9)
    values[:, 5] += np.where(treated, 0, 2)
    return values, treated


def test_order_is_that_of_the_recorded_markers():
    data = anndata.read_h5ad(GOLDEN / "drug.h5ad")
    treated = (data.obs["drug"] == "trametinib").to_numpy()
    found = data.var_names[marker_genes(data.X, treated, absolute=False)].tolist()
    assert found == np.load(GOLDEN / "expected.npz")["markers"].tolist()


def test_order_is_that_of_scanpy_by_absolute_score():
    import scanpy as sc

    values, treated = made(1, n=50)
    data = anndata.AnnData(values)
    data.obs["drug"] = np.where(treated, "x", "control")
    data.obs["drug"] = data.obs["drug"].astype("category")
    for absolute in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sc.tl.rank_genes_groups(
                data, "drug", groups=["x"], reference="control", method="t-test", rankby_abs=absolute
            )
        names = [int(own[0]) for own in data.uns["rank_genes_groups"]["names"]]
        assert marker_genes(values, treated, absolute).tolist() == names


def test_genes_that_rise_and_that_fall_are_markers():
    values, treated = made()
    assert marker_genes(values, treated)[:3].tolist() == [7, 3, 5]
    assert marker_genes(values, treated, absolute=False)[[0, -1]].tolist() == [3, 7]
    assert marker_genes(values, ~treated)[:3].tolist() == [7, 3, 5]


def test_neither_form_nor_the_order_of_cells_matters():
    values, treated = made()
    whole = marker_genes(values, treated)
    assert whole.dtype == np.int64 and sorted(whole) == list(range(12))
    assert (marker_genes(sp.csr_matrix(values), treated) == whole).all()
    explicit = sp.csr_matrix(values + 1)
    explicit.data -= 1  # zeros that are stored
    assert (marker_genes(explicit, treated) == whole).all()
    order = np.random.default_rng(3).permutation(len(values))
    assert (marker_genes(values[order], treated[order]) == whole).all()


def test_tied_genes_keep_their_order():
    values, treated = made()
    twice = np.concatenate([values, values], axis=1)
    found = marker_genes(twice, treated)
    assert (found[0::2] + 12 == found[1::2]).all()
    rng = np.random.default_rng(0)
    for _ in range(5):  # whatever the order of the sums
        order = rng.permutation(len(values))
        assert (marker_genes(twice[order], treated[order]) == found).all()


def test_genes_that_never_vary():
    values, treated = made()
    values[:, 0], values[:, 1], values[:, 2] = 0, np.float32(0.1), treated  # silent, constant, a perfect sign
    found = marker_genes(values, treated)
    assert found[0] == 2 and found[-2:].tolist() == [0, 1]
    nothing = np.zeros((6, 4))
    assert marker_genes(nothing, np.arange(6) < 3).tolist() == [0, 1, 2, 3]


def test_few_cells():
    values, treated = made()
    one = np.flatnonzero(treated)[:1]
    rows = np.concatenate([one, np.flatnonzero(~treated)])
    assert set(marker_genes(values[rows], treated[rows])[:2]) <= {3, 5, 7}
    pair = np.array([[0.0, 5.0, 1.0], [0.0, 1.0, 3.0]])
    assert marker_genes(pair, np.array([True, False])).tolist() == [1, 2, 0]
    for mask in (np.zeros(60, bool), np.ones(60, bool)):
        with pytest.raises(InputError, match=r"treated and .* control cells; both are needed"):
            marker_genes(values, mask)
