import json
import pickle

import numpy as np
import pytest
import torch

from harness.errors import InputError
from tasks.gene_sets import read_gene_sets
from tasks.perturbation.gears_files import (
    config_of,
    read_config,
    read_graph,
    read_model,
    read_split,
    read_subgroups,
    read_weights,
    split_path,
    write_gene2go,
    write_graph,
    write_model,
    write_split,
)
from tasks.perturbation.gears_graphs import Graph, go_graph
from tests.tasks.perturbation.gears_case import GOLDEN, Case


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_model_round_trip(tmp_path):
    network, config = read_model(GOLDEN / "model_init")
    assert (config["hidden_size"], config["num_genes"], config["num_perts"]) == (16, 200, 65)
    assert torch.equal(config["G_go"], torch.from_numpy(Case()["G_go"].astype(np.int64)))
    write_model(tmp_path / "mine", network, config)
    again, same = read_model(tmp_path / "mine")
    for key, value in config.items():
        assert torch.equal(value, same[key]) if torch.is_tensor(value) else value == same[key]
    assert list(again.state_dict()) == list(torch.load(GOLDEN / "model_init" / "model.pt", weights_only=True))
    for key, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_a_configuration_of_our_own_is_what_cell_gears_writes():
    network, config = read_model(GOLDEN / "model_init")
    go, coexpress = (
        Graph(tuple(map(str, range(n))), *config[key].numpy(), config[f"{key}_weight"].numpy())
        for key, n in (("G_go", 65), ("G_coexpress", 200))
    )
    ours = config_of(network, go, coexpress)
    assert list(ours) == list(config)
    for key, value in config.items():
        assert torch.equal(value, ours[key]) if torch.is_tensor(value) else value == ours[key]


def test_hostile_pickles_are_refused_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    config = read_config(GOLDEN / "model_init" / "config.pkl")
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps({**config, "device": Hostile(mark)}))
    with pytest.raises(InputError, match="refused"):
        read_config(bad)

    class Inner:  # as a tensor's bytes, which torch.storage would load unsafely
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Hostile(mark)),)

    bad.write_bytes(pickle.dumps({**config, "G_go": Inner()}))
    with pytest.raises(InputError, match="refused"):
        read_config(bad)
    bad.write_bytes(pickle.dumps({"train": Hostile(mark)}))
    for read in (read_split, read_subgroups):
        with pytest.raises(InputError, match="refused"):
            read(bad)
    torch.save(Hostile(mark), bad)
    with pytest.raises(InputError, match="refused"):
        read_weights(Case().network(), bad)
    assert not mark.exists()


def test_what_fits_in_part_is_refused_key_by_key(tmp_path):
    network = Case().network()
    state = network.state_dict()
    before = state["indv_b1"].clone()
    torch.save({"indv_b1": state["indv_b1"] + 1, "more": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"missing: indv_w1.*unexpected: more"):
        read_weights(network, tmp_path / "model.pt")
    assert torch.equal(before, network.state_dict()["indv_b1"])
    (tmp_path / "config.pkl").write_bytes(pickle.dumps({"hidden_size": 3}))
    with pytest.raises(InputError, match="G_coexpress"):
        read_config(tmp_path / "config.pkl")
    with pytest.raises(InputError, match="does not exist"):
        read_config(tmp_path / "none.pkl")


def test_graph_and_terms_round_trip(tmp_path):
    case, sets = Case(), read_gene_sets(GOLDEN / "gene2go_all.pkl")
    names = case["pert_names"].tolist()
    write_graph(tmp_path / "go.csv", go_graph(sets, names, k=10**6))  # as released: every pair above the threshold
    assert (tmp_path / "go.csv").read_text().startswith("source,target,importance\n")
    graph, expected = read_graph(tmp_path / "go.csv", names, k=20), go_graph(sets, names)
    for field in ("source", "target"):
        np.testing.assert_array_equal(getattr(graph, field), getattr(expected, field))
    np.testing.assert_allclose(graph.weight, expected.weight, rtol=1e-6)
    few = read_graph(tmp_path / "go.csv", names[:3])
    assert few.nodes == tuple(names[:3]) and len(few.source) >= 3
    write_gene2go(tmp_path / "gene2go.pkl", sets)
    assert read_gene_sets(tmp_path / "gene2go.pkl").terms == sets.terms
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="importance"):
        read_graph(tmp_path / "bad.csv", names)
    with pytest.raises(InputError, match="does not exist"):
        read_graph(tmp_path / "none.csv", names)


def test_splits_round_trip(tmp_path):
    path, more = (split_path(GOLDEN / "splits", "tiny_given", 1, subgroup) for subgroup in (False, True))
    split, groups = read_split(path), read_subgroups(more)
    expected = json.loads((GOLDEN / "split.json").read_text())
    assert {part: sorted(own) for part, own in split.items()} == {
        part: sorted(own) for part, own in expected["set2conditions"].items()
    }
    assert set(groups) == {"test_subgroup", "val_subgroup"} and groups["test_subgroup"]["combo_seen0"] == []
    write_split(tmp_path, "mine", 3, split, groups)
    assert read_split(split_path(tmp_path, "mine", 3)) == split
    assert read_subgroups(tmp_path / "mine_simulation_3_0.75_subgroup.pkl") == groups
    with pytest.raises(InputError, match="no split"):
        read_split(more)
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"train": ["A"]}))
    with pytest.raises(InputError, match="'ctrl'"):
        read_split(tmp_path / "bad.pkl")
