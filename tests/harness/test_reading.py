"""Weights and dictionaries are read, never run."""

import pickle

import numpy as np
import pytest
import torch

from harness.checkpoints import find_upwards, load_state, read_safetensors, read_torch, strip_prefix
from harness.errors import InputError
from harness.safe_pickle import load_plain_pickle


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": Bomb(marker)}))
    with pytest.raises(InputError, match=r"refused.*(io|_io|builtins)\.open"):
        load_plain_pickle(path)
    torch.save({"a": Bomb(marker)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="nothing in it was run"):
        read_torch(tmp_path / "x.pt")
    assert not marker.exists()


def test_plain_pickles_are_read_under_both_numpy_spellings(tmp_path):
    plain = {"ENSG1": np.int16(4), "ENSG2": np.float64(2.5), "n": 3, "s": {"x"}, "l": [1, (2, None)]}
    path = tmp_path / "x.pkl"
    for protocol in range(2, 6):
        payload = pickle.dumps(plain, protocol)
        path.write_bytes(payload)
        assert load_plain_pickle(path) == plain
    old = pickle.dumps(plain, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(old)
    assert load_plain_pickle(path) == plain
    path.write_bytes(payload[:-10])
    with pytest.raises(InputError):
        load_plain_pickle(path)
    with pytest.raises(InputError, match="does not exist"):
        load_plain_pickle(tmp_path / "no.pkl")


def test_truncated_and_missing_weights(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "w.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:900])
    for reader, name in ((read_torch, "cut.pt"), (read_safetensors, "cut.pt"), (read_torch, "no.pt")):
        with pytest.raises(InputError, match=name):
            reader(tmp_path / name)


def test_partial_match_is_refused_with_the_keys():
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {
        "0.weight": torch.ones(4, 3),
        "0.bias": torch.ones(5),
        "1.weight": torch.ones(2, 4),
        "extra": torch.ones(1),
    }
    with pytest.raises(InputError) as refusal:
        load_state(network, state, "w.pt")
    text = str(refusal.value)
    for part in ("2 tensors match", "1 missing: 1.bias", "1 unexpected: extra", "0.bias is (5,), expected (4,)"):
        assert part in text
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    whole = {**before, "optimiser.step": torch.ones(1)}
    report = load_state(network, whole, "w.pt", ignore=lambda key: key.startswith("optimiser"))
    assert report.full and report.ignored == ("optimiser.step",)


def test_strip_prefix_and_find_upwards(tmp_path):
    assert strip_prefix({"module.a": 1, "module.b": 2}) == {"a": 1, "b": 2}
    assert strip_prefix({"module.a": 1, "b": 2}) == {"module.a": 1, "b": 2}
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "table.csv").write_text("")
    assert find_upwards(tmp_path / "a" / "b", "table.csv") == (tmp_path / "table.csv").resolve()
    assert find_upwards(tmp_path / "a", "none.csv") is None
