"""Floor and ceiling: what bounds the scores of a task, and that nothing but a control reads labels."""

import numpy as np
import pytest

from harness import ResultStore, load_model, load_task
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.registry import MODELS, TASKS
from tests.conftest import make_cells

ROLES = ("floor", "ceiling")


def overall(record):
    return {(m.name, m.head): m.value for m in record.metrics if m.scope == "overall"}


def records(tmp_path):
    return {r.model: r for r in ResultStore(tmp_path / "results").records()}


#: A ranking by the observed profiles themselves is 1 by construction; of genes nobody knows all that is true.
WITHOUT_CEILING = ("reverse_perturbation", "gene_function", "gene_relationships", "gene_influence")


@pytest.mark.parametrize("task", TASKS.names())
def test_every_task_declares_controls_that_exist(task):
    controls = TASKS.get(task).controls
    if task in WITHOUT_CEILING:
        assert set(controls) == {"floor"}
        return
    assert set(controls) == set(ROLES), f"{task} declares no {' or '.join(set(ROLES) - set(controls))}"
    for role in ROLES:
        assert controls[role]
        for name in controls[role]:
            MODELS.check(name)


def test_only_controls_read_labels():
    for name in MODELS.names():
        spec = MODELS.get(name).spec
        assert spec.control or not spec.reads_labels


def test_annotation_lies_between_floor_and_ceiling(bench, tmp_path):
    code, _, err = bench(
        "run",
        "-m",
        "model=random_embedding,permuted_labels,perfect_embedding,pca",
        "task=annotation",
        "task.heads=[knn]",
    )
    assert code == 0, err
    found = records(tmp_path)
    low, high = overall(found["random_embedding"]), overall(found["perfect_embedding"])
    assert high["macro_f1", "knn"] == 1
    assert low["macro_f1", "knn"] < 0.25 < overall(found["pca"])["macro_f1", "knn"]
    assert overall(found["permuted_labels"])["macro_f1", "none"] < 0.25
    assert [found[name].track for name in ("random_embedding", "permuted_labels", "perfect_embedding")] == [
        "control"
    ] * 3
    assert found["pca"].track == "baseline" and "floor" not in found["pca"].flags
    assert "floor" in found["random_embedding"].flags and "floor" in found["permuted_labels"].flags
    assert "ceiling" in found["perfect_embedding"].flags


def test_integration_has_a_floor_for_mixing_too():
    """A random embedding mixes batches, and so does the ceiling; only the batches themselves do not."""
    import scib_metrics as scib

    data = CellData(make_cells(n_cells=240, batches=2), columns={"cell_type": "cell_type", "batch": "batch"})
    types, batches = data.labels("cell_type"), data.labels("batch")
    vectors = {name: load_model(f"{name}_embedding").embed_cells(data) for name in ("batch", "random", "perfect")}
    kept = {name: scib.silhouette_label(x, types) for name, x in vectors.items()}
    mixed = {name: scib.bras(x, types, batches) for name, x in vectors.items()}
    assert kept["perfect"] > 0.9 > 0.6 > max(kept["batch"], kept["random"])
    assert mixed["batch"] + 0.2 < min(mixed["random"], mixed["perfect"])


def test_batches_alone_need_batches(bench, tmp_path):
    code, _, err = bench("run", "-m", "model=batch_embedding", "task=integration")
    assert code == 0, err
    [record] = ResultStore(tmp_path / "results").records()
    assert record.status == "not-applicable" and "dataset.batch" in record.error


def test_a_random_vector_depends_on_the_cell_and_the_seed_alone(cells):
    model = load_model("random_embedding")
    found = model.embed_cells(cells)
    assert np.array_equal(model.embed_cells(cells[::-1].copy()), found[::-1])
    assert np.array_equal(model.embed_cells(cells[:, ::-1].copy()), found)
    assert not np.array_equal(model.embed_cells(cells, seed=1), found)
    assert abs(found.mean()) < 0.1 and abs(found.std() - 1) < 0.1


def test_cached_vectors_of_labels_follow_the_labels(bench, tmp_path, cells):
    """The counts are the same, the labels are not: what was cached for the old ones must not be found."""
    for turn in range(2):
        if turn:
            cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy()[
                np.random.default_rng(0).permutation(cells.n_obs)
            ]
        cells.write_h5ad(tmp_path / f"{turn}.h5ad")
        path = (f"dataset.path={tmp_path}/{turn}.h5ad", "dataset.cell_type=cell_type")
        code, _, err = bench("run", "model=perfect_embedding", "task=annotation", "task.heads=[knn]", *path)
        assert code == 0, err
    values = [overall(r)["macro_f1", "knn"] for r in ResultStore(tmp_path / "results").records()]
    assert values == [1, 1]


def test_labels_must_be_named_and_differ(cells):
    with pytest.raises(InputError, match=r"dataset\.cell_type"):
        load_model("perfect_embedding").embed_cells(cells)
    with pytest.raises(InputError, match=r"model\.role=sort"):
        load_model("perfect_embedding", role="sort")
    cells.obs["severity"] = ["mild", "severe"] * 30
    data = CellData(cells, columns={"label": "severity"})
    assert load_model("perfect_embedding", role="label").embed_cells(data).shape == (60, 2)
    cells.obs["cell_type"] = "one"
    with pytest.raises(NotApplicableError, match="nothing to tell apart"):
        load_model("perfect_embedding").embed_cells(CellData(cells, columns={"cell_type": "cell_type"}))


def test_permuted_labels_look_at_no_test_label(cells):
    data = CellData(cells, columns={"cell_type": "cell_type"})
    split = load_task("annotation").split(data, 0)
    labels = data.labels("cell_type")
    hidden = labels.copy()
    hidden[split.test] = "?"
    model = load_model("permuted_labels")
    assert np.array_equal(model.predict(data, split, labels, 0), model.predict(data, split, hidden, 0))
