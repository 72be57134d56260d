"""Families -> sentences: best model against best baseline, what pretraining is worth, which model to take."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from reports.compare import Family, Pair, pooled, pretraining
from reports.controls import best_floor
from reports.entries import Column, Entry
from reports.figures.figure import column_title, short_names
from reports.ranking import Board, Ranked
from reports.statistics import FEWEST, Difference
from reports.unit_scores import Scores
from reports.wording import BASELINE, FLAGS, NOTHING, metric_card, own_head_title, quantity, score

log = logging.getLogger(__name__)

#: What the rows of a track are; only published ones are released foundation models.
ROWS = {
    "published": "released foundation model",
    "scratch": "model pretrained here",
    "untrained": "untrained network",
    BASELINE: "model",
}


#: What the best model minus the best baseline comes to.
RULINGS = {
    "better": "The model beats the baselines",
    "worse": "The baseline is better",
    "open": "No difference can be told",
    "few": "Too few to tell",
}


@dataclass(frozen=True)
class Verdict:
    """A sentence about one track: what it comes to, and the numbers; `open` marks one that ends in doubt."""

    track: str
    ruling: str
    said: str
    open: bool


@dataclass(frozen=True)
class Choice:
    """A row that cannot be told from the best, with what it costs and under which licence."""

    entry: Entry
    name: str
    score: str
    speed: str
    params: str
    memory: str
    licence: str


@dataclass(frozen=True)
class Recommendation:
    """Choices, the cheapest first, and the best they cannot be told from; `why` there are none."""

    choices: list[Choice]
    metric: str = ""
    best: str = ""
    why: str = ""
    #: Why it is not by the number the board is ranked by.
    instead: str = ""
    #: The best floor, which every choice is above, and how many rows that are tied with the best are not.
    above: str = ""
    below: int = 0


def verdicts(ranked: Ranked) -> list[Verdict]:
    """The sentences of a section: those of each board, and one about pretraining where both tracks were run.

    A board whose first number has too few units to tell anything apart gets a second sentence, by the first that can.
    """
    if not ranked.headline or ranked.planted:
        return []
    first = ranked.headline[0]
    found = []
    for board in ranked.boards:
        for column in dict.fromkeys((first, deciding(board, ranked.headline))):
            if column in board.families:
                found.append(against_baseline(board.track, board.families[column]))
    column, pairs = worth_of_pretraining(ranked)
    return found + _worth(pairs, column_title(column))


def worth_of_pretraining(ranked: Ranked) -> tuple[Column, list[Pair]]:
    """Pretrained minus untrained rows, by the first headline number with enough units to tell, or the first of all."""
    pairs = {column: pretraining(ranked, column) for column in ranked.headline}
    able = [column for column, each in pairs.items() if any(pair.n_units >= FEWEST for pair in each)]
    column = (able or ranked.headline)[0]
    return column, pairs[column]


def deciding(board: Board, headline: list[Column]) -> Column:
    """The first headline number with enough units to tell rows apart; the first of all where none has."""
    first = board.families.get(headline[0])
    if first is None or len(first.members) < 2:
        return headline[0]
    tracks = {m.entry.track for m in first.members}  # a number that only baselines have says nothing of the others
    for column in headline:
        family = board.families.get(column)
        if family and not family.few and tracks <= {m.entry.track for m in family.members}:
            return column
    return headline[0]


def overall(ranked: list[Ranked]) -> list[tuple[Ranked, Family, Verdict]]:
    """Tasks with several data sets or splits: one sentence over all of them per track.

    Sections without a baseline (a split on which networks alone were fine-tuned) can give none, and are left out.
    """
    tasks: dict[str, list[Ranked]] = {}
    for each in ranked:
        if each.headline and not each.planted and any(e.track == BASELINE and e.runs for e in each.section.entries):
            tasks.setdefault(each.task.name, []).append(each)
    found = []
    for group in tasks.values():
        places = {(each.section.dataset, each.section.split) for each in group}
        if len(group) < 2 or len(places) < len(group):
            continue
        for board in group[0].boards:
            family = pooled(group, board.track, group[0].headline[0])
            if family is not None:
                found.append((group[0], family, against_baseline(board.track, family)))
    return found


def against_baseline(track: str, family: Family) -> Verdict:
    """The best model of a track against the best baseline."""
    noun = ROWS.get(track, f"{track} model")
    title = column_title(family.column)
    names = short_names([m.entry for m in family.members])
    model, baseline = family.best(baselines=False), family.best(baselines=True)
    if model is None:
        best = f" The best baseline is {named(family, baseline, names)}." if baseline else ""
        return Verdict(track, "No model to judge", f"No {noun} has a number by {title}.{best}", True)
    if baseline is None:
        said = f"By {title} the best {noun} is {named(family, model, names)}; no baseline has this number."
        return Verdict(track, "No baseline to beat", said, True)
    said = f"By {title} the best {noun}, {named(family, model, names)}"
    said += f", minus the best baseline, {named(family, baseline, names)}"
    gain = family.gain(model.entry, baseline.entry)
    if gain is None:
        return Verdict(track, "Nothing can be said", f"{said}: no unit or seed is common to both.", True)
    pair = family.pairs[frozenset((model.entry, baseline.entry))]
    said += f": {evidence(gain, pair, family.column.metric)}."
    return Verdict(track, RULINGS[ruling(family, model, gain)], said, gain.tied is not False)


def wider_than_scale(gain: Difference, metric: str) -> bool:
    """Whether an interval reaches beyond the largest difference there can be: Student's t of two or three places."""
    card = metric_card(metric)
    span = math.inf if card.low is None or card.high is None else card.high - card.low
    return gain.low is not None and gain.high is not None and max(-gain.low, gain.high) > span


def evidence(gain: Difference, pair: Pair, metric: str) -> str:
    """`-0.080, 95 % interval [-0.2, 0.1], p = 0.062 (...); 10 classes x 3 seeds of pbmc68k`."""
    parts = [signed(gain.estimate)]
    if gain.low is None:
        parts.append("no interval")
    elif wider_than_scale(gain, metric):
        parts.append("95 % interval wider than the scale")
    else:
        parts.append(f"95 % interval {bracket(gain)}")
    if gain.p is not None:
        parts.append(f"p {p_value(gain.p)} ({gain.test})")
    return f"{', '.join(parts)}; {pair.covers}"


def ruling(family: Family, model: Scores, gain: Difference) -> str:
    """Of `RULINGS`: what a model minus the best baseline comes to."""
    if gain.tied is None or family.few:
        return "few"
    if gain.tied:
        return "open"
    return "better" if family.beats(model.entry) else "worse"


def _worth(pairs: list[Pair], title: str) -> list[Verdict]:
    found = []
    for track in dict.fromkeys(pair.a.entry.track for pair in pairs):
        chosen = [pair for pair in pairs if pair.a.entry.track == track]
        names = short_names([pair.a.entry for pair in chosen])
        each = "; ".join(
            f"{names[pair.a.entry]} {signed(pair.difference.estimate)}"
            + (f" {bracket(pair.difference)}" if pair.difference.low is not None else "")
            for pair in chosen
        )
        told = [names[pair.a.entry] for pair in chosen if pair.difference.tied is False]
        few = all(pair.n_units < FEWEST for pair in chosen)
        ruling = f"Pretraining changes {', '.join(told)}" if told else "What pretraining is worth cannot be told from 0"
        said = f"{track.capitalize()} minus untrained, {title}: {each}; {chosen[0].covers}."
        found.append(Verdict(track, "Too few to tell what pretraining is worth" if few else ruling, said, not told))
    return found


def recommendation(ranked: Ranked) -> Recommendation | None:
    """The cheapest rows of the first board that cannot be told from the best of all; untrained ones aside."""
    board = next((b for b in ranked.boards if b.track != "untrained"), None)
    if ranked.planted or board is None or not ranked.headline or not board.families[ranked.headline[0]].members:
        return None
    first = board.families[ranked.headline[0]]
    family = board.families[deciding(board, ranked.headline)]
    best = family.best()
    title = column_title(family.column)
    if family.few or best is None:
        return Recommendation([], why=f"No recommendation by {title}: {family.few or 'no row has a number'}.")
    gains = {m.entry: family.gain(m.entry, best.entry) for m in family.members}
    alike = [m for m in family.members if m is best or ((gain := gains[m.entry]) is not None and gain.tied)]
    floor, tied = best_floor(ranked.section, family.column), len(alike)
    if floor is not None:  # few units tie much with the best: what knows nothing of the answer is no choice for that
        alike = [m for m in alike if (m.mean - floor[0]) * (1 if family.higher_is_better else -1) > 0]
        if not alike:
            return Recommendation([], why=f"No recommendation by {title}: no row is above the floor, {floor[1]}.")
    alike.sort(key=lambda m: price(m.entry))
    names = short_names([m.entry for m in family.members])
    instead = f"By {column_title(first.column)} nothing can be told apart ({first.few}). " if first.few else ""
    return Recommendation(
        [_choice(m) for m in alike],
        title,
        named(family, best, names),
        instead=instead,
        above=floor[1] if floor else "",
        below=tied - len(alike),
    )


def price(entry: Entry) -> tuple[float, float, str]:
    """What sorts the cheapest first: parameters (a baseline has none), then cells per second."""
    params = entry.cost("n_params")
    size = params if params is not None else 0.0 if entry.track == BASELINE else float("inf")
    return size, -(entry.cost("cells_per_s") or 0.0), entry.label


def _choice(member: Scores) -> Choice:
    entry = member.entry
    params = entry.cost("n_params")
    return Choice(
        entry,
        entry.label,
        score(member.mean),
        quantity(entry.cost("cells_per_s")),
        "none" if params in (None, 0) and entry.track == BASELINE else quantity(params),
        quantity(entry.cost("peak_rss_mb")),
        licence(entry.about.model, entry.track),
    )


@lru_cache
def licence(model: str, track: str) -> str:
    """Licence as the model card states it. Weights count only where released ones were run."""
    from harness.registry import MODELS

    try:
        spec = MODELS.get(model).spec
        parts = [f"code {spec.code_licence or 'none stated'}"]
        if track == "published":
            parts.append(f"weights {spec.weights_licence or 'none stated'}")
            use = {True: "allowed", False: "not allowed", None: "unknown"}[spec.commercial_use]
            parts.append(f"commercial use {use}")
    except Exception as error:  # a plugin may fail in any way, and the records are still good
        log.debug("model %s is not known here: %s", model, error)
        return "not known here"
    return ", ".join(parts)


def named(family: Family, member: Scores, names: dict[Entry, str]) -> str:
    """`SVM on expression (SVM head, 0.692)`; vectors that were made elsewhere are called so."""
    head = f"{own_head_title(member.column.head)}, " if member.column != family.column else ""
    source = f"{FLAGS['precomputed']}, " if "precomputed" in member.entry.flags else ""
    return f"{names[member.entry]} ({head}{source}{score(member.mean)})"


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("+" if value > 0 else "") + score(value)


def bracket(interval: Difference) -> str:
    """`[0.012, 0.034]`."""
    return f"[{score(interval.low)}, {score(interval.high)}]"


def p_value(value: float | None) -> str:
    """A p value to three decimals."""
    if value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def pairs_of(ranked: Iterable[Ranked]) -> Iterable[tuple[str, str, tuple[str, str], Family | None, list[Pair]]]:
    """Every comparison of cells as nature made them: track, task, place, family, pairs.

    A place is a data set and a split; `all` and nothing where several are pooled.
    """
    ranked = [each for each in ranked if not each.planted]
    for each in ranked:
        section = each.section
        place = section.dataset, section.split
        for column in each.headline:
            for board in each.boards:
                family = board.families.get(column)
                if family and family.pairs:
                    yield board.track, section.task, place, family, list(family.pairs.values())
            worth = pretraining(each, column)
            for track in dict.fromkeys(pair.a.entry.track for pair in worth):
                chosen = [pair for pair in worth if pair.a.entry.track == track]
                yield f"{track} - untrained", section.task, place, None, chosen
    for first, family, verdict in overall(ranked):
        yield verdict.track, first.task.name, ("all", ""), family, list(family.pairs.values())
