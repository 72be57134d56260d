"""Floors and ceilings on the board: shown, never ranked, and what scores are scaled between."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harness.metrics import row
from harness.results import MetricRow, ResultStore, RunRecord
from reports.collect import sections
from reports.controls import Bounds, bounds, missing
from reports.entries import Column
from reports.ranking import rank
from reports.verdicts import recommendation, verdicts
from reports.wording import percent
from tests.reports.conftest import make_board
from tests.reports.fake_store import record
from tests.reports.page import board_rows, parse
from tests.reports.test_verdicts import classes, judged, rows, run, table, written

KNN, SVM = Column("macro_f1", "knn", "1"), Column("macro_f1", "svm", "1")


def control(model: str, value: float, role: str, head: str = "knn", **more: object) -> RunRecord:
    metrics = [row("macro_f1", value, head=head), row("f1", value, head=head, scope="per-class", key="type 0")]
    return record(model, track="control", label=model, flags=[role] if role else [], metrics=metrics, **more)


FLOOR, CEILING = control("random", 0.1, "floor"), control("perfect", 0.9, "ceiling")
BOARD = [run("a", classes(0.7, 1)), run("pca", classes(0.5, 4), "baseline")]


def test_controls_are_never_ranked_nor_judged(tmp_path: Path) -> None:
    without, with_controls = judged(BOARD)[0], judged([*BOARD, FLOOR, CEILING])[0]
    assert verdicts(without) == verdicts(with_controls)
    assert recommendation(without).best == recommendation(with_controls).best
    report = written([*BOARD, FLOOR, CEILING], tmp_path)
    lines = [line for line in table(report.csv) if line["model"] in ("random", "perfect")]
    assert {(li["track"], li["rank"], li["tied_with_best"], li["beats_best_baseline"]) for li in lines} == {
        ("control", "", "", "")
    }
    assert {line["model"]: line["mean"] for line in lines} == {"random": "0.1", "perfect": "0.9"}
    pairs = {name for li in table(report.csv.with_name("verdicts.csv")) for name in (li["model_a"], li["model_b"])}
    assert pairs == {"a", "pca"}


def test_controls_stand_under_their_board(tmp_path: Path) -> None:
    report = written([*BOARD, FLOOR, CEILING], tmp_path)
    page = parse(report.html.read_text())
    assert list(board_rows(page, "scratch")) == ["a", "pca"]
    feet = page.find("table", data_board="scratch")[0].find("tfoot")[0].find("tr")
    said = [" ".join(tr.text.split()) for tr in feet]
    assert said[0].startswith("perfect ceiling 0.900") and said[1].startswith("random floor 0.100")
    assert [t.attributes["data-board"] for t in page.find("table", class_="ranked")] == ["scratch"]


def test_a_score_is_scaled_between_the_worst_floor_and_the_best_ceiling(tmp_path: Path) -> None:
    more = [control("permuted", 0.05, "floor", "permuted"), control("half", 0.8, "ceiling")]
    report = written([*BOARD, FLOOR, CEILING, *more, run("svm", classes(0.6, 3), "baseline", "svm")], tmp_path)
    lines = {(li["model"], li["head"]): li for li in table(report.csv.with_name("scaled.csv"))}
    for (model, head), line in lines.items():
        if model in ("a", "svm"):
            assert (line["floor_by"], line["ceiling_by"]) == ("permuted", "perfect"), head
            expected = (float(line["mean"]) - 0.05) / (0.9 - 0.05)
            assert float(line["scaled"]) == pytest.approx(expected, abs=1e-9)
    assert {("a", "knn"), ("svm", "svm"), ("perfect", "knn")} <= set(lines)
    assert float(lines["perfect", "knn"]["scaled"]) == 1
    shown = parse(report.html.read_text()).find("span", class_="scaled")
    assert shown[0].text == percent(float(lines["a", "knn"]["scaled"]))
    assert shown[0].attributes["title"] == "0 % = 0.050 (permuted), 100 % = 0.900 (perfect)"
    assert f"{float(lines['a', 'knn']['mean']):.3f}" in report.html.read_text()  # the raw value stays


def test_lower_is_better_turns_the_scale_round() -> None:
    def error(model: str, value: float, role: str) -> RunRecord:
        metric = MetricRow(name="mse", version="1", value=value, higher_is_better=False)
        track = "control" if role else "baseline"
        return record(model, track=track, task="odd", flags=[role] if role else [], metrics=[metric])

    runs = [error("no change", 4.0, "floor"), error("mean", 3.0, "floor"), error("truth", 1.0, "ceiling")]
    (section,) = sections([*runs, error("pca", 2.5, "")])
    found = bounds(section, Column("mse", "none", "1"))
    assert found == Bounds(4.0, 1.0, "no change", "truth")
    assert found.scaled(2.5) == pytest.approx(0.5)


def test_what_cannot_be_scaled_says_why(tmp_path: Path) -> None:
    report = written([*BOARD, FLOOR], tmp_path / "floor")
    page = report.html.read_text()
    assert "No ceiling was run, so scores are not scaled: run model=perfect_embedding too." in page
    assert not parse(page).find("span", class_="scaled")
    assert len(table(report.csv.with_name("scaled.csv"))) == 0
    page = written(BOARD, tmp_path / "neither").html.read_text()
    assert "No floor and no ceiling was run" in page
    assert 'id="scale"' not in page
    assert "so scores are not scaled" not in written([*BOARD, FLOOR, CEILING], tmp_path / "both").html.read_text()


@pytest.mark.parametrize(("floor", "ceiling"), [(0.5, 0.5), (0.9, 0.1)])
def test_a_ceiling_that_is_no_higher_than_the_floor_bounds_nothing(floor: float, ceiling: float) -> None:
    (section,) = sections([*BOARD, control("random", floor, "floor"), control("perfect", ceiling, "ceiling")])
    assert bounds(section, KNN) is None


ODD = {
    "controls alone": [FLOOR, CEILING],
    "a floor alone": [FLOOR],
    "a control of no role": [control("shuffled", 0.2, "")],
    "undefined": [record("random", track="control", flags=["floor"], metrics=rows([None])), *BOARD, CEILING],
    "failed": [record("random", track="control", status="failed", error="no"), *BOARD],
    "not applicable": [record("batches", track="control", status="not-applicable", error="no batches"), CEILING],
    "of seeds": [control("random", 0.1 * s, "floor", seed=s) for s in (1, 2)] + BOARD + [CEILING],
    "own head alone": [control("permuted", 0.1, "floor", "permuted"), CEILING],
}


@pytest.mark.parametrize("case", ODD)
def test_odd_boards_of_controls_render(case: str, tmp_path: Path) -> None:
    report = written(ODD[case], tmp_path)
    page = parse(report.html.read_text())
    for each in ODD[case]:
        assert each.model in page.text
    for line in table(report.csv):
        assert line["track"] != "control" or not line["rank"]
    for line in csv.DictReader(report.csv.with_name("scaled.csv").open()):
        assert float(line["floor"]) < float(line["ceiling"])


def test_a_baseline_may_be_the_floor_and_keeps_its_rank(tmp_path: Path) -> None:
    """No change is both: the simplest prediction, and what a scale begins at."""
    plain = run("no_change", classes(0.3, 9), "baseline", flags=["floor"])
    report = written([*BOARD, plain, CEILING], tmp_path)
    line = next(li for li in table(report.csv) if li["model"] == "no_change" and li["metric"] == "macro_f1")
    assert (line["track"], line["rank"]) == ("scratch", "3")
    (section,) = sections([*BOARD, plain, CEILING])
    assert bounds(section, KNN).floor_by == "no_change"
    assert missing(section, rank(section).task.controls) == ""


def test_leakage_is_said_once(store: ResultStore) -> None:
    notes = {"test cells identical to a training cell": 3, "donors on both sides of the split": "2 of 8"}
    for seed in (0, 1):
        flags = ["identical-cells", "same-donors"] if seed == 0 else ["same-donors"]
        store.put(run("pca", classes(0.5, seed), "baseline", flags=flags, notes=notes, seed=seed))
    page = parse(make_board(store).page)
    assert [p.text for p in page.find("p", class_="leak")] == [
        "Test cells identical to a training cell: 3 (seed 0). Scores may be too high.",
        "Donors on both sides of the split: 2 of 8 (seed 0, 1). Scores may be too high.",
    ]
    assert not page.find("tbody")[0].find("span", class_="flag")
