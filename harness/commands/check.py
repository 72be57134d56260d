"""cellfm-bench check MODEL [model.checkpoint=PATH] [model.variant=NAME] [model.KEY=VALUE …]

  cellfm-bench check scgpt
  cellfm-bench check scgpt model.checkpoint=scGPT_human
  cellfm-bench check all

Prove an adapter right: shapes, row order, independence of batch, chunk, padding and companions, storage, empty cells,
determinism, saving and loading, gradients, and that what it declares is true. Without a checkpoint a tiny network of
random weights over made genes is put to the test. `all` takes every registered model.

Exit code 0: everything holds (declared failures aside); 1: something does not.
"""

from __future__ import annotations

from typing import Any

from harness.errors import InputError, one_line
from harness.registry import MODELS


def main(arguments: list[str]) -> int:
    """Run the checks, a line as each ends."""
    if not arguments or "=" in arguments[0]:
        raise InputError(f"check which model? One of {', '.join(MODELS.names())}, or all")
    name, *rest = arguments
    settings: dict[str, Any] = {}
    for argument in rest:
        key, equals, value = argument.partition("=")
        if not equals or not key.startswith("model."):
            raise InputError(f"{argument!r}: expected model.checkpoint=PATH, model.variant=NAME or model.KEY=VALUE")
        settings[key.removeprefix("model.")] = _value(value)
    if name == "all":
        if settings:
            raise InputError("check all takes no settings; check one model by name")
        return max(map(_check_one_of_all, MODELS.names()))
    return _check(MODELS.check(name), settings)


def _check_one_of_all(name: str) -> int:
    """Its checks; a model that cannot be made is said, and the others go on."""
    try:
        return _check(name, {})
    except Exception as error:  # a broken module of one model hurts no other
        print(f"  fail  {one_line(error)}")
        return 1


def _value(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def _check(name: str, settings: dict[str, Any]) -> int:
    from harness.checks import CheckResult, exit_code, report_lines, run_checks

    print(f"{name}:")

    def show(result: CheckResult) -> None:
        print(f"  {report_lines([result])[0]}", flush=True)

    options = {k: v for k, v in settings.items() if k not in ("checkpoint", "variant")}
    results = run_checks(
        MODELS.get(name),
        checkpoint=settings.get("checkpoint"),
        variant=settings.get("variant"),
        options=options or None,
        on_result=show,
        name=name,
    )
    print(f"  {report_lines(results)[-1]}")
    return exit_code(results)
