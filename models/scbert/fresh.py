"""Fresh networks: over the authors' gene2vec vectors where they are given, else over a learned table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.networks import seeded
from models.scbert import release
from models.scbert.config import Sizes


def panel_vectors(symbols: list[str], folder: Path) -> tuple[list[str], np.ndarray]:
    """The symbols that have a gene2vec vector, in their order, and these vectors, float64 (n, D).

    Parameters
    ----------
    folder
        Where the release's `panglao_10000.h5ad` (or `panglao_genes.txt`) and `gene2vec_16906.npy` lie.

    Raises
    ------
    InputError
        Files missing or at odds with each other, or no symbol is in the panel.
    """
    path = folder / release.GENE2VEC
    if not path.is_file():
        raise InputError(f"model.gene2vec={folder}: {release.GENE2VEC} is not there")
    panel, vectors = release.read_genes(release.find_genes(path)), release.read_gene2vec(path)
    if len(panel) != len(vectors):
        raise InputError(f"model.gene2vec={folder}: {len(vectors)} vectors for {len(panel)} genes")
    row_of = {name: row for row, name in enumerate(panel.tolist())}
    known = [name for name in symbols if name in row_of]
    if not known:
        raise InputError(f"none of these genes has a vector in {path}")
    return known, vectors[[row_of[name] for name in known]]


def fresh_network(sizes: Sizes, vectors: np.ndarray | None, seed: int) -> Any:
    """A network initialised from `seed`, its table filled with gene2vec or left to be learned."""
    import torch

    from models.scbert.network import Network

    if vectors is None:
        return seeded(lambda: Network(replace(sizes, learned_positions=True)), seed)
    network = seeded(lambda: Network(replace(sizes, width=vectors.shape[1], feed_forward=4 * vectors.shape[1])), seed)
    network.pos_emb.weight[:-1] = torch.as_tensor(vectors)
    return network
