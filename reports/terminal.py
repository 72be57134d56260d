"""The first lines of a board, for the terminal."""

from __future__ import annotations

from reports.board import Report


def print_summary(report: Report) -> None:
    """Print the best rows of every board, and the sentence about unreleased weights where it holds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from reports.wording import UNRELEASED

    console = Console()
    titles: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for line in report.summary:
        titles.setdefault((line["task"], line["dataset"], line["board"]), []).append(line)
    for (task, dataset, board), lines in titles.items():
        title = Text(f"{task} · {dataset} · {board}", style="bold")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        table.add_column("#", justify="right")
        table.add_column("model", overflow="fold")
        table.add_column(lines[0]["metric"], justify="right", no_wrap=True)
        table.add_column("seeds", justify="right")
        for line in lines:
            table.add_row(*(Text(line[name]) for name in ("rank", "model", "mean ± sd", "seeds")))
        console.print(table)
        console.print()
    if not report.published:
        console.print(Text(UNRELEASED[0].upper() + UNRELEASED[1:] + ".", style="yellow"))
