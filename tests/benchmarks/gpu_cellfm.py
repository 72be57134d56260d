"""How well CellFM's PyTorch network uses a machine: random weights, inference and training steps, one JSON file.

python -m tests.benchmarks.gpu_cellfm --device cuda --size 800m --precision bf16 --out reports/measurements/NAME.json

The speed that counts is a share: products of the network per second, by the formula in the file, over what the same
machine reaches in one large matrix product of the same precision. Everything else that takes time (norms, gates, masks,
copies, the optimiser) lowers it, and so does recomputation, which is no work of its own here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import GeneTable, TokenBatch
from harness.devices import resolve_device
from harness.embedding import BATCH_TOKENS, autocast
from harness.provenance import CostMeter, git_commit, hardware, versions
from harness.recipe import Recipe
from models.cellfm.adapter import CellFM
from models.cellfm.config import CellFMConfig

#: Size -> genes of the vocabulary, and expressed genes of a cell.
GENES = {"tiny": (2_000, 512), "80m": (27_855, 2_048), "800m": (24_078, 2_048)}
#: Edges of the square products whose best speed is the ceiling.
EDGES = {"cpu": (1024, 2048), "cuda": (4096, 8192, 16384), "npu": (4096, 8192, 16384)}

FORMULA = (
    "Floating-point operations of the matrix products, 2 per multiplication and addition, with t tokens (genes and "
    "CLS), g genes, c cells, n layers, width d, heads of width h. Inference: n t (16 d² + 4 d h): five projections of "
    "the attention and three of the gated unit, K'V and Q(K'V). CLS only: of the last layer t (4 d² + 2 d h) + "
    "c (12 d² + 2 d h). Training: 3 times [n t (16 d² + 4 d h) + g (4 d² + 4 d)], the backward pass counting twice the "
    "forward pass, with both decoders. Not counted: value encoder (its distinct values are few), norms, gates, "
    "optimiser, recomputation."
)
RATIO = (
    "share_of_ceiling = tflops / ceiling.tflops: which part of the time this machine would need for the network's "
    "products alone, at the speed it reaches in one large product of the same precision."
)


def forward_flops(config: CellFMConfig, cells: int, genes: int, *, cls_only: bool = False) -> float:
    """Operations of an embedding, by `FORMULA`."""
    d, h, tokens = config.width, config.width // config.heads, cells * (genes + 1)
    layer = tokens * (16 * d**2 + 4 * d * h)
    if cls_only:
        last = tokens * (4 * d**2 + 2 * d * h) + cells * (12 * d**2 + 2 * d * h)
        return float((config.layers - 1) * layer + last)
    return float(config.layers * layer)


def training_flops(config: CellFMConfig, cells: int, genes: int) -> float:
    """Operations of a training step, by `FORMULA`."""
    d = config.width
    return 3 * (forward_flops(config, cells, genes) + cells * genes * (4 * d**2 + 4 * d))


def fresh(size: str, device: str, precision: str) -> CellFM:
    """A network with random weights."""
    names = [f"G{i}" for i in range(GENES[size][0])]
    return CellFM.from_scratch(GeneTable.from_names(names), size=size, seed=0).to(device, precision)


def random_cells(model: CellFM, cells: int, genes: int) -> TokenBatch:
    """Cells with `genes` expressed genes each, small counts, log-normalised."""
    rng = np.random.default_rng(0)
    ids = rng.random((cells, model.config.n_genes)).argpartition(genes - 1, axis=1)[:, :genes] + 1
    counts = rng.geometric(0.3, (cells, genes))
    values = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32)
    return TokenBatch(ids.astype(np.int64), values, np.ones(ids.shape, bool))


def timed(run: Callable[[], Any], device: str, *, warm_up: int, repeats: int) -> dict[str, Any]:
    """Seconds of each repeat after the warm-up, their median, and peak memory."""
    kind = device.split(":")[0]
    finish = getattr(torch, kind).synchronize if kind != "cpu" else lambda: None
    seconds = []
    with CostMeter() as cost:
        for repeat in range(warm_up + repeats):
            finish()
            start = time.perf_counter()
            run()
            finish()
            if repeat >= warm_up:
                seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "peak_gpu_mb": cost.peak_gpu_mb if kind == "cuda" else None,
        "peak_rss_mb": round(cost.peak_rss_mb, 1),
    }


def ceiling(device: str, precision: str, edges: tuple[int, ...] | None = None, repeats: int = 5) -> dict[str, Any]:
    """The best speed of a square matrix product, TFLOP/s."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    best: dict[str, Any] = {"tflops": 0.0}
    for edge in edges or EDGES[device.split(":")[0]]:
        a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
        measured = timed(lambda a=a, b=b: a @ b, device, warm_up=2, repeats=repeats)
        seconds = min(measured["all_seconds"])  # the best one: a ceiling must not sink while others use the machine
        best = max(best, {"tflops": 2 * edge**3 / seconds / 1e12, "edge": edge, "seconds": seconds}, key=_tflops)
    return best


def _tflops(measured: dict[str, Any]) -> float:
    return measured["tflops"]


def speed(measured: dict[str, Any], flops: float, cells: int, genes: int) -> dict[str, Any]:
    """The measured seconds with what follows from them."""
    return {
        "cells": cells,
        "genes_per_cell": genes,
        "cells_per_s": cells / measured["seconds"],
        "tokens_per_s": cells * (genes + 1) / measured["seconds"],
        "flops": flops,
        "tflops": flops / measured["seconds"] / 1e12,
        **measured,
    }


def measure(
    size: str,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    cells: int | None = None,
    train_cells: int | None = None,
    genes: int | None = None,
    recompute: bool = False,
    compiled: bool = False,
    warm_up: int = 2,
    repeats: int = 5,
    edges: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Everything in one dictionary; see the options of the command."""
    device = resolve_device(device)
    kind = device.split(":")[0]
    genes = genes or GENES[size][1]
    cells = cells or max(1, BATCH_TOKENS[kind] // (genes + 1))
    train_cells = train_cells or max(1, cells // 4)
    top = ceiling(device, precision, edges)
    model = fresh(size, device, precision)
    if compiled:
        for layer in model.network.encoder:
            layer.compile()
    batch = random_cells(model, cells, genes).tensors(device)
    arguments = (batch.gene_ids, batch.values, batch.mask)

    def inferred(run: Callable[..., Any], cls_only: bool) -> dict[str, Any]:
        with torch.inference_mode(), autocast(model):
            seconds = timed(lambda: run(*arguments), device, warm_up=warm_up, repeats=repeats)
        return speed(seconds, forward_flops(model.config, cells, genes, cls_only=cls_only), cells, genes)

    inference, cls_only = inferred(model.network.embed, False), inferred(model.network.embed_cls, True)
    batch, generator = random_cells(model, train_cells, genes), torch.Generator().manual_seed(0)
    with model.learner(Recipe(recompute=recompute)) as learner:
        seconds = timed(lambda: learner.step(batch, generator, 1e-4), device, warm_up=warm_up, repeats=repeats)
    training = speed(seconds, training_flops(model.config, train_cells, genes), train_cells, genes)
    top = max(top, ceiling(device, precision, edges), key=_tflops)  # before and after: the better one
    for measured in (inference, cls_only, training):
        measured["share_of_ceiling"] = measured["tflops"] / top["tflops"]
    about = hardware()
    return {
        "what": "CellFM in PyTorch, random weights, fixed number of genes per cell",
        "formula": FORMULA,
        "ratio": RATIO,
        "size": size,
        "layers": model.config.layers,
        "width": model.config.width,
        "heads": model.config.heads,
        "n_params": model.n_params,
        "device": device,
        "precision": precision,
        "compiled": compiled,
        "machine": about,
        "gpu": about.get("gpu") if kind == "cuda" else None,
        "note": None if kind != "cpu" else "measured on a CPU; no figure of a GPU or NPU is in this file",
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "versions": {name: versions()[name] for name in ("python", "torch", "numpy")},
        "git_commit": git_commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "warm_up": warm_up,
        "repeats": repeats,
        "ceiling": top,
        "inference": inference,
        "inference_cls_only": cls_only,
        "training": {"optimizer": "adamw", "recompute": recompute, **training},
    }


def main() -> None:
    """Measure as the arguments say, print a summary, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or npu")
    parser.add_argument("--size", default="tiny", choices=list(GENES))
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--cells", type=int, help="cells of an inference batch; by default as many as the engine takes")
    parser.add_argument("--train-cells", type=int, help="cells of a training step; by default a quarter of these")
    parser.add_argument("--genes", type=int, help="expressed genes of a cell; by default 512 (tiny) or 2,048")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing in the training step")
    parser.add_argument("--compile", dest="compiled", action="store_true", help="torch.compile each layer")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    options = vars(parser.parse_args())
    out = options.pop("out")
    result = measure(**options)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"ceiling {result['ceiling']['tflops']:.3g} TFLOP/s")
    for way in ("inference", "inference_cls_only", "training"):
        m = result[way]
        print(
            f"{way:<20} {m['cells_per_s']:.3g} cells/s  {m['tokens_per_s']:.4g} tokens/s  {m['tflops']:.3g} TFLOP/s  "
            f"{m['share_of_ceiling']:.0%} of the ceiling  peak {m['peak_gpu_mb'] or m['peak_rss_mb']:.0f} MB"
        )


if __name__ == "__main__":
    main()
