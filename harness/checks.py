"""Conformance: what every model must keep, registered models above all. `cellfm-bench check MODEL` runs this.

A model is under test by being registered. What it is known not to keep it declares, with the reason, in
`spec.expected_failures`; a declared failure that no longer fails is a failure.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.conformance import declared, reproducible, rows, weights
from harness.conformance import input as inputs
from harness.conformance.trial import CheckFailedError, Trial
from harness.errors import NotApplicableError, one_line

Status = Literal["pass", "fail", "expected-failure", "not-applicable"]

#: Every check by name, in the order in which they run. The docstring of each says what is checked.
CHECKS: dict[str, Callable[[Trial], None]] = {
    "spec": declared.check_spec,
    "shape": rows.check_shape,
    "row-order": rows.check_row_order,
    "batch-size": rows.check_batch_size,
    "chunking": rows.check_chunking,
    "companions": rows.check_companions,
    "padding": rows.check_padding,
    "masked-rows": rows.check_masked_rows,
    "unknown-genes": rows.check_unknown_genes,
    "unknown-counts": rows.check_unknown_counts,
    "gene-order": rows.check_gene_order,
    "storage": inputs.check_storage,
    "dtype": inputs.check_dtype,
    "empty-cells": inputs.check_empty_cells,
    "input-untouched": inputs.check_input_untouched,
    "bad-values": inputs.check_bad_values,
    "foreign-genes": inputs.check_foreign_genes,
    "duplicate-genes": inputs.check_duplicate_genes,
    "global-generators": reproducible.check_global_generators,
    "threads": reproducible.check_threads,
    "processes": reproducible.check_processes,
    "draws": declared.check_draws,
    "tokens": declared.check_tokens,
    "forward": declared.check_forward,
    "readouts": declared.check_readouts,
    "gene-table": declared.check_gene_table,
    "token-level": declared.check_token_level,
    "lora-targets": declared.check_lora_targets,
    "frozen": weights.check_frozen,
    "seeds": weights.check_seeds,
    "save-load": weights.check_save_load,
    "partial-weights": weights.check_partial_weights,
    "truncated-weights": weights.check_truncated_weights,
    "gradients": weights.check_gradients,
    "loss-parts": weights.check_loss_parts,
}


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check: what was seen, if it did not pass, and how long it took."""

    name: str
    status: Status
    message: str
    seconds: float


def run_check(name: str, trial: Trial) -> CheckResult:
    """One check of one model."""
    start = time.perf_counter()
    status, message = _outcome(CHECKS[name], trial)
    reason = trial.spec.expected_failures.get(name)
    if reason and status == "fail":
        status, message = "expected-failure", f"{reason} ({message})"
    elif reason and status == "pass":
        status = "fail"
        message = f"declared as an expected failure ({reason}), but it passes: remove it from expected_failures"
    return CheckResult(name, status, message, time.perf_counter() - start)


def _outcome(check: Callable[[Trial], None], trial: Trial) -> tuple[Status, str]:
    with _quiet():
        try:
            check(trial)
        except CheckFailedError as failure:
            return "fail", one_line(failure)
        except NotApplicableError as reason:
            return "not-applicable", one_line(reason)
        except Exception as error:
            return "fail", f"raised {type(error).__name__}: {one_line(error)}"
    return "pass", ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Empty cells and unknown genes are made on purpose here; nobody needs a warning of them."""
    logger = logging.getLogger("harness")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def run_checks(
    cls: Any,
    *,
    checkpoint: str | Path | None = None,
    variant: str | None = None,
    options: dict[str, Any] | None = None,
    only: Iterable[str] | None = None,
    on_result: Callable[[CheckResult], None] = lambda result: None,
    name: str | None = None,
) -> list[CheckResult]:
    """All checks of one model.

    Parameters
    ----------
    cls
        Its registered class.
    checkpoint, variant, options
        Release files to test with, and arguments of the model's own; by default a tiny network over made genes.
    only
        Names of the checks to run; all by default.
    on_result
        Called with each result as it comes.
    name
        The name the class is registered under; None: `spec.name`.

    Raises
    ------
    InputError
        The checkpoint cannot be read, or the model can be made from a checkpoint only and none is given.
    """
    trial = Trial(cls, checkpoint=checkpoint, variant=variant, options=options, name=name)
    if trial.spec.kind != "predictor" and not trial.spec.reads_labels:
        with _quiet():
            trial.model  # noqa: B018  (what keeps it from being made is the user's to know, not a failed check)
    results = []
    for check in CHECKS if only is None else only:
        results.append(run_check(check, trial))
        on_result(results[-1])
    return results


def exit_code(results: Iterable[CheckResult]) -> int:
    """0 if nothing failed, else 1."""
    return int(any(result.status == "fail" for result in results))


def report_lines(results: Iterable[CheckResult]) -> list[str]:
    """A plain-text table, a line per check, and the totals."""
    results = list(results)
    width = max((len(result.name) for result in results), default=0)
    lines = [
        f"{result.status:<16}  {result.name:<{width}}  {result.seconds:6.2f} s  {result.message}".rstrip()
        for result in results
    ]
    totals = Counter(result.status for result in results)
    order: tuple[Status, ...] = ("pass", "fail", "expected-failure", "not-applicable")
    return [*lines, ", ".join(f"{totals[status]} {status}" for status in order if totals[status])]
