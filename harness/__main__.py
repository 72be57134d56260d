"""`cellfm-bench`: the command line.

Nothing heavy is imported before a command is known; `--help` and `list` answer at once.
"""

from __future__ import annotations

import sys

USAGE = """\
cellfm-bench: which single-cell foundation model for my task and data, and does it beat a simple baseline?

  cellfm-bench run    model=pca task=annotation dataset=pbmc68k seed=0      one run
  cellfm-bench run -m model=hvg,pca,cellfm track=scratch task=annotation,integration seed=0,1,2
                                                                            a grid; only what is missing is computed
  cellfm-bench report [results=DIR] [out=leaderboard.html]                  the leaderboard of all results
  cellfm-bench embed  model=scgpt model.checkpoint=DIR dataset.path=cells.h5ad out=emb.npz [level=cell|gene|token]
  cellfm-bench pretrain model=cellfm corpus.path=FILE|DIR model.size=tiny out=DIR     a checkpoint of your own
  cellfm-bench list   models|datasets|tasks|results                         what there is, and whether it is here
  cellfm-bench fetch  model|dataset NAME [--accept-licence] [--to DIR] [--plan]     weights and data, verified
  cellfm-bench check-data FILE [--json]                                     is my file fit, and for what?
  cellfm-bench check  MODEL [model.checkpoint=DIR]                          prove an adapter right
  cellfm-bench new-model|new-task NAME                                      a model or task of your own, to fill in
  cellfm-bench showcase [size=small|full] data=DIR                          five experiments on real cells, their board
  cellfm-bench doctor                                                       is this installation sound?

Your own cells: dataset.path=FILE.h5ad dataset.cell_type=COLUMN [dataset.batch=COLUMN]
Released weights: model.checkpoint=DIR, or checkpoints=ROOT with one folder per model.
`cellfm-bench COMMAND --help` says more. Exit code 0: done; 2: your input is wrong, one line says how; 1: our fault,
or a grid with failed runs."""

COMMANDS = {
    "run": "harness.commands.run",
    "report": "harness.commands.report",
    "embed": "harness.commands.embed",
    "pretrain": "harness.commands.pretrain",
    "list": "harness.commands.list",
    "fetch": "harness.commands.fetch",
    "check-data": "harness.commands.check_data",
    "check": "harness.commands.check",
    "new-model": "harness.commands.new_model",
    "new-task": "harness.commands.new_task",
    "showcase": "harness.commands.showcase",
    "doctor": "harness.commands.doctor",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if arguments[0] == "--version":
        from harness import __version__

        print(f"cellfm-bench {__version__}")
        return 0
    command, *rest = arguments
    from harness.errors import InputError, InternalError, one_line

    try:
        if command not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"unknown command {command!r}; {hint}known: {', '.join(COMMANDS)}")
        import importlib

        module = importlib.import_module(COMMANDS[command])
        if rest and rest[0] in ("-h", "--help"):
            print((module.__doc__ or "").strip())
            return 0
        _quiet()
        return int(module.main(rest))
    except InputError as error:
        print(f"cellfm-bench: {one_line(error)}", file=sys.stderr)
        return 2
    except InternalError as error:
        print(f"cellfm-bench: internal error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cellfm-bench: stopped; finished runs are kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _quiet() -> None:
    """Our own warnings as plain lines; those of libraries about themselves are not the user's business."""
    import logging
    import os
    import warnings

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("jax", "jaxlib", "absl", "numba", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # jax would take most of a GPU's memory for itself, and its metrics need none of it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # Threads that wait by spinning make a shared machine ten times slower; these sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
