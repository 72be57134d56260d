"""A picture of a leaderboard by chromium: `python -m reports.screenshot BOARD.html OUT.png [WIDTH HEIGHT]`."""

from __future__ import annotations

import sys
from pathlib import Path

#: Headless as root, without any attempt at the network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def screenshot(board: Path, out: Path, width: int = 1280, height: int = 1400, scheme: str = "light") -> None:
    """Write the top of a page as PNG; `scheme` is `light` or `dark`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(board.resolve().as_uri())
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    source, target, *size = sys.argv[1:]
    screenshot(Path(source), Path(target), *map(int, size))
