"""Networks and cells unlike the golden case, for the tests of scFoundation."""

import anndata
import numpy as np
import scipy.sparse as sp
import torch

from models.scfoundation.adapter import ScFoundation
from models.scfoundation.config import Sizes, Stack, official_config
from models.scfoundation.network import Network
from models.scfoundation.options import Options

GENES = [f"GENE{i}" for i in range(61)]
ENCODER = Stack("transformer", 24, 2, 3, 8)
#: 2 heads of 6 are narrower than a token of 20.
PERFORMER = Stack("performer", 20, 3, 2, 6, 10)
TRANSFORMER = Stack("transformer", 20, 2, 5, 4)


def other_network(decoder=PERFORMER, seed=0):
    torch.manual_seed(seed)
    network = Network(Sizes(len(GENES), 17, 0.7, ENCODER, decoder))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def other_model(decoder=PERFORMER, seed=0, submodel="cell", **options):
    """Widths, depths, heads, bins, bin_alpha, random features and vocabulary all unlike the golden case."""
    network = other_network(decoder, seed)
    config = official_config(network.sizes)
    return ScFoundation(network, np.asarray(GENES), config, Options(**options), submodel=submodel)


def cells_of(counts, genes):
    cells = anndata.AnnData(sp.csr_matrix(counts))
    cells.var_names = list(genes)
    return cells


def some_cells(seed=1, n=12):
    rng = np.random.default_rng(seed)
    dense = rng.geometric(0.2, (n, len(GENES))) * (rng.random((n, len(GENES))) < rng.uniform(0.2, 1, (n, 1)))
    dense[0] = 0
    dense[1] = 0
    dense[1, 5] = 3
    dense[2] = 1
    dense[3] *= 40  # above the 1000 counts from which cells are down-sampled
    return cells_of(dense.astype(np.float32), GENES)
