"""Words and numbers as the board prints them: tracks, heads, flags, statuses, units."""

from __future__ import annotations

from collections.abc import Iterable

from harness.metrics import CARDS, MetricCard

#: Tracks in the order of the board; every other track of a record follows these.
TRACKS = {
    "published": "Official checkpoints, identified by their sha256; vectors that were made elsewhere are marked so.",
    "scratch": "Pretrained by this harness: same corpus, same token budget, same seed for every architecture.",
    "untrained": "Random weights of the same architecture. What pretraining is worth is the distance to these.",
    "baseline": "Methods without pretraining.",
    "control": "What bounds the scores: floors know nothing of the cells, ceilings know the labels. Never ranked.",
}
BASELINE, CONTROL = "baseline", "control"

#: Heads in the order of the columns.
HEADS = {
    "none": "",
    "knn": "kNN",
    "knn_shuffled": "kNN, vectors shuffled",
    "centroid": "Centroid",
    "logreg": "Logistic",
    "logreg_shuffled": "Logistic, vectors shuffled",
    "mlp": "MLP",
    "mlp_shuffled": "MLP, vectors shuffled",
    "svm": "SVM",
    "linear": "Linear",
    "linear_shuffled": "Linear, vectors shuffled",
    "gears": "GEARS graft",
    "gears_shuffled": "GEARS graft, vectors shuffled",
    "native": "Native",
    "cellot": "CellOT",
    "shift": "Mean shift",
    "untransported": "Decoded without transport",
    "cosine": "Cosine",
    "cosine_shuffled": "Cosine, vectors shuffled",
}

FLAGS = {
    "smoke": "smoke run, not ranked",
    "cells-seen": "cells seen in pretraining",
    "label-exposure": "labels seen in pretraining, not ranked",
    "precomputed": "vectors made elsewhere",
    "identical-cells": "identical cells in training and test",
    "same-donors": "same donors in training and test",
    "leaks": "test cells seen in training or selection",
    "type-in-one-batch": "a cell type in one batch only",
    "batch-is-condition": "batch and condition are one",
    "floor": "floor",
    "ceiling": "ceiling",
}

#: Rows with one of these are shown and have no rank: a test of the code, or of what had been read before.
UNRANKED = ("smoke", "label-exposure")

#: How many genes of a tested perturbation training saw perturbed: GEARS' names, from the nearest to the farthest.
SUBGROUPS = {
    "combo_seen2": "pair, 2 of 2 seen",
    "combo_seen1": "pair, 1 of 2 seen",
    "combo_seen0": "pair, 0 of 2 seen",
    "unseen_single": "single, unseen",
}

STATUSES = {
    "failed": "failed",
    "out-of-memory": "out of memory",
    "timeout": "timed out",
    "not-applicable": "not applicable",
    "skipped": "skipped",
}

UNRELEASED = "no released weights were run; this says nothing about the released models"

NOTHING = "–"


def track_order(tracks: Iterable[str]) -> list[str]:
    """Tracks once each, the known ones first."""
    found = set(tracks)
    return [track for track in TRACKS if track in found] + sorted(found - set(TRACKS))


def head_order(head: str) -> tuple[int, str]:
    """Sort key of a head."""
    known = list(HEADS)
    return (known.index(head) if head in known else len(known), head)


def subgroup_order(key: str) -> tuple[int, str]:
    """Sort key of a subgroup of perturbations."""
    known = list(SUBGROUPS)
    return (known.index(key) if key in known else len(known), key)


def subgroup_title(key: str) -> str:
    """What a subgroup of perturbations is called."""
    return SUBGROUPS.get(key, key)


def head_title(head: str) -> str:
    """What a head is called in a column; nothing for `none`."""
    return HEADS.get(head, head)


def unit_size(scope: str) -> str:
    """What `n` counts of a unit of a scope."""
    return "splits that test it" if scope == "per-perturbation" else "test cells"


def own_head_title(head: str) -> str:
    """What the head is called that a method brings itself; one that classifies or predicts by itself has none."""
    return f"{head_title(head)} head" if head_title(head) else "own method"


def metric_card(name: str, higher_is_better: bool = True) -> MetricCard:
    """The card of a metric; one made up from the record, without a range, where a plugin brought its own."""
    return CARDS.get(name) or MetricCard(name, name, higher_is_better=higher_is_better, low=None, high=None)


def metric_title(name: str) -> str:
    """Title of a metric."""
    return metric_card(name).title


def arrow(higher_is_better: bool) -> str:
    """Which way is better."""
    return "↑" if higher_is_better else "↓"


def score(value: float | None) -> str:
    """A score: three decimals below ten, three significant digits above."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size != 0 and (size < 0.001 or size >= 1e5):
        return ("\N{MINUS SIGN}" if value < 0 else "") + f"{size:.2e}"
    digits = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """`62 %`."""
    return f"{100 * share:.0f} %".replace("-0 %", "0 %").replace("-", "\N{MINUS SIGN}")


def spread(sd: float | None, mean: float | None) -> str:
    """`± 0.012`, with the decimals of the mean it stands beside; nothing for one seed."""
    if sd is None or mean is None:
        return ""
    written = score(mean)
    if "e" in written:
        return f"± {sd:.2e}"
    digits = len(written.partition(".")[2])
    least = 10.0**-digits
    return f"± <{least:.{digits}f}" if 0 < sd < least / 2 else f"± {sd:,.{digits}f}"


def quantity(value: float | None) -> str:
    """A count or a rate: `812`, `1,234`, `0.6M`, `1.3B`."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if value >= 0.95 * size:
            return f"{value / size:.1f}{unit}" if value < 10 * size else f"{value / size:.0f}{unit}"
    if 1e5 <= value < 0.95e6:
        return f"{value / 1e6:.1f}M" if value >= 5e5 else f"{value / 1e3:.0f}k"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Seconds to two or three digits; minutes and hours stay seconds, so that a column sorts as it reads."""
    if value is None:
        return NOTHING
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def plural(n: int, noun: str, nouns: str = "") -> str:
    """`1 run`, `3 runs`."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def listing(items: Iterable[int]) -> str:
    """Whole numbers as a reader lists them: `0–2`, `0, 2, 5`."""
    values = sorted(items)
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}–{values[-1]}"
    return ", ".join(map(str, values))
