"""cellfm-bench fetch model|dataset NAME [--accept-licence] [--to DIR] [--plan]

  cellfm-bench fetch model cellfm-80m --plan
  cellfm-bench fetch model geneformer --to /data/geneformer

Download released weights, or a data set, from where its authors put it. What arrives is verified; an interrupted
download goes on where it stopped when the same command is typed again; files put in place by hand are verified too.

NAME is a model (cellfm: its default variant), a variant (cellfm-80m) or a data set: see `cellfm-bench list models`
and `cellfm-bench list datasets`.

  --accept-licence   accept the terms that are shown; only some weights and data sets ask for it
  --to DIR           put the files here. Default: CELLFM_BENCH_CHECKPOINTS/MODEL, CELLFM_BENCH_DATA/NAME, or
                     ~/.cache/cellfm-bench/. That is also where checkpoints= and dataset=NAME look
  --plan             only say what would be downloaded, and what it takes to use it; needs no network
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from harness.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; expected: fetch model|dataset NAME [--accept-licence] [--to DIR] [--plan]")


def main(arguments: list[str]) -> int:
    """Fetch, or say what would be fetched."""
    from harness import fetch
    from harness.cards import find_card
    from harness.places import DATA_SCHEME, checkpoints_root, data_root

    parser = _Parser(prog="cellfm-bench fetch", add_help=False)
    parser.add_argument("kind", choices=("model", "dataset"))
    parser.add_argument("name")
    parser.add_argument("--accept-licence", "--accept-license", action="store_true", dest="accept")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--plan", action="store_true")
    given = parser.parse_args(arguments)
    card = find_card(given.kind, given.name)
    root = checkpoints_root() if given.kind == "model" else data_root()
    folder = given.to.expanduser() if given.to else root / card.folder
    if given.plan:
        from harness.plan import plan_lines

        print("\n".join(plan_lines(card, folder)))
        return 0
    inside = str(card.facts.get("path") or "").removeprefix(f"{DATA_SCHEME}{card.folder}/")
    if not card.files and inside:
        print(f"{card.name}: nothing to download, it is part of what is installed; use it: dataset={card.name}")
        return 0
    fetch.fetch(card, folder, accept_licence=given.accept)
    print(f"in {folder}")
    if given.kind == "model":
        where = f"model.checkpoint={folder}" if given.to else f"checkpoints={root}"
        print(f"run it: cellfm-bench run model={card.owner} task=annotation {where}")
    elif inside:
        print(
            f"use it: {f'dataset={card.name} dataset.path={folder / inside}' if given.to else f'dataset={card.name}'}"
        )
    return 0
