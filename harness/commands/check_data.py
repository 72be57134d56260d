"""cellfm-bench check-data FILE [--json] [gene_ids=auto|index|COLUMN] [checkpoints=ROOT]

  cellfm-bench check-data cells.h5ad
  cellfm-bench check-data filtered_feature_bc_matrix/ --json

Is a file fit, and for what? Looks at an .h5ad, a .zarr, a 10x .h5 or a 10x folder without any weights: where raw
counts are and what the other matrices hold, gene ids and organism, duplicates, empty cells, which obs columns may be
cell type, batch, donor and condition, and which tasks can run. Where weights are here (checkpoints=, or
CELLFM_BENCH_CHECKPOINTS), also what share of the genes each model knows; reading those takes as long as loading them.

Exit code 0: at least its cells can be embedded; 2: nothing can run, or it is no file of cells.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.commands.arguments import parse
from harness.errors import InputError
from harness.places import CHECKPOINTS


def main(arguments: list[str]) -> int:
    """Look, and say what was found."""
    as_json = "--json" in arguments
    rest = [argument for argument in arguments if argument != "--json"]
    files = [argument for argument in rest if "=" not in argument or Path(argument).exists()]
    settings = [argument for argument in rest if argument not in files]
    if len(files) != 1:
        raise InputError("check-data which file? check-data FILE [--json] [gene_ids=COLUMN] [checkpoints=ROOT]")
    given = parse(settings, {"gene_ids": "auto", "checkpoints": os.environ.get(CHECKPOINTS)})
    path = Path(files[0]).expanduser()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")

    from harness.inspection.text import lines
    from harness.inspection.verdict import inspect

    root = Path(given["checkpoints"]).expanduser() if given["checkpoints"] else None
    if root is not None and not root.is_dir():
        raise InputError(f"checkpoints={root}: no such directory")
    verdict = inspect(path, gene_ids=str(given["gene_ids"]), checkpoints=root)
    print(json.dumps(verdict.as_dict(), indent=1) if as_json else "\n".join(lines(verdict)))
    return 0 if verdict.fit else 2
