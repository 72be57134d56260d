"""The recorded autoencoder and its cells (tests/golden/cellot), and cells made with a known shift."""

from functools import cache

import anndata
import numpy as np

from tasks.drug_response.problem import Populations, Problem
from tests.conftest import ROOT

GOLDEN = ROOT / "tests/golden/cellot"
SCGEN = GOLDEN / "model-scgen"
TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}


@cache
def arrays():
    return dict(np.load(GOLDEN / "expected.npz"))


@cache
def cells():
    return anndata.read_h5ad(GOLDEN / "drug.h5ad")


def expression(names):
    """Log-normalised expression of named cells, float32 (n, 60)."""
    return cells()[names].X.toarray()


def recorded_problem():
    """The recorded split; the test cells stand in for validation cells, which nothing here reads."""
    parts = {
        part: Populations(expression(arrays()[f"{part}_source_cells"]), expression(arrays()[f"{part}_target_cells"]))
        for part in ("train", "test")
    }
    genes = cells().var_names.to_numpy().astype(str)
    return Problem("trametinib", genes, parts["train"], parts["test"], parts["test"].control)


def made_problem(shift, n=200, m=150, spread=0.3, seed=0, k=40, centres=None, dtype=np.float32):
    """Gaussian cells of some types and treated ones moved by `shift`, (g,) or (types, g); test cells are of both types.

    Cells are of the types in turn, so that the populations have the same shares.
    """
    rng = np.random.default_rng(seed)
    shift = np.atleast_2d(np.asarray(shift, float))
    g = shift.shape[1]
    centres = rng.gamma(2.0, 1.0, (len(shift), g)) if centres is None else np.asarray(centres, float)

    def draw(n, moved):
        of_type = np.arange(n) % len(shift)
        return (centres[of_type] + moved * shift[of_type] + rng.normal(0, spread, (n, g))).astype(dtype)

    train, val = (Populations(draw(a, 0), draw(b, 1)) for a, b in ((n, m), (40, 40)))
    return Problem("made", np.array([f"GENE{i}" for i in range(g)]), train, val, draw(k, 0), seed)
