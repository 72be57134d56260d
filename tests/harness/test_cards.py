"""Cards: every YAML of conf/ is of the form, composes, plans without network, and says what is true."""

import json
import socket

import numpy as np
import pytest
import yaml

from harness import InputError, load_dataset
from harness.addresses import SCHEMES, web_page
from harness.cards import DatasetFacts, RemoteFile, dataset_cards, find_card, model_cards
from harness.config import compose, compose_group, options
from harness.places import DATA_SCHEME, checkpoint_folders
from harness.plan import plan_lines
from harness.registry import CONF
from harness.results import ResultStore
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
CARDS = [card for cards in model_cards().values() for card in cards.values()] + list(dataset_cards().values())


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.relative_to(CONF).as_posix())
def test_every_yaml_is_one_mapping_of_unique_keys(path):
    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            assert len(keys) == len(set(keys)), f"{path}: {sorted(k for k in keys if keys.count(k) > 1)} twice"
            return super().construct_mapping(node, deep)

    assert isinstance(yaml.load(path.read_text(), Loader), dict)


@pytest.mark.parametrize("name", options("dataset"))
def test_every_data_set_composes_with_known_keys(name):
    config = compose(["model=pca", "task=annotation", f"dataset={name}"])
    assert set(config.dataset) == set(compose_group("dataset", "_base"))
    recorded = config.as_dict()["dataset"]
    assert not {"card", "download", "terms"} & set(recorded)  # a better description changes no run


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.owner}-{card.name}")
def test_cards_plan_without_network(card, tmp_path, offline):
    text = "\n".join(plan_lines(card, tmp_path / "nowhere"))
    assert card.name in text and (card.licence or "none stated") in text
    for file in card.files:
        assert file.file in text
        assert all(web_page(source).startswith("http") for source in file.sources)
    if card.kind == "dataset" and card.facts["cells"]:
        assert "hours" in text and "memory" in text
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.owner}-{card.name}")
def test_cards_say_where_what_they_bring_is_read(card):
    names = [file.file for file in card.files]
    assert len(names) == len(set(names))
    given = {path for file in card.files for path in (file.gives or (file.file,))}
    if card.files and card.kind == "dataset" and (card.facts["path"] or "").startswith(DATA_SCHEME):
        folder, _, inside = card.facts["path"].removeprefix(DATA_SCHEME).partition("/")
        assert folder == card.folder and inside in given
    if card.kind == "model":
        assert card.files, "a published variant has a download, or a recipe"
        weights = card.facts.get("weights", "best_model.pt")
        for name in weights if isinstance(weights, dict) else [weights]:
            if "pytorch_model" not in name or len(weights) == 1:  # either of the two
                assert any(path.endswith(name) for path in given), (name, given)


def test_restricted_weights_ask_for_consent():
    for card in CARDS:
        restricted = any(word in (card.licence or "") for word in ("BY-NC", "non-commercial"))
        assert bool(card.terms) == restricted, card.name


def test_what_the_variants_state_and_what_is_fetched_agree():
    for card in model_cards()["geneformer"].values():
        stated = {**card.facts["weights"], **card.facts["tables"]}
        for file in card.files:
            if file.file in stated:
                assert file.bytes == stated[file.file]["bytes"]
                assert file.checksum == f"sha256:{stated[file.file]['sha256']}"
        assert set(card.facts["tables"]) <= {file.file for file in card.files}
    for card in model_cards()["uce"].values():
        assert {*card.facts["tables"], card.facts["weights"]} == {file.file for file in card.files}


def test_unverified_cards_say_so():
    unverified = [card for card in dataset_cards().values() if not card.facts["verified"]]
    assert unverified and all(card.facts["note"] for card in unverified)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cellfm", "cellfm-80m"),
        ("cellfm-800m", "cellfm-800m"),
        ("cellfm/cellfm-800m", "cellfm-800m"),
        ("scgpt-brain", "brain"),
        ("brain", "brain"),
        ("uce-33layer", "33layer"),
        ("geneformer", "Geneformer-V2-316M"),
        ("scfoundation", "cell"),
    ],
)
def test_names_of_models(name, found):
    assert find_card("model", name).name == found


def test_unknown_names_have_a_suggestion():
    with pytest.raises(InputError, match="did you mean norman"):
        find_card("dataset", "normann")
    with pytest.raises(InputError, match="did you mean cellfm-80m"):
        find_card("model", "cellfm-80mm")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"file": "/etc/passwd", "by_hand": "x"}, "a path inside the folder"),
        ({"file": "../x", "by_hand": "x"}, "a path inside the folder"),
        ({"file": "x"}, "neither sources nor by_hand"),
        ({"file": "x", "sources": ["ftp:y"]}, "no such kind of source"),
        ({"file": "x", "by_hand": "y", "checksum": "sha256:12"}, "checksum"),
        ({"file": "x", "by_hand": "y", "unpack": True}, "belong together"),
        ({"file": "x", "by_hand": "y", "sha256": "0"}, "sha256"),
        ({"file": "x", "by_hand": "y", "bytes": 0}, "bytes"),
    ],
)
def test_entries_that_are_not_of_the_form(entry, says):
    with pytest.raises(ValueError, match=says):
        RemoteFile(**entry)


def test_every_kind_of_source_is_documented():
    text = (CONF / "README.md").read_text()
    assert all(f"`{scheme}:" in text or scheme in ("http", "https") for scheme in SCHEMES)
    assert all(f"`{key}`" in text for key in (*RemoteFile.model_fields, *DatasetFacts.model_fields))


def test_list_says_size_licence_task_and_whether_it_is_here(bench, tmp_path, monkeypatch):
    (tmp_path / "ROOT").mkdir()
    (tmp_path / "ROOT" / "scgpt").symlink_to(GOLDEN / "scgpt" / "checkpoint")
    _, out, _ = bench("list", "models", f"checkpoints={tmp_path / 'ROOT'}")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "here" in rows["scgpt"] and " no " in rows["uce"]
    assert "about 962 MB" in rows["cellfm-80m"] and "CC BY-NC-ND" in rows["cellfm-80m"]
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(tmp_path))
    (tmp_path / "kang").mkdir()
    (tmp_path / "kang" / "kang_counts_25k.h5ad").write_text("")
    _, out, _ = bench("list", "datasets")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert " here " in rows["kang"] and "24,673 x 15,706" in rows["kang"] and "drug response" in rows["kang"]
    assert " no " in rows["norman"] and "699 MB" in rows["norman"] and "semi-synthetic" in rows["semi_drug"]


def test_a_data_set_that_is_not_here_says_how_to_get_it(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(tmp_path))
    code, _, err = bench("run", "model=pca", "task=annotation", "dataset=kang")
    assert code == 2 and err.strip().endswith("cellfm-bench fetch dataset kang")
    code, _, err = bench("run", "model=pca", "task=annotation", "dataset=gene_ontology")
    assert code == 2 and "holds genes with labels, no cells" in err


def test_plan_command(bench, tmp_path, offline, monkeypatch):
    monkeypatch.setenv("CELLFM_BENCH_DATA", str(tmp_path))
    code, out, _ = bench("fetch", "dataset", "norman", "--plan")
    assert code == 0 and "699 MB" in out and "111,445" in out and "md5:c870" in out
    assert not list(tmp_path.iterdir())


def test_semi_synthetic_sets_need_no_download(bench, offline):
    code, out, _ = bench("fetch", "dataset", "semi_batch")
    assert code == 0 and "nothing to download" in out


# -- checkpoints= finds each model's own ------------------------------------------------------------------------


def golden_root(folder, *, leave_out=()):
    """The golden releases, one variant each, under one root."""
    folder.mkdir()
    cellfm = GOLDEN / "cellfm" / "checkpoint"
    (folder / "cellfm").mkdir()
    for name in ("CellFM_80M_weight.ckpt", "csv", "config.json"):
        (folder / "cellfm" / name).symlink_to(cellfm / name)
    (folder / "scgpt-whole-human").symlink_to(GOLDEN / "scgpt" / "checkpoint")
    (folder / "geneformer").symlink_to(GOLDEN / "geneformer" / "v2" / "checkpoint")
    for model in ("scfoundation", "uce"):
        (folder / model).symlink_to(GOLDEN / model / "checkpoint")
    for name in leave_out:
        (folder / name).unlink()
    return folder


@pytest.mark.slow
def test_a_grid_finds_each_models_weights_and_a_missing_one_is_one_failed_row(bench, tmp_path):
    root = golden_root(tmp_path / "ROOT", leave_out=["uce"])
    cells = load_dataset("pbmc68k")
    kinds = cells.labels("cell_type")
    rows = np.concatenate([np.flatnonzero(kinds == kind)[:40] for kind in ("Dendritic", "CD14+ Monocyte")])
    part = cells.subset(rows).adata
    part.write_h5ad(tmp_path / "cells.h5ad")
    models = "cellfm,scgpt,geneformer,scfoundation,uce"
    code, _, err = bench(
        *(
            "run",
            "-m",
            f"model={models}",
            f"checkpoints={root}",
            "task=annotation",
            "task.heads=[knn]",
            "task.layout=false",
        ),
        *(f"dataset.path={tmp_path / 'cells.h5ad'}", "dataset.cell_type=bulk_labels", "dataset.min_coverage=0"),
    )
    assert code == 1, err
    records = {r.model: r for r in ResultStore(tmp_path / "results").records()}
    assert {name: r.status for name, r in records.items()} == {
        **dict.fromkeys(models.split(","), "ok"),
        "uce": "failed",
    }
    assert records["uce"].error.endswith("cellfm-bench fetch model uce")
    hashes = [r.provenance.checkpoint_sha256 for r in records.values() if r.status == "ok"]
    assert len(set(hashes)) == 4 and None not in hashes


def test_folders_of_checkpoints(tmp_path):
    published = model_cards()["cellfm"]
    assert checkpoint_folders(tmp_path, "cellfm", None, published) == []
    for name in ("cellfm-80m", "cellfm-800m"):
        (tmp_path / name).mkdir()
    names = [p.name for p in checkpoint_folders(tmp_path, "cellfm", None, published)]
    assert names == ["cellfm-800m", "cellfm-80m"]
    assert [p.name for p in checkpoint_folders(tmp_path, "cellfm", "80m", published)] == ["cellfm-80m"]
    (tmp_path / "cellfm").mkdir()
    assert [p.name for p in checkpoint_folders(tmp_path, "cellfm", None, published)] == ["cellfm"]


def test_several_variants_are_a_question(bench, tmp_path):
    for name in ("scgpt-brain", "scgpt-blood"):
        (tmp_path / name).symlink_to(GOLDEN / "scgpt" / "checkpoint")
    code, _, err = bench("run", "model=scgpt", "task=annotation", f"checkpoints={tmp_path}")
    assert code == 2 and "several scgpt: scgpt-blood, scgpt-brain" in err


# -- what is planted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["semi_batch", "semi_perturbation", "semi_drug"])
def test_planted_data_depend_on_the_seed_alone_and_say_what_is_in_them(name):
    plain, planted, again = load_dataset("pbmc68k"), load_dataset(name), load_dataset(name)
    assert planted.content_hash == again.content_hash != plain.content_hash
    assert (planted.obs_names == plain.obs_names).all() and planted.n_vars == plain.n_vars
    other = load_dataset(name, plant={**compose_group("dataset", name)["plant"], "seed": 1})
    assert other.content_hash != planted.content_hash
    told = json.loads(planted.adata.uns["planted"])
    assert told == planted.planted and told["seed"] == 0
    assert planted.subset(np.arange(5)).planted == told and plain.planted is None


def shift(data, chosen, against):
    """log2 ratio of each gene's mean."""
    counts = data.counts()
    means = [np.asarray(counts[rows].mean(axis=0)).ravel() + 1e-9 for rows in (chosen, against)]
    return np.log2(means[0] / means[1])


def test_what_is_planted_is_there():
    data = load_dataset("semi_perturbation", plant={"effect": "perturbation", "groups": 2, "genes": 10})
    told, labels = data.planted, data.labels("condition")
    assert data.control == "ctrl" and (labels == "ctrl").sum() > 100
    for condition, changes in told["log2_changes"].items():
        seen = shift(data, labels == condition, labels == "ctrl")
        names = data.genes.names.tolist()
        mean = np.asarray(data.counts()[labels == "ctrl"].mean(axis=0)).ravel()
        firm = [gene for gene in changes if mean[names.index(gene)] > 0.5]
        errors = [abs(seen[names.index(gene)] - changes[gene]) for gene in firm]
        assert firm and np.median(errors) < 0.5, (condition, errors)
    assert [i["pair"] for i in told["interactions"]] in ([], [next(c for c in set(labels) if "ctrl" not in c)])


def test_drugs_act_on_the_types_that_respond_alone():
    data = load_dataset("semi_drug", plant={"effect": "drug", "groups": 1, "genes": 200, "strength": 2.0})
    labels, kinds = data.labels("condition"), data.labels("cell_type")
    respond = np.isin(kinds, data.planted["drugs"]["drug 1"]["responding"])
    genes = np.isin(data.genes.names, list(data.planted["drugs"]["drug 1"]["log2_changes"]))
    treated, control = labels == "drug 1", labels == "control"
    acting = shift(data, treated & respond, control & respond)[genes]
    idle = shift(data, treated & ~respond, control & ~respond)[genes]
    assert np.median(np.abs(acting)) > 2 * np.median(np.abs(idle))


def test_batches_are_drawn_apart_from_cell_types():
    data = load_dataset("semi_batch")
    batches = data.labels("batch")
    assert sorted(set(batches)) == ["batch 0", "batch 1", "batch 2"]
    for kind in ("Dendritic", "CD14+ Monocyte"):
        rows = data.labels("cell_type") == kind
        assert np.unique(batches[rows], return_counts=True)[1].min() > 0.2 * rows.sum()
    assert np.std(shift(data, batches == "batch 0", batches == "batch 1")) > 0.7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"effect": "weather"}, "effect"),
        ({"effect": "batch", "strenght": 1}, "strenght"),
        ({"effect": "perturbation", "groups": 5000}, "genes are expressed"),
    ],
)
def test_planting_that_is_not_of_the_form(settings, says):
    with pytest.raises(InputError, match=says):
        load_dataset("pbmc68k", plant=settings)


def test_a_drug_needs_cell_types():
    with pytest.raises(InputError, match=r"dataset\.cell_type=COLUMN"):
        load_dataset("pbmc68k", cell_type=None, plant={"effect": "drug"})
