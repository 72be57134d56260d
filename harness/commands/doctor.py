"""cellfm-bench doctor

  cellfm-bench doctor        (no options)

Is this installation sound: Python, packages and versions, devices, memory, that every model and task imports.
"""

from __future__ import annotations

from harness.commands.list import print_table
from harness.errors import one_line
from harness.provenance import hardware, versions
from harness.registry import MODELS, ROOT, TASKS


def main(arguments: list[str]) -> int:
    """Print what was found; 1 when something is broken."""
    rows: list[tuple[str, ...]] = [("what", "found")]
    rows += [(name, version) for name, version in versions().items()]
    rows += [(name, str(value)) for name, value in hardware().items()]
    rows.append(("installed in", str(ROOT)))
    broken = 0
    try:
        from harness.devices import resolve_device

        rows.append(("device=auto", resolve_device("auto")))
    except Exception as error:
        broken += 1
        rows.append(("torch", f"BROKEN: {one_line(error)}"))
    for registry in (MODELS, TASKS):
        for name in registry.names():
            try:
                registry.get(name)
                rows.append((f"{registry.kind} {name}", "imports"))
            except Exception as error:
                broken += 1
                rows.append((f"{registry.kind} {name}", f"BROKEN: {one_line(error)}"))
    print_table(rows)
    print("\nsound" if not broken else f"\n{broken} broken")
    return 1 if broken else 0
