"""Vectors that were made elsewhere: every form of file, matching by name, and what is refused."""

import gzip
import importlib.util
import pickle
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from harness import InputError, NotApplicableError, ResultStore, load_model
from harness.checks import exit_code, run_checks
from harness.counts import log_normalise
from harness.data import CellData
from harness.exposure import exposed_tasks
from harness.genes import GeneTable
from harness.registry import MODELS, TASKS
from models.precomputed.tables import of_frame
from tasks.gene_function.bundled import CLASSES
from tests.conftest import make_cells

TYPE = "dataset.cell_type=cell_type"
ANNOTATION = ("task=annotation", "task.heads=[knn,centroid]", "task.layout=false")


@pytest.fixture
def vectors(cells):
    """A vector for each of the cells, which says something of its type."""
    return np.random.default_rng(0).normal(size=(cells.n_obs, 5)).astype(np.float32) + cells.X[:, :5].toarray()


@pytest.fixture
def names(cells):
    return np.asarray(cells.obs_names, np.str_)


def npz(path, embeddings, names):
    np.savez(path, embeddings=embeddings, names=np.asarray(names, np.str_))
    return path


def given(cells, **options):
    return load_model("precomputed", **{k: str(v) for k, v in options.items()}).embed_cells(cells)


def overall(record):
    return {(m.name, m.head): m.value for m in record.metrics if m.scope == "overall"}


def records(tmp_path):
    return {r.label: r for r in ResultStore(tmp_path / "results").records()}


# -- the board ------------------------------------------------------------------------------------------------


def test_order_of_rows_does_not_matter_for_scores(bench, tmp_path):
    """pbmc68k, as PCA embeds it: the file of `embed`, the same rows shuffled, and the same with strangers between."""
    whole = tmp_path / "made.npz"
    assert bench("embed", "model=pca", f"out={whole}", f"cache={tmp_path}/cache")[0] == 0
    file = np.load(whole)
    order = np.random.default_rng(1).permutation(len(file["names"]))
    npz(tmp_path / "shuffled.npz", file["embeddings"][order], file["names"][order])
    more = np.concatenate([file["embeddings"][:1] + 9, file["embeddings"][order]])
    npz(tmp_path / "more.npz", more, ["a stranger", *file["names"][order]])
    paths = ",".join(str(tmp_path / f"{name}.npz") for name in ("made", "shuffled", "more"))
    code, _, err = bench("run", "-m", "model=precomputed", f"model.path={paths}", *ANNOTATION)
    assert code == 0, err
    assert bench("run", "model=pca", *ANNOTATION)[0] == 0
    found = records(tmp_path)
    assert set(found) == {"made", "shuffled", "more", "PCA"} and len({r.run_id for r in found.values()}) == 4
    for name in ("shuffled", "more", "PCA"):
        assert overall(found[name]) == pytest.approx(overall(found["made"]), abs=1e-6), name
    made = found["made"]
    assert (made.track, made.flags.count("precomputed"), made.readout) == ("published", 1, "vectors")
    assert made.provenance.checkpoint_sha256 != found["shuffled"].provenance.checkpoint_sha256
    # Reading a file is no embedding, and whose parameters they are nobody knows.
    assert (made.cost.embed_s, made.cost.cells_per_s, made.cost.n_params) == (None, None, None)
    assert found["more"].notes["vectors of cells that are not in the data set"] == 1


def test_the_file_s_content_is_its_identity_and_a_title_renames_the_row(bench, tmp_path, cells_file, vectors, names):
    data = (f"dataset.path={cells_file}", TYPE, *ANNOTATION)
    path = npz(tmp_path / "a.npz", vectors, names)
    assert bench("run", "model=precomputed", f"model.path={path}", *data)[0] == 0
    moved = path.rename(tmp_path / "b.npz")
    for title, label in (("My model", "My model"), ("null", "b")):
        code, _, err = bench("run", "model=precomputed", f"model.path={moved}", f"model.title={title}", *data)
        assert code == 0, err
        assert list(records(tmp_path)) == [label]
    (before,) = records(tmp_path).values()
    npz(moved, vectors + 1, names)
    assert bench("run", "-m", "model=precomputed", f"model.path={moved}", "model.title=null,Other", *data)[0] == 0
    found = ResultStore(tmp_path / "results").records()
    assert len(found) == 2 and before.run_id in {r.run_id for r in found}


def test_labels_that_were_read_are_flagged_on_their_tasks_alone(bench, tmp_path, cells_file, vectors, names):
    data = (f"dataset.path={cells_file}", TYPE, *ANNOTATION)
    model = ("model=precomputed", f"model.path={npz(tmp_path / 'a.npz', vectors, names)}")
    said = {
        "null": [],
        "[gene_function]": [],
        "[gene_function,annotation]": ["label-exposure"],
        "true": ["label-exposure"],
    }
    for value, expected in said.items():  # one run: what had been read is no part of its number
        code, _, err = bench("run", *model, f"model.label_exposure={value}", *data)
        assert code == 0, err
        (record,) = records(tmp_path).values()
        assert [flag for flag in record.flags if flag == "label-exposure"] == expected
    code, _, err = bench("run", *model, "model.label_exposure=[gene_functoin]", *data)
    assert code == 2 and "did you mean gene_function" in err
    code, _, err = bench("run", "model=hvg", "+model.label_exposure=[annotation]", *data)  # any model's card may say it
    assert code == 0 and "label-exposure" in records(tmp_path)[MODELS.get("hvg").spec.title].flags, err


def test_what_had_been_read_is_said_by_spec_card_variant_and_user():
    spec = replace(MODELS.get("hvg").spec, label_exposure=("gene_function",))
    cards = {"variants": {"text": {"label_exposure": ["annotation"]}, "counts": None}}
    assert exposed_tasks(spec, {}, "published") == {"gene_function"}
    assert exposed_tasks(spec, {**cards, "variant": "text"}, "published") == {"gene_function", "annotation"}
    assert exposed_tasks(spec, {**cards, "variant": "counts"}, "baseline") == {"gene_function"}
    assert exposed_tasks(spec, {"label_exposure": "integration"}, "baseline") == {"gene_function", "integration"}
    assert exposed_tasks(spec, {"label_exposure": True}, "published") == set(TASKS.names())
    for track in ("scratch", "untrained"):  # made here: it has read its corpus and nothing else
        assert not exposed_tasks(spec, {"label_exposure": True}, track)
    with pytest.raises(InputError, match="expected names of tasks"):
        exposed_tasks(spec, {"label_exposure": 3}, "published")


def test_wrong_files_end_with_code_2(bench, tmp_path, cells_file, vectors, names):
    data = (f"dataset.path={cells_file}", TYPE, *ANNOTATION)
    short = npz(tmp_path / "short.npz", vectors[2:], names[2:])
    broken = vectors.copy()
    broken[3, 1] = np.nan
    for arguments, says in {
        (f"model.path={short}",): ["2 of the 60 cells", "cell0, cell1"],
        (f"model.path={npz(tmp_path / 'twice.npz', vectors, [names[1], *names[1:]])}",): ["more than once: cell1"],
        (f"model.path={npz(tmp_path / 'nan.npz', broken, names)}",): ["1 rows: cell3"],
        (f"model.path={npz(tmp_path / 'length.npz', vectors, names[1:])}",): ["60 rows and 59 names"],
        (f"model.path={tmp_path / 'none.npz'}",): ["no such file"],
        ("model.key=X_foo",): ["has no obsm X_foo", "there are none"],
        (): ["which vectors?"],
        (f"model.path={short}", "model.readout=weighted_unit"): ["model.genes=FILE"],
        (f"model.path={short}", "model.readout=cls"): ["weighted_unit"],
    }.items():
        code, _, err = bench("run", "model=precomputed", *arguments, *data)
        assert code == 2 and all(part in err for part in says) and "Traceback" not in err, err
    assert not records(tmp_path)


def test_what_fails_in_a_grid_bears_the_name_of_its_file(bench, tmp_path, cells_file, vectors, names):
    good, short = npz(tmp_path / "good.npz", vectors, names), npz(tmp_path / "short.npz", vectors[2:], names[2:])
    code, *_ = bench(
        "run",
        "-m",
        "model=precomputed",
        f"model.path={good},{short},{tmp_path / 'none.npz'}",
        *(f"dataset.path={cells_file}", TYPE, *ANNOTATION),
    )
    found = records(tmp_path)
    assert code == 1 and {k: r.status for k, r in found.items()} == {"good": "ok", "short": "failed", "none": "failed"}
    assert [found[name].variant for name in ("good", "short", "none")] == ["good", "short", "none"]


def test_the_obsm_of_the_data_set_itself(bench, tmp_path):
    cells = make_cells(120)
    vectors = cells.X[:, :5].toarray()
    cells.obsm["X_one"], cells.obsm["X_two"] = vectors, vectors[:, :2]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    data = (f"dataset.path={tmp_path}/cells.h5ad", TYPE, "dataset.max_cells=90", *ANNOTATION)
    code, _, err = bench("run", "-m", "model=precomputed", "model.key=X_one,X_two", *data)
    assert code == 0, err
    assert {label: r.variant for label, r in records(tmp_path).items()} == {"one": "X_one", "two": "X_two"}
    assert np.array_equal(given(cells, key="X_two"), vectors[:, :2])
    with pytest.raises(InputError, match=r"no obsm X_three: model.key= takes X_one, X_two"):
        given(cells, key="X_three")


# -- forms of files -------------------------------------------------------------------------------------------


def forms(tmp_path, vectors, names):
    """Every form of file of some named vectors, rows in another order: options by form."""
    order = np.random.default_rng(2).permutation(len(names))
    rows, called = vectors[order], names[order]
    frame = pd.DataFrame(rows, index=called)
    holder = anndata.AnnData(np.zeros((len(names), 1), np.float32), obs=pd.DataFrame(index=called))
    holder.obsm["X_foo"], holder.obsm["X_frame"], holder.obsm["X_sparse"] = (
        rows,
        frame.add_prefix("d"),
        sp.csr_matrix(rows),
    )
    holder.write_h5ad(tmp_path / "v.h5ad")
    np.save(tmp_path / "v.npy", rows)
    np.savez(tmp_path / "v64.npz", embeddings=rows.astype(np.float64), names=called.astype("S20"), other=rows * 2)
    (tmp_path / "names.txt").write_text("\n".join(called))
    pd.DataFrame(index=pd.Index(called, name="barcode")).to_csv(tmp_path / "names.csv")
    frame.to_csv(tmp_path / "v.csv")
    frame.add_prefix("dim ").to_csv(tmp_path / "v.tsv", sep="\t")
    frame.to_csv(tmp_path / "bare.csv", header=False)
    text = (tmp_path / "v.csv").read_text()
    (tmp_path / "r.csv").write_text(text.partition(",")[2])  # R leaves the field above row names out
    (tmp_path / "v.csv.gz").write_bytes(gzip.compress(text.encode()))
    return {
        "npz": {"path": npz(tmp_path / "v.npz", rows, called)},
        "npz of float64 and bytes": {"path": tmp_path / "v64.npz"},
        "npy": {"path": tmp_path / "v.npy", "names": tmp_path / "names.txt"},
        "npy with a table of names": {"path": tmp_path / "v.npy", "names": tmp_path / "names.csv"},
        **{key: {"path": tmp_path / "v.h5ad", "key": key} for key in ("X_foo", "X_frame", "X_sparse")},
        **{name: {"path": tmp_path / name} for name in ("v.csv", "v.tsv", "bare.csv", "r.csv", "v.csv.gz")},
    }


def test_every_form_gives_the_same_rows(tmp_path, cells, vectors, names):
    for form, options in forms(tmp_path, vectors, names).items():
        found = given(cells, **options)
        assert found.dtype == np.float32 and np.allclose(found, vectors, rtol=1e-6), form
    assert np.array_equal(given(cells, path=tmp_path / "v64.npz", key="other"), vectors * 2)


def test_the_names_in_a_table_of_pandas():
    frame = pd.DataFrame(np.eye(2), index=["a", "b"]).add_prefix("dim")
    for each in (frame, frame.reset_index(names="barcode")):  # what parquet gives back: an index, or a column
        matrix, names = of_frame(each, "here")
        assert names.tolist() == ["a", "b"] and matrix.tolist() == [[1, 0], [0, 1]]
    assert of_frame(frame.reset_index(drop=True), "here")[1] is None


def test_parquet(tmp_path, cells, vectors, names):
    path = tmp_path / "v.parquet"
    if importlib.util.find_spec("pyarrow") is None and importlib.util.find_spec("fastparquet") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(InputError, match=r"pyarrow reads \.parquet and is not installed; install it"):
            given(cells, path=path)
        pytest.skip("pyarrow is not installed here: what is missing is said, no file can be read")
    frame = pd.DataFrame(vectors, index=names).add_prefix("dim")
    frame.to_parquet(path)
    assert np.allclose(given(cells, path=path), vectors)
    frame.reset_index(names="barcode").to_parquet(path)
    assert np.allclose(given(cells, path=path), vectors)


def test_rows_without_names_are_matched_by_order(tmp_path, cells, vectors):
    np.save(tmp_path / "v.npy", vectors.astype(np.float16))
    model = load_model("precomputed", path=str(tmp_path / "v.npy"))
    assert np.allclose(model.embed_cells(cells), vectors, atol=0.02)
    assert "by order" in model.last_notes["vectors matched"]
    with pytest.raises(InputError, match="60 rows without names, and cells 59 cells"):
        model.embed_cells(cells[1:].copy())


def test_a_row_of_nan_is_a_cell_that_could_not_be_read(tmp_path, cells, vectors, names):
    vectors[4] = np.nan
    path = npz(tmp_path / "v.npz", vectors, names)
    found = given(cells, path=path)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [4]
    with pytest.raises(InputError, match="on_empty_cell"):
        given(CellData(cells, on_empty_cell="error"), path=path)


def test_cells_that_share_a_name(tmp_path, cells, vectors, names):
    path = npz(tmp_path / "v.npz", vectors, names)
    twice = cells.copy()
    twice.obs_names = ["cell1", *names[1:]]
    with pytest.raises(InputError, match="1 names of cells are borne by several cells: cell1"):
        given(twice, path=path)
    np.save(tmp_path / "v.npy", vectors)
    assert np.array_equal(given(twice, path=tmp_path / "v.npy"), vectors)


TABLES = {
    "one column of text": (
        "id,x,type\na,1,T\nb,2,B\n",
        r"1 columns that hold no numbers: type \('T' in the row of a\)",
    ),
    "a word among numbers": ("id,x,y\na,1,2\nb,none at all,3\n", "x .'none at all' in the row of b"),
    "a short row": ("id,x,y\na,1,2\nb,1\nc,1,2\n", r"1 rows are not of 2 numbers as the others are: b \(1\)"),
    "a row without numbers": ("id,x,y\na,1,2\nb\nc,1,2\n", r"1 rows are not of 2 numbers as the others are: b \(0\)"),
    "a long row": ("id,x,y\na,1,2\nb,1,2,3\nc,1,2\n", r"1 rows are not of 2 numbers as the others are: b \(3\)"),
    "a long header": ("id,x,y,z\na,1,2\nb,1,2\n", r"the header \(3\)"),
    "an empty field": ("id,x,y\na,1,\nb,1,2\n", "NaN or infinite values in 1 rows: a"),
    "infinite": ("id,x,y\na,1,2\nb,1,-inf\n", "NaN or infinite values in 1 rows: b"),
    "too large for float32": ("id,x,y\na,1,2\nb,1,1e300\n", "NaN or infinite values in 1 rows: b"),
    "no comma": ("id;x;y\na;1;2\n", "one column; a name and numbers, separated by commas"),
    "nothing": ("", "is empty"),
    "a header alone": ("id,x,y\n", "holds a header and no row"),
    "a name twice": ("id,x,y\na,1,2\na,1,2\nb,3,4\n", "names 1 more than once: a"),
    "not text": (b"\xff\xfe\x00\x01,\xd8\n", "cannot be read as text"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_refused(tmp_path, case):
    text, says = TABLES[case]
    path = tmp_path / "v.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    cells = make_cells(2)
    cells.obs_names = ["a", "b"]
    with pytest.raises(InputError, match=says):
        given(cells, path=path)


def test_arrays_that_are_refused(tmp_path, cells, vectors, names):
    objects = np.array([list(map(float, row)) for row in vectors[:, :2]] + [[1.0]], object)[:60]
    cases = {
        "objects.npz": ({"embeddings": objects, "names": names}, "holds pickled objects.* np.savez"),
        "named.npz": ({"embeddings": vectors, "names": names.astype(object)}, "holds pickled objects"),
        "key.npz": ({"X": vectors, "names": names}, "no array embeddings; it has X, names"),
        "flat.npz": ({"embeddings": vectors[:, 0], "names": names}, r"has the shape \(60,\)"),
        "empty.npz": ({"embeddings": vectors[:, :0], "names": names}, r"has the shape \(60, 0\)"),
        "text.npz": ({"embeddings": vectors.astype(str), "names": names}, "and numbers are expected"),
        "table.npz": ({"embeddings": vectors, "names": np.stack([names, names])}, "a list of text is expected"),
    }
    for name, (arrays, says) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(InputError, match=says):
            given(cells, path=tmp_path / name)
    np.save(tmp_path / "o.npy", names.astype(object))
    with pytest.raises(InputError, match="holds pickled objects"):
        given(cells, path=tmp_path / "o.npy")
    for name, content in {"cut.npz": b"PK\x03\x04 cut", "cut.npy": b"\x93NUMPY", "v.h5ad": b"no", "v.xyz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            given(cells, path=tmp_path / name, **({"key": "X"} if name == "v.h5ad" else {}))


class Harm:
    """Says so if it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("ending", [".pickle", ".pkl", ".pt", ".joblib", ".npz", ".npy"])
def test_nothing_is_unpickled(tmp_path, cells, ending):
    path = tmp_path / f"GenePT{ending}"
    path.write_bytes(pickle.dumps({"CD3D": Harm()}))
    for option in ("path", "genes"):
        with pytest.raises(InputError, match=r"pickle.*np\.savez"):
            given(cells, **{option: path})


# -- genes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def gene_file(tmp_path, cells):
    """Vectors of all but the last ten genes, and of ten that the cells do not have."""
    rng = np.random.default_rng(3)
    names = [*cells.var_names[:-10], *(f"OTHER{i}" for i in range(10))]
    return npz(tmp_path / "text.npz", rng.normal(size=(len(names), 6)).astype(np.float32), names)


def test_cells_are_the_weighted_mean_of_their_genes(cells, gene_file):
    counts = cells.X.toarray()
    counts[2] = 0
    counts[3, :-10] = 0  # counts in unknown genes alone
    cells.X = sp.csr_matrix(counts)
    data, table = CellData(cells, name="made"), np.load(gene_file)["embeddings"][:70].astype(np.float64)
    weights = log_normalise(data.counts()).toarray()[:, :70].astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean = weights @ table / weights.sum(axis=1, keepdims=True)
    assert np.allclose(given(data, genes=gene_file, readout="weighted_mean"), mean, atol=1e-6, equal_nan=True)
    model = load_model("precomputed", genes=str(gene_file))
    found = model.embed_cells(data)
    assert np.allclose(found, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6, equal_nan=True)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [2, 3]
    assert model.readout == "weighted_unit" and (model.last_coverage.matched, model.last_coverage.n_genes) == (70, 80)


def test_genes_by_symbol_and_by_id(tmp_path, gene_file):
    model = load_model("precomputed", genes=str(gene_file))
    found = model.embed_genes(["OTHER3", "NOBODY", "GENE2"])
    assert (found.names.tolist(), found.missing.tolist()) == (["OTHER3", "GENE2"], ["NOBODY"])
    assert np.array_equal(found.matrix, np.load(gene_file)["embeddings"][[73, 2]])
    ids = npz(tmp_path / "ids.npz", np.eye(2, dtype=np.float32), ["ENSG00000000001.4", "ENSG00000000002"])
    model = load_model("precomputed", genes=str(ids))
    table = GeneTable(*(np.array(c) for c in (["A", "B"], ["A", "B"], ["ENSG00000000002", "ENSG00000000001"])))
    assert model.embed_genes(table).matrix.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(InputError, match=r"names Ensembl ids .* and they are symbols .*dataset\.gene_ids=COLUMN"):
        model.embed_cells(make_cells())


def test_too_few_counts_in_known_genes_are_refused(tmp_path, cells):
    one = npz(tmp_path / "one.npz", np.ones((1, 3), np.float32), cells.var_names[:1])
    with pytest.raises(InputError, match="knows 1 of 80 genes"):
        given(CellData(cells, min_coverage=0.5), genes=one)


def test_cells_from_one_file_and_genes_from_another(tmp_path, cells, vectors, names, gene_file):
    path = npz(tmp_path / "v.npz", vectors, names)
    model = load_model("precomputed", path=str(path), genes=str(gene_file))
    assert np.array_equal(model.embed_cells(cells), vectors)
    assert model.embed_genes(["GENE0"]).matrix.shape == (1, 6)
    with pytest.raises(NotApplicableError, match=r"model\.genes=FILE"):
        load_model("precomputed", path=str(path)).embed_genes(["GENE0"])
    with pytest.raises(InputError, match=r"model\.gene_key= says more of a file"):
        load_model("precomputed", path=str(path), gene_key="X")


def test_other_forms_of_gene_files(tmp_path, cells):
    matrix = np.random.default_rng(4).normal(size=(80, 3)).astype(np.float32)
    matrix[5] = np.nan  # a gene without a vector
    holder = anndata.AnnData(np.zeros((1, 80), np.float32), var=pd.DataFrame(index=cells.var_names))
    holder.varm["esm2"] = matrix
    holder.write_h5ad(tmp_path / "genes.h5ad")
    pd.DataFrame(matrix, index=cells.var_names).to_csv(tmp_path / "genes.csv")
    np.save(tmp_path / "genes.npy", matrix)
    (tmp_path / "genes.txt").write_text("\n".join(cells.var_names))
    for options in (
        {"genes": "genes.h5ad", "gene_key": "esm2"},
        {"genes": "genes.csv"},
        {"genes": "genes.npy", "gene_names": str(tmp_path / "genes.txt")},
    ):
        model = load_model("precomputed", **{**options, "genes": str(tmp_path / options["genes"])})
        found = model.embed_genes(cells.var_names.tolist())
        assert found.missing.tolist() == ["GENE5"], options
        assert np.allclose(found.matrix, np.delete(matrix, 5, axis=0), rtol=1e-6)
    with pytest.raises(InputError, match=r"names no genes: say model\.gene_names=FILE"):
        given(cells, genes=tmp_path / "genes.npy")
    with pytest.raises(InputError, match=r"has no varm esm: model\.gene_key= takes esm2"):
        given(cells, genes=tmp_path / "genes.h5ad", gene_key="esm")


def test_gene_vectors_take_part_in_tasks_on_genes_and_on_cells(bench, tmp_path):
    genes = [name for members in CLASSES.values() for name in members]
    cells = make_cells(60, len(genes))
    cells.var_names = genes
    cells.write_h5ad(tmp_path / "cells.h5ad")
    kinds = np.repeat(np.arange(len(CLASSES)), [len(members) for members in CLASSES.values()])
    telling = np.random.default_rng(5).normal(size=(len(genes), 8)).astype(np.float32)
    telling[np.arange(len(genes)), kinds] += 3
    path = npz(tmp_path / "telling.npz", telling[1:], genes[1:])
    model = ("model=precomputed", f"model.genes={path}", "model.label_exposure=[gene_function]")
    data = (f"dataset.path={tmp_path}/cells.h5ad", TYPE)
    for task in (("task=gene_function", "task.layout=false"), ANNOTATION, ("task=gene_influence",)):
        code, _, err = bench("run", *model, *data, *task, *(["task.perturbed=[GAPDH]"] if len(task) == 1 else []))
        assert code == 0, err
    found = {r.task: r for r in ResultStore(tmp_path / "results").records()}
    function, annotation = found["gene_function"], found["annotation"]
    assert function.status == "ok" and overall(function)["auroc", "logreg"] > 0.9
    assert "label-exposure" in function.flags and "label-exposure" not in annotation.flags
    assert function.notes["gene vectors"] == "made elsewhere" and "1: " in function.notes["genes without a vector"]
    assert annotation.status == "ok" and annotation.readout == "weighted_unit"
    assert annotation.notes["genes known"] == f"{len(genes) - 1} of {len(genes)}"
    assert found["gene_influence"].status == "not-applicable"


def test_embed_gives_what_was_read(bench, tmp_path, cells_file, gene_file):
    model = ("model=precomputed", f"model.genes={gene_file}", f"dataset.path={cells_file}")
    for level, rows in (("cell", 60), ("gene", 70)):
        code, _, err = bench("embed", *model, f"level={level}", f"out={tmp_path}/{level}.npz", f"cache={tmp_path}/c")
        assert code == 0, err
        assert np.load(tmp_path / f"{level}.npz")["embeddings"].shape == (rows, 6)
    # What was made of genes is read as the cells it is now.
    code, _, err = bench("run", "model=precomputed", f"model.path={tmp_path}/cell.npz", *model[2:], *ANNOTATION, TYPE)
    assert code == 0 and "cell" in records(tmp_path), err


def test_the_conformance_checks_make_vectors_of_their_own(tmp_path):
    results = run_checks(MODELS.get("precomputed"), only=["spec", "shape", "row-order", "empty-cells", "draws"])
    assert {r.status for r in results} == {"pass"} and exit_code(results) == 0
    with pytest.raises(InputError, match=r"leave model\.path= out"):
        run_checks(MODELS.get("precomputed"), options={"path": str(tmp_path)})


def test_names_under_another_key_are_not_passed_over(tmp_path, cells, vectors, names):
    np.savez(tmp_path / "v.npz", embeddings=vectors[::-1], barcodes=names[::-1])
    with pytest.raises(InputError, match=r"has no names, and barcodes, with an entry for each row"):
        given(cells, path=str(tmp_path / "v.npz")).embed_cells(cells)


def test_a_column_of_whole_numbers_may_be_ids(vectors):
    frame = pd.DataFrame(vectors).add_prefix("d")
    frame.insert(0, "cell_id", np.arange(len(frame))[::-1])
    with pytest.raises(InputError, match="cell_id, holds whole numbers that never repeat"):
        of_frame(frame, "v.parquet")
    counts = pd.DataFrame(np.arange(12).reshape(4, 3))  # a table of whole numbers is a table
    assert of_frame(counts, "v.parquet")[1] is None


def test_pandas_own_numbers(vectors):
    frame = pd.DataFrame(vectors.astype(float)).convert_dtypes()
    frame.iloc[1] = pd.NA
    matrix, _ = of_frame(frame, "v.parquet")
    assert np.isnan(matrix[1]).all() and np.allclose(matrix[0], vectors[0])


@pytest.mark.parametrize("options", [{"path": 5}, {"key": 1}, {"genes": 2.5}])
def test_options_that_are_no_text(options):
    with pytest.raises(InputError, match="text is expected"):
        load_model("precomputed", **options)


def test_a_title_may_be_a_number():
    assert MODELS.get("precomputed").named({"path": "a.npz", "title": 2024})[0] == "2024"
