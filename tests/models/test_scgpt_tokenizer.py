"""scGPT's tokenizer: numpy's quantiles bit for bit, and tokens that depend on the cell alone."""

import numpy as np
import pytest
import scipy.sparse as sp

from harness.genes import GeneTable
from models.scgpt.adapter import ScGPT
from models.scgpt.tokenizer import QUANTILES, SpecialTokens, bin_values, quantile_edges, sampled_places, tokenize

SPECIAL = SpecialTokens(pad=300, cls=301)
N_GENES = 300


def ragged(rng, kind, lengths):
    draw = {
        "counts": lambda n: rng.geometric(0.6, n),
        "tied": lambda n: np.ones(n),
        "log-normalised": lambda n: np.log1p(rng.geometric(0.5, n) * rng.random() * 3),
        "any sign": lambda n: rng.normal(size=n) * 1e3,
        "wide": lambda n: np.exp(rng.normal(size=n) * 12),
    }[kind]
    values = [np.asarray(draw(n), np.float32) for n in lengths]
    return values, np.concatenate(values), np.concatenate([[0], np.cumsum(lengths)])


@pytest.mark.parametrize("kind", ["counts", "tied", "log-normalised", "any sign", "wide"])
def test_edges_are_numpys_bit_for_bit(kind):
    rng = np.random.default_rng(5)
    lengths = [*range(1, 130), 0, 490, 491, 637, 2000, 0]
    cells, values, indptr = ragged(rng, kind, lengths)
    edges = quantile_edges(values, indptr)
    assert edges.dtype == np.float64
    for row, cell in zip(edges, cells, strict=True):
        if len(cell):
            theirs = np.quantile(cell, QUANTILES)
            assert theirs.dtype == np.float64
            np.testing.assert_array_equal(row, theirs)


@pytest.mark.parametrize("kind", ["counts", "tied", "log-normalised", "wide"])
def test_bins_are_digitize_of_each_cell(kind):
    rng = np.random.default_rng(6)
    lengths = rng.integers(0, 300, 40)
    cells, values, indptr = ragged(rng, kind, lengths)
    draws = rng.random(len(values))
    ours = bin_values(values, indptr, draws)
    assert ours.dtype == np.float32
    for i, cell in enumerate(cells):
        if not len(cell):
            continue
        edges = np.quantile(cell, np.linspace(0, 1, 50))
        left, right = np.digitize(cell, edges), np.digitize(cell, edges, right=True)
        u = draws[indptr[i] : indptr[i + 1]]
        np.testing.assert_array_equal(ours[indptr[i] : indptr[i + 1]], np.ceil(u * (right - left) + left))
    assert ours.min() >= 1
    assert ours.max() <= 50


def random_counts(rng, n_cells=40, n_genes=N_GENES):
    dense = rng.geometric(0.5, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < rng.random((n_cells, 1)))
    return sp.csr_matrix(dense.astype(np.float32))


@pytest.fixture
def counts():
    return random_counts(np.random.default_rng(7))


def of(counts, ids=None, max_length=100, seed=0):
    return tokenize(counts, np.arange(N_GENES) if ids is None else ids, SPECIAL, max_length=max_length, seed=seed)


def rows_of(batch):
    return [
        (ids[mask].tolist(), values[mask].tolist())
        for ids, values, mask in zip(batch.gene_ids, batch.values, batch.mask, strict=True)
    ]


def test_companions_and_order_do_not_matter(counts):
    together = rows_of(of(counts))
    assert [rows_of(of(counts[i]))[0] for i in range(counts.shape[0])] == together
    order = np.random.default_rng(0).permutation(counts.shape[0])
    assert rows_of(of(counts[order])) == [together[i] for i in order]


def test_columns_of_unknown_genes_and_their_place_do_not_matter(counts):
    """Ids are of the vocabulary: the same cell in another file has the same tokens, as a set where it is sampled."""
    rng = np.random.default_rng(1)
    width = N_GENES + 50
    place = rng.permutation(width)[:N_GENES]
    ids = np.full(width, -1)
    ids[place] = np.arange(N_GENES)
    dense = rng.geometric(0.5, (counts.shape[0], width)).astype(np.float32)
    dense[:, place] = counts.toarray()
    theirs = rows_of(of(sp.csr_matrix(dense), ids))
    for (ids_a, values_a), (ids_b, values_b) in zip(rows_of(of(counts)), theirs, strict=True):
        assert set(zip(ids_a, values_a, strict=True)) == set(zip(ids_b, values_b, strict=True))


def test_seed_changes_draws_and_nothing_else(counts):
    first, second = of(counts), of(counts, seed=1)
    np.testing.assert_array_equal(first.mask, second.mask)
    assert (first.values != second.values).any()
    assert rows_of(first) == rows_of(of(counts))


def test_order_length_and_padding(counts):
    batch = of(counts)
    lengths = np.diff(counts.indptr)
    assert batch.gene_ids.dtype == np.int64
    assert batch.values.dtype == np.float32
    assert batch.gene_ids.shape == (40, 100)
    assert (lengths > 99).any()
    assert (lengths < 99).any()
    np.testing.assert_array_equal(batch.mask.sum(axis=1), np.minimum(lengths + 1, 100))
    assert (batch.gene_ids[:, 0] == SPECIAL.cls).all()
    assert (batch.values[:, 0] == -2).all()
    assert (batch.gene_ids[~batch.mask] == SPECIAL.pad).all()
    assert (batch.values[~batch.mask] == -2).all()
    for row, n in enumerate(lengths):
        genes, expressed = batch.gene_ids[row, 1:][batch.mask[row, 1:]], counts[row].indices
        if n <= 99:
            np.testing.assert_array_equal(genes, expressed)
        else:
            assert len(set(genes.tolist())) == 99
            assert set(genes.tolist()) < set(expressed.tolist())
            assert (np.diff(genes) < 0).any()


def test_bins_are_made_before_the_sample(counts):
    """Sampling leaves the values of the genes that stay as they are in the whole cell."""
    whole, sampled = of(counts, max_length=1000), of(counts, max_length=20)
    for row in range(counts.shape[0]):
        value = dict(zip(whole.gene_ids[row].tolist(), whole.values[row].tolist(), strict=True))
        for gene, bin_ in zip(sampled.gene_ids[row].tolist(), sampled.values[row].tolist(), strict=True):
            assert value[gene] == bin_


def test_sample_and_ties_are_uniform():
    """1000 cells that differ in one count: 10 of 100 genes stay, each about 100 times; ties spread over all bins."""
    dense = np.ones((1000, 101), np.float32)
    dense[:, 100] = 2 + np.arange(1000)
    batch = tokenize(sp.csr_matrix(dense), np.arange(101), SPECIAL, max_length=11)
    genes = batch.gene_ids[:, 1:]
    times = np.bincount(genes.ravel(), minlength=101)
    assert times.min() > 55
    assert times.max() < 150
    ones = batch.values[:, 1:][genes < 100]
    per_bin = np.bincount(ones.astype(int), minlength=51)[1:50]
    assert per_bin.min() > 120  # 49 tied edges share 9900 values
    assert per_bin.max() < 290


def test_one_gene_tied_and_empty_cells():
    dense = np.zeros((4, 10), np.float32)
    dense[0, 3] = 7
    dense[1, :] = 1
    dense[3, 9] = 4  # not in the vocabulary
    ids = np.where(np.arange(10) < 9, np.arange(10), -1)
    batch = tokenize(sp.csr_matrix(dense), ids, SPECIAL, max_length=50)
    assert batch.gene_ids[0, :2].tolist() == [SPECIAL.cls, 3]
    assert 1 <= batch.values[0, 1] <= 50
    assert batch.mask.sum(axis=1).tolist() == [2, 10, 0, 0]
    assert len(set(batch.values[1, 1:10].tolist())) > 3
    assert (batch.gene_ids[2:] == SPECIAL.pad).all()
    assert np.isfinite(batch.values).all()
    nothing = tokenize(sp.csr_matrix((2, 10), dtype=np.float32), ids, SPECIAL, max_length=50)
    assert nothing.gene_ids.shape == (2, 1)
    assert not nothing.mask.any()


def test_equal_keys_stay_in_column_order():
    places = sampled_places(np.array([0, 3, 7]), np.array([0.9, 0.1, 0.5, 0.2, 0.8, 0.2, 0.1]), 3)
    assert places.tolist() == [0, 1, 2, 1, 3, 2, 0]


def test_names_match_exactly():
    model = ScGPT.from_scratch(GeneTable.from_names(["TP53", "CD3D", "TP53", "<pad>", ""]))
    assert model.token_names.tolist() == ["TP53", "CD3D", "", "", ""]
    assert model.match_genes(["cd3d", "CD3D", "<pad>", "TP53", "TP53"]).ids.tolist() == [-1, 1, -1, 0, 0]
    batch = model.tokenize(sp.csr_matrix(np.ones((1, 5), np.float32)), ["cd3d", "CD3D", "<pad>", "TP53", "TP53"])
    assert batch.gene_ids.tolist() == [[3, 1, 0, 0]]
