"""Whole runs of the gene function task: what is planted is found, what is permuted is not, wrong input is refused."""

from types import SimpleNamespace

import anndata
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import StandardScaler

from harness import ResultStore, load_task
from harness.data import CellData
from harness.errors import NotApplicableError
from reports.statistics import mean_interval
from reports.unit_scores import overlap
from tasks.gene_function.folds import folds
from tasks.gene_function.labels import read_labels

N_GENES, N_CELLS = 160, 30


def cells(n_genes):
    """Cells that express every gene; ten genes in a row are a family by name."""
    counts = np.random.default_rng(0).poisson(1.0, (N_CELLS, n_genes)).astype(np.float32)
    counts[0] = 1
    made = anndata.AnnData(counts)
    made.var_names = [f"Q{chr(65 + i // 260)}{chr(65 + i // 10 % 26)}{i % 10}" for i in range(n_genes)]
    return CellData(made, name="made")


@pytest.fixture(scope="module")
def data():
    return cells(N_GENES)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(N_GENES, 6)).astype(np.float32)


def subject(vectors):
    """A model that has these vectors, and no more."""
    spec = SimpleNamespace(kind="embedding", name="planted", title="Planted")
    layout = lambda matrix: matrix[:, :2]  # noqa: E731
    return SimpleNamespace(spec=spec, genes=lambda *_, **__: vectors, layout=layout)


def write(path, data, member):
    rows = [f"{gene},{'yes' if own else 'no'}" for gene, own in zip(data.genes.names, member, strict=True)]
    path.write_text("\n".join(["gene,label", *rows]))
    return str(path)


def overall(result):
    return {(m.name, m.head): m.value for m in result.metrics if m.scope == "overall"}


def values_of(record):
    return {m.name: m.value for m in record.metrics if m.scope == "overall"}


def run(task, data, vectors, seed=0):
    return task.run(subject(vectors), data, task.split(data, seed), seed)


def test_a_planted_class_is_found_and_a_permuted_one_is_not(tmp_path):
    # Many genes: by chance, average precision of a few is well above the base rate.
    data, vectors = cells(1000), np.random.default_rng(1).normal(size=(1000, 6)).astype(np.float32)
    member = vectors @ np.array([2.0, -1, 1, 0, 0, 0]) > 1.5
    labels = write(tmp_path / "planted.csv", data, member)
    task = load_task("gene_function", labels=labels, heads=["logreg", "logreg_shuffled"])
    result = run(task, data, vectors)
    found = overall(result)
    assert found["auprc", "logreg"] > 0.95 and found["auprc_family", "logreg"] > 0.95
    rng, base = np.random.default_rng(4), member.mean()
    permuted = write(tmp_path / "permuted.csv", data, rng.permutation(member))
    chance = run(load_task("gene_function", labels=permuted), data, vectors)
    for made, head in ((result, "logreg_shuffled"), (chance, "logreg")):
        for kind in ("auprc", "auprc_family"):
            units = {
                m.key: (m.value, m.n)
                for m in made.metrics
                if (m.name, m.head, m.scope) == (kind, head, "per-resample") and m.value is not None
            }
            values = np.array([value for value, _ in units.values()])
            assert np.mean(values) == pytest.approx(overall(made)[kind, head])
            levels = np.stack([np.arange(len(values)), np.zeros(len(values), int)], axis=1)
            found = mean_interval(values, levels, ratio=overlap({key: n for key, (_, n) in units.items()}))
            assert found.low < base < found.high, "the board's own interval covers the base rate"
    assert task.dataset_name(data) == "planted"
    assert set(result.tables["umap"]["class"]) == {"yes", "no"} and len(result.tables["umap"]) == 1000


def test_equals_scikit_learn_on_the_same_folds(tmp_path, data, vectors):
    member = vectors[:, 0] + np.random.default_rng(2).normal(size=N_GENES) > 0.8
    path = write(tmp_path / "noisy.csv", data, member)
    found = overall(run(load_task("gene_function", labels=path, fold_seeds=[3]), data, vectors))
    labels = read_labels(path)
    order = [data.genes.names.tolist().index(gene) for gene in labels.genes]
    own, precision, f1 = vectors[order], [], []
    for fold in folds(labels, "random", 5, [3]):
        scaler = StandardScaler().fit(own[fold.train])
        true = labels.codes == 1
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(own[fold.train]), true[fold.train])
        said = model.predict_proba(scaler.transform(own[fold.test]))[:, 1]
        precision.append(average_precision_score(true[fold.test], said))
        f1.append(f1_score(true[fold.test], said > 0.5, average="macro"))
    assert found["auprc", "logreg"] == pytest.approx(np.mean(precision), abs=1e-9)
    assert found["macro_f1", "logreg"] == pytest.approx(np.mean(f1), abs=1e-9)


@pytest.mark.parametrize("head", ["logreg", "knn", "mlp"])
def test_functions_by_every_head(tmp_path, data, vectors, head):
    names = data.genes.names
    lines = [f"F{j}\t\t" + "\t".join(names[vectors[:, j] > 0.3]) for j in range(3)]
    path = tmp_path / "functions.gmt"
    path.write_text("\n".join(lines))
    task = load_task("gene_function", labels=str(path), heads=[head], n_functions=2, fold_seeds=[0])
    result = run(task, data, vectors)
    found = overall(result)
    rarest = f"F{(vectors[:, :3] > 0.3).sum(axis=0).argmin()}"
    assert found["auprc_micro", head] > result.notes["base rate"] + 0.2
    assert {m.key for m in result.metrics if m.scope == "per-class"} == {"F0", "F1", "F2"} - {rarest}
    assert "umap" not in result.tables and ("attribute_learning_index", "none") not in found


def test_a_class_that_is_one_family(tmp_path, data, vectors):
    member = np.array([name.startswith("QAA") for name in data.genes.names])
    path = write(tmp_path / "one.csv", data, member)
    for head in ("logreg", "mlp"):
        result = run(load_task("gene_function", labels=path, heads=[head], fold_seeds=[0]), data, vectors)
        assert result.notes["classes of one family, which no fold by family can test"] == "yes"
        assert overall(result)["auroc_family", head] is None, "no fold has it on both sides"


def test_classes_by_number_and_another_question(tmp_path, data, vectors):
    path = tmp_path / "numbers.csv"
    path.write_text("gene,label\n" + "\n".join(f"{g},{i % 2}" for i, g in enumerate(data.genes.names)))
    one, other = (load_task("gene_function", labels=str(path), positive=positive) for positive in (1, 0))
    assert run(one, data, vectors).notes["positive class"].startswith("1, ")
    assert one.dataset_hash(data) != other.dataset_hash(data), "they never stand on one board"


def test_genes_without_a_vector(tmp_path, data, vectors):
    path = write(tmp_path / "labels.csv", data, vectors[:, 0] > 0)
    holes = vectors.copy()
    holes[:5] = np.nan
    whole = run(load_task("gene_function", labels=path, fold_seeds=[0]), data, holes)
    assert whole.notes["genes without a vector"].startswith("5: QAA0, QAA1")
    assert len(whole.tables["umap"]) == N_GENES and not whole.flags
    dropped = run(load_task("gene_function", labels=path, fold_seeds=[0], missing="drop"), data, holes)
    assert len(dropped.tables["umap"]) == N_GENES - 5 and dropped.flags == ["own-genes"]
    with pytest.raises(NotApplicableError, match="a vector of none of the 160 genes asked"):
        run(load_task("gene_function", labels=path), data, np.full_like(vectors, np.nan))


def test_baselines_controls_and_wrong_settings_from_the_command_line(bench, tmp_path, data):
    cells = tmp_path / "cells.h5ad"
    data.adata.write_h5ad(cells)
    labels = write(tmp_path / "labels.csv", data, np.arange(N_GENES) % 3 == 0)
    said = [
        f"dataset.path={cells}",
        "task=gene_function",
        f"task.labels={labels}",
        "task.fold_seeds=[0]",
        "task.layout=false",
    ]
    models = "gene_expression,gene_names,permuted_gene_labels,random_embedding,pca"
    code, out, err = bench("run", "-m", f"model={models}", *said)
    assert code == 0, out + err
    records = {record.model: record for record in ResultStore(tmp_path / "results").records()}
    assert all(record.status == "ok" and record.dataset == "labels" for record in records.values())
    assert records["permuted_gene_labels"].flags == ["floor"] == records["random_embedding"].flags
    index = {
        name: values_of(records[name])["attribute_learning_index"]
        for name in ("gene_expression", "permuted_gene_labels")
    }
    assert index["permuted_gene_labels"] != index["gene_expression"], "the control is permuted there too"
    assert len({record.provenance.dataset_sha256 for record in records.values()}) == 1
    assert records["gene_expression"].split == "1x5-fold, cells"
    for wrong, says in (
        ("task.heads=[tree]", "task.heads=['tree']: expected some of logreg"),
        ("task.folds=[]", "task.folds=[]: expected some of random, family"),
        ("task.n_folds=1", "task.n_folds=1: expected a whole number from 2"),
        ("task.positive=maybe", "task.positive=maybe: the classes are no, yes"),
        ("task.missing=zero", "task.missing=zero: expected mean or drop"),
        ("task.fold_seeds=[1,1]", "expected a list of different whole numbers"),
        ("task.fold_seeds=3", "expected a list of different whole numbers"),
        ("task.heads=tree", "task.heads=['tree']: expected some of logreg"),
        ("task.labels=/absent.csv", "no such file"),
        ("task.labels=tau", "which obs column holds the cell type"),
    ):
        code, out, err = bench("run", "model=gene_names", *said, wrong)
        assert code == 2 and says in out + err, wrong
