"""`check-data`: right on every way a file may be, in seconds and little memory."""

import json
import subprocess
import sys

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from harness.inspection.columns import suggest
from harness.inspection.verdict import inspect
from tests.conftest import ROOT

N, G = 150, 320
LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def symbols(n=G, seed=0):
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys("".join(rng.choice(LETTERS, 3)) + str(rng.integers(1, 9)) for _ in range(3 * n)))[:n]


def ensembl(n=G, prefix="ENSG"):
    return [f"{prefix}{i:011d}" for i in range(1, n + 1)]


def base(depth=3.0, seed=0):
    """Counts with cell types, cells of different depth, and what a good file has in obs."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(N) % 4
    rates = rng.gamma(0.5, depth, (4, G))[kinds] * rng.lognormal(0, 0.5, (N, 1))
    obs = pd.DataFrame(
        {
            "celltype": pd.Categorical([f"type {k}" for k in kinds]),
            "donor_id": [f"D{i % 3}" for i in range(N)],
            "n_counts": rng.random(N),
            "perturbation": ["control" if i % 3 else "KRAS" for i in range(N)],
        },
        index=[f"{''.join(rng.choice(list('ACGT'), 14))}-1" for _ in range(N)],
    )
    counts = rng.poisson(rates).astype(np.float32)
    counts[np.arange(N), rng.integers(0, G, N)] += 1  # no cell is empty by chance
    return anndata.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=symbols()))


def dense(cells):
    return np.asarray(cells.X.todense(), dtype=np.float64)


def values(change):
    """A variant that changes the values of X."""

    def make(cells):
        cells.X = np.asarray(change(dense(cells)), dtype=np.float32)
        return cells

    return make


def per_cell(x, total):
    return x / x.sum(1, keepdims=True) * total


def zscore(x):
    x = np.log1p(per_cell(x, 1e4))
    return np.clip((x - x.mean(0)) / np.maximum(x.std(0), 1e-9), None, 10)


def names(change):
    def make(cells):
        cells.var_names = change(list(cells.var_names))
        return cells

    return make


def with_layer(name, change=None):
    def make(cells):
        counts = cells.X.copy()
        if name == "raw":
            cells.raw = cells.copy()
        else:
            cells.layers[name] = counts
        cells.X = (change or zscore)(dense(cells)).astype(np.float32)
        return cells

    return make


def column(name, made):
    def make(cells):
        cells.var[name] = made(cells.n_vars)
        cells.var_names = [str(i) for i in range(cells.n_vars)]
        return cells

    return make


def at(i, j, value):
    def change(x):
        x[i, j] = value
        return x

    return change


def mixed(found):
    rng = np.random.default_rng(0)
    return ["".join(c.lower() if rng.random() < 0.5 else c for c in name) for name in found]


def stored_as(form):
    def make(cells):
        cells.X = {"csc": sp.csc_matrix, "dense": lambda m: m.toarray(), "int": lambda m: m.astype(np.int64)}[form](
            cells.X
        )
        return cells

    return make


def empty_rows(cells):
    x = dense(cells)
    x[[3, 70]] = 0
    cells.X = sp.csr_matrix(x.astype(np.float32))
    return cells


def repeated(cells):
    x = dense(cells)
    x[5] = x[4]
    cells.X = sp.csr_matrix(x.astype(np.float32))
    cells.obs_names = [*cells.obs_names[:-1], cells.obs_names[0]]
    return cells


def no_labels(cells):
    cells.obs = cells.obs[["n_counts"]]
    return cells


def zero(x):
    return np.zeros_like(x)


# name -> (how to make it, kind of X, where counts are, fit, more: what the verdict must hold)
VARIANTS = {
    "counts": (lambda c: c, "counts", "X", True, {}),
    "counts dense": (stored_as("dense"), "counts", "X", True, {}),
    "counts csc": (stored_as("csc"), "counts", "X", True, {}),
    "counts as integers": (stored_as("int"), "counts", "X", True, {}),
    "log1p of 10,000": (
        values(lambda x: np.log1p(per_cell(x, 1e4))),
        "log-normalised",
        "X",
        True,
        {"dataset.recover_counts": "true"},
    ),
    "log1p of the median": (values(lambda x: np.log1p(per_cell(x, 731.0))), "log-normalised", "X", True, {}),
    "log1p of counts": (values(np.log1p), "log of counts", "X", True, {}),
    "log2 of CPM": (values(lambda x: np.log2(per_cell(x, 1e6) + 1)), "log-normalised", None, False, {}),
    "log1p of a few genes": (
        values(lambda x: np.log1p(per_cell(x, 1e4)) * (np.arange(G) % 3 > 0)),
        "log-normalised",
        "X",
        True,
        {},
    ),
    "CPM": (values(lambda x: per_cell(x, 1e6)), "normalised", None, False, {}),
    "10,000 without log": (values(lambda x: per_cell(x, 1e4)), "normalised", None, False, {}),
    "size factors": (
        values(lambda x: x / np.random.default_rng(1).uniform(0.3, 3, (N, 1))),
        "normalised",
        None,
        False,
        {},
    ),
    "rounded normalised": (values(lambda x: np.rint(per_cell(x, 1e4))), "rounded normalised", None, False, {}),
    "rounded CPM": (values(lambda x: np.rint(per_cell(x, 1e6))), "rounded normalised", None, False, {}),
    "rounded to the median": (
        values(lambda x: np.rint(per_cell(x, 1.6 * np.median(x.sum(1))))),
        "rounded normalised",
        None,
        False,
        {},
    ),
    "scaled": (values(zscore), "scaled", None, False, {}),
    "scaled without centring": (
        values(lambda x: np.log1p(per_cell(x, 1e4)) / np.maximum(np.log1p(per_cell(x, 1e4)).std(0), 1e-9)),
        "scaled",
        None,
        False,
        {},
    ),
    "residuals": (values(lambda x: x - x.mean()), "negative", None, False, {}),
    "estimated counts": (
        values(lambda x: np.where(np.random.default_rng(2).random(x.shape) < 0.05, x * 0.77, x)),
        "estimated counts",
        None,
        False,
        {},
    ),
    "counts with NaN": (values(at(2, 7, np.nan)), "not finite", None, False, {}),
    "all zero": (values(zero), "all zero", None, False, {}),
    "counts in a layer": (with_layer("counts"), "scaled", "counts", True, {"dataset.layer": "counts"}),
    "counts in a layer of another name": (with_layer("molecules"), "scaled", "molecules", True, {}),
    "counts in raw": (with_layer("raw"), "scaled", "raw", True, {"dataset.layer": "raw"}),
    "counts in raw, log in X": (
        with_layer("raw", lambda x: np.log1p(per_cell(x, 1e4))),
        "log-normalised",
        "raw",
        True,
        {"dataset.layer": "raw"},
    ),
    "Ensembl with versions": (
        names(lambda n: [f"{e}.{i % 20}" for i, e in enumerate(ensembl())]),
        "counts",
        "X",
        True,
        {"ids": "Ensembl ids", "organism": "human", "versions": G},
    ),
    "Ensembl in a column": (column("gene_ids", ensembl), "counts", "X", True, {"ids": "Ensembl ids"}),
    "symbols in a column": (column("feature_name", symbols), "counts", "X", True, {"ids": "symbols"}),
    "mouse symbols": (
        names(lambda n: [s.capitalize() for s in n]),
        "counts",
        "X",
        True,
        {"ids": "symbols", "organism": "mouse"},
    ),
    "mouse Ensembl": (
        names(lambda n: ensembl(prefix="ENSMUSG")),
        "counts",
        "X",
        True,
        {"ids": "Ensembl ids", "organism": "mouse"},
    ),
    "mixed case": (names(mixed), "counts", "X", True, {"odd_case": 150}),
    "duplicated genes": (names(lambda n: [*n[:-4], *n[:4]]), "counts", "X", True, {"duplicates": 4}),
    "dates for symbols": (
        names(lambda n: ["1-Mar", "2-Sep", "2001-03-01", *n[3:]]),
        "counts",
        "X",
        True,
        {"dates": ("1-Mar", "2-Sep", "2001-03-01")},
    ),
    "numbers for genes": (names(lambda n: [str(i) for i in range(G)]), "counts", "X", True, {"ids": "not recognised"}),
    "transposed": (lambda c: c.T.copy(), "counts", "X", False, {"ids": "not recognised"}),
    "transposed, Ensembl": (
        lambda c: names(lambda n: ensembl())(c).T.copy(),
        "counts",
        "X",
        False,
        {"ids": "not recognised"},
    ),
    "no cells": (lambda c: c[:0].copy(), "empty", None, False, {}),
    "no genes": (lambda c: c[:, :0].copy(), "empty", None, False, {}),
    "one gene": (lambda c: c[:, :1].copy(), "counts", "X", False, {}),
    "one cell": (lambda c: c[:1].copy(), "counts", "X", True, {}),
    "empty cells": (empty_rows, "counts", "X", True, {"empty_cells": 2}),
    "repeated cells": (repeated, "counts", "X", True, {"duplicate_cells": 1, "duplicate_cell_names": 1}),
    "no labels": (no_labels, "counts", "X", True, {"tasks": {"gene_function", "gene_influence", "gene_relationships"}}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, tmp_path):
    make, kind, where, fit, more = VARIANTS[variant]
    path = tmp_path / "cells.h5ad"
    make(base()).write_h5ad(path)
    verdict = inspect(path)
    said = {w: (v.kind, v.evidence) for w, v in verdict.matrices.items()}
    assert verdict.matrices["X"].kind == kind, said
    assert verdict.counts_in == where, said
    assert verdict.fit == fit, verdict.problems
    genes = verdict.gene_report
    for key, expected in more.items():
        if key == "tasks":
            assert {name for name, why in verdict.tasks.items() if why == ""} == expected
        elif key.startswith("dataset."):
            assert verdict.settings[key] == expected
        elif key == "odd_case":
            assert genes.odd_case >= expected
        else:
            assert getattr(genes, key, getattr(verdict, key, None)) == expected, (key, genes)
    if not fit:
        assert set(verdict.tasks.values()) == {"; ".join(verdict.problems)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["counts", "log1p of 10,000", "counts in raw", "counts in a layer"])
def test_what_it_says_to_type_works(name, tmp_path, bench):
    """The settings it suggests open the file, and the counts are the ones it was made from."""
    from harness import CellData, load_dataset

    path = tmp_path / "cells.h5ad"
    VARIANTS[name][0](base()).write_h5ad(path)
    settings = {key.removeprefix("dataset."): value for key, value in inspect(path).settings.items()}
    settings.pop("path")
    if settings.pop("recover_counts", None):
        settings["recover_counts"] = True
    data = load_dataset(path, **settings)
    assert (data.counts() != CellData(base()).counts()).nnz == 0
    assert data.labels("cell_type")[1] == "type 1" and data.control == "control"


@pytest.mark.parametrize("depth", [0.05, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_counts_of_any_depth_are_counts(depth, seed, tmp_path):
    base(depth, seed).write_h5ad(tmp_path / "c.h5ad")
    assert inspect(tmp_path / "c.h5ad").matrices["X"].kind == "counts"


def test_simulated_counts_of_equal_rates_are_counts(tmp_path):
    cells = base()
    cells.X = sp.csr_matrix(np.random.default_rng(0).poisson(8.0, cells.shape).astype(np.float32))
    cells.write_h5ad(tmp_path / "c.h5ad")
    assert inspect(tmp_path / "c.h5ad").matrices["X"].kind == "counts"


def test_command(tmp_path, bench):
    path = tmp_path / "cells.h5ad"
    base().write_h5ad(path)
    code, out, err = bench("check-data", path)
    assert code == 0 and not err
    assert out.splitlines()[0] == f"{path}: fit"
    assert "dataset.cell_type=celltype dataset.donor=donor_id dataset.condition=perturbation" in out
    code, out, _ = bench("check-data", path, "--json")
    said = json.loads(out)
    assert code == 0 and said["fit"] and said["counts_in"] == "X" and said["tasks"]["annotation"] == ""
    base().T.write_h5ad(path)
    code, out, _ = bench("check-data", path)
    assert code == 2 and "not fit: cells and genes look swapped" in out
    code, out, _ = bench("check-data", path, "--json")
    assert code == 2 and not json.loads(out)["fit"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "which file?"), (["/no/such.h5ad"], "no such file or folder"), (["--json"], "which file?")],
)
def test_command_refusals(bench, arguments, says):
    code, _, err = bench("check-data", *arguments)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1


def test_a_file_that_is_none(tmp_path, bench):
    (tmp_path / "x.h5ad").write_text("hello")
    code, _, err = bench("check-data", tmp_path / "x.h5ad")
    assert code == 2 and "no HDF5 file" in err


def test_other_forms(tmp_path):
    cells = base()
    cells.write_zarr(tmp_path / "x.zarr")
    assert inspect(tmp_path / "x.zarr").counts_in == "X"


def test_gene_ids_of_a_named_column(tmp_path):
    cells = column("my ids", ensembl)(base())
    cells.write_h5ad(tmp_path / "x.h5ad")
    assert not inspect(tmp_path / "x.h5ad").gene_report.known
    verdict = inspect(tmp_path / "x.h5ad", gene_ids="my ids")
    assert verdict.gene_report.ids == "Ensembl ids" and verdict.settings["dataset.gene_ids"] == "my ids"


def test_coverage_of_the_weights_that_are_here(tmp_path, bench):
    (tmp_path / "ROOT").mkdir()
    for model, folder in (("scgpt", "scgpt"), ("geneformer", "geneformer/v2")):
        (tmp_path / "ROOT" / model).symlink_to(ROOT / "tests" / "golden" / folder / "checkpoint")
    golden = ROOT / "tests" / "golden" / "scgpt" / "cells.h5ad"
    code, out, _ = bench("check-data", golden, f"checkpoints={tmp_path / 'ROOT'}", "--json")
    said = json.loads(out)["coverage"]
    assert code == 0 and set(said) == {"scgpt", "geneformer"}
    assert said["scgpt"]["matched"] == 684 - 48 and said["scgpt"]["n_genes"] == 684
    mouse = names(lambda n: [s.capitalize() for s in n])(base())
    mouse.write_h5ad(tmp_path / "mouse.h5ad")
    said = inspect(tmp_path / "mouse.h5ad", checkpoints=tmp_path / "ROOT").coverage
    assert "genes of mouse" in said["scgpt"]["error"]


def test_columns():
    obs = pd.DataFrame(
        {
            "Cell Type": ["a", "b", "a", None] * 10,
            "leiden": [str(i % 3) for i in range(40)],
            "barcode": [f"b{i}" for i in range(40)],
            "sample": [f"s{i % 4}" for i in range(40)],
            "batch": ["one"] * 40,
            "label": ["ctrl", "stim"] * 20,
            "drug": ["x", "y"] * 20,
        }
    )
    found = {role: [c.column for c in candidates] for role, candidates in suggest(obs).items()}
    # A batch column of one value is none; a condition with a control comes before one without.
    assert found == {"cell_type": ["Cell Type"], "batch": ["sample"], "condition": ["label", "drug"]}
    assert suggest(obs)["condition"][0].control == "ctrl" and suggest(obs)["cell_type"][0].missing == 10
    assert suggest(pd.DataFrame(index=range(5))) == {}


@pytest.mark.slow
def test_a_hundred_thousand_cells(tmp_path):
    """In under 30 s and 1 GB, whatever the storage: 100,000 cells of 600 values each, 720 MB as a matrix."""
    n, genes, each = 100_000, 20_000, 600
    rng = np.random.default_rng(0)
    path = tmp_path / "big.h5ad"
    obs = pd.DataFrame({"cell_type": [f"t{i % 9}" for i in range(n)]}, index=[f"cell{i}" for i in range(n)])
    anndata.AnnData(None, obs=obs, var=pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(genes)])).write_h5ad(path)
    with h5py.File(path, "a") as file:
        if "X" in file:
            del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n, genes)})
        group["indptr"] = np.arange(n + 1, dtype=np.int64) * each
        data = group.create_dataset("data", (n * each,), "f4", chunks=(1 << 20,))
        indices = group.create_dataset("indices", (n * each,), "i4", chunks=(1 << 20,))
        step = genes // each
        for start in range(0, n, 5000):
            rows = slice(start * each, (start + 5000) * each)
            data[rows] = rng.poisson(0.7, 5000 * each).astype(np.float32) + 1
            indices[rows] = (rng.integers(0, step, (5000, each)) + np.arange(each) * step).ravel()
    program = (
        "import resource, sys, time\nfrom harness.__main__ import main\nstart = time.monotonic()\n"
        f"code = main(['check-data', {str(path)!r}])\n"
        "print(code, time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    code, seconds, peak = run.stderr.split()[-3:]
    assert code == "0" and "100,000 cells x 20,000 genes" in run.stdout
    assert int(peak) * (1 if sys.platform == "darwin" else 1024) < 1e9
    assert float(seconds) < 30
