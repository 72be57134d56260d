import numpy as np

from harness.draws import cell_keys, uniform


def test_keys_depend_on_content_alone():
    genes, counts = np.array([4, 9, 2, 7]), np.array([1.0, 3.0, 2.0, 1.0])
    keys = cell_keys(np.array([0, 4, 8, 8]), np.r_[genes, genes[::-1]], np.r_[counts, counts[::-1]])
    assert keys[0] == keys[1] != keys[2]
    assert cell_keys(np.array([0, 4]), genes, counts + np.array([0, 0, 0, 1]))[0] != keys[0]
    assert cell_keys(np.array([0, 4]), genes, counts.astype(np.float32))[0] == keys[0]


def test_uniform_is_uniform_and_independent():
    keys = cell_keys(np.arange(201), np.arange(200), np.ones(200))
    u = uniform(keys[:, None], np.arange(500)[None])
    assert u.shape == (200, 500) and (u >= 0).all() and (u < 1).all()
    assert abs(u.mean() - 0.5) < 0.005 and abs(u.var() - 1 / 12) < 0.002
    assert np.abs(np.corrcoef(u[:50])[np.triu_indices(50, 1)]).max() < 0.2
    for other in (
        uniform(keys[:, None], np.arange(500)[None], seed=1),
        uniform(keys[:, None], np.arange(500)[None], stream=1),
    ):
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 0.01
    assert (u == uniform(keys[:, None], np.arange(500)[None])).all()
