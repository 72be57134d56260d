"""Figures of predicted perturbations: what is drawn of which rows, what is left out, and who competes with whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from harness.metrics import row
from harness.results import ResultStore
from reports.artifacts import Tables
from reports.collect import sections
from reports.compare import judge
from reports.entries import Section
from reports.figures.best import best_rows, shared_tables
from reports.figures.collapse import collapse
from reports.figures.perturbation import perturbation_closeups
from reports.figures.perturbation_effects import effect_sizes, subgroup_maps
from reports.figures.perturbation_genes import MOST_CONDITIONS, gene_boxes
from reports.figures.reverse_hits import MOST_QUERIES, reverse_hits
from reports.figures.screen import MOST_GENES, STRONGEST, screens
from reports.figures.svg import tick_label
from reports.glance import figure_order
from reports.ranking import Ranked, columns, own_heads, rank
from reports.screenshot import FLAGS
from reports.wording import head_order, head_title
from tests.reports import fake_perturbations as fake
from tests.reports.conftest import Board, make_board
from tests.reports.fake_store import EVIL, record
from tests.reports.page import parse

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return make_board(fake.perturbation_store(tmp_path_factory.mktemp("perturbed") / "results", seeds=(0,)))


@pytest.fixture(scope="module")
def judged(board: Board) -> dict[str, Ranked]:
    found = {}
    for section in sections(board.store.records()):
        found[section.task] = rank(section)
        judge(found[section.task])
    return found


@pytest.fixture(scope="module")
def tables(board: Board) -> Tables:
    return Tables(board.store)


def one(store: ResultStore, head: str = "linear", seed: int = 0, **kinds: pd.DataFrame) -> tuple[Section, Tables]:
    """A section of one run with some artifacts."""
    artifacts = [store.put_table(kind, table) for kind, table in kinds.items()]
    run = record("cellfm", track="scratch", seed=seed, metrics=fake.scored(0.6, head, 0.4, 0), artifacts=artifacts)
    return sections([run])[0], Tables(store)


def rows_of(section: Section) -> list:
    return [(section.entries[0], columns(section)[0])]


def marks(svg: str, style: str) -> int:
    nodes = ElementTree.fromstring(svg).iter()
    return sum(style in node.get("class", "").split() for node in nodes)


def test_all_figures_are_well_formed_and_run_no_label(judged: dict[str, Ranked], tables: Tables) -> None:
    figures = [figure for each in judged.values() for figure in perturbation_closeups(best_rows(each), tables)]
    for each in judged.values():
        order = figure_order(each)
        figures += subgroup_maps(each.section, order, each.headline, tables) + collapse(each.section, order)
    assert len(figures) > 12
    for figure in figures:
        ElementTree.fromstring(figure.svg)
        assert EVIL not in figure.svg
    assert any("&lt;script&gt;alert(1)&lt;/script&gt;" in figure.svg for figure in figures)


def test_boxes_are_the_cells_and_marks_the_predictions(judged: dict[str, Ranked], tables: Tables) -> None:
    figures = gene_boxes(best_rows(judged["perturbation"]), tables)
    assert len(figures) == MOST_CONDITIONS
    assert "4 of 6 stored conditions" in figures[0].caption
    for figure in figures:
        assert marks(figure.svg, "box") == 20
        assert marks(figure.svg, "mean") == 20
        assert (marks(figure.svg, "t-scratch"), marks(figure.svg, "t-baseline")) == (21, 21)  # one in the legend
    assert "additive · baseline" in figures[0].svg


def test_what_a_model_did_not_predict_has_no_mark(store: ResultStore) -> None:
    table = fake.strongest(0.5, "linear", 0).iloc[:20].copy()
    table.loc[table.index[:3], "predicted_delta"] = np.nan
    section, tables = one(store, perturbation_genes=table)
    (figure,) = gene_boxes(rows_of(section), tables)
    assert marks(figure.svg, "mark") == 17 + 1
    assert figure.svg.count("missing") == 3


def test_only_the_head_a_row_reports_is_drawn(store: ResultStore) -> None:
    section, tables = one(store, perturbation_genes=fake.strongest(0.5, "gears", 0))
    assert gene_boxes(rows_of(section), tables) == []


def test_every_condition_is_a_mark_with_the_shape_of_its_subgroup(judged: dict[str, Ranked], tables: Tables) -> None:
    figures = effect_sizes(best_rows(judged["perturbation"]), tables)
    assert [figure.title.split(" · ")[0] for figure in figures] == [
        "Size of effects: additive",
        "Size of effects: cellfm",
    ]
    n = len(fake.conditions())
    for figure in figures:
        assert marks(figure.svg, "hued") == n + 4
        nodes = [e for e in ElementTree.fromstring(figure.svg).iter() if "hued" in e.get("class", "").split()]
        assert len({(e.get("class"), e.get("d")) for e in nodes}) == 4
        assert ">pair, 0 of 2 seen<" in figure.svg


def test_effects_of_no_subgroup_have_no_legend_and_no_map(store: ResultStore) -> None:
    section, tables = one(store, perturbation_effects=fake.effects(0.5, "linear", 0).assign(key=""))
    (figure,) = effect_sizes(rows_of(section), tables)
    assert marks(figure.svg, "hued") == len(fake.conditions())
    assert subgroup_maps(section, section.entries, columns(section), tables) == []


def test_sizes_are_means_over_runs_and_undefined_ones_are_left_out(store: ResultStore) -> None:
    runs = []
    for seed, size in ((0, 1.0), (1, 3.0)):
        table = fake.effects(0.5, "linear", 0).iloc[:2].assign(observed_l2=2.0, predicted_l2=[size, np.nan])
        kept = [store.put_table("perturbation_effects", table)]
        runs.append(
            record("cellfm", track="scratch", seed=seed, metrics=[row("mse", 1.0, head="linear")], artifacts=kept)
        )
    (section,) = sections(runs)
    (figure,) = effect_sizes(rows_of(section), Tables(store))
    assert "observed 2.000, predicted 2.000" in figure.svg
    assert marks(figure.svg, "hued") == 1 + 1
    assert "of 2 seeds" in figure.caption


def test_scores_by_subgroup_are_the_means_of_its_conditions(judged: dict[str, Ranked], tables: Tables) -> None:
    each = judged["perturbation"]
    figures = subgroup_maps(each.section, figure_order(each), each.headline, tables)
    assert [f.head for f in figures] == ["linear", "linear_shuffled", "gears", "gears_shuffled", "native"]
    entry = next(e for e in each.section.entries if e.label == "additive")
    groups = dict(fake.conditions())
    units = entry.units("pearson_delta", "none", "per-perturbation")
    mean = np.mean([value for key, (value, _) in units.items() if groups[key] == "combo_seen0"])
    for figure in figures:  # a method of its own stands under every head
        assert f"additive, pair, 0 of 2 seen: {mean:.3f}" in figure.svg


def test_hits_of_a_search_are_told_by_sign_and_shade(store: ResultStore) -> None:
    table = pd.DataFrame(
        [
            ("A+B", "linear", "split 0", 1, "A+C", 1, 2.0),
            ("A+B", "linear", "split 0", 2, "A+B", 2, 2.0),
            ("A+B", "linear", "split 0", 3, "C+D", 0, 2.0),
            ("A", "linear", "split 0", 1, "A", 1, 1.0),
            ("E", "linear", "split 1", 1, "F", 0, 9.0),
        ],
        columns=["condition", "head", "fold", "place", "label", "shared", "rank"],
    )
    section, tables = one(store, reverse_ranking=table)
    (figure,) = reverse_hits(rows_of(section), tables)
    assert (figure.svg.count(">✓<"), figure.svg.count(">½<")) == (2, 1)
    assert figure.svg.index(">A<") < figure.svg.index(">A+B<"), "the query ranked best comes first"
    assert "A+B, place 1: A+C" in figure.svg
    assert ">E<" not in figure.svg and "the first of 2 splits (split 0)" in figure.caption
    assert marks(figure.svg, "missing") == 2, "places that were not listed"


def test_searches_have_the_same_queries_in_the_same_order(judged: dict[str, Ranked], tables: Tables) -> None:
    figures = reverse_hits(best_rows(judged["reverse_perturbation"]), tables)
    assert len(figures) == 2
    names = []
    for figure in figures:
        nodes = ElementTree.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}text")
        names.append(["".join(n.itertext()) for n in nodes if n.get("class") == "name"])
    assert names[0] == names[1] and len(names[0]) == 14 <= MOST_QUERIES


def test_a_screen_is_drawn_where_one_was_run(judged: dict[str, Ranked], tables: Tables) -> None:
    layout, strongest = screens(best_rows(judged["perturbation"]), tables)  # the baseline ran none
    assert "190 predicted pairs" in layout.caption
    assert layout.svg.count("h0") == 190
    assert f"{20 - MOST_GENES} other genes" in layout.svg
    assert marks(strongest.svg, "length") == STRONGEST
    most = fake.screen("linear", 300).sort_values("effect", ascending=False)["condition"].iloc[0]
    first = next(n for n in ElementTree.fromstring(strongest.svg).iter() if n.get("class") == "name")
    assert first.text is not None and first.text[:4] == most[:4]


def test_one_pair_is_no_division_by_nothing(store: ResultStore) -> None:
    table = fake.screen("linear", 0).iloc[:1].drop(columns="key").assign(effect=0.0)
    section, tables = one(store, perturbation_screen=table)
    layout, strongest = screens(rows_of(section), tables)
    assert layout.svg.count("h0") == marks(strongest.svg, "length") == 1
    empty, tables = one(store, seed=1, perturbation_screen=table.assign(x=np.nan))
    assert screens(rows_of(empty), tables) == []


def test_collapse_is_named_against_the_measured_similarity(judged: dict[str, Ranked]) -> None:
    each = judged["perturbation"]
    figures = collapse(each.section, figure_order(each))
    assert {f.head for f in figures} == {"linear", "linear_shuffled", "gears", "gears_shuffled", "native"}
    linear = next(f for f in figures if f.head == "linear")
    assert "half of the way there: scgpt, train_mean." in linear.caption
    assert linear.svg.count("· alike") == 2
    assert ">undefined<" in linear.svg, "what predicts no change is alike to nothing"
    assert "measured changes: 0.310" in linear.svg
    assert collapse(judged["reverse_perturbation"].section, figure_order(judged["reverse_perturbation"])) == []


def test_without_the_truth_nothing_is_called_alike() -> None:
    metrics = [row("prediction_similarity", 0.99, head="linear")]
    for notes in ({}, {"similarity of the measured changes": "not defined"}):
        (section,) = sections([record("cellfm", track="scratch", metrics=metrics, notes=notes)])
        assert collapse(section, section.entries) == []


def test_tables_are_of_the_seed_that_most_rows_have(store: ResultStore) -> None:
    runs = []
    for model, seeds in (("a", (0, 1)), ("b", (1,))):
        for seed in seeds:
            kept = [store.put_table("perturbation_genes", fake.strongest(0.5, "linear", seed))]
            metrics = [row("mse", 1.0, head="linear")]
            runs.append(record(model, track="scratch", seed=seed, metrics=metrics, artifacts=kept))
    (section,) = sections(runs)
    column = columns(section)[0]
    seed, found = shared_tables([(e, column) for e in section.entries], Tables(store), "perturbation_genes", ("gene",))
    assert seed == 1 and len(found) == 2


def test_a_baseline_without_head_competes_under_every_head(judged: dict[str, Ranked], board: Board) -> None:
    each = judged["perturbation"]
    assert own_heads(each.section, each.section.entries, ["pearson_delta"]) == {("pearson_delta", "none")}
    (scratch,) = (b for b in each.boards if b.track == "scratch")
    for column in (c for c in each.headline if c.head not in ("none", "linear_shuffled")):
        members = {member.entry.label for member in scratch.families[column].members}
        assert {"additive", "train_mean", "go_ridge"} <= members
    page = parse(board.page)
    said = [p.text for p in page.find("p", class_="verdict")]
    assert any("the best baseline, additive (own method, 0." in words for words in said)
    heads = {" ".join(th.text.split()) for th in page.find("th", class_="metric")}
    assert {"Pearson Δ ↑GEARS graft, vectors shuffled", "Pearson Δ ↑own method"} <= heads


def test_what_n_counts_of_a_perturbation_is_said(board: Board) -> None:
    assert "in brackets its splits that test it" in board.page
    assert "test cells" not in board.page.partition('id="reading"')[0]
    assert "The first 30 of" not in board.page, "28 conditions are all shown"


def test_heads_of_gene_vectors_have_names_and_an_order() -> None:
    heads = ["native", "gears_shuffled", "gears", "linear_shuffled", "linear", "none"]
    assert sorted(heads, key=head_order) == heads[::-1]
    assert head_title("gears_shuffled") == "GEARS graft, vectors shuffled"


def test_ticks_in_steps_of_two_and_a_half_keep_their_half() -> None:
    assert [tick_label(t, [0.0, 2.5, 5.0]) for t in (0.0, 2.5, 5.0)] == ["0.0", "2.5", "5.0"]
    assert tick_label(2.0, [0.0, 2.0, 4.0]) == "2"


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.is_file(), reason="no chromium installed (apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_opens_without_error_and_fits(board: Board, width: int, scheme: Any) -> None:
    from playwright.sync_api import sync_playwright

    troubles: list[str] = []
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(board.report.html.as_uri())
        page.eval_on_selector_all("details.more", "nodes => nodes.forEach(n => n.open = true)")
        code = "nodes => nodes.map(n => [n.clientWidth, n.clientHeight])"
        sizes = page.eval_on_selector_all(".maps svg", code)
        assert len(sizes) > 20 and all(wide >= 100 and high >= 60 for wide, high in sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#s1 .heads button[data-pick=gears]")
        assert page.locator("#s1 .maps figure:visible[data-head=linear]").count() == 0
        assert page.locator("#s1 .maps figure:visible[data-head=gears]").count() >= 2
        browser.close()
    assert troubles == []
