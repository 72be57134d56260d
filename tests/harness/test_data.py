import itertools

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from harness import CellData, InputError
from tests.conftest import make_cells


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "int", "backed-csr", "backed-csc", "backed-dense"])
def test_every_storage_gives_the_same_blocks(form, tmp_path):
    cells = make_cells(n_cells=37)
    plain = CellData(cells)
    other = cells.copy()
    if "csc" in form:
        other.X = sp.csc_matrix(cells.X)
    if "dense" in form:
        other.X = cells.X.toarray()
    if form == "int":
        other.X = cells.X.astype(np.int64)
    if form.startswith("backed"):
        other.write_h5ad(tmp_path / "x.h5ad")
        other = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    data = CellData(other)
    rows = [(r.start, r.stop) for r, _ in data.blocks(max_nnz=500)]
    assert len(rows) > 1 and rows[0][0] == 0 and rows[-1][1] == 37
    assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
    whole = sp.vstack([block for _, block in data.blocks(max_nnz=500)])
    assert (whole != plain.counts()).nnz == 0 and whole.dtype == np.float32
    assert data.content_hash == plain.content_hash
    assert (data.cell_hashes == plain.cell_hashes).all()


def test_cell_hashes_do_not_depend_on_the_order_of_genes():
    cells = make_cells()
    order = np.random.default_rng(1).permutation(cells.n_vars)
    assert (CellData(cells).cell_hashes == CellData(cells[:, order].copy()).cell_hashes).all()
    assert len(set(CellData(cells).cell_hashes)) == cells.n_obs


def test_labels_and_missing_labels():
    cells = make_cells()
    kinds = cells.obs["cell_type"].to_numpy(dtype=object, copy=True)
    kinds[4] = None
    cells.obs["cell_type"] = kinds
    data = CellData(cells, columns={"cell_type": "cell_type", "batch": None})
    labels = data.labels("cell_type")
    assert labels[4] == "" and labels[0] == "type 0" and labels.dtype.kind == "U"
    assert not data.has("batch")
    with pytest.raises(InputError, match=r"dataset\.batch=COLUMN"):
        data.labels("batch")


def test_layers_and_raw():
    cells = make_cells()
    cells.layers["counts"] = cells.X.copy()
    cells.raw = cells.copy()
    cells.X = np.log1p(cells.X.toarray())
    for layer in ("counts", "raw"):
        assert CellData(cells, layer=layer).counts().data.max() > 1
    with pytest.raises(InputError, match="no such layer; it has X, raw, counts"):
        CellData(cells, layer="spliced")
    with pytest.raises(InputError, match="non-integers"):
        CellData(cells).counts()


def test_no_cells():
    with pytest.raises(InputError, match="0 cells"):
        CellData(make_cells()[:0].copy())


def test_subset_keeps_names_labels_and_gene_ids():
    cells = make_cells()
    cells.var["ensembl_id"] = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    data = CellData(cells, columns={"cell_type": "cell_type"})
    part = data.subset(np.array([5, 2]))
    assert part.obs_names.tolist() == ["cell5", "cell2"]
    assert part.labels("cell_type").tolist() == [data.labels("cell_type")[5], data.labels("cell_type")[2]]
    assert (part.genes.ensembl == data.genes.ensembl).all()
    assert (part.cell_hashes == data.cell_hashes[[5, 2]]).all()


# -- features ----------------------------------------------------------------------------------------------------


def test_features_are_no_counts():
    stains = anndata.AnnData(np.array([[0.5, -1.25], [3.0, 0.0]], np.float32))
    data = CellData(stains, values="features")
    assert np.array_equal(data.counts().toarray(), stains.X)
    assert data.subset(np.array([1])).values == "features"
    with pytest.raises(InputError, match="negative"):
        CellData(stains).counts()
    stains.X[1, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite values, the first at row 1, column 0"):
        CellData(stains, values="features").counts()
    with pytest.raises(InputError, match=r"dataset\.values=stains: expected counts or features"):
        CellData(stains, values="stains")
