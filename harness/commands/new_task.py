"""cellfm-bench new-task NAME

  cellfm-bench new-task purity

Write a task of your own into this checkout: tasks/NAME/protocol.py, conf/task/NAME.yaml and tests/tasks/test_NAME.py.
What is written is a small task that works: it scores each cell type, has a floor and a ceiling, and gets on the board;
replace its question by yours. Nothing that is there is ever overwritten.

Where cellfm-bench is installed and no checkout, make the task a package of its own: see tasks/README.md.
"""

from __future__ import annotations

from harness.errors import InputError


def main(arguments: list[str]) -> int:
    """Write it, say what was written and what comes next."""
    if len(arguments) != 1:
        raise InputError("new-task NAME: one name is expected, of lower-case letters, digits and _")
    from harness.registry import ROOT
    from harness.scaffold import create

    [name] = arguments
    written = create("task", name)
    print(f"written in {ROOT}:")
    print("\n".join(f"  {path.relative_to(ROOT)}" for path in written))
    print("next:")
    print(f"  python -m pytest tests/tasks/test_{name}.py")
    print(
        f"  cellfm-bench run -m task={name} model=hvg,pca,random_embedding,perfect_embedding dataset=pbmc68k seed=0,1,2"
    )
    print("  cellfm-bench report")
    print("Raise `version` whenever a number changes: finished runs are found again by it, not by the code.")
    return 0
