"""Heat map as SVG: the number in every cell, the shade behind it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from reports.figures.svg import marker, picture, shorten, tag, text, text_width

#: What is the same in every cell is said once, in style.css (`.heat rect`: CELL - 2 by ROW - 2).
CELL, ROW, NAME = 36.0, 25.0, 134.0
#: Longest column head, in pixels along the slant.
HEAD = 140.0
#: Shade from which the number needs the other ink, in either theme.
ON = 0.74
#: Columns that fit half of the page.
HALF_PAGE = 13


@dataclass(frozen=True)
class Cell:
    """What a cell shows: its text, the strength of its shade (0 to 1), its hint."""

    words: str
    share: float
    hint: str


@dataclass(frozen=True)
class HeatRow:
    """A row; `track` puts the sign of a track before its name. None is a cell without a number."""

    name: str
    cells: list[Cell | None]
    track: str = ""


def heat_map(rows: list[HeatRow], heads: list[tuple[str, str]], *, label: str, corner: str = "") -> Markup:
    """Rows of cells under slanted column heads; of a head (name, tail) only the name is cut when it is long."""
    words = [shorten(name, HEAD - text_width(tail)) + tail for name, tail in heads]
    lengths = [0.72 * text_width(each) for each in words]
    top = 20 + max(lengths, default=0.0)
    edge = NAME + CELL * len(heads)
    width = max([edge, *(NAME + CELL * (i + 0.5) + length for i, length in enumerate(lengths))]) + 6
    parts = [text(0, top - 6, corner, class_="tick")] if corner else []
    for i, ((name, tail), each) in enumerate(zip(heads, words, strict=True)):
        place = f"translate({NAME + CELL * (i + 0.5):.0f} {top - 6:.0f}) rotate(-45)"
        parts.append(tag("text", tag("title", name + tail), each, transform=place, class_="head"))
    for i, row in enumerate(rows):
        y = top + ROW * i
        parts.append(tag("g", *_row(row, y)))
    return picture(width, top + ROW * len(rows) + 2, *parts, label=label, class_="figure heat")


def _row(row: HeatRow, y: float) -> list[Markup]:
    start = 14.0 if row.track else 0.0
    parts = [marker(row.track, 5, y + ROW / 2 - 1, 3.4, title=row.track)] if row.track else []
    name = tag("tspan", shorten(row.name, NAME - start - 8))
    parts.append(tag("text", tag("title", row.name), name, x=start, y=y + ROW / 2 + 3, class_="name"))
    for j, cell in enumerate(row.cells):
        x = NAME + CELL * j
        if cell is None:
            hatch = tag("rect", x=x, y=y, class_="none")
            parts += [hatch, text(x + CELL / 2 - 1, y + ROW / 2 + 3, "–", class_="missing")]
            continue
        back = tag("rect", x=x, y=y, fill_opacity=f"{shade(cell.share):.2f}")
        style = "on" if shade(cell.share) > ON else "off"
        words = text(x + CELL / 2 - 1, y + ROW / 2 + 3, cell.words, class_=style)
        parts.append(tag("g", tag("title", cell.hint), back, words))
    return parts


def shade(share: float) -> float:
    """Opacity of a share: never quite nothing, and steeper at the top, where the scores are."""
    return 0.06 + 0.9 * share**1.7
