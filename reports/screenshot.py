"""Pictures of a leaderboard by Debian's chromium: `python -m reports.screenshot BOARD.html FOLDER`.

The top of the page at desktop and phone width, light and dark: `desktop-light.png` and three more.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: Width and height of what is seen, in CSS pixels, and device pixels to each.
SCREENS = {"desktop": (1280, 1400, 1), "phone": (390, 844, 2)}
SCHEMES = ("light", "dark")

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


def screenshots(board: Path, folder: Path) -> list[Path]:
    """Write the pictures of a page as PNG, and give where they are."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        for screen, (width, height, density) in SCREENS.items():
            for scheme in SCHEMES:
                page = browser.new_page(
                    viewport={"width": width, "height": height}, device_scale_factor=density, color_scheme=scheme
                )
                page.goto(board.resolve().as_uri())
                page.wait_for_function("!document.querySelector('script[data-packed]')")
                written.append(folder / f"{screen}-{scheme}.png")
                page.screenshot(path=written[-1])
                page.close()
        browser.close()
    return written


if __name__ == "__main__":
    source, target = sys.argv[1:]
    for picture in screenshots(Path(source), Path(target)):
        print(picture)
