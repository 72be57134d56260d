"""The figures: what is drawn, what is left out, what is escaped."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from harness.metrics import row
from harness.results import ResultStore
from reports.artifacts import Tables
from reports.collect import sections
from reports.entries import Column
from reports.figures.confusion import confusion_map
from reports.figures.dots import dot_plots
from reports.figures.figure import short_names
from reports.figures.maps import MOST_UNITS, unit_heat_maps
from reports.figures.speed import speed_plot
from reports.figures.svg import Scale, scale_around, shorten, tick_label
from reports.figures.umap import MOST_POINTS, atlases
from reports.glance import figure_order
from reports.ranking import columns, rank
from reports.wording import listing, quantity, score, spread
from tests.reports.conftest import Board
from tests.reports.fake_store import EVIL, record, umap

SVG = "{http://www.w3.org/2000/svg}"


def test_every_seed_is_a_mark_and_every_figure_is_well_formed(board: Board) -> None:
    each = next(r for r in map(rank, sections(board.store.records())) if r.section.task == "annotation")
    order = figure_order(each)
    figures = dot_plots(each.section, each.headline, order) + speed_plot(order, each.headline[0])
    figures += unit_heat_maps(each.section, order, each.headline)
    for figure in figures:
        ElementTree.fromstring(figure.svg)
        assert EVIL not in figure.svg
    tree = ElementTree.fromstring(figures[0].svg)
    seeds = sum(e.scores[each.headline[0]].n_seeds for e in order if each.headline[0] in e.scores)
    own = 3  # the SVM's seeds, drawn beside every head
    marks = [node for node in tree.iter() if "mark" in node.get("class", "").split()]
    assert len(marks) == seeds + own


def test_task_baseline_is_drawn_with_every_head(board: Board) -> None:
    each = next(r for r in map(rank, sections(board.store.records())) if r.section.task == "annotation")
    panels = dot_plots(each.section, each.headline, figure_order(each))
    assert {panel.head for panel in panels} == {"knn", "logreg", "mlp"}
    assert all(">svm*<" in panel.svg for panel in panels)


def test_many_units_are_cut_and_said_so() -> None:
    units = [row("f1", 0.5, head="knn", scope="per-class", key=f"type {i}", n=i + 1) for i in range(60)]
    (section,) = sections([record(metrics=units)])
    (figure,) = unit_heat_maps(section, section.entries, [])
    assert f"The {MOST_UNITS} largest of 60" in figure.caption
    assert figure.wide
    assert "type 59" in figure.svg
    assert ">type 3<" not in figure.svg


def test_units_of_other_numbers_than_the_headline_are_left_to_the_records() -> None:
    units = [
        row(name, 0.5, head=head, scope="per-class", key=f"type {i}")
        for i in range(3)
        for name, head in (("f1", "knn"), ("f1", "mlp"), ("auroc", "knn"))
    ]
    (section,) = sections([record(metrics=[row("macro_f1", 0.5, head="knn"), *units])])
    found = unit_heat_maps(section, section.entries, [Column("macro_f1", "knn", "1")])
    assert [figure.title for figure in found] == ["F1 per class · kNN"]


def test_confusion_is_of_the_asked_head(store: ResultStore) -> None:
    table = pd.DataFrame(
        {
            "true": ["a", "a", "b", "a"],
            "predicted": ["a", "b", "b", "a"],
            "head": ["knn", "knn", "knn", "mlp"],
            "n": [3, 1, 4, 9],
        }
    )
    run = record(metrics=[row("macro_f1", 0.5, head="knn")], artifacts=[store.put_table("confusion", table)])
    (section,) = sections([run])
    (figure,) = confusion_map(section.entries[0], columns(section)[0], Tables(store))
    assert "3 of 4 a called a" in figure.svg
    assert "4 of 4 b called b" in figure.svg


def test_large_embeddings_are_sampled_and_said_so(store: ResultStore) -> None:
    table = umap(0.8, 0, sizes=(4000, 2000), batches=1)
    run = record(metrics=[row("accuracy", 0.5)], artifacts=[store.put_table("umap", table)])
    atlas = atlases(sections([run]), Tables(store))["pbmc68k"]
    (panel,), (by_type,) = atlas.panels, atlas.colourings  # one batch: by cell type only
    assert panel.note == f"{MOST_POINTS:,} of 6,000 cells drawn"
    assert [picture.count("h0") for picture in panel.pictures] == [MOST_POINTS]
    assert [(name, n) for _, name, n in by_type.legend] == [("Dendritic", 4000), ("CD8+ Cytotoxic T", 2000)]


def test_type_and_batch_stand_side_by_side_on_the_same_points(store: ResultStore) -> None:
    tables = [umap(quality, 0, sizes=(40, 20), batches=3) for quality in (0.4, 0.8)]
    runs = [
        record(model, metrics=[row("accuracy", 0.5)], artifacts=[store.put_table("umap", table)])
        for model, table in zip(("pca", "hvg"), tables, strict=True)
    ]
    atlas = atlases(sections(runs), Tables(store))["pbmc68k"]
    by_type, by_batch = atlas.colourings
    assert (by_type.title, by_batch.title) == ("cell type", "batch")
    assert [(name, n) for _, name, n in by_batch.legend] == [(f"batch {i}", 20) for i in range(3)]
    assert not {each[0] for each in by_type.legend} & {each[0] for each in by_batch.legend}, "no colour stands for two"
    assert len(atlas.panels) == 2
    for panel in atlas.panels:
        assert [" by cell type" in each or " by batch" in each for each in panel.pictures] == [True, True]
        types, batches = (sorted(re.findall(r"M\d+ \d+h0", each)) for each in panel.pictures)
        assert types == batches and len(types) == 60


def test_umap_of_the_lowest_seed_is_shown_once_per_data_set(store: ResultStore) -> None:
    about = {"metrics": [row("accuracy", 0.5)]}
    runs = [
        record(task=task, seed=seed, artifacts=[store.put_table("umap", umap(0.1, seed))], **about)
        for task in ("annotation", "integration")
        for seed in (2, 1)
    ]
    (panel,) = atlases(sections(runs), Tables(store))["pbmc68k"].panels
    assert len(panel.pictures) == 2


def test_umap_of_one_point_and_of_missing_coordinates(store: ResultStore) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "x": [1.0, None], "y": [2.0, None], "cell_type": "", "batch": ""})
    run = record(metrics=[row("accuracy", 0.5)], artifacts=[store.put_table("umap", table)])
    (panel,) = atlases(sections([run]), Tables(store))["pbmc68k"].panels
    assert [picture.count("h0") for picture in panel.pictures] == [1]


def test_artifact_outside_the_results_is_not_read(store: ResultStore, tmp_path: Path) -> None:
    artifact = store.put_table("umap", umap(0.5, 0))
    (tmp_path / "secret.csv").write_bytes((store.directory / artifact.path).read_bytes())
    tables = Tables(store)
    run = record(artifacts=[artifact.model_copy(update={"path": "../secret.csv"})])
    assert tables.get(run, "umap", ("x", "y")) is None
    assert "outside" in tables.problems[0]


def test_short_names_stay_distinct_within_a_track() -> None:
    runs = [
        record("cellfm", track="scratch", label="cellfm · scratch · 0.6M params", metrics=[row("accuracy", 0.5)]),
        record("cellfm", track="scratch", label="cellfm · scratch · 2M params", metrics=[row("accuracy", 0.5)]),
        record("cellfm", track="untrained", label="cellfm · untrained", metrics=[row("accuracy", 0.5)]),
    ]
    (section,) = sections(runs)
    names = sorted(short_names(section.entries).values())
    assert names == ["cellfm", "cellfm · 0.6M params", "cellfm · 2M params"]


def test_scale_and_ticks() -> None:
    assert scale_around([0.7, 0.9], 0.0, 1.0) == pytest.approx((0.6, 1.0))
    assert scale_around([0.99, 1.0], 0.0, 1.0)[1] == 1.0
    assert scale_around([0.5], 0.0, 1.0)[0] < 0.5
    low, high = scale_around([-3.0, 1200.0], None, None)
    assert low <= -3 and high >= 1200
    scale = Scale(0.0, 1.0, 10.0, 110.0)
    assert scale(0.25) == 35.0
    ticks = scale.ticks()
    assert [tick_label(tick, ticks) for tick in ticks] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert Scale(8, 900, 0, 1, log=True).ticks() == [10, 30, 100, 300]


def test_numbers_as_written() -> None:
    assert [score(v) for v in (0.5, -0.25, 12.345, 1234.5, None, 1e-5)] == [
        "0.500", "−0.250", "12.35", "1,234", "–", "1.00e-05",
    ]  # fmt: skip
    assert [quantity(v) for v in (812, 1234, 610_000, 82_000_000, 1.3e9, None)] == [
        "812", "1,234", "0.6M", "82M", "1.3B", "–",
    ]  # fmt: skip
    assert [spread(0.0123, 0.5), spread(0.0001, 0.5), spread(0.0, 0.5), spread(None, 0.5)] == [
        "± 0.012", "± <0.001", "± 0.000", "",
    ]  # fmt: skip
    assert [listing([2, 0, 1]), listing([0, 2]), listing([])] == ["0–2", "0, 2", ""]
    assert shorten("random_projection", 60).endswith("…")
    assert shorten("pca", 60) == "pca"
