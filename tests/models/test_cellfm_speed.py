"""The speed script runs on a CPU, tiny, and its counts of operations are those of the network."""

import json
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import gpu_cellfm as script


@pytest.fixture(scope="module")
def model():
    return script.fresh("tiny", "cpu", "fp32")


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_cells_have_the_genes_asked_for(model):
    batch = script.random_cells(model, 3, 50)
    assert batch.gene_ids.shape == (3, 50) and batch.mask.all() and (batch.values > 0).all()
    assert all(len(set(row)) == 50 for row in batch.gene_ids.tolist())
    assert batch.gene_ids.min() >= 1 and batch.gene_ids.max() <= model.config.n_genes


def test_the_formula_counts_what_torch_counts(model):
    """Apart from the value encoder, which the formula leaves out."""
    cells, genes = 4, 300
    batch = script.random_cells(model, cells, genes).tensors()
    arguments = (batch.gene_ids, batch.values, batch.mask)
    with torch.inference_mode():
        encoder = counted(lambda: model.network.value_enc(batch.values))
        whole = counted(lambda: model.network.embed(*arguments)) - encoder
        cls_only = counted(lambda: model.network.embed_cls(*arguments)) - encoder
        cell, vectors = model.network.embed(*arguments)
        decoders = counted(lambda: model.network.decode(cell, vectors, batch.gene_ids))
    assert script.forward_flops(model.config, cells, genes) == whole
    assert script.forward_flops(model.config, cells, genes, cls_only=True) == cls_only
    assert script.training_flops(model.config, cells, genes) == 3 * (whole + decoders)


def test_command(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "speed.json"
    numbers = {"cells": 2, "train-cells": 2, "genes": 40, "warm-up": 1, "repeats": 2}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    monkeypatch.setattr(sys, "argv", ["gpu_cellfm", "--device=cpu", *options, "--recompute", f"--out={out}"])
    monkeypatch.setattr(script, "EDGES", {"cpu": (64,)})
    script.main()
    result = json.loads(out.read_text())
    assert result["gpu"] is None and result["device"] == "cpu" and result["size"] == "tiny"
    assert result["training"]["recompute"] is True and "CPU" in result["note"]
    for way in ("inference", "inference_cls_only", "training"):
        measured = result[way]
        assert len(measured["all_seconds"]) == 2 and measured["seconds"] > 0
        assert measured["tokens_per_s"] == pytest.approx(measured["cells_per_s"] * 41)
        assert measured["share_of_ceiling"] == pytest.approx(measured["tflops"] / result["ceiling"]["tflops"])
        assert measured["peak_rss_mb"] > 0 and measured["peak_gpu_mb"] is None
    assert "of the ceiling" in capsys.readouterr().out


def test_lower_precision():
    result = script.measure("tiny", "cpu", "bf16", cells=2, train_cells=1, genes=30, warm_up=0, repeats=1, edges=(64,))
    assert result["precision"] == "bf16" and result["training"]["tflops"] > 0
