"""cellfm-bench new-model NAME

  cellfm-bench new-model my_net

Write a model of your own into this checkout: models/NAME/ (adapter, tokenizer, network, card), conf/model/NAME.yaml and
tests/models/test_NAME.py. What is written is a small model that works: it passes `check`, trains in track=scratch and
gets on the board; replace its parts by yours. Nothing that is there is ever overwritten.

Where cellfm-bench is installed and no checkout, make the model a package of its own: see models/README.md.
"""

from __future__ import annotations

from harness.errors import InputError


def main(arguments: list[str]) -> int:
    """Write it, say what was written and what comes next."""
    if len(arguments) != 1:
        raise InputError("new-model NAME: one name is expected, of lower-case letters, digits and _")
    from harness.registry import ROOT
    from harness.scaffold import create

    [name] = arguments
    written = create("model", name)
    print(f"written in {ROOT}:")
    print("\n".join(f"  {path.relative_to(ROOT)}" for path in written))
    print("next:")
    print(f"  cellfm-bench check {name}")
    print(f"  cellfm-bench run model={name} track=scratch task=annotation dataset=pbmc68k")
    print("  cellfm-bench report")
    print("Raise `spec.version` whenever a number changes: finished runs are found again by it, not by the code.")
    return 0
