"""`load_dataset`, `load_model`, `load_task`: names and files -> objects."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from harness.config import compose_group, options
from harness.data import ROLES, CellData
from harness.errors import InputError
from harness.genes import GeneTable
from harness.options import node_of, takes_any
from harness.places import DATA_SCHEME, data_root
from harness.readers import KINDS, read_cells
from harness.registry import MODELS, TASKS


def load_dataset(dataset: str | Path | dict[str, Any], **settings: Any) -> CellData:
    """Open a data set without reading its matrix.

    Parameters
    ----------
    dataset
        A registered name (`pbmc68k`), the path of an .h5ad, a .zarr, a 10x .h5 or a 10x folder, or a whole
        `dataset:` node of the config.
    settings
        Keys of `conf/dataset/_base.yaml`: `cell_type`, `batch`, `layer`, `gene_ids` …

    Raises
    ------
    InputError
        Missing file, one of another form, no such column or layer.
    """
    if isinstance(dataset, dict):
        node = {**dataset, **settings}
    elif str(dataset) in options("dataset"):
        node = {**compose_group("dataset", str(dataset)), **settings}
    else:
        node = {**compose_group("dataset", "file"), "path": str(dataset), **settings}
    known = compose_group("dataset", "_base")
    unknown = sorted(set(node) - set(known))
    if unknown:
        raise InputError(f"unknown dataset setting {', '.join(unknown)}; known: {', '.join(known)}")
    node = {**known, **node}
    path = path_of(node)
    adata = read_cells(path)
    name = node["name"] or path.stem
    columns = {role: node[role] for role in ROLES}
    made = made_by(node["plant"])
    data = CellData(
        adata,
        name=name,
        layer=node["layer"],
        recover=bool(node["recover_counts"]),
        columns={role: column for role, column in columns.items() if role not in made},
        control=node["control"],
        gene_ids=node["gene_ids"],
        on_empty_cell=node["on_empty_cell"],
        values=node["values"],
        min_coverage=float(node["min_coverage"]),
        warn_coverage=float(node["warn_coverage"]),
    )
    if node["gene_aliases"]:
        data.genes = resolve_aliases(data.genes, Path(node["gene_aliases"]), name)
    if node["plant"]:
        from harness.planting import plant

        data = plant(data, node["plant"], columns)
    if node["max_cells"] is not None:
        from harness.subsample import subsample

        data = subsample(data, node["max_cells"])
    return data


def made_by(settings: dict[str, Any] | None) -> dict[str, str]:
    """Role -> obs column that planting an effect makes; the file itself need not have it."""
    if not settings:
        return {}
    from harness.planting import MADE

    return MADE.get(str(settings.get("effect")), {})


def path_of(node: dict[str, Any]) -> Path:
    """The file or folder of a `dataset:` node; InputError where there is none, or none of cells."""
    if (node.get("card") or {}).get("kind") == "labels":
        raise InputError(f"dataset={node['name']} holds genes with labels, no cells: it is read by the tasks on genes")
    return locate(node["path"])


def locate(path: str | None) -> Path:
    """The file or folder behind a path, `pkg://PACKAGE/PATH` or `data://FOLDER/PATH` (of a fetched data set).

    Raises
    ------
    InputError
        There is none.
    """
    if not path:
        raise InputError(f"which cells? Say dataset=NAME, or dataset.path={KINDS}")
    if path.startswith("pkg://"):
        package, _, inside = path.removeprefix("pkg://").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"{path}: the package {package} is not installed")
        return Path(spec.submodule_search_locations[0]) / inside
    if path.startswith(DATA_SCHEME):
        return _fetched(path.removeprefix(DATA_SCHEME))
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"dataset.path={path}: no such file or folder")
    return found


def _fetched(inside: str) -> Path:
    """A file of a fetched data set; InputError with the command that brings it."""
    from harness.cards import dataset_cards

    found = data_root() / inside
    if found.exists():
        return found
    names = [name for name, card in dataset_cards().items() if card.facts["path"] == f"{DATA_SCHEME}{inside}"]
    raise InputError(f"{found} is not here; get it with: cellfm-bench fetch dataset {names[0] if names else 'NAME'}")


def resolve_aliases(genes: GeneTable, path: Path, name: str) -> GeneTable:
    """Approved symbols for alias and previous ones, by a HGNC table; what was done is logged."""
    import logging

    from harness.gene_aliases import AliasTable

    resolved, report = AliasTable.read(path).resolve(genes)
    logging.getLogger(__name__).warning("%s: %s", name, report.describe())
    return resolved


def load_task(name: str, **config: Any) -> Any:
    """A task by its registered name; its settings default to `conf/task/<name>.yaml`, or to those of its class.

    Raises
    ------
    InputError
        Unknown name (with a suggestion) or unknown setting.
    """
    cls = TASKS.get(name)
    built_in = name in options("task")
    defaults = compose_group("task", name) if built_in else node_of(name, cls)
    settings = {**defaults, **config}
    for key in ("name", "module"):
        settings.pop(key, None)
    unknown = sorted(set(settings) - set(defaults))
    if unknown and (built_in or not takes_any(cls)):
        raise InputError(f"unknown setting of task {name}: {', '.join(unknown)}; known: {', '.join(defaults)}")
    return cls(**settings)


def load_model(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    track: str | None = None,
    variant: str | None = None,
    readout: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    genes: Any = None,
    size: str = "tiny",
    seed: int = 0,
    **model_options: Any,
) -> Any:
    """A model, ready to embed.

    Parameters
    ----------
    name
        Registered name; baselines need nothing else.
    checkpoint
        File or directory of the official release; required unless `track="untrained"`.
    track
        `published` (default) or `untrained`: random weights over the vocabulary `genes`.
    variant, readout
        Which weights of a directory, and which cell vector; None is the official choice.
    device, precision
        `auto`, `cpu`, `cuda`, `npu`; `fp32` or `bf16`.
    genes
        Names or `GeneTable` of the vocabulary of an untrained network; of precomputed vectors the file of genes.
    size, seed
        Of an untrained network.

    Raises
    ------
    InputError
        Unknown name, no checkpoint, or one that does not fit.

    Examples
    --------
    >>> from harness import load_model
    >>> load_model("hvg").spec.kind
    'embedding'
    """
    from harness.devices import device_for
    from harness.sources import check_options

    cls = MODELS.get(name)
    check_options(cls, model_options)
    if readout and cls.spec.kind in ("foundation", "precomputed") and readout not in cls.spec.readouts:
        raise InputError(f"readout={readout}: {name} has {', '.join(cls.spec.readouts)}")
    if cls.spec.kind == "precomputed":
        return cls(**model_options, genes=genes, readout=readout)
    if cls.spec.kind != "foundation":
        return cls(**model_options)
    if checkpoint is not None:
        path = Path(checkpoint).expanduser()
        if not path.exists():
            raise InputError(f"checkpoint={checkpoint} does not exist")
        model = cls.from_checkpoint(path, variant=variant, readout=readout, **model_options)
        model.track = "published"
    elif track == "untrained" and genes is not None:
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        model = cls.from_scratch(table, size=size, seed=seed, readout=readout, **model_options)
        model.track = "untrained"
    else:
        raise InputError(
            f"{name} needs its released weights: load_model({name!r}, checkpoint=DIR); random weights are given only "
            "when asked for: track='untrained', genes=[...]"
        )
    return model.to(device_for(cls, model_options, device), precision)
