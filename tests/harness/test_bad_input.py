"""Every mistake of a user is one line and exit code 2; nothing is written."""

import numpy as np
import pytest
import scipy.sparse as sp

from tests.conftest import make_cells


def refused(bench, tmp_path, *arguments, says):
    code, out, err = bench(*arguments)
    assert code == 2, (code, out, err)
    lines = err.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in err, err
    assert "\t" not in err
    for text in says:
        assert text in err, err
    assert not list((tmp_path / "results").glob("*.json"))


def write(tmp_path, cells, name="bad.h5ad"):
    path = tmp_path / name
    cells.write_h5ad(path)
    return path


@pytest.mark.parametrize("many", [(), ("-m",)])
def test_unknown_model_has_a_suggestion(bench, tmp_path, many):
    model = "pca,pcaa" if many else "pcaa"
    refused(
        bench,
        tmp_path,
        "run",
        *many,
        f"model={model}",
        "task=annotation",
        says=["unknown model 'pcaa'", "did you mean pca"],
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("task=anotation", "did you mean annotation"),
        ("dataset=pbmc86k", "did you mean pbmc68k"),
        ("track=publishd", "track=publishd"),
        ("seed=zero", "seed=zero"),
        ("device=gpu", "device=gpu"),
        ("timeout_s=soon", "timeout_s=soon"),
        ("model.n_componets=3", "n_componets"),
        ("task.heads=[forest]", "forest"),
        ("seed", "not key=value"),
    ],
)
def test_unknown_names_and_values(bench, tmp_path, override, says):
    base = [a for a in ("model=pca", "task=annotation") if a.split("=")[0] != override.split("=")[0]]
    refused(bench, tmp_path, "run", *base, override, says=[says])


def test_no_model_given(bench, tmp_path):
    refused(bench, tmp_path, "run", "task=annotation", says=["model"])


def test_published_without_weights_says_how_to_get_them(bench, tmp_path, monkeypatch):
    monkeypatch.delenv("CELLFM_BENCH_CHECKPOINTS", raising=False)
    refused(
        bench,
        tmp_path,
        "run",
        "model=cellfm",
        "task=annotation",
        says=["released weights", "model.checkpoint=", "track=scratch"],
    )


def test_missing_file(bench, tmp_path):
    refused(bench, tmp_path, "run", "model=pca", "task=annotation", "dataset.path=/no/such.h5ad", says=["no such file"])


def test_not_an_h5ad(bench, tmp_path):
    path = tmp_path / "x.h5ad"
    path.write_text("hello")
    refused(bench, tmp_path, "run", "model=pca", "task=annotation", f"dataset.path={path}", says=["not an h5ad"])


def test_hdf5_that_is_no_anndata(bench, tmp_path):
    import h5py

    path = tmp_path / "x.h5ad"
    with h5py.File(path, "w") as file:
        file["matrix"] = np.zeros(3)
    refused(
        bench, tmp_path, "run", "model=pca", "task=annotation", f"dataset.path={path}", says=["matrix", "obs and var"]
    )


def test_truncated_h5ad(bench, tmp_path, cells_file):
    path = tmp_path / "cut.h5ad"
    path.write_bytes(cells_file.read_bytes()[: cells_file.stat().st_size // 2])
    refused(bench, tmp_path, "run", "model=pca", "task=annotation", f"dataset.path={path}", says=[str(path)])


def test_no_such_column(bench, tmp_path, cells_file):
    refused(
        bench,
        tmp_path,
        "run",
        "model=pca",
        "task=annotation",
        f"dataset.path={cells_file}",
        "dataset.cell_type=celltype",
        says=["celltype", "cell_type, batch"],
    )


def test_no_column_named(bench, tmp_path, cells_file):
    refused(
        bench,
        tmp_path,
        "run",
        "model=pca",
        "task=annotation",
        f"dataset.path={cells_file}",
        says=["dataset.cell_type=COLUMN"],
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: np.log1p(x), ["non-integers", "dataset.layer"]),
        (lambda x: x - 1.0, ["negative", "row 0"]),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 85, np.nan, x), ["NaN", "row 1, column 5"]),
    ],
)
def test_not_counts(bench, tmp_path, change, says):
    cells = make_cells()
    cells.X = change(cells.X.toarray()).astype(np.float32)
    path = write(tmp_path, cells)
    arguments = ("run", "model=pca", "task=annotation", f"dataset.path={path}", "dataset.cell_type=cell_type")
    refused(bench, tmp_path, *arguments, says=says)


def test_recovery_is_refused_where_it_cannot_be_proved(bench, tmp_path):
    cells = make_cells()
    rng = np.random.default_rng(0)
    cells.X = sp.csr_matrix(rng.gamma(1.0, 1.0, cells.shape).astype(np.float32))
    path = write(tmp_path, cells)
    refused(
        bench,
        tmp_path,
        "run",
        "model=pca",
        "task=annotation",
        f"dataset.path={path}",
        "dataset.cell_type=cell_type",
        "dataset.recover_counts=true",
        says=["cannot be recovered", "row 0"],
    )


def test_one_cell_type(bench, tmp_path):
    path = write(tmp_path, make_cells(n_types=1))
    for task, found in {"annotation": "type 0 (42)", "integration": "type 0 (60)"}.items():  # 42 of them train
        refused(
            bench,
            tmp_path,
            "run",
            "model=pca",
            f"task={task}",
            f"dataset.path={path}",
            "dataset.cell_type=cell_type",
            says=["two are needed", found],
        )


def test_small_types_are_left_out_and_counted(bench, tmp_path):
    cells = make_cells()
    kinds = cells.obs["cell_type"].to_numpy(dtype=object, copy=True)
    kinds[:3] = "rare"
    kinds[3] = None
    cells.obs["cell_type"] = kinds
    path = write(tmp_path, cells)
    code, _out, err = bench(
        "run", "model=pca", "task=annotation", f"dataset.path={path}", "dataset.cell_type=cell_type"
    )
    assert code == 0, err
    from harness import ResultStore

    [record] = ResultStore(tmp_path / "results").records()
    assert record.notes["left out: types with fewer than 10 training cells"] == 1
    assert record.notes["left out: their cells"] == 3
    assert record.notes["left out: cells without a label"] == 1
    assert record.dataset == "bad"


def test_no_gene_of_the_vocabulary(bench, tmp_path):
    cells = make_cells()
    path = write(tmp_path, cells)
    refused(
        bench,
        tmp_path,
        "run",
        "model=cellfm",
        "track=untrained",
        "corpus=demo",
        "task=annotation",
        f"dataset.path={path}",
        "dataset.cell_type=cell_type",
        says=["cellfm knows 0 of 80 genes", "dataset.gene_ids=COLUMN"],
    )


def test_unknown_command(bench, tmp_path):
    refused(bench, tmp_path, "rnu", says=["did you mean run"])


def test_failed_cells_of_a_grid_are_recorded_and_stop_nothing(bench, tmp_path, cells_file, monkeypatch):
    monkeypatch.delenv("CELLFM_BENCH_CHECKPOINTS", raising=False)
    grid = (
        "run",
        "-m",
        "model=cellfm,pca",
        "task=annotation",
        f"dataset.path={cells_file}",
        "dataset.cell_type=cell_type",
    )
    code, out, err = bench(*grid)
    assert code == 1 and "Traceback" not in err
    assert "1 failed:" in out and "released weights" in out
    from harness import ResultStore

    records = {r.model: r for r in ResultStore(tmp_path / "results").records()}
    assert records["pca"].status == "ok"
    assert records["cellfm"].status == "failed" and "released weights" in records["cellfm"].error
    assert not records["cellfm"].metrics
    code, out, _ = bench(*grid)  # what failed is tried again, what is done is not
    assert code == 1 and "1 done before, 1 to compute" in out
