"""cellfm-bench embed model=NAME [model.checkpoint=PATH] dataset.path=cells.h5ad out=emb.npz [level=cell|gene|token]

Embeddings to a file: .npz, or .h5ad (the input with obsm["X_<model>"]), by the ending of out.

  cellfm-bench embed model=geneformer model.checkpoint=DIR dataset.path=cells.h5ad out=emb.npz
  cellfm-bench embed model=scgpt model.checkpoint=DIR dataset.path=cells.h5ad out=genes.npz level=gene

  level=cell   embeddings (n x d float32) and names (n), in the order of the input; a cell without any gene that the
               model knows is a row of NaN
  level=gene   the static gene table restricted to the input's genes: embeddings, names, and missing (the others)
  level=token  contextual vectors of each cell's expressed genes: embeddings (N x d), genes (N), indptr (n + 1),
               names (n); genes=A,B,C restricts

Everything loads with numpy.load(..., allow_pickle=False). Other keys are those of `run`: model.variant= model.readout=
dataset.layer= dataset.gene_ids= dataset.gene_aliases= device= precision= checkpoints= track=untrained|scratch corpus.*
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.config import compose_without_task, key_of
from harness.errors import InputError, NotApplicableError
from harness.model import ModelAdapter

LEVELS = ("cell", "gene", "token")


def main(arguments: list[str]) -> int:
    """Embed, write, say what was written."""
    own: dict[str, str | None] = {"out": None, "level": "cell", "genes": None}
    overrides = []
    for argument in arguments:
        key = key_of(argument)
        if key in own:
            own[key] = argument.partition("=")[2]
        else:
            overrides.append(argument)
    level, genes = str(own["level"]), own["genes"]
    if level not in LEVELS:
        raise InputError(f"level={level}: expected one of {', '.join(LEVELS)}")
    if not own["out"]:
        raise InputError("where to? Say out=FILE.npz or out=FILE.h5ad")
    out = Path(own["out"])
    if out.suffix not in (".npz", ".h5ad") or (out.suffix == ".h5ad" and level != "cell"):
        raise InputError(f"out={out}: expected .npz, or .h5ad for level=cell")
    if genes is not None and level != "token":
        raise InputError("genes= restricts level=token only")
    if not out.parent.is_dir():
        raise InputError(f"out={out}: the directory {out.parent} does not exist")

    from harness.cache import Cache
    from harness.loading import locate
    from harness.runner import open_corpus, open_data
    from harness.sources import resolve

    config = compose_without_task(overrides)
    data = open_data(config.dataset)
    source = resolve(config, Cache(config.cache), lambda: open_corpus(config))
    if source.spec.kind == "predictor":
        raise InputError(f"{source.spec.name} predicts for {', '.join(source.spec.tasks)}; it embeds nothing")
    if data.values == "features" and source.spec.kind != "precomputed":
        raise InputError(f"{source.spec.name} reads counts, and {data.name} holds features (dataset.values=features)")
    model = source.model
    try:
        arrays = _arrays(model, data, level, genes, config.seed)
    except NotApplicableError as error:
        raise InputError(f"level={level}: {error}") from None
    _write(out, arrays, data, source.spec.name, locate(config.dataset["path"]))
    matrix = arrays["embeddings"]
    print(f"{out}: {matrix.shape[0]} x {matrix.shape[1]} ({level} level, {source.spec.name}, {source.track})")
    return 0


def _arrays(model: Any, data: Any, level: str, genes: str | None, seed: int) -> dict[str, np.ndarray]:
    from harness.contract import hold

    if level == "cell":
        matrix = model.embed_cells(data, seed=seed, progress=True)
        hold(model, data, matrix, seed=seed)
        return {"embeddings": matrix, "names": data.obs_names}
    if not isinstance(model, ModelAdapter) and (level, model.spec.kind) != ("gene", "precomputed"):
        raise NotApplicableError(f"{model.spec.title} has cell vectors only")
    if level == "gene":
        found = model.embed_genes(data.genes)
        return {"embeddings": found.matrix, "names": found.names, "missing": found.missing}
    wanted = [g.strip() for g in genes.split(",") if g.strip()] if genes is not None else None
    tokens = model.embed_tokens(data, genes=wanted, seed=seed, progress=True)
    return {
        "embeddings": tokens.matrix,
        "genes": tokens.genes,
        "indptr": tokens.indptr,
        "names": data.obs_names,
    }


def _write(out: Path, arrays: dict[str, np.ndarray], data: Any, name: str, path: Path) -> None:
    import anndata

    from harness.results import atomic_path

    with atomic_path(out) as temporary:
        if out.suffix == ".npz":
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
        else:
            # An h5ad is read anew, with all that is in it; of another form, what was read of it becomes one.
            cells = anndata.read_h5ad(path) if path.suffix == ".h5ad" else data.adata.to_memory()
            cells.obsm[f"X_{name}"] = arrays["embeddings"]
            cells.write_h5ad(temporary)
