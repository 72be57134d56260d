"""The files of cell-gears: models, graphs, terms and splits, read and written as it does, nothing in them executed."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.safe_pickle import load_plain_pickle
from tasks.gene_sets import GeneSets
from tasks.perturbation.conditions import GEARS_CONTROL
from tasks.perturbation.gears_graphs import CORRELATION, NEIGHBOURS, Graph, strongest

if TYPE_CHECKING:
    from tasks.perturbation.gears_network import GearsNetwork

#: Train share of a split, as it stands in its file name.
TRAIN_SHARE = 0.75
#: Keys of the published forks' weights that take no part in a forward: a head never used, the foundation model itself.
FORK_ONLY = ("cell_fitness_mlp.", "pretrained_model.", "singlecell_model.")


def read_config(path: str | Path) -> dict[str, Any]:
    """`config.pkl` of a saved model: settings and the graphs as tensors `G_go`, `G_go_weight`, `G_coexpress`, ….

    The tensors are pickled by way of `torch.storage._load_from_bytes`, which would run what the bytes ask for; here
    they are read as weights only.

    Raises
    ------
    InputError
        The file is missing, damaged, names anything else, or lacks what a network is built from.
    """
    import torch

    def storage(content: bytes) -> Any:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        if not isinstance(storage, torch.storage.TypedStorage):
            raise pickle.UnpicklingError(f"a tensor is made of {type(storage).__name__}")
        return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)

    config = load_plain_pickle(
        Path(path),
        {
            ("torch.storage", "_load_from_bytes"): storage,
            ("torch._utils", "_rebuild_tensor_v2"): tensor,
            ("torch", "device"): str,
        },
    )
    wanted = {"hidden_size", "num_genes", "num_perts", "G_go", "G_go_weight", "G_coexpress", "G_coexpress_weight"}
    lacking = sorted(wanted - set(config)) if isinstance(config, dict) else sorted(wanted)
    if lacking:
        raise InputError(f"{path} is no configuration of GEARS: {', '.join(lacking)} is missing")
    return config


def config_of(network: GearsNetwork, go: Graph, coexpress: Graph, **settings: Any) -> dict[str, Any]:
    """What cell-gears keeps of a model beside its weights; `settings` overrides its defaults."""
    import torch

    graphs: dict[str, Any] = {}
    for key, graph in (("G_go", go), ("G_coexpress", coexpress)):
        graphs[key] = torch.from_numpy(np.stack([graph.source, graph.target]))
        graphs[f"{key}_weight"] = torch.from_numpy(graph.weight)
    hidden = network.pert_emb.embedding_dim
    return {
        "hidden_size": hidden,
        "num_go_gnn_layers": len(network.sim_layers),
        "num_gene_gnn_layers": len(network.layers_emb_pos),
        "decoder_hidden_size": 16,
        "num_similar_genes_go_graph": NEIGHBOURS,
        "num_similar_genes_co_express_graph": NEIGHBOURS,
        "coexpress_threshold": CORRELATION,
        "uncertainty": network.uncertainty_w is not None,
        "uncertainty_reg": 1,
        "direction_lambda": 0.1,
        **graphs,
        "device": "cpu",
        "num_genes": network.n_genes,
        "num_perts": network.pert_emb.num_embeddings,
        "no_perturb": False,
        **settings,
    }


def build(config: Mapping[str, Any], **graft: Any) -> GearsNetwork:
    """A network of this configuration, its weights drawn anew; `graft` as in `GearsNetwork`."""
    from tasks.perturbation.gears_network import GearsNetwork

    graphs = []
    for key, size in (("G_go", "num_perts"), ("G_coexpress", "num_genes")):
        source, target = config[key].numpy()
        nodes = tuple(map(str, range(int(config[size]))))
        graphs.append(Graph(nodes, source, target, config[f"{key}_weight"].numpy()).normalised())
    return GearsNetwork(
        *graphs,
        int(config["hidden_size"]),
        go_layers=int(config.get("num_go_gnn_layers", 1)),
        coexpress_layers=int(config.get("num_gene_gnn_layers", 1)),
        uncertainty=bool(config.get("uncertainty", False)),
        **graft,
    )


def read_weights(network: GearsNetwork, path: str | Path) -> None:
    """Copy the weights of `model.pt` into a network.

    Raises
    ------
    InputError
        The file is not plain tensors, or fits in part only: with the report key by key.
    """
    from harness.checkpoints import load_state, read_torch, strip_prefix

    state = strip_prefix(read_torch(Path(path)))
    load_state(network, state, Path(path), ignore=lambda key: key.startswith(FORK_ONLY))


def read_model(folder: str | Path) -> tuple[GearsNetwork, dict[str, Any]]:
    """The network of a saved model (`config.pkl`, `model.pt`), in evaluation mode, and its configuration."""
    config = read_config(Path(folder) / "config.pkl")
    network = build(config)
    read_weights(network, Path(folder) / "model.pt")
    return network.eval(), config


def write_model(folder: str | Path, network: GearsNetwork, config: Mapping[str, Any]) -> None:
    """Write `config.pkl` and `model.pt`; cell-gears' `load_pretrained` reads them."""
    import torch

    Path(folder).mkdir(parents=True, exist_ok=True)
    _dump(Path(folder) / "config.pkl", dict(config))
    torch.save(network.state_dict(), Path(folder) / "model.pt")


def read_graph(path: str | Path, nodes: Iterable[str], k: int | None = None) -> Graph:
    """A graph of a csv file with the columns source, target, importance (`go.csv`, a co-expression network).

    Parameters
    ----------
    nodes
        Edges of other genes are left out.
    k
        Keep the `k` + 1 heaviest edges into each node; None: all.

    Raises
    ------
    InputError
        The file is missing or has other columns.
    """
    import pandas as pd

    if not Path(path).is_file():
        raise InputError(f"{path} does not exist")
    table = pd.read_csv(path, keep_default_na=False)  # a gene called NA is no missing value
    if not {"source", "target", "importance"} <= set(table.columns):
        raise InputError(
            f"{path}: a graph of GEARS has the columns source, target, importance; found {', '.join(table.columns)}"
        )
    names = list(nodes)
    place = {name: i for i, name in enumerate(names)}
    table = table[table["source"].isin(place) & table["target"].isin(place)]
    source, target = (table[column].map(place).to_numpy(np.int64) for column in ("source", "target"))
    weight = table["importance"].to_numpy(np.float64)
    if k is None:
        return Graph(tuple(names), source, target, weight.astype(np.float32))
    return strongest(names, source, target, weight, k)


def write_graph(path: str | Path, graph: Graph) -> None:
    """Write a graph as cell-gears does."""
    import pandas as pd

    names = np.array(graph.nodes)
    columns = {"source": names[graph.source], "target": names[graph.target], "importance": graph.weight}
    pd.DataFrame(columns).to_csv(path, index=False)


def write_gene2go(path: str | Path, sets: GeneSets) -> None:
    """Write terms as `gene2go_all.pkl`; `tasks.gene_sets.read_gene_sets` reads it."""
    _dump(Path(path), {gene: set(terms) for gene, terms in sets.terms.items()})


def split_path(folder: str | Path, dataset: str, seed: int, subgroup: bool = False) -> Path:
    """Where cell-gears keeps the simulation split of a seed."""
    return Path(folder) / f"{dataset}_simulation_{seed}_{TRAIN_SHARE}{'_subgroup' if subgroup else ''}.pkl"


def read_split(path: str | Path) -> dict[str, list[str]]:
    """A split: train, val and test -> conditions as the file spells them (`ctrl`, `A+ctrl`, `A+B`).

    Raises
    ------
    InputError
        It holds anything else.
    """
    found = load_plain_pickle(Path(path))
    parts = ("train", "val", "test")
    if not isinstance(found, dict) or not set(found) <= set(parts) or "train" not in found:
        raise InputError(f"{path} is no split of GEARS: train, val and test with their conditions are expected")
    split = {part: [str(condition) for condition in found.get(part, [])] for part in parts}
    if not any(GEARS_CONTROL in conditions for conditions in split.values()):
        raise InputError(f"{path} is no split of GEARS: none of its conditions is {GEARS_CONTROL!r}")
    return split


def read_subgroups(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """`…_subgroup.pkl`: `test_subgroup` and `val_subgroup` -> what was seen (`combo_seen0`, …) -> conditions.

    Raises
    ------
    InputError
        It holds anything else.
    """
    found = load_plain_pickle(Path(path))
    if not isinstance(found, dict) or not all(isinstance(own, dict) for own in found.values()):
        raise InputError(f"{path} holds no subgroups of a split of GEARS")
    return {str(part): {str(key): list(map(str, own)) for key, own in groups.items()} for part, groups in found.items()}


def write_split(
    folder: str | Path,
    dataset: str,
    seed: int,
    split: Mapping[str, Iterable[str]],
    subgroups: Mapping[str, Mapping[str, Iterable[str]]],
) -> None:
    """Write a split and its subgroups where cell-gears looks for them."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    _dump(split_path(folder, dataset, seed), {part: list(own) for part, own in split.items()})
    nested = {part: {key: list(own) for key, own in groups.items()} for part, groups in subgroups.items()}
    _dump(split_path(folder, dataset, seed, subgroup=True), nested)


def _dump(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))
