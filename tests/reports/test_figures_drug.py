"""Figures of drug response: what is drawn of which rows, what is left out, and where the axis ends."""

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
from reports.entries import Column, Entry, Section
from reports.figures.best import best_rows
from reports.figures.drug import drug_closeups, drug_maps
from reports.figures.drug_bars import MOST_NAMES, MOST_PAIRS, decoder_bounds
from reports.figures.drug_markers import marker_genes
from reports.figures.drug_umap import MOST_CELLS, population_maps
from reports.figures.figure import Figure
from reports.glance import figure_order
from reports.ranking import Ranked, columns, rank
from reports.screenshot import FLAGS
from reports.wording import HEADS
from tests.reports import fake_drugs as fake
from tests.reports.conftest import Board, make_board
from tests.reports.fake_store import EVIL, record
from tests.reports.page import parse

CHROMIUM = Path("/usr/bin/chromium")
SVG = "{http://www.w3.org/2000/svg}"
#: In the fake tables a model (three heads) and a baseline are drawn.
ROWS = 2


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return make_board(fake.drug_store(tmp_path_factory.mktemp("drugs") / "results", seeds=(0, 1)))


@pytest.fixture(scope="module")
def judged(board: Board) -> Ranked:
    (section,) = sections(board.store.records())
    ranked = rank(section)
    judge(ranked)
    return ranked


@pytest.fixture(scope="module")
def tables(board: Board) -> Tables:
    return Tables(board.store)


def opened(store: ResultStore, *heads: str, **kinds: pd.DataFrame) -> tuple[Section, Tables]:
    """A section of one run with some tables."""
    kept = [store.put_table(kind, table) for kind, table in kinds.items()]
    metrics = [row("mmd", 0.1, head=head) for head in heads or ("cellot",)]
    run = record("cellfm", track="scratch", task="drug_response", metrics=metrics, artifacts=kept)
    return sections([run])[0], Tables(store)


def rows_of(section: Section) -> list[tuple[Entry, Column]]:
    return [(entry, columns(section)[0]) for entry in section.entries]


def bounds(section: Section, tables: Tables) -> list[Figure]:
    return decoder_bounds(section, section.entries, columns(section), tables)


def nodes(figure: Figure, name: str, style: str = "") -> list[ElementTree.Element]:
    found = ElementTree.fromstring(figure.svg).iter(SVG + name)
    return [node for node in found if set(style.split()) <= set(node.get("class", "").split())]


def one_pair(left: dict[str, float], metric: str = "l2_means", pair: fake.Pair = ("d", "")) -> pd.DataFrame:
    about = {"drug": pair[0], "held_out": pair[1], "head": "cellot", "metric": metric}
    return pd.DataFrame([{**about, "step": step, "value": value} for step, value in left.items()])


# ---- all of them


def test_every_figure_is_well_formed_and_runs_no_label(judged: Ranked, tables: Tables) -> None:
    figures = drug_closeups(best_rows(judged), tables)
    figures += drug_maps(judged.section, figure_order(judged), judged.headline, tables)
    assert tables.problems == []
    assert len(figures) == len(fake.PAIRS) + ROWS + len(fake.HEADS) * len(fake.PAIRS)
    for figure in figures:
        root = ElementTree.fromstring(figure.svg)
        assert root.get("aria-label") == figure.title
        assert EVIL not in figure.svg and "NaN" not in figure.svg and "nan" not in figure.svg.replace(EVIL, "")
    assert sum("&lt;script&gt;alert(1)&lt;/script&gt;" in figure.svg for figure in figures) > 5


def test_they_are_on_the_board_and_the_words_are_known(board: Board) -> None:
    page = parse(board.page)
    titles = [b.text for figure in page.find("figure") for b in figure.find("b")]
    for start in ("Marker genes: trametinib · A549 held out", "Treated and predicted cells: cellfm", "Decoder and"):
        assert any(title.startswith(start) for title in titles), start
    assert [HEADS[head] for head in fake.HEADS] == ["CellOT", "Mean shift", "Decoded without transport"]
    assert "test cells seen in training or selection" in board.page and EVIL not in board.page


def test_nothing_is_drawn_of_nothing(store: ResultStore) -> None:
    empty = {
        "drug_markers": fake.markers("cellot", 0.3, 0).iloc[:0],
        "drug_umap": fake.layout("cellot", 0.3, 0).iloc[:0],
        "drug_bars": fake.bars("cellot", 0.3, None, 0).iloc[:0],
    }
    for kinds in ({}, empty):
        section, tables = opened(store, **kinds)
        assert drug_closeups(rows_of(section), tables) == []
        assert bounds(section, tables) == []
        assert tables.problems == []
    assert drug_closeups([], tables) == [] and decoder_bounds(section, section.entries, [], tables) == []


def test_only_the_head_a_row_reports_is_drawn(store: ResultStore) -> None:
    kinds = {"drug_markers": fake.markers("shift", 0.3, 0), "drug_bars": fake.bars("shift", 0.3, None, 0)}
    section, tables = opened(store, **kinds)
    assert drug_closeups(rows_of(section), tables) == []
    assert bounds(section, tables) == []


# ---- markers


def test_ridges_are_the_control_cells_and_each_prediction_under_the_treated(judged: Ranked, tables: Tables) -> None:
    figures = marker_genes(best_rows(judged), tables)
    assert [figure.title for figure in figures] == [
        "Marker genes: trametinib · A549 held out",
        "Marker genes: trametinib · MCF7 held out",
        f"Marker genes: {EVIL}",
        "Marker genes: dabrafenib · K562 held out",
    ]
    for figure in figures:
        # and a sample each in the legend
        assert len(nodes(figure, "path", "hued")) == 6 * (1 + ROWS) + 2
        assert len(nodes(figure, "path", "hued c1")) == 6 * ROWS + 1
        assert len(nodes(figure, "path", "curve c0")) == 6 * (1 + ROWS) + 1
        assert len(nodes(figure, "circle", "node")) == 2 * 6 * (1 + ROWS)  # the means
    assert "A prediction is good" in figures[0].caption and figures[1].caption == "Seed 0."


def test_genes_come_by_their_rank_and_missing_ones_leave_room(store: ResultStore) -> None:
    table = fake.markers("cellot", 0.3, 0, [("d", "")], ["A", "B", "C"]).replace({"rank": {0: 3}})
    table.loc[(table["gene"] == "B") & (table["population"] == "predicted"), ["b3", "mean"]] = np.nan
    section, tables = opened(store, drug_markers=table[~((table["gene"] == "C") & (table["population"] == "treated"))])
    (figure,) = marker_genes(rows_of(section), tables)
    texts = [node.text for node in nodes(figure, "title")]
    assert [t for t in texts if t in ("A", "B", "C")] == ["B", "C", "A"]
    assert len(nodes(figure, "text", "missing")) == 1
    assert any(t and t.startswith("B, predicted by cellfm: mean missing; treated: mean ") for t in texts)
    assert len(nodes(figure, "path", "curve")) == 2 * 2 + 1, "the treated cells of C are not known"


@pytest.mark.parametrize("high", [3.0, 4.0])
def test_a_gene_of_one_value_is_one_bar(store: ResultStore, high: float) -> None:
    table = fake.markers("cellot", 0.3, 0, [("d", "")], ["MALAT1"]).assign(high=high)
    section, tables = opened(store, drug_markers=table)
    (figure,) = marker_genes(rows_of(section), tables)
    assert len(nodes(figure, "path", "hued")) == 2 + 2
    for path in nodes(figure, "path"):
        numbers = path.get("d", "").replace("M", " ").replace("V", " ").replace("H", " ").replace("z", "").split()
        assert all(np.isfinite(float(n)) for n in numbers if "v" not in n and "h" not in n)


def test_ridges_of_one_gene_share_an_axis_and_a_height(store: ResultStore) -> None:
    table = fake.markers("cellot", 0.3, 0, [("d", "")], ["A"])
    table[[f"b{i}" for i in range(20)]] = 0.0
    table.loc[table["population"] == "control", "b0"] = 1.0
    table.loc[table["population"] == "predicted", "b19"] = 0.25
    section, tables = opened(store, drug_markers=table)
    (figure,) = marker_genes(rows_of(section), tables)
    tops = []
    for path in nodes(figure, "path", "hued")[2:]:
        start, *steps = path.get("d", "")[1:].rstrip("z").split("V")
        tops.append(float(start.split()[1]) - min(float(step.split("H")[0]) for step in steps))
    assert tops[1] == pytest.approx(tops[0] / 2, abs=0.2), "a quarter of the cells is half as high"


# ---- UMAPs


def test_predicted_cells_lie_on_top_of_the_treated(judged: Ranked, tables: Tables) -> None:
    figures = population_maps(best_rows(judged), tables)
    assert [figure.title for figure in figures] == [
        "Treated and predicted cells: cellot · baseline",
        "Treated and predicted cells: cellfm · scratch · CellOT",
    ]
    for figure in figures:
        styles = [path.get("class") for path in nodes(figure, "path")]
        assert styles == ["others", "others", "c0", "c0", "c1", "c1"] * 4
        assert figure.svg.count("h0") == 4 * 3 * 300
        assert any(title.text == f"treated · {EVIL}" for title in nodes(figure, "title"))


def test_a_map_of_another_head_says_so(store: ResultStore) -> None:
    maps = [fake.layout(head, 0.3, 0, [("d", "")]) for head in ("shift", "untransported")]
    section, tables = opened(store, drug_umap=pd.concat(maps))
    (figure,) = population_maps(rows_of(section), tables)
    assert figure.title == "Treated and predicted cells: cellfm · scratch · Mean shift"
    assert figure.svg.count("h0") == 3 * 300
    section, tables = opened(store, drug_umap=pd.concat([maps[0], fake.layout("cellot", 0.3, 0, [("d", "")])]))
    (figure,) = population_maps(rows_of(section), tables)
    assert figure.title.endswith("· CellOT") and figure.svg.count("h0") == 3 * 300


def test_cells_without_place_or_type_and_a_crowd(store: ResultStore) -> None:
    table = fake.layout("cellot", 0.3, 0, [("d", "")], MOST_CELLS + 300).assign(cell_type="")
    table = table[table["population"] != "control"].reset_index(drop=True)
    table.loc[table["population"] == "predicted", "x"] = np.nan
    section, tables = opened(store, drug_umap=table)
    (figure,) = population_maps(rows_of(section), tables)
    assert [path.get("class") for path in nodes(figure, "path")] == ["c0"]
    assert figure.svg.count("h0") <= MOST_CELLS
    assert [title.text for title in nodes(figure, "title")] == ["d", "treated"]
    nowhere, tables = opened(store, drug_umap=table.assign(x=np.nan))
    assert population_maps(rows_of(nowhere), tables) == []


def test_one_place_is_no_division_by_nothing(store: ResultStore) -> None:
    table = fake.layout("cellot", 0.3, 0, [("d", "")], 1).assign(x=1.0, y=2.0)
    section, tables = opened(store, drug_umap=table)
    (figure,) = population_maps(rows_of(section), tables)
    assert figure.svg.count("M500 500h0") == 3


# ---- decoder and transport


def test_every_row_stands_between_its_bounds_under_each_head(judged: Ranked, tables: Tables) -> None:
    figures = decoder_bounds(judged.section, figure_order(judged), judged.headline, tables)
    assert [figure.head for figure in figures] == [head for head in fake.HEADS for _ in fake.PAIRS]
    first = figures[0]
    assert first.title == "Decoder and transport: trametinib · A549 held out · CellOT", "its cells change most"
    labels = {label for _, _, label, _, _ in fake.MODELS}
    assert {title.text for title in nodes(first, "title")} >= labels, "baselines stand under every head"
    decoded = sum(decoder is not None for *_, decoder in fake.MODELS)
    assert len(nodes(first, "line", "range")) == 2 * decoded + 1  # and the legend
    assert len(nodes(first, "line", "reference")) == len(fake.MODELS) + 1, "no change correlates with nothing"
    assert len(nodes(first, "line", "mean")) == 2 * len(fake.MODELS) + 1
    assert "Means over seeds" in first.caption and "Means over seeds" not in figures[1].caption


def test_a_poor_decoder_is_named_and_one_that_does_the_work(judged: Ranked, tables: Tables) -> None:
    figures = decoder_bounds(judged.section, figure_order(judged), judged.headline, tables)
    caption = figures[0].caption
    assert "no nearer than untouched control cells: cellfm (untrained)." in caption
    assert "more than half of the way: scgpt (scratch)." in caption


def test_a_caption_names_no_crowd(store: ResultStore) -> None:
    kept = [store.put_table("drug_bars", one_pair({"identity": 5.0, "decoded": 6.0, "predicted": 6.0}))]
    about = {
        "track": "scratch",
        "task": "drug_response",
        "artifacts": kept,
        "metrics": [row("mmd", 0.1, head="cellot")],
    }
    (section,) = sections([record(f"m{i}", **about) for i in range(MOST_NAMES + 3)])
    (figure,) = bounds(section, Tables(store))
    assert "m5 (scratch) and 3 more." in figure.caption


def test_values_are_means_over_seeds_of_what_is_known(store: ResultStore) -> None:
    runs = []
    for seed, value in ((0, 2.0), (1, 4.0), (2, np.nan)):
        kept = [store.put_table("drug_bars", one_pair({"identity": 5.0, "predicted": value}))]
        about = {"track": "scratch", "task": "drug_response", "seed": seed, "artifacts": kept}
        runs.append(record("cellfm", metrics=[row("mmd", 0.1, head="cellot")], **about))
    (section,) = sections(runs)
    (figure,) = bounds(section, Tables(store))
    assert [node.text for node in nodes(figure, "text", "value")] == ["3.000"]


def test_missing_steps_have_no_sign(store: ResultStore) -> None:
    section, tables = opened(store, drug_bars=one_pair({"identity": 5.0, "decoded": 1.0, "predicted": np.nan}))
    (figure,) = bounds(section, tables)
    assert nodes(figure, "line", "range") == [] and nodes(figure, "line", "mean") == []
    assert len(nodes(figure, "line", "link")) == 1 + 1 and len(nodes(figure, "line", "reference")) == 1 + 1
    assert [node.text for node in nodes(figure, "text", "missing")] == ["–"]
    assert nodes(figure, "circle", "mark") == []
    assert "decoding alone" not in figure.svg and "half of" not in figure.svg
    nothing, tables = opened(store, drug_bars=one_pair({"identity": np.nan, "predicted": np.nan}))
    (figure,) = bounds(nothing, tables)
    assert [node.text for node in nodes(figure, "text", "missing")] == ["undefined"]


def test_a_diverged_prediction_leaves_the_axis_to_the_others(store: ResultStore) -> None:
    section, tables = opened(store, drug_bars=one_pair({"identity": 5.0, "half": 0.5, "predicted": 4e6}))
    (figure,) = bounds(section, tables)
    assert [node.text for node in nodes(figure, "text", "value")] == ["4.00e+06"]
    assert [node.text for node in nodes(figure, "text", "tick")][-1] == "›"
    ticks = [float((node.text or "").replace(",", "")) for node in nodes(figure, "text", "tick")[:-1]]
    assert min(ticks) == 0 and 10 <= max(ticks) <= 20


def test_a_metric_alone_takes_the_whole_width(store: ResultStore) -> None:
    section, tables = opened(store, drug_bars=one_pair({"predicted": 0.5}, "pearson_delta"))
    (figure,) = bounds(section, tables)
    assert [node.text for node in nodes(figure, "text", "axis")] == ["Pearson Δ ↑"]
    other, tables = opened(store, drug_bars=one_pair({"predicted": 0.5}, "another"))
    assert bounds(other, tables) == []


def test_of_many_drugs_those_that_change_most_are_drawn(store: ResultStore) -> None:
    many = [(f"drug {i}", "") for i in range(MOST_PAIRS + 3)]
    section, tables = opened(store, drug_bars=fake.bars("cellot", 0.3, None, 0, many).iloc[::-1])
    figures = bounds(section, tables)
    assert [figure.title for figure in figures] == [
        f"Decoder and transport: drug {i} · CellOT" for i in range(MOST_PAIRS)
    ]
    assert f"{MOST_PAIRS} of {len(many)} drugs, those whose cells change most." in figures[0].caption
    section, tables = opened(store, drug_markers=fake.markers("cellot", 0.3, 0, many, ["A"]))
    assert "4 of 11 drugs, the first stored." in marker_genes(rows_of(section), tables)[0].caption


# ---- in a browser


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.is_file(), reason="no chromium installed (apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (390, "dark")])
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
        assert len(sizes) > 18 and all(wide >= 100 and high >= 60 for wide, high in sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.eval_on_selector_all(
            "svg.umap path", "all => all.every(n => getComputedStyle(n).stroke !== 'none')"
        )
        page.click("#s1 .heads button[data-pick=shift]")
        assert page.locator("#s1 .maps figure:visible[data-head=cellot]").count() == 0
        assert page.locator("#s1 .maps figure:visible[data-head=shift]").count() >= len(fake.PAIRS)
        browser.close()
    assert troubles == []
