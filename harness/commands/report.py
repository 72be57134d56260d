"""cellfm-bench report [results=DIR] [out=leaderboard.html] [figures=DIR] [findings=FILE.md]

  cellfm-bench report                                             of outputs/results
  cellfm-bench report results=mine/results out=mine.html findings=FINDINGS.md

The leaderboard of all results of a directory (default outputs/results): one HTML file that needs no network, with
leaderboard.csv and verdicts.csv (paired differences) beside it. By default they go beside the results directory.
figures=DIR also draws each task's board as PNG and PDF, for a paper or a slide. findings=FILE.md
says in words what beats what, with intervals, what the controls say and what the data cannot decide.
"""

from __future__ import annotations

from pathlib import Path

from harness.commands.arguments import parse
from harness.errors import InputError
from harness.registry import load_object


def main(arguments: list[str]) -> int:
    """Write the report, print where it is and its first lines."""
    given = parse(arguments, {"results": "outputs/results", "out": None, "figures": None, "findings": None})
    results = Path(str(given["results"]))
    if not results.is_dir():
        raise InputError(f"results={results}: no such directory; `cellfm-bench run` writes one")
    out = Path(given["out"]) if given["out"] else results.parent / "leaderboard.html"
    report = load_object("reports.board:write_report")(results, out, given["figures"], given["findings"])
    load_object("reports.terminal:print_summary")(report)
    for path in report.figures:
        print(path)
    print(f"\n{report.html.resolve()}")
    return 0
