"""The leaderboard as one HTML file: views of the sections, and the template that prints them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from harness import __version__
from harness.results import RunRecord
from reports import wording
from reports.artifacts import Tables
from reports.board_table import BoardTable, NumberRow, board_table, number_rows
from reports.cards import STATUSES as EXPOSURES
from reports.controls import missing
from reports.entries import Section, trained
from reports.figures.best import best_rows
from reports.figures.confusion import confusion_map
from reports.figures.dots import dot_plots
from reports.figures.drug import drug_closeups, drug_maps
from reports.figures.figure import Figure
from reports.figures.genes import gene_closeups, gene_maps
from reports.figures.maps import metric_heat_map, unit_heat_maps
from reports.figures.perturbation import perturbation_closeups, perturbation_maps
from reports.figures.river import river
from reports.figures.speed import speed_plot
from reports.figures.svg import marker, picture
from reports.figures.umap import Atlas, atlases, type_colours
from reports.figures.units import unit_dots
from reports.glance import figure_order, glance
from reports.packing import pack
from reports.provenance import Environment, RunView, environments, run_views
from reports.ranking import Ranked, columns, own_heads
from reports.standings import Standings, standings
from reports.verdicts import Recommendation, Verdict, overall, recommendation, verdicts

TEMPLATES = Path(__file__).parent / "templates"


@dataclass
class Miss:
    """Runs of one model that ended alike without a number."""

    track: str
    name: str
    status: str
    reason: str
    seeds: str
    runs: list[str]


@dataclass
class SectionView:
    """What the template prints of one task and data set."""

    id: str
    title: str
    dataset: str
    about: str
    heads: list[tuple[str, str]]
    dots: list[Figure]
    maps: list[Figure]
    #: Those of the other heads, put away until asked for.
    more_maps: list[Figure]
    boards: list[BoardTable]
    numbers: list[NumberRow]
    missing: list[Miss]
    own_heads: bool
    notes: list[tuple[str, str]]
    verdicts: list[Verdict]
    recommendation: Recommendation | None
    standings: list[Standings]
    #: Why scores are not scaled; empty where floor and ceiling were run, or the task declares none.
    unscaled: str
    #: What the two sides of a split share.
    leaks: list[str]
    planted: str


def render(ranked: list[Ranked], records: list[RunRecord], tables: Tables, *, published: bool) -> str:
    """The whole page; it says so while no released weights were run."""
    from jinja2 import Environment as Jinja
    from jinja2 import FileSystemLoader, StrictUndefined

    jinja = Jinja(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals.update(
        heads=wording.head_title,
        flags=lambda flag: wording.FLAGS.get(flag, flag),
        statuses=lambda status: wording.STATUSES.get(status, status),
        tracks=wording.TRACKS,
        arrow=wording.arrow,
        badge=_badge,
        breakable=_breakable,
        exposures=EXPOSURES,
        plural=wording.plural,
    )
    atlas_views: dict[str, Atlas] = atlases([each.section for each in ranked], tables)
    times = Counter((each.section.task, each.section.dataset) for each in ranked)
    sections = []
    for number, each in enumerate(ranked, start=1):
        colours = type_colours(atlas_views.get(each.section.dataset))
        several = times[each.section.task, each.section.dataset] > 1
        sections.append(_section(number, each, tables, colours, several=several))
    planted = {each.section.dataset for each in ranked if each.planted}
    places: list[Environment] = environments(records)
    runs: list[RunView] = run_views(ranked, places)
    page = jinja.get_template("leaderboard.html.j2").render(
        style=Markup((TEMPLATES / "style.css").read_text()),
        script=Markup((TEMPLATES / "board.js").read_text()),
        header=_header(records, planted),
        banner="" if published else wording.UNRELEASED,
        sections=[view for view in sections if not view.planted],
        planted=[view for view in sections if view.planted],
        glance=glance(ranked),
        overall=overall(ranked),
        atlases={name: each for name, each in atlas_views.items() if each.dataset not in planted},
        planted_atlases={name: each for name, each in atlas_views.items() if each.dataset in planted},
        runs=runs,
        environments=places,
        problems=tables.problems,
        seen=[s for s in EXPOSURES if any(r.exposure.status == s for v in sections for b in v.boards for r in b.rows)],
        scales=any(cell.scaled for v in sections for b in v.boards for r in b.rows for cell in r.numbers),
        track_names=wording.track_order(record.track for record in records),
    )
    return pack(page + "\n")


def _section(
    number: int, ranked: Ranked, tables: Tables, colours: dict[str, int], *, several: bool = False
) -> SectionView:
    """What is printed of a section; `several` say that its data set has another, of another split."""
    section, headline = ranked.section, ranked.headline
    primary = headline[0] if headline else None
    order = figure_order(ranked)
    own = own_heads(section, order, {column.metric for column in headline})
    heads = sorted({c.head for c in headline if (c.metric, c.head) not in own} - {"none"}, key=wording.head_order)
    winners = best_rows(ranked)
    maps = [figure for entry, column in winners for figure in river(entry, column, tables, colours)]
    by_head = [
        figure
        for maps_of in (perturbation_maps, drug_maps, gene_maps)
        for figure in maps_of(section, order, headline, tables)
    ]
    by_unit = unit_heat_maps(section, order, headline)
    shown = {figure.head for figure in (*by_head, *by_unit)}
    first = primary.head if primary and primary.head in shown else min(shown, key=wording.head_order, default="")
    for closeups in (perturbation_closeups, drug_closeups, gene_closeups):
        maps += closeups(winners, tables)
    maps += [figure for figure in by_head if figure.head == first]
    maps += unit_dots(section, winners, headline, tables)
    for entry, column in winners:
        maps += confusion_map(entry, column, tables)
    maps += metric_heat_map(order, list(dict.fromkeys([*headline, *columns(section)])))
    maps += [figure for figure in by_unit if figure.head == first]
    seeds = sorted({run.seed for run in section.runs})
    about = [
        f"split {section.split}" if section.split else "",
        f"seeds {wording.listing(seeds)}" if seeds else "",
    ]
    about.append(f"data {section.dataset_sha256[:12]}" if section.dataset_sha256 else "")
    return SectionView(
        id=f"s{number}",
        title=ranked.task.title,
        dataset=" · ".join(filter(None, (section.dataset, section.split if several else ""))),
        about=" · ".join(filter(None, about)),
        heads=[(head, wording.head_title(head)) for head in heads] if len(heads) > 1 else [],
        dots=[*dot_plots(section, headline, order), *speed_plot(order, primary)],
        maps=maps,
        more_maps=[figure for figure in (*by_head, *by_unit) if figure.head != first],
        boards=[board_table(section, board, headline) for board in ranked.boards],
        unscaled=missing(section, ranked.task.controls) if ranked.boards else "",
        leaks=_leaks(section),
        numbers=number_rows(section, ranked.boards, columns(section)),
        missing=_misses(section),
        own_heads=bool(own),
        notes=_notes(section),
        verdicts=verdicts(ranked),
        recommendation=recommendation(ranked),
        standings=standings(ranked),
        planted=ranked.planted,
    )


def _leaks(section: Section) -> list[str]:
    """What the engine counted on both sides of the splits, where it is not nothing."""
    found: dict[str, dict[int, str]] = {}
    for run in section.runs:
        for name, flag in (
            ("test cells identical to a training cell", "identical-cells"),
            ("donors on both sides of the split", "same-donors"),
        ):
            if flag in run.flags:
                found.setdefault(name, {})[run.seed] = _plain(run.notes.get(name, "some"))
    sentences = []
    for name, by_seed in found.items():
        seeds: dict[str, list[int]] = {}
        for seed, said in sorted(by_seed.items()):
            seeds.setdefault(said, []).append(seed)
        each = ", ".join(f"{said} (seed {wording.listing(group)})" for said, group in seeds.items())
        sentences.append(f"{name[0].upper()}{name[1:]}: {each}. Scores may be too high.")
    return sentences


def _misses(section: Section) -> list[Miss]:
    found = []
    for entry in section.entries:
        alike: dict[tuple[str, str], list[RunRecord]] = {}
        for record in entry.missing:
            alike.setdefault((record.status, record.error or "no reason recorded"), []).append(record)
        for (status, reason), records in alike.items():
            seeds = wording.listing(record.seed for record in records)
            name = " · ".join(filter(None, (entry.label.partition(" · ")[0], trained(records[0]))))
            found.append(Miss(entry.track, name, status, reason, seeds, [r.run_id[:10] for r in records]))
    return found


def _notes(section: Section) -> list[tuple[str, str]]:
    """What the runs say a reader must know, once each, with the rows it holds for."""
    found: dict[str, list[str]] = {}
    for entry in section.entries:
        said = {f"{name.replace('_', ' ')}: {_plain(value)}" for run in entry.runs for name, value in run.notes.items()}
        for words in sorted(said):
            found.setdefault(words, []).append(entry.label)
    everyone = sum(bool(entry.runs) for entry in section.entries)
    return [(w, "every row" if len(who) == everyone else "; ".join(who)) for w, who in found.items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _header(records: list[RunRecord], planted: set[str]) -> dict[str, Any]:
    dates = sorted(record.provenance.started_at[:10] for record in records if record.provenance.started_at)
    bad = sum(record.status not in ("ok", "not-applicable") for record in records)
    return {
        "runs": len(records),
        "bad": bad,
        "models": sorted({record.model for record in records if record.track != wording.CONTROL}),
        "datasets": sorted({record.dataset for record in records} - planted),
        "planted": sorted(planted),
        "tasks": sorted({record.task for record in records}),
        "seeds": wording.listing(sorted({record.seed for record in records})),
        "tracks": wording.track_order(record.track for record in records),
        "dates": " – ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
    }


def _breakable(name: str) -> Markup:
    """A name that may be broken after its underscores and hyphens, and nowhere else."""
    return Markup(re.sub("([_-])", r"\1<wbr>", str(escape(name))))


def _badge(track: str) -> Markup:
    """The sign of a track, as in the figures."""
    return picture(12, 12, marker(track, 6, 6, 3.6), label=track, class_="sign")
