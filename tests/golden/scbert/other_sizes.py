"""Networks and cells unlike the golden case, for the tests of scBERT."""

from dataclasses import replace

import anndata
import numpy as np
import scipy.sparse as sp
import torch

from models.scbert.adapter import ScBert
from models.scbert.config import Sizes
from models.scbert.network import Network

GENES = [f"GENE{i}" for i in range(61)]
#: 3 heads of 6 are narrower than a token of 20.
SIZES = Sizes(n_genes=61, width=20, depth=2, heads=3, dim_head=6, features=10, feed_forward=72)


def other_network(seed=0, **sizes):
    torch.manual_seed(seed)
    network = Network(replace(SIZES, **sizes))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def other_model(seed=0, readout=None, **sizes):
    """Width, depth, heads, features, feed-forward and panel all unlike the golden case."""
    return ScBert(other_network(seed, **sizes), np.asarray(GENES), variant="other", readout=readout)


def cells_of(counts, genes):
    cells = anndata.AnnData(sp.csr_matrix(counts))
    cells.var_names = list(genes)
    return cells


def some_cells(seed=1, n=12):
    rng = np.random.default_rng(seed)
    dense = rng.geometric(0.1, (n, len(GENES))) * (rng.random((n, len(GENES))) < rng.uniform(0.1, 0.9, (n, 1)))
    dense[0] = 0
    dense[1] = 0
    dense[1, 5] = 3
    dense[2] = 1
    return cells_of(dense.astype(np.float32), GENES)
