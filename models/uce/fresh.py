"""Fresh UCE networks: over the authors' protein embeddings where they are given, else over a learned table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import InputError
from harness.genes import GeneTable
from harness.networks import seeded
from models.uce import tables
from models.uce.config import Sizes
from models.uce.genome import N_SPECIAL, GeneTables, Places, distinct_symbols


def fresh_tables(genes: GeneTable, species: str, start: Path | None) -> tuple[GeneTables, Any | None]:
    """Tokens of a vocabulary, and their protein embeddings (n_genes, token_dim) where there are any.

    Parameters
    ----------
    genes
        The vocabulary.
    species
        Whose genes these are.
    start
        Folder of the release's tables; None: genes stand on one chromosome, in this order, and have no vectors.

    Raises
    ------
    InputError
        No gene has a symbol, or none of them stands in the tables.
    """
    symbols = distinct_symbols(filter(None, genes.symbols.tolist()))
    if not symbols:
        raise InputError(
            "UCE's vocabulary is made of gene symbols, and these genes have none; name the var column that holds "
            "them: dataset.gene_ids=COLUMN"
        )
    if start is None:
        place, vectors = {name.upper(): ("1", i) for i, name in enumerate(symbols)}, None
    else:
        import torch

        path = tables.protein_file(start, species)
        known = tables.read_places(tables.find(start, tables.CHROMOSOMES))
        rows = known.rows_of(species)
        place = {name: (known.chromosome[row], known.start[row]) for name, row in rows.items()}
        proteins = {name.upper(): vector for name, vector in reversed(tables.read_proteins(path).items())}
        symbols = tuple(name for name in symbols if name.upper() in proteins and name.upper() in place)
        if not symbols:
            raise InputError(f"none of these genes has a protein embedding in {path}")
        vectors = torch.stack([proteins[name.upper()] for name in symbols]).float()
    upper = [name.upper() for name in symbols]
    places = Places(
        np.asarray(upper, object),
        np.asarray([place[name][0] for name in upper], object),
        np.asarray([place[name][1] for name in upper], np.int64),
        np.full(len(upper), species, object),
    )
    rows = N_SPECIAL + len(symbols) + places.codes[1]
    return GeneTables(species, symbols, {species: N_SPECIAL}, places, rows), vectors


def fresh_network(
    sizes: Mapping[str, Any], gene_tables: GeneTables, vectors: Any | None, *, positions: int, seed: int
) -> Any:
    """A network initialised from `seed`, its table filled with protein embeddings or left to be learned."""
    import torch

    from models.uce.network import Network

    whole = dict(sizes) | {"rows": gene_tables.rows, "positions": positions, "learned_table": vectors is None}
    if vectors is not None:
        whole["token_dim"] = vectors.shape[1]
    network = seeded(lambda: Network(Sizes(**whole)), seed)
    with torch.no_grad():
        # A cell vector has length 1, and a gene's 1 at every number: so both weigh alike from the start.
        cell_width = sizes["decoder"][-1]
        network.binary_decoder[0][0].weight[:, :cell_width] *= cell_width**0.5
        if vectors is None:
            # Only directions count, and they turn the faster the shorter the vectors are.
            network.pe_embedding.weight /= whole["token_dim"] ** 0.5
        else:
            network.pe_embedding.weight[N_SPECIAL : N_SPECIAL + len(vectors)] = vectors
    return network
