"""Methods that read batches, controls at the ends of the scale, and planted batches in their order."""

import numpy as np
import pytest

from harness import load_dataset, load_model, load_task
from harness.config import compose_group
from harness.counts import principal_components
from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.runner import open_data
from models.harmony.adapter import Harmony, harmonise
from tasks.integration.scib import BATCH, BIO, batch_correction, bio_conservation, neighbour_graph, per_type
from tests.conftest import make_cells

pytestmark = pytest.mark.xdist_group("integration")
COLUMNS = {"cell_type": "cell_type", "batch": "batch"}


def scores(x, labels, batches, before):
    x = np.ascontiguousarray(x, np.float32)
    graph = neighbour_graph(x, 90)
    kbet = per_type(x, labels, batches, graph)["kbet"]
    found = bio_conservation(x, labels, batches, graph, 0)
    return found | batch_correction(x, labels, batches, graph, before, kbet)


def ilisi(x, batches):
    import scib_metrics as scib

    return float(scib.ilisi_knn(neighbour_graph(x, 90), batches))


def mean(found, names):
    return np.mean([found[name] for name in names])


def planted(strength):
    """Cells of the three largest types: scib-metrics compiles anew for each size of a type."""
    plant = {"effect": "batch", "seed": 0, "strength": strength, "groups": 3}
    data = open_data({**compose_group("dataset", "semi_batch"), "plant": plant})
    types, sizes = np.unique(data.labels("cell_type"), return_counts=True)
    return data.subset(np.flatnonzero(np.isin(data.labels("cell_type"), types[np.argsort(sizes)[-3:]])))


@pytest.fixture(scope="module")
def strengths():
    return {s: planted(s) for s in (0.1, 0.4, 1.6)}


@pytest.mark.slow
def test_planted_batches_are_ranked_in_their_order_and_harmony_removes_them(strengths):
    mixed, corrected = [], []
    for data in strengths.values():
        labels, batches = data.labels("cell_type"), data.labels("batch")
        before = principal_components(data.counts())
        parts = per_type(before.astype(np.float32), labels, batches, neighbour_graph(before, 90))
        mixed.append([ilisi(before, batches), *(np.mean(list(parts[name].values())) for name in ("bras", "kbet"))])
        corrected.append(ilisi(harmonise(before, batches), batches))
    assert (np.diff(np.array(mixed), axis=0) < -0.01).all(), mixed
    assert corrected[1] > mixed[1][0] + 0.1 and corrected[2] > mixed[2][0] + 0.1


@pytest.mark.slow
def test_controls_land_at_the_ends(strengths):
    data = strengths[1.6]
    labels, batches, before = data.labels("cell_type"), data.labels("batch"), principal_components(data.counts())
    found = {"pca": scores(before, labels, batches, before)}
    for name in ("random_embedding", "perfect_embedding", "batch_embedding"):
        found[name] = scores(load_model(name).embed_cells(data), labels, batches, before)
    found["shuffled_types"] = scores(load_model("shuffled_types").predict(data, 0), labels, batches, before)
    bio = {name: mean(each, BIO) for name, each in found.items()}
    batch = {name: mean(each, BATCH) for name, each in found.items()}
    assert max(bio, key=bio.get) == "perfect_embedding" and bio["perfect_embedding"] > 0.95
    assert max(bio["random_embedding"], bio["shuffled_types"], bio["batch_embedding"]) < bio["pca"]
    assert min(batch, key=batch.get) == "batch_embedding" and batch["perfect_embedding"] > 0.9
    for name in ("nmi_kmeans_starts", "ari_kmeans_starts", "nmi_leiden", "ari_leiden"):
        assert abs(found["random_embedding"][name]) < 0.1 and abs(found["shuffled_types"][name]) < 0.1


def test_shuffled_types_are_a_floor():
    assert load_task("integration").control_roles("shuffled_types") == ["floor"]


def test_harmony_reads_batches_and_no_cell_type():
    cells = make_cells(n_cells=120, batches=2)
    data = CellData(cells, columns=COLUMNS)
    found = Harmony().embed_cells(data)
    assert found.dtype == np.float32 and found.shape == (120, 50)
    assert np.array_equal(found, Harmony().embed_cells(data))
    cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy()[::-1]
    assert np.array_equal(found, Harmony().embed_cells(CellData(cells, columns=COLUMNS)))
    cells.obs["batch"] = cells.obs["batch"].to_numpy()[::-1]
    assert not np.allclose(found, Harmony().embed_cells(CellData(cells, columns=COLUMNS)))


@pytest.mark.parametrize("columns", [{"cell_type": "cell_type"}, COLUMNS])
def test_no_batches_no_integration_method(columns):
    with pytest.raises(NotApplicableError, match="batch"):
        Harmony().embed_cells(CellData(make_cells(batches=1), columns=columns))


def test_degenerate_coordinates_survive():
    batches = np.array(["x", "y"] * 5)
    for z in (np.zeros((10, 2)), np.ones((10, 2)), np.arange(20.0).reshape(10, 2)):
        assert np.isfinite(harmonise(z, batches)).all()
    lone = np.array(["x"] * 9 + ["y"])
    assert np.isfinite(harmonise(np.random.default_rng(0).normal(size=(10, 3)), lone)).all()


def test_strange_settings_are_refused():
    with pytest.raises(InputError, match=r"sigma"):
        load_model("harmony", sigma=0)


def test_scvi_says_how_to_install_it():
    from importlib.util import find_spec

    if find_spec("scvi"):
        pytest.skip("scvi-tools is installed")
    data = CellData(make_cells(batches=2), columns=COLUMNS)
    with pytest.raises(InputError, match=r"pip install 'cellfm-bench\[scvi\]'"):
        load_model("scvi").embed_cells(data)


def test_unintegrated_pca_is_the_model_pca():
    data = load_dataset("pbmc68k")
    assert np.allclose(principal_components(data.counts()), load_model("pca").embed_cells(data), atol=1e-4)
    assert load_model("hvg").embed_cells(data).shape[1] == min(2000, len(data.genes)), "HVG in full dimension"
