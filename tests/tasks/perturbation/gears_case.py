"""The recorded case of GEARS, see tests/golden/gears/README.md."""

from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from harness.counts import log_normalise
from tasks.perturbation.gears_files import build, read_config, read_weights
from tasks.perturbation.gears_graphs import Graph

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "gears"
FORWARD = {"atol": 1e-5, "rtol": 1e-4}


def normalised(edges, weights, n):
    return Graph(tuple(map(str, range(n))), edges[0].astype(np.int64), edges[1].astype(np.int64), weights).normalised()


class Case:
    def __init__(self):
        self.arrays = dict(np.load(GOLDEN / "expected.npz"))

    def __getitem__(self, name):
        return self.arrays[name]

    @cached_property
    def values(self):
        parts = (self[f"counts/{part}"] for part in ("data", "indices", "indptr"))
        data, indices, indptr = parts
        counts = sp.csr_matrix(
            (data.astype(np.float32), indices.astype(np.int32), indptr), shape=(len(indptr) - 1, 200)
        )
        return log_normalise(counts)

    @cached_property
    def conditions(self):
        return sorted(set(self["graph_condition"].tolist()))

    @cached_property
    def retained(self):
        means = [self.values[self["cell_condition"] == name].mean(axis=0) for name in self.conditions]
        retained = np.asarray(np.concatenate(means) != 0)
        retained[self.conditions.index("ctrl")] = True
        return torch.from_numpy(retained)

    def network(self, weights="model_init/model.pt", **changes):
        network = build({**read_config(GOLDEN / "model_init" / "config.pkl"), **changes})
        read_weights(network, GOLDEN / weights)
        return network.eval()

    def nodes(self, label):
        names = self["pert_names"].tolist()
        return tuple(names.index(gene) for gene in label.split("+") if gene != "ctrl")

    def batch(self, graphs):
        """Basal expression, perturbed nodes, observed expression and code of condition of recorded pairs."""
        labels = self["graph_condition"][graphs].tolist()
        basal, observed = (
            torch.from_numpy(self.values[self[f"graph_{which}_cell"][graphs]].toarray())
            for which in ("basal", "target")
        )
        codes = torch.tensor([self.conditions.index(label) for label in labels])
        return basal, [self.nodes(label) for label in labels], observed, codes
