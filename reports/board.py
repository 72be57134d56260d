"""`write_report`: a directory of run records -> leaderboard.html, leaderboard.csv, verdicts.csv and scaled.csv.

Nothing heavy is imported before it is called, so that the command line stays fast.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError
from harness.results import ResultStore, atomic_path

if TYPE_CHECKING:
    from reports.ranking import Ranked

#: Rows of a board that the terminal shows.
SHORT = 12


@dataclass(frozen=True)
class Report:
    """What was written, and a short table for the terminal: the best rows of every board, text by column.

    `published` says whether released weights were run.
    """

    html: Path
    csv: Path
    summary: list[dict[str, str]]
    published: bool
    figures: tuple[Path, ...] = ()


def write_report(
    results_dir: str | Path,
    out: str | Path,
    figures: str | Path | None = None,
    findings: str | Path | None = None,
) -> Report:
    """Write the leaderboard of all records of a directory.

    Parameters
    ----------
    results_dir
        Directory of `<run_id>.json` files.
    out
        The HTML file; `leaderboard.csv`, `verdicts.csv` and `scaled.csv` go beside it.
    figures
        Directory for figures of a paper or a slide (PNG and PDF); None: none are drawn.
    findings
        A Markdown file that says in words what beats what; None: none is written.

    Raises
    ------
    InputError
        No such directory, no records in it, a file that is no record, or `out` is a directory.
    """
    results, html = Path(results_dir), Path(out)
    if not results.is_dir():
        raise InputError(f"no results directory {results}; run cellfm-bench run first, or say results=DIR")
    if html.is_dir():
        raise InputError(f"out={html} is a directory; say out=FILE.html")
    store = ResultStore(results)
    records = store.records()
    if not records:
        raise InputError(f"no run records in {results}; run cellfm-bench run first, or say results=DIR")

    from reports.artifacts import Tables
    from reports.collect import sections
    from reports.compare import judge
    from reports.html import render
    from reports.leaderboard_csv import to_csv
    from reports.ranking import columns, rank
    from reports.scaled_csv import to_csv as scaled_table
    from reports.verdicts_csv import to_csv as verdict_table

    ranked = sorted((rank(section) for section in sections(records)), key=lambda each: bool(each.planted))
    for each in ranked:
        judge(each)
    published = any(record.track == "published" and record.status == "ok" for record in records)
    page = render(ranked, records, Tables(store), published=published)
    table = to_csv((each.section, each.boards, columns(each.section)) for each in ranked)

    csv = html.with_name("leaderboard.csv")
    beside = ((csv, table), (html.with_name("verdicts.csv"), verdict_table(ranked)))
    for path, text in (*beside, (html.with_name("scaled.csv"), scaled_table(ranked)), (html, page)):
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if findings is not None:
        from reports.findings import findings as in_words

        with atomic_path(Path(findings)) as temporary:
            temporary.write_text(in_words(ranked, published=published), encoding="utf-8")
    drawn: list[Path] = []
    if figures is not None:
        from reports.figures.publication import write_figures

        drawn = write_figures(ranked, Path(figures))
    times = Counter((each.section.task, each.section.dataset) for each in ranked)
    short = [row for each in ranked for row in _summary(each, times[each.section.task, each.section.dataset] > 1)]
    return Report(html, csv, short, published, tuple(drawn))


def _summary(ranked: Ranked, several: bool) -> list[dict[str, str]]:
    """The best rows of each board; of `several` splits of a data set each is named."""
    from reports.figures.figure import column_title
    from reports.ranking import own_column
    from reports.wording import NOTHING, own_head_title, score, spread

    rows = []
    first = ranked.headline[0] if ranked.headline else None
    dataset = " · ".join([ranked.section.dataset, *([ranked.section.split] if several else [])])
    for board in ranked.boards:
        for entry in board.entries[:SHORT]:
            column = own_column(ranked.section, entry, first) if first else None
            result = entry.scores.get(column) if column else None
            note = f" ({own_head_title(column.head)})" if column and column != first else ""
            number = f"{score(result.mean)} {spread(result.sd, result.mean)}".rstrip() + note if result else NOTHING
            rows.append(
                {
                    "task": ranked.section.task,
                    "dataset": dataset + (" (planted)" if ranked.planted else ""),
                    "board": board.track,
                    "rank": str(board.rank(entry, first) or NOTHING),
                    "model": entry.label,
                    "metric": column_title(first) if first else NOTHING,
                    "mean ± sd": number if entry.runs else entry.missing[0].status,
                    "seeds": str(result.n_seeds if result else 0),
                }
            )
    return rows
