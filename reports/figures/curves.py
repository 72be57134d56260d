"""Line plot: a line per row, named beside the plot; rows are told apart by colour, tracks by the dashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.figures.svg import (
    Scale,
    line,
    picture,
    scale_around,
    shorten,
    tag,
    text,
    text_width,
    tick_label,
    track_class,
)

#: Colours in the style sheet.
COLOURS = 16
WIDTH, LEFT, RIGHT, TOP, BOTTOM, LINE = 560.0, 52.0, 318.0, 10.0, 300.0, 20.0


@dataclass(frozen=True)
class Curve:
    """A line through points in their order; `hints` say each, `tail` stands after the name. No `track`: a reference."""

    name: str
    points: Sequence[tuple[float, float]]
    track: str = ""
    hints: Sequence[str] = ()
    tail: str = ""


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and the range of what can be."""

    title: str
    low: float | None = None
    high: float | None = None


def line_plot(curves: Sequence[Curve], across: Axis, up: Axis, *, label: str) -> Markup:
    """The curves on common axes, with a legend at the right; a curve without points is in the legend only."""
    points = [point for curve in curves for point in curve.points] or [(0.0, 0.0)]
    x = Scale(*scale_around([a for a, _ in points], across.low, across.high), LEFT, RIGHT)
    y = Scale(*scale_around([b for _, b in points], up.low, up.high), BOTTOM, TOP)
    parts = []
    for tick in x.ticks():
        parts.append(line(x(tick), TOP, x(tick), BOTTOM, "grid"))
        parts.append(text(x(tick), BOTTOM + 16, tick_label(tick, x.ticks()), anchor="middle", class_="tick"))
    for tick in y.ticks():
        parts.append(line(LEFT, y(tick), RIGHT, y(tick), "grid"))
        parts.append(text(LEFT - 6, y(tick) + 4, tick_label(tick, y.ticks()), anchor="end", class_="tick"))
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 34, f"{across.title} →", anchor="middle", class_="axis"))
    turned = f"translate(11 {(TOP + BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(tag("text", f"{up.title} →", transform=turned, text_anchor="middle", class_="axis"))
    hue = 0
    for place, curve in enumerate(curves):
        style = f"t-{track_class(curve.track)} c{hue % COLOURS}" if curve.track else "given"
        hue += bool(curve.track)
        parts.append(_curve(curve, style, x, y))
        at = TOP + 10 + LINE * place
        alone = tag("circle", cx=RIGHT + 26, cy=at - 4, r=3.0, class_=f"hued {style}")
        sample = line(RIGHT + 14, at - 4, RIGHT + 38, at - 4, f"curve {style}")
        parts.append(alone if len(curve.points) == 1 else sample)
        tail = tag("tspan", f" {curve.tail}", class_="tick")
        room = WIDTH - RIGHT - 46 - text_width(curve.tail + " ", 11.0)
        hint = tag("title", curve.name)
        parts.append(tag("text", hint, shorten(curve.name, room), tail, x=RIGHT + 44, y=at, class_="name"))
    height = max(BOTTOM + 42, TOP + LINE * len(curves) + 4)
    return picture(WIDTH, height, *parts, label=label)


def _curve(curve: Curve, style: str, x: Scale, y: Scale) -> Markup:
    """The line, and a dot with its hint at each point that has one; a dot too where there is nothing but one point."""
    d = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in curve.points)
    parts = [tag("title", curve.name)]
    if len(curve.points) > 1:
        parts.append(tag("path", d=f"M{d}", class_=f"curve {style}"))
    hints = curve.hints or [curve.name] * (len(curve.points) == 1)
    for (a, b), hint in zip(curve.points, hints, strict=False):
        parts.append(tag("circle", tag("title", hint), cx=x(a), cy=y(b), r=3.0, class_=f"hued {style}"))
    return tag("g", *parts)
