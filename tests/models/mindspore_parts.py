"""MindSpore and CellFM's modules for it, imported when a test first asks: tests of others do without.

`parts.ms` is MindSpore, `parts.network` is `models.cellfm.mindspore_network`, and so on.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

needs_mindspore = pytest.mark.skipif(
    find_spec("mindspore") is None, reason="the extra is not installed: pip install 'cellfm-bench[mindspore]'"
)


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return import_module("mindspore" if name == "ms" else f"models.cellfm.mindspore_{name}")


def tensors(*arrays):
    """MindSpore's."""
    from mindspore import Tensor

    return [Tensor(np.ascontiguousarray(array)) for array in arrays]


def made_batch(n, length, seed=0):
    """Made ids, values, mask, visible, counted; numpy."""
    rng = np.random.default_rng(seed)
    mask = np.arange(length) < rng.integers(1, length + 1, (n, 1))
    ids = (rng.integers(1, 41, mask.shape) * mask).astype(np.int32)
    values = (rng.random(mask.shape) * 3 * mask).astype(np.float32)
    return ids, values, mask, mask & (rng.random(mask.shape) > 0.3), mask & (rng.random(mask.shape) > 0.5)
