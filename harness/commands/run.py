"""cellfm-bench run [-m] key=value …

One run, or with -m a grid over every key that holds a comma-separated list.

  cellfm-bench run model=pca task=annotation dataset=pbmc68k seed=0
  cellfm-bench run model=scgpt model.checkpoint=DIR task=annotation dataset.path=cells.h5ad dataset.cell_type=COLUMN
  cellfm-bench run -m model=hvg,pca,cellfm track=scratch task=annotation,integration seed=0,1,2
  cellfm-bench run -m experiment=demo
  cellfm-bench run -m experiment=annotation_real size=small hydra/launcher=joblib hydra.launcher.n_jobs=2

Keys: model task dataset track=published|scratch|untrained seed device=auto|cpu|cuda|npu precision=fp32|bf16
      checkpoints=ROOT results=DIR (default outputs/results) cache=DIR hydra/launcher=joblib|ray|submitit_slurm
      and every key of conf/: model.* task.* dataset.* corpus.*
The same command again computes only what is missing or has changed.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Run; 0, or 1 when a run of a grid failed."""
    from harness.grid import run_grid, run_one

    multirun = [a for a in arguments if a in ("-m", "--multirun")]
    overrides = [a for a in arguments if a not in ("-m", "--multirun")]
    if multirun:
        return run_grid(overrides)
    return 0 if run_one(overrides).status in ("ok", "not-applicable") else 1
