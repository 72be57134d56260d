"""CellFM trained by two MindSpore processes, as msrun starts them: the curve of one with twice the batch."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from harness.data import CellData
from harness.training import pretrain
from models.cellfm.adapter import CellFM
from tests.conftest import ROOT, make_cells

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mindspore") is None, reason="pip install 'cellfm-bench[mindspore]'"),
]

TOKENS = 5 * 16 * 26


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    cells = make_cells(64, 40)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    command = [sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"]
    command += [f"--master_port={free_port()}", f"--log_dir={tmp_path}/log", "--join=True", "python", "-m", "harness"]
    command += ["pretrain", "model=cellfm", "model.backend=mindspore", "model.dropout=0", "device=cpu", "seed=3"]
    command += [f"corpus.path={tmp_path}/cells.h5ad", f"corpus.tokens={TOKENS}", "corpus.batch_cells=8", "out=out"]
    python = Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    about = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert about["processes"] == 2
    data = CellData.of(cells)
    one = CellFM.from_scratch(data.genes, seed=3, dropout=0.0)
    log = pretrain(one, data, tokens=TOKENS, batch_cells=16, seed=3)
    assert len(log.losses) >= 4
    assert_allclose(about["losses"][0], log.losses[0], rtol=1e-5)
    assert_allclose(about["losses"], log.losses, rtol=1e-3)
    back = CellFM.from_checkpoint(tmp_path / "out")
    assert_allclose(back.embed_cells(cells), one.embed_cells(cells), atol=0.02)
