"""The page and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.metrics import row
from harness.registry import ROOT, load_object
from harness.results import ResultStore
from reports.board import SHORT, write_report
from reports.terminal import print_summary
from tests.reports.conftest import Board, make_board
from tests.reports.fake_store import EVIL, MODELS, full_store, record
from tests.reports.page import board_rows, parse

BANNER = "no released weights were run; this says nothing about the released models"


def test_every_result_file_has_a_row(board: Board) -> None:
    files = {path.stem for path in board.store.directory.glob("*.json")}
    rows = parse(board.page).find("tr", class_="run")
    assert len(rows) == len(files)
    assert {tr.attributes["data-run"] for tr in rows} == files


def test_nothing_is_loaded_from_anywhere(board: Board) -> None:
    page = parse(board.page)
    for node in page.find("script") + page.find("img") + page.find("iframe"):
        assert "src" not in node.attributes
    for link in page.find("link"):
        assert link.attributes["href"] == "data:,"
    style = page.find("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    without_namespace = board.page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://", without_namespace)


def test_labels_are_text_wherever_they_stand(board: Board) -> None:
    assert EVIL not in board.page
    page = parse(board.page)
    assert len(page.find("script")) == 1
    assert any(EVIL in th.text for th in page.find("th", class_="name"))
    assert any(EVIL in title.text for title in page.find("title"))
    assert any("細胞モデル & \"co\" 'x'" in th.text for th in page.find("th", class_="name"))


def test_names_cannot_end_the_script(store: ResultStore) -> None:
    name = "</script></style></svg><img src=x onerror=alert(1)>"
    store.put(record(label=name, dataset=name, task="odd", metrics=[row("accuracy", 0.5)], notes={name: name}))
    page = parse(make_board(store).page)
    assert not page.find("img")
    assert len(page.find("script")) == 1


def test_banner_until_published_weights_were_run(board: Board, store: ResultStore) -> None:
    assert BANNER in parse(board.page).find("p", class_="banner")[0].text
    store.put(record(metrics=[row("accuracy", 0.5)]))
    store.put(record("scgpt", track="published", status="failed", error="no weights"))
    assert BANNER in make_board(store).page
    store.put(record("scgpt", track="published", metrics=[row("accuracy", 0.5)]))
    assert BANNER not in make_board(store).page


def test_missing_is_shown_with_its_reason_and_never_as_zero(board: Board) -> None:
    page = parse(board.page)
    rows = board_rows(page, "scratch")
    assert rows["scfoundation"][0] == "–"
    assert "out of memory: 12.4 GB asked of 8 GB" in rows["scfoundation"][1]
    assert rows["scfoundation"][2] == "out of memory"
    assert rows["nan"][2] == "undefined"
    assert "2 of 3" in rows["uce"]
    failed = page.find("table", class_="failed")[0].find("tbody")[0].find("tr")
    assert len(failed) == 3  # by model, status and reason: an out-of-memory, a failure, a not-applicable
    assert [tr.find("td")[3].text for tr in failed] == ["0–2", "2", "0–2"]
    assert sum("RuntimeError" in tr.text for tr in failed) == 1


def test_smoke_runs_are_shown_and_not_ranked(board: Board) -> None:
    rows = board_rows(parse(board.page), "scratch")
    assert rows["quick"][0] == "–"
    assert "smoke run, not ranked" in rows["quick"][1]
    assert (rows["svm"][0], rows["pca"][0]) == ("1", "2")


def test_columns_that_no_run_has_are_left_out(store: ResultStore) -> None:
    store.put(record(metrics=[row("macro_f1", 0.5, head="knn")]))
    table = parse(make_board(store).page).find("table", data_board="baseline")[0]
    heads = [th.text for th in table.find("th", scope="col")]
    assert heads == ["#", "Model", "Macro F1 ↑kNN", "Licence", "Seeds"]


def test_spread_needs_two_seeds(store: ResultStore) -> None:
    store.put(record(metrics=[row("macro_f1", 0.5, head="knn")]))
    assert "±" not in parse(make_board(store).page).find("table", data_board="baseline")[0].text
    store.put(record(seed=1, metrics=[row("macro_f1", 0.6, head="knn")]))
    assert "0.550 ±0.071" in board_rows(parse(make_board(store).page), "baseline")["pca"][2]


def test_every_run_can_be_traced(board: Board) -> None:
    page = parse(board.page)
    details = page.find("tr", class_="detail")
    for said in (
        "cellfm-bench run model=pca",
        "config hash",
        "data sha256",
        "stratified-70/30",
        "cpu, torch, fp32",
    ):
        assert any(said in detail.text for detail in details), said
    environments = page.find("dl", id="environment-A")
    assert len(environments) == 1
    assert "torch 2.13.0" in environments[0].text
    assert "cells left out: 2" in page.text


def test_umap_has_one_panel_per_model_and_track(board: Board) -> None:
    page = parse(board.page)
    assert len(page.find("figure", class_="panel")) == len(MODELS)
    assert len(page.find("svg", class_="umap")) == 2 * len(MODELS)  # by cell type and, beside it, by batch


def test_artifact_that_is_gone_or_changed_is_named(tmp_path: Path) -> None:
    store = full_store(tmp_path / "results", seeds=(0,), models=MODELS[:2])
    files = sorted((store.directory / "artifacts").glob("*.csv"))
    gone, changed = (path for path in files if path.read_text().startswith("name,x,y"))
    gone.unlink()
    changed.write_text("x,y\n1,2\n")
    problems = [p.text for p in parse(make_board(store).page).find("p", class_="problem")]
    assert sum("is gone" in text for text in problems) == 1
    assert sum("was changed" in text for text in problems) == 1


def test_only_baselines_make_one_board(store: ResultStore) -> None:
    for model, value in (("pca", 0.8), ("hvg", 0.7)):
        store.put(record(model, metrics=[row("macro_f1", value, head="knn")]))
    page = parse(make_board(store).page)
    assert [t.attributes["data-board"] for t in page.find("table", class_="ranked")] == ["baseline"]


@pytest.mark.parametrize("status", ["failed", "not-applicable", "timeout", "skipped"])
def test_board_of_nothing_but_misses_renders(store: ResultStore, status: str) -> None:
    store.put(record("scgpt", track="scratch", status=status, error="why not"))
    board = make_board(store)
    assert "why not" in board.page
    assert board.report.summary[0]["rank"] == "–"
    assert len(board.report.csv.read_text().splitlines()) == 1


def test_record_without_any_metric_renders(store: ResultStore) -> None:
    store.put(record("pca"))
    assert parse(make_board(store).page).find("tr", class_="run")


def test_summary_is_short_and_plain(board: Board) -> None:
    assert {(r["task"], r["board"]) for r in board.report.summary} == {
        (task, track) for task in ("annotation", "integration") for track in ("scratch", "untrained")
    }
    assert all(isinstance(value, str) for line in board.report.summary for value in line.values())
    assert board.report.summary[0]["rank"] == "1"
    boards = Counter((r["task"], r["board"]) for r in board.report.summary)
    assert max(boards.values()) <= SHORT + 1  # the best of each board, and the SVM, which has its own head
    assert sum(line["mean ± sd"].endswith("(own method)") for line in board.report.summary) == 2


def test_terminal_shows_names_as_they_are(store: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.put(record("a", label="[red]a[/red]", metrics=[row("macro_f1", 0.25, head="knn")]))
    print_summary(make_board(store).report)
    shown = capsys.readouterr().out
    assert "[red]a[/red]" in shown
    assert "0.250" in shown
    assert BANNER[1:] in " ".join(shown.split())


def test_no_records_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InputError) as caught:
            write_report(directory, tmp_path / "leaderboard.html")
        assert str(directory) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "leaderboard.html").exists()


def test_directory_as_output_is_wrong_input(board: Board, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        write_report(board.store.directory, tmp_path)


def test_file_stays_small(board: Board) -> None:
    assert board.report.html.stat().st_size < 1_500_000


def test_entry_point_is_light() -> None:
    code = (
        "import sys; from harness.registry import load_object; load_object('reports.board:write_report');"
        "print([m for m in ('pandas', 'numpy', 'matplotlib', 'jinja2', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"
    assert load_object("reports.board:write_report") is write_report
