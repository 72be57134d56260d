"""A few lines to write SVG: elements, scales, ticks. Colours are CSS classes, so that a figure follows the theme."""

from __future__ import annotations

import itertools
import math
import unicodedata
from dataclasses import dataclass

from markupsafe import Markup, escape


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; every text child and attribute is escaped. `class_` is `class`, `text_anchor` `text-anchor`."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{pairs}>{inside}</{name}>" if inside else f"<{name}{pairs}/>")


def picture(width: float, height: float, *children: str, label: str, class_: str = "figure") -> Markup:
    """An `<svg>` of natural size `width` x `height` CSS pixels that shrinks with its container."""
    box = f"0 0 {_short(width)} {_short(height)}"
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{escape(class_)}" viewBox="{box}" '
        f'width="{_short(width)}" height="{_short(height)}" role="img" aria-label="{escape(label)}">'
        f"{''.join(escape(child) for child in children)}</svg>"
    )


def text(x: float, y: float, words: str, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    """Text whose baseline starts (`anchor` None), ends or centres at a point."""
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text_width(words: str, size: float = 12.0) -> float:
    """About how wide a text is in a sans-serif font; a wide East Asian character counts twice."""
    return size * sum(map(_em, words))


def shorten(words: str, width: float, size: float = 12.0) -> str:
    """`words` cut to about `width` pixels with an ellipsis."""
    if text_width(words, size) <= width:
        return words
    room, kept = width - 0.9 * size, ""
    for character in words:
        room -= size * _em(character)
        if room < 0:
            break
        kept += character
    return kept.rstrip(" ·-_") + "…"


def marker(track: str, x: float, y: float, r: float, *, hollow: bool = False, title: str = "") -> Markup:
    """The sign of a track, told apart by shape as well as by colour."""
    style = f"mark t-{track_class(track)}" + (" hollow" if hollow else "")
    hint = [tag("title", title)] if title else []
    if track == "published":
        d = f"M{_short(x)} {_short(y - 1.3 * r)}l{_short(1.3 * r)} {_short(1.3 * r)}"
        d += f"l{_short(-1.3 * r)} {_short(1.3 * r)}l{_short(-1.3 * r)} {_short(-1.3 * r)}z"
        return tag("path", *hint, d=d, class_=style)
    if track == "untrained":
        d = f"M{_short(x)} {_short(y - 1.25 * r)}l{_short(1.25 * r)} {_short(2.2 * r)}h{_short(-2.5 * r)}z"
        return tag("path", *hint, d=d, class_=style)
    if track == "baseline":
        return tag("rect", *hint, x=x - r, y=y - r, width=2 * r, height=2 * r, class_=style)
    return tag("circle", *hint, cx=x, cy=y, r=1.1 * r, class_=style)


def track_class(track: str) -> str:
    """A CSS class for a track; one shared by tracks the style sheet does not know."""
    return track if track in ("published", "scratch", "untrained", "baseline") else "other"


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 4) -> list[float]:
        """Round values inside the scale."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1,), (1, 3), (1, 2, 5)):
                found = [f * 10.0**p for p in powers for f in factors if self.low <= f * 10.0**p <= self.high]
                if len(found) >= 3:
                    break
            return found
        step = _step(self.high - self.low, about)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_around(values: list[float], low: float | None, high: float | None) -> tuple[float, float]:
    """A range that shows `values` with a margin, kept inside [low, high] where the metric has a range."""
    a, b = min(values), max(values)
    margin = 0.08 * (b - a) or 0.05 * abs(b) or 0.05
    a, b = a - margin, b + margin
    step = _step(b - a, 4)
    a, b = math.floor(a / step) * step, math.ceil(b / step) * step
    return (
        a if low is None else max(a, min(low, min(values))),
        b if high is None else min(b, max(high, max(values))),
    )


def tick_label(value: float, ticks: list[float]) -> str:
    """A tick with as many decimals as its neighbours need."""
    if len(ticks) < 2:
        return f"{value:g}"
    step = min(b - a for a, b in itertools.pairwise(ticks))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1
    if max(map(abs, ticks)) >= 1e5:
        return f"{value:.0e}".replace("e+0", "e")
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _step(width: float, about: int) -> float:
    raw = max(width, 1e-12) / about
    power = 10.0 ** math.floor(math.log10(raw))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "iljtfrI.,:;|'!()[]/ -":
        return 0.36
    return 0.7 if character.isupper() or character in "mw+@%&<>=" else 0.6


def _short(value: object) -> str:
    """A number with one decimal at most: a tenth of a pixel."""
    if not isinstance(value, float):
        return str(value)
    written = f"{value:.1f}".removesuffix(".0")
    return "0" if written == "-0" else written
