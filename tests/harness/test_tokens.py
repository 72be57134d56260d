import numpy as np

from harness import TokenBatch


def batch_of(lengths, width):
    mask = np.arange(width)[None] < np.asarray(lengths)[:, None]
    return TokenBatch(np.where(mask, 7, 0), np.where(mask, 1.0, 0).astype(np.float32), mask, {"n": np.asarray(lengths)})


def test_buckets_cover_every_cell_once_and_compute_little_padding():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 300, 500)
    batch = batch_of(lengths, 300)
    seen, padded = [], 0
    for rows, part in batch.buckets(4096):
        assert part.gene_ids.shape == (len(rows), lengths[rows].max())
        assert part.gene_ids.size <= 4096 and (part.extra["n"] == lengths[rows]).all()
        assert lengths[rows].min() * 4 >= lengths[rows].max() * 3
        seen += rows.tolist()
        padded += part.gene_ids.size
    assert sorted(seen) == np.flatnonzero(lengths > 0).tolist()
    assert padded < 1.1 * lengths.sum()


def test_one_cell_larger_than_the_budget_still_goes_through():
    [(rows, part)] = list(batch_of([50], 60).buckets(10))
    assert rows.tolist() == [0] and part.gene_ids.shape == (1, 50)


def test_empty_batch():
    assert list(batch_of([0, 0], 5).buckets(10)) == []
    assert batch_of([0], 0).lengths().tolist() == [0]


def test_tensors_without_a_mask():
    part = TokenBatch(np.array([[1, 2]])).tensors()
    assert part.mask.all() and part.values is None
