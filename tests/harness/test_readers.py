"""Every form cells come in gives the same counts, genes and labels; the matrix stays on disk."""

import gzip
import shutil
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

import harness.turning
from harness import CellData, InputError, load_dataset
from tests.conftest import ROOT, make_cells

ANTIBODIES = 3


@pytest.fixture
def plain():
    cells = make_cells(n_cells=37)
    cells.var["gene_ids"] = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    return cells


def same(data, plain):
    reference = CellData(plain)
    assert (data.counts() != reference.counts()).nnz == 0
    assert data.obs_names.tolist() == reference.obs_names.tolist()
    assert data.genes.names.tolist() == reference.genes.names.tolist()
    assert data.genes.ensembl.tolist() == reference.genes.ensembl.tolist()
    assert (data.cell_hashes == reference.cell_hashes).all()


def with_antibodies(plain):
    """As 10x writes it: features x cells, antibodies between the genes; matrix, ids, names, types."""
    rng = np.random.default_rng(0)
    extra = sp.csr_matrix(rng.poisson(3.0, (plain.n_obs, ANTIBODIES)).astype(np.float32))
    order = rng.permutation(plain.n_vars + ANTIBODIES)
    order = np.concatenate([np.sort(order[order < plain.n_vars]), order[order >= plain.n_vars]])
    matrix = sp.hstack([extra[:, :1], plain.X, extra[:, 1:]]).tocsr()
    ids = ["CD3", *plain.var["gene_ids"], "CD4", "CD8"]
    names = ["CD3 antibody", *plain.var_names, "CD4 antibody", "CD8 antibody"]
    kinds = ["Antibody Capture", *["Gene Expression"] * plain.n_vars, *["Antibody Capture"] * 2]
    return matrix, ids, names, kinds


def write_h5(path, plain, antibodies=False, old=False):
    matrix, ids, names, kinds = with_antibodies(plain)
    if not antibodies:
        matrix, ids, names = sp.csr_matrix(plain.X), list(plain.var["gene_ids"]), list(plain.var_names)
        kinds = ["Gene Expression"] * plain.n_vars
    matrix.sort_indices()
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38" if old else "matrix")
        group["barcodes"] = np.array(plain.obs_names, dtype="S")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array(matrix.shape[::-1], np.int32)
        if old:
            group["genes"], group["gene_names"] = np.array(ids, "S"), np.array(names, "S")
        else:
            for key, values in (("id", ids), ("name", names), ("feature_type", kinds)):
                group[f"features/{key}"] = np.array(values, dtype="S")


def write_mtx(folder, plain, zipped=True, antibodies=False, cells_first=False, old=False, prefix=""):
    folder.mkdir()
    matrix, ids, names, kinds = with_antibodies(plain)
    if not antibodies:
        matrix, ids, names = sp.csr_matrix(plain.X), list(plain.var["gene_ids"]), list(plain.var_names)
        kinds = ["Gene Expression"] * plain.n_vars
    lines = ["\t".join(row if not old else row[:2]) for row in zip(ids, names, kinds, strict=True)]
    scipy.io.mmwrite(folder / "m.mtx", (matrix if cells_first else matrix.T).astype(np.int32), field="integer")
    texts = {
        f"{prefix}matrix.mtx": (folder / "m.mtx").read_text(),
        f"{prefix}barcodes.tsv": "".join(f"{name}\n" for name in plain.obs_names),
        f"{prefix}{'genes' if old else 'features'}.tsv": "".join(f"{line}\n" for line in lines),
    }
    (folder / "m.mtx").unlink()
    for name, text in texts.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_h5ad_and_zarr(plain, tmp_path, form, kind, monkeypatch):
    monkeypatch.setattr(harness.turning, "ENTRIES", 100)
    cells = plain.copy()
    cells.X = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda m: m.toarray()}[form](plain.X)
    cells.layers["counts"] = cells.X.copy()
    cells.raw = cells.copy()
    path = tmp_path / f"cells.{kind}"
    getattr(cells, f"write_{kind}")(path)
    for layer in (None, "counts", "raw"):
        data = load_dataset(path, layer=layer, cell_type="cell_type")
        same(data, plain)
        assert data.labels("cell_type").tolist() == plain.obs["cell_type"].tolist()
        assert not isinstance(data._matrix, np.ndarray) and not sp.issparse(data._matrix)


@pytest.mark.parametrize("antibodies", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_tenx_h5(plain, tmp_path, antibodies, old, monkeypatch):
    monkeypatch.setattr(harness.turning, "ENTRIES", 100)
    if antibodies and old:
        pytest.skip("older files hold genes only")
    write_h5(tmp_path / "cells.h5", plain, antibodies, old)
    same(load_dataset(tmp_path / "cells.h5"), plain)


def test_tenx_h5_is_found_from_anywhere(plain, tmp_path, monkeypatch):
    write_h5(tmp_path / "cells.h5", plain)
    monkeypatch.chdir(tmp_path)
    data = load_dataset("cells.h5")
    monkeypatch.chdir("/")
    same(data, plain)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"zipped": False},
        {"antibodies": True},
        {"cells_first": True},
        {"old": True, "zipped": False},
        {"prefix": "GSM1_"},
    ],
)
def test_mtx(plain, tmp_path, how, monkeypatch):
    monkeypatch.setattr(harness.turning, "ENTRIES", 100)
    write_mtx(tmp_path / "folder", plain, **how)
    same(load_dataset(tmp_path / "folder"), plain)
    [matrix] = (tmp_path / "folder").glob("*matrix.mtx*")
    same(load_dataset(matrix), plain)


def test_ids_in_any_column(plain, tmp_path):
    plain.var["some ids"] = [f"{name}.7" for name in plain.var.pop("gene_ids")]
    plain.var_names = [str(i) for i in range(plain.n_vars)]
    plain.write_zarr(tmp_path / "x.zarr")
    ids = load_dataset(tmp_path / "x.zarr", gene_ids="some ids").genes.ensembl
    assert ids.tolist() == [f"ENSG{i:011d}" for i in range(plain.n_vars)]


def refuse(path, says):
    with pytest.raises(InputError, match=says) as caught:
        load_dataset(path)
    assert "\t" not in str(caught.value)


def test_what_is_none_of_these(plain, tmp_path):
    refuse(tmp_path / "nothing.zarr", "no such file or folder")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "is a folder and holds nothing; expected an .h5ad, a .zarr folder, a 10x .h5")
    (tmp_path / "x.h5").write_text("no")
    refuse(tmp_path / "x.h5", "no HDF5 file")
    (tmp_path / "x.mtx").write_text("no")
    refuse(tmp_path / "x.mtx", "has no .*barcodes.tsv beside it")
    write_mtx(tmp_path / "a", plain, zipped=False)
    (tmp_path / "a" / "barcodes.tsv").write_text("one\n")
    refuse(tmp_path / "a", "80 x 37, but 80 features and 1 barcodes")
    (tmp_path / "a" / "barcodes.tsv").unlink()
    refuse(tmp_path / "a", "has no barcodes.tsv beside it")
    write_mtx(tmp_path / "b", plain, zipped=False)
    (tmp_path / "b" / "matrix.mtx").write_text("%%MatrixMarket matrix array real general\n2 2\n")
    refuse(tmp_path / "b", "general coordinate MatrixMarket is expected")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    (tmp_path / "c" / "other_matrix.mtx").write_text("")
    refuse(tmp_path / "c", "several matrices")
    import zarr

    zarr.open_group(str(tmp_path / "z.zarr"), mode="w").create_group("images")
    refuse(tmp_path / "z.zarr", "a zarr store but no AnnData: it holds images")
    write_h5(tmp_path / "two.h5", plain)
    with h5py.File(tmp_path / "two.h5", "a") as file:
        file.copy("matrix", "hg19")
    refuse(tmp_path / "two.h5", "several genomes")


@pytest.mark.parametrize("form", ["csc.h5ad", "csr.zarr", "mtx"])
def test_memory_is_bounded_by_the_block(form, tmp_path):
    """Six million stored values pass through in less than they take as a whole, let alone twice while turned."""
    rng = np.random.default_rng(0)
    n_cells, n_genes, per_cell = 12_000, 2_000, 500 if form != "mtx" else 100
    columns = np.sort(
        rng.integers(0, n_genes // per_cell, (n_cells, per_cell)) + np.arange(per_cell) * (n_genes // per_cell)
    )
    counts = rng.integers(1, 9, n_cells * per_cell).astype(np.float32)
    matrix = sp.csr_matrix((counts, columns.ravel(), np.arange(n_cells + 1) * per_cell), shape=(n_cells, n_genes))
    cells = anndata.AnnData(matrix)
    path = tmp_path / form
    if form == "mtx":
        cells.var["gene_ids"] = cells.var_names
        write_mtx(path, cells, zipped=False)
    else:
        cells.X = matrix.tocsc() if "csc" in form else matrix
        getattr(cells, f"write_{form.split('.')[1]}")(path)
    program = (
        "import resource, sys, harness.turning; harness.turning.ENTRIES = 300_000\n"
        "from harness import load_dataset\nimport anndata, scipy.sparse, pandas\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"data = load_dataset({str(path)!r})\n"
        "total = sum(float(b.sum()) for _, b in data.blocks(max_nnz=300_000))\n"
        "print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    total, grown = run.stdout.split()
    assert float(total) == counts.sum()
    unit = 1 if sys.platform == "darwin" else 1024
    whole = matrix.data.nbytes + matrix.indices.nbytes
    assert int(grown) * unit < max(0.9 * whole, 45e6), (int(grown) * unit, whole)


@pytest.mark.parametrize("form", ["x.zarr", "folder"])
def test_embed_writes_an_h5ad_of_any_form(plain, tmp_path, form, bench):
    if form == "folder":
        write_mtx(tmp_path / form, plain)
    else:
        plain.write_zarr(tmp_path / form)
    out = tmp_path / "out.h5ad"
    code, _, err = bench("embed", "model=pca", f"dataset.path={tmp_path / form}", f"out={out}", f"cache={tmp_path}/c")
    assert code == 0, err
    written = anndata.read_h5ad(out)
    assert written.obsm["X_pca"].shape[0] == plain.n_obs
    assert (sp.csr_matrix(written.X) != plain.X).nnz == 0
