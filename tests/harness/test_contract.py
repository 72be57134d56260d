"""Models that lie about what they give are found at run time, by name, before a number is made of it."""

import numpy as np
import pytest

from harness import CellData, FittedEmbedder, ModelSpec
from harness.contract import hold
from harness.errors import InternalError
from harness.model import Embedder
from tests.conformance.toy import WIDTH, Toy
from tests.conftest import make_cells

N = 60


@pytest.fixture(scope="module")
def data():
    cells = make_cells(N)
    cells.X = cells.X.multiply(np.arange(N)[:, None] != 7).tocsr()
    return CellData(cells)


@pytest.fixture(scope="module")
def toy(data):
    return Toy.from_scratch(data.genes)


def held(model, data, matrix=None):
    hold(model, data, model.embed_cells(data) if matrix is None else matrix)


def says(model, data, text, matrix=None):
    with pytest.raises(InternalError, match=f"{model.spec.name}.*{text}"):
        held(model, data, matrix)


def test_an_honest_model_is_held(toy, data):
    before = toy.embed_cells(data)
    coverage = toy.last_coverage
    hold(toy, data, before)
    assert toy.last_coverage is coverage  # of the whole data set, not of the few cells
    hold(toy, data, before.astype(np.float64))


def test_one_cell_and_none_that_can_be_read(toy, data):
    one = data.subset(np.array([3]))
    held(toy, one)
    none = data.subset(np.array([7]))
    hold(toy, none, np.full((1, WIDTH), np.nan, np.float32))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x: x[:-1], r"shape \(59, 16\) for 60 cells"),
        (lambda x: x[~np.isnan(x).any(axis=1)], r"shape \(59, 16\)"),
        (lambda x: x[:, :8], "vectors of 8, and its embedding_size is 16"),
        (lambda x: x[None], "shape"),
        (lambda x: x.tolist(), "gave list"),
        (lambda x: np.nan_to_num(x).astype(np.int32), "gave int32"),
        (lambda x: np.where(np.arange(N)[:, None] == 3, np.nan, x), "no vector .* cell cell3 .* counts in"),
        (lambda x: np.where(np.arange(N)[:, None] % 2, x, np.nan), "no vector .* cell cell0 "),
        (lambda x: np.where(np.arange(WIDTH) == 3, np.nan, x), "cell cell0 and 58 others .* not finite"),
        (lambda x: np.where(np.arange(N)[:, None] == 5, np.inf, x), "the cell cell5 of cells .* not finite"),
        (lambda x: np.roll(x, 1, axis=0), "not in the order of the cells"),
    ],
)
def test_lies(toy, data, change, text):
    says(toy, data, text, change(toy.embed_cells(data)))


@pytest.mark.parametrize("seed", range(20))
def test_any_permutation_is_found(toy, data, seed):
    rows = np.flatnonzero(np.arange(N) != 7)
    found = toy.embed_cells(data)
    found[rows] = found[np.random.default_rng(seed).permutation(rows)]
    says(toy, data, "another vector when they are embedded anew", found)


def test_rows_sorted_by_size_are_found(toy, data):
    """Sorted for speed and not sorted back, in whatever company: the few cells are then out of order as well."""

    class Sorted(Toy):
        def embed_cells(self, adata, **options):
            cells = CellData.of(adata)
            found = super().embed_cells(cells, **options)
            return found[np.argsort(-np.asarray(cells.counts().sum(axis=1)).ravel(), kind="stable")]

    model = Sorted.from_scratch(data.genes)
    says(model, data.subset(np.setdiff1d(np.arange(N), [7])), "another vector when")


def test_similar_cells_in_another_order_are_found(toy, data):
    """Networks may give all cells nearly the same vector; what tells them apart still has to be in its place."""

    class Alike(Toy):
        def read_out(self, tokens, mask):
            return 1000 + super().read_out(tokens, mask)

    model = Alike.from_scratch(data.genes)
    found = model.embed_cells(data)
    assert np.nanstd(found, axis=0).max() < 0.01 * np.nanmean(found)
    hold(model, data, found)
    rows = np.flatnonzero(np.arange(N) != 7)
    found[rows] = found[rows[::-1]]
    says(model, data, "another vector when", found)


def test_rounding_to_bf16_is_no_lie(data):
    model = Toy.from_scratch(data.genes).to("cpu", "bf16")
    held(model, data)


class Fitted(FittedEmbedder):
    spec = ModelSpec(name="fitted_liar", title="Liar", kind="embedding", gene_ids="any", readouts=("x",))
    changed = staticmethod(lambda x: x)

    def fit(self, data, seed=0):
        self.mean = np.asarray(data.counts().mean(axis=0)).ravel()

    def transform(self, counts):
        return self.changed((counts.toarray() - self.mean).astype(np.float32))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (lambda x: x, None),
        (lambda x: x[1:], r"transform gave an array of shape \(59, 80\) for 60 cells"),
        (lambda x: x[:, 0], r"transform gave an array of shape \(60,\)"),
        (lambda x: x[::-1], "another vector when"),
        (lambda x: np.where(x[:, :1] > 0, np.nan, x), "no vector"),
        (lambda x: x - x.mean(axis=0), "another vector when"),
    ],
)
def test_a_fitted_baseline(data, changed, text):
    model = Fitted()
    model.changed = changed
    if text is None:
        held(model, data)
    else:
        says(model, data, text)


def test_an_embedder_of_any_other_kind(data):
    class Bare(Embedder):
        spec = ModelSpec(name="bare_liar", title="Liar", kind="embedding", gene_ids="any", readouts=("x",))
        n_params = 0

        def embed_cells(self, adata, *, seed=0, progress=False):
            x = CellData.of(adata).counts().toarray().astype(np.float32)
            return x - x.mean(axis=0)  # depends on the company: it is no function of a cell

    says(Bare(), data, "a vector depends on more than its own cell")


def test_a_wrong_row_is_caught_in_a_run(data, tmp_path):
    """Through the engine: what reaches a task was held; what is refused is not cached."""
    from harness.cache import Cache
    from harness.sources import ModelSource
    from harness.subject import Subject

    model = Fitted()
    model.changed = lambda x: x[::-1]
    source = ModelSource(Fitted.spec, "baseline", {"model": "liar", "at": str(tmp_path)}, lambda: model)
    for _ in range(2):
        with pytest.raises(InternalError, match="fitted_liar"):
            Subject(source, data, Cache(tmp_path)).cells()
    model.changed = lambda x: x
    assert Subject(source, data, Cache(tmp_path)).cells().shape == (N, 80)


def test_where_most_vectors_are_zero_rounding_is_no_lie(data):
    rng = np.random.default_rng(0)
    matrix = np.zeros((data.n_obs, 5), np.float32)
    matrix[::13] = rng.normal(size=(len(matrix[::13]), 5))

    class Sparse(Fitted):
        def transform(self, counts):
            key = {row.tobytes(): i for i, row in enumerate(np.asarray(data.counts().todense()))}
            rows = [key[row.tobytes()] for row in np.asarray(counts.todense())]
            return matrix[rows] * (1 + 1e-6)

    hold(Sparse(), data, matrix)
