"""Ties, beaten baselines, sentences and advice, from run records to the files."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from harness.metrics import row
from harness.results import Cost, MetricRow, ResultStore, RunRecord
from reports.board import Report, write_report
from reports.collect import sections
from reports.compare import judge
from reports.entries import Column
from reports.ranking import Ranked, rank
from reports.verdicts import licence, overall, recommendation, verdicts
from tests.reports.conftest import Board
from tests.reports.fake_store import EVIL, record
from tests.reports.page import board_rows, parse

KNN = Column("macro_f1", "knn", "1")
VERDICTS = "track,task,dataset,split,metric,head,model_a,model_b,difference"
VERDICTS += ",ci_low,ci_high,p,p_holm,n_units,n_seeds,test,covers"


def rows(values: Iterable[float | None], head: str = "knn") -> list[MetricRow]:
    """F1 of each class, and their mean as macro F1."""
    values = list(values)
    there = [v for v in values if v is not None]
    mean = float(np.mean(there)) if there else None
    each = [row("f1", v, head=head, scope="per-class", key=f"type {i}") for i, v in enumerate(values)]
    return [row("macro_f1", mean, head=head), *each]


def run(
    model: str, values: Iterable[float | None], track: str = "scratch", head: str = "knn", **more: object
) -> RunRecord:
    return record(model, track=track, metrics=rows(values, head), **more)


def judged(records: list[RunRecord]) -> list[Ranked]:
    found = [rank(section) for section in sections(records)]
    for each in found:
        judge(each)
    return found


def written(records: list[RunRecord], directory: Path) -> Report:
    store = ResultStore(directory / "results")
    for each in records:
        store.put(each)
    return write_report(store.directory, directory / "leaderboard.html")


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def truths(report: Report, *columns: str) -> dict[str, tuple[str, ...]]:
    found = [line for line in table(report.csv) if line["metric"] == "macro_f1"]
    return {line["model"]: tuple(line[c] for c in columns) for line in found}


def classes(mean: float, seed: int, n: int = 12, sd: float = 0.02) -> np.ndarray:
    """Classes of one data set: some are hard for every model."""
    hard = np.random.default_rng(0).normal(0, 0.15, n)
    return mean + hard - hard.mean() + np.random.default_rng(1000 + seed).normal(0, sd, n)


def test_a_clear_winner_is_told_and_a_close_second_is_tied(tmp_path: Path) -> None:
    report = written(
        [
            run("good", classes(0.70, 1)),
            run("close", classes(0.69, 2)),
            run("poor", classes(0.5, 3)),
            run("pca", classes(0.6, 4), "baseline"),
        ],
        tmp_path,
    )
    assert truths(report, "tied_with_best", "beats_best_baseline", "n_units") == {
        "good": ("true", "true", "12"),
        "close": ("true", "true", "12"),
        "poor": ("false", "false", "12"),
        "pca": ("false", "", "12"),
    }
    text = parse(report.html.read_text())
    assert "The model beats the baselines." in text.find("p", class_="verdict")[0].text
    assert len(text.find("span", class_="tie")) == 1
    for line in table(report.csv):
        assert float(line["ci_low"]) < float(line["mean"]) < float(line["ci_high"])


def test_ties_are_of_the_board_a_row_stands_on(tmp_path: Path) -> None:
    report = written(
        [
            run("good", classes(0.8, 1)),
            run("weak", classes(0.4, 2), "untrained"),
            run("pca", classes(0.6, 4), "baseline"),
        ],
        tmp_path,
    )
    pca = {line["track"]: line["tied_with_best"] for line in table(report.csv) if line["model"] == "pca"}
    assert pca == {"scratch": "false", "untrained": "true"}


def test_predictor_with_its_own_head_is_a_baseline_for_every_head(tmp_path: Path) -> None:
    several = [*rows(classes(0.7, 1)), *rows(classes(0.72, 5), "mlp")]
    plain = [*rows(classes(0.6, 2)), *rows(classes(0.6, 6), "mlp")]
    records = [record("good", track="scratch", metrics=several), record("pca", metrics=plain)]
    report = written(records, tmp_path / "without")
    beats = {(li["model"], li["head"]): li["beats_best_baseline"] for li in table(report.csv)}
    assert beats["good", "knn"] == beats["good", "mlp"] == "true"
    report = written([*records, run("svm", classes(0.85, 3), "baseline", "svm", label="SVM")], tmp_path / "with")
    beats = {(li["model"], li["head"]): li["beats_best_baseline"] for li in table(report.csv)}
    assert beats["good", "knn"] == beats["good", "mlp"] == "false"
    said = parse(report.html.read_text()).find("p", class_="verdict")[0].text
    assert "The baseline is better." in said
    assert "SVM (SVM head, 0.85" in said


def test_verdicts_csv(tmp_path: Path) -> None:
    runs = [run("a", classes(0.7, s), seed=s) for s in range(3)]
    runs += [run("a", classes(0.5, 10 + s), "untrained", seed=s, variant="") for s in range(3)]
    runs += [run("pca", classes(0.6, 20 + s), "baseline", seed=s) for s in range(2)]
    report = written(runs, tmp_path)
    path = report.csv.with_name("verdicts.csv")
    assert path.read_text().splitlines()[0] == VERDICTS
    found = {(line["track"], line["model_a"], line["model_b"]): line for line in table(path)}
    assert set(found) == {("scratch", "a", "pca"), ("untrained", "pca", "a"), ("scratch - untrained", "a", "a")}
    line = found["scratch", "a", "pca"]
    assert float(line["ci_low"]) < float(line["difference"]) < float(line["ci_high"])
    assert (line["n_units"], line["n_seeds"]) == ("12", "2")  # only two seeds are common to both
    assert line["covers"] == "12 classes × 2 seeds of pbmc68k"
    assert line["p"] == line["p_holm"] == f"{2 / 2**12:.10g}"
    worth = found["scratch - untrained", "a", "a"]
    assert float(worth["difference"]) == pytest.approx(0.2, abs=0.03)
    said = [p.text for p in parse(report.html.read_text()).find("p", class_="verdict")]
    assert any(
        "Pretraining changes a. Scratch minus untrained, Macro F1 · kNN: a +0.2" in " ".join(s.split()) for s in said
    )


def test_seeds_alone_say_how_far_the_seed_moves_it_and_no_more(tmp_path: Path) -> None:
    runs = [
        record(model, track=track, seed=s, task="integration", metrics=[row("avg_bio", mean + 0.01 * ((s + k) % 3))])
        for k, (model, track, mean) in enumerate((("a", "scratch", 0.9), ("pca", "baseline", 0.5)))
        for s in range(3)
    ]
    report = written(runs, tmp_path)
    (line,) = table(report.csv.with_name("verdicts.csv"))
    assert line["covers"] == "3 seeds on the same cells of pbmc68k"
    assert (line["p"], line["p_holm"], line["n_units"]) == ("", "", "3")
    assert "no test" in line["test"]
    found = {li["model"]: (li["tied_with_best"], li["beats_best_baseline"]) for li in table(report.csv)}
    assert found == {"a": ("true", ""), "pca": ("", "")}  # far apart, on too few to say so
    page = parse(report.html.read_text())
    assert "too few to rank: 3 seeds" in page.find("h3")[0].text
    assert "Too few to tell" in page.find("p", class_="verdict")[0].text
    assert "No recommendation" in page.find("div", class_="advice")[0].text
    assert page.find("span", class_="tie") == []


def test_a_number_with_units_speaks_where_the_first_has_none(tmp_path: Path) -> None:
    def integrated(model: str, means: np.ndarray, track: str, seed: int) -> RunRecord:
        types = [
            row("silhouette_label", v, scope="per-class", key=f"type {i}") for i, v in enumerate(np.clip(means, 0, 1))
        ]
        whole = float(np.mean([t.value for t in types]))
        numbers = [row("avg_bio", whole - 0.1 + 0.01 * seed), row("macro_silhouette_label", whole)]
        return record(model, track=track, task="integration", seed=seed, metrics=[*numbers, *types])

    runs = [integrated("a", classes(0.7, 1), "scratch", s) for s in range(3)]
    runs += [integrated("pca", classes(0.5, 2), "baseline", s) for s in range(3)]
    report = written(runs, tmp_path)
    page = parse(report.html.read_text())
    first, second = (" ".join(p.text.split()) for p in page.find("p", class_="verdict"))
    assert first.startswith("Too few to tell. By AvgBio") and "3 seeds on the same cells" in first
    assert second.startswith("The model beats the baselines. By Type silhouette")
    assert "12 classes × 3 seeds" in second
    advice = " ".join(page.find("div", class_="advice")[0].text.split())
    assert advice.startswith("By AvgBio nothing can be told apart (too few to rank: 3 seeds")
    assert "Take a" in advice
    assert board_rows(page, "scratch")["a"][0] == "1"  # the board is ranked by the first number all the same


def test_a_number_that_only_baselines_have_decides_nothing() -> None:
    old = [
        record(m, track=t, metrics=[row("macro_f1", 0.5, head="knn")])
        for m, t in (("a", "scratch"), ("pca", "baseline"))
    ]
    new = [run(m, classes(0.5, i), "baseline", "mlp") for i, m in enumerate(("hvg", "rp"))]
    (ranked,) = judged([*old, *new])
    assert [v.ruling for v in verdicts(ranked)] == ["Too few to tell"]


def test_unit_missing_in_one_model_is_left_out_of_its_pairs(tmp_path: Path) -> None:
    gap: list[float | None] = [*classes(0.7, 1)]
    gap[3] = None
    report = written(
        [run("a", gap), run("pca", classes(0.5, 2), "baseline"), run("hvg", classes(0.5, 3), "baseline")], tmp_path
    )
    found = {(li["model_a"], li["model_b"]): li["n_units"] for li in table(report.csv.with_name("verdicts.csv"))}
    assert sorted(found.values()) == ["11", "11", "12"]


def test_equal_models_on_two_hundred_boards_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(12)
    tracks = ["scratch"] * 3 + ["baseline"] * 2
    crowned = 0
    for _ in range(200):
        hard = rng.normal(0.5, 0.2, 12)
        runs = [run(f"m{i}", hard + rng.normal(0, 0.05, 12), track) for i, track in enumerate(tracks)]
        (ranked,) = judged(runs)
        found = ranked.boards[0].families[KNN]
        entries = ranked.boards[0].entries
        crowned += any(found.tied(e) is False or found.beats(e) is True for e in entries)
    assert crowned / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_two_standard_deviations_over_twelve_classes_beat_the_baseline() -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(60):
        hard = rng.normal(0.5, 0.2, 12)
        runs = [run("good", hard + 0.02 * 2 * np.sqrt(2) + rng.normal(0, 0.02, 12))]
        runs += [run(f"b{i}", hard + rng.normal(0, 0.02, 12), "baseline") for i in range(2)]
        runs += [run(f"m{i}", hard + rng.normal(0, 0.02, 12)) for i in range(2)]
        (ranked,) = judged(runs)
        board = ranked.boards[0]
        good = next(e for e in board.entries if e.label == "good")
        found += board.families[KNN].beats(good) is True
    assert found > 0.8 * 60


def test_cheapest_row_that_cannot_be_told_is_recommended() -> None:
    def priced(
        model: str, mean: float, seed: int, params: int | None, speed: float, track: str = "scratch"
    ) -> RunRecord:
        return run(model, classes(mean, seed), track, cost=Cost(n_params=params, cells_per_s=speed, peak_rss_mb=900.0))

    (ranked,) = judged(
        [
            priced("large", 0.8, 1, 50_000_000, 10.0),
            priced("small", 0.8, 2, 100_000, 500.0),
            priced("weak", 0.5, 3, 1_000, 900.0),
            priced("pca", 0.6, 4, None, 9000.0, "baseline"),
        ]
    )
    advice = recommendation(ranked)
    assert [choice.name for choice in advice.choices] == ["small", "large"]
    assert advice.choices[0].licence == "not known here"
    assert licence("pca", "baseline").startswith("code ")
    assert "weights" in licence("scgpt", "published")
    assert "weights" not in licence("scgpt", "scratch")


def test_what_is_not_above_the_floor_is_not_recommended() -> None:
    wide = [0.05, 0.95] * 6
    rows_of = {"good": classes(0.7, 1), "guess": [v - 0.1 for v in wide]}
    runs = [run(model, values, "baseline") for model, values in rows_of.items()]
    free = recommendation(judged(runs)[0])
    assert {choice.name for choice in free.choices} == {"good", "guess"} and free.above == ""
    floor = run("random", classes(0.5, 3), "control", flags=["floor"])
    bound = recommendation(judged([*runs, floor])[0])
    assert [choice.name for choice in bound.choices] == ["good"] and bound.above == "random"


def test_no_headline_about_released_models_until_they_were_run(board: Board) -> None:
    for p in parse(board.page).find("p", class_="verdict"):
        assert "foundation model" not in p.text
        assert "released" not in p.text
    (ranked,) = judged([run("a", classes(0.7, 1), "published"), run("pca", classes(0.6, 2), "baseline")])
    assert "best released foundation model" in verdicts(ranked)[0].said


def test_verdicts_over_data_sets_need_data_sets(tmp_path: Path) -> None:
    runs = []
    for i, dataset in enumerate(f"d{i}" for i in range(7)):
        runs += [
            run("a", classes(0.7, i), dataset=dataset),
            run("pca", classes(0.5, 50 + i), "baseline", dataset=dataset),
        ]
    ((_, family, verdict),) = overall(judged(runs))
    (pair,) = family.pairs.values()
    assert (pair.n_units, pair.covers) == (7, "7 data sets × 84 classes × 1 seed")
    assert verdict.ruling == "The model beats the baselines"
    report = written(runs[:4], tmp_path)
    pooled = [line for line in table(report.csv.with_name("verdicts.csv")) if line["dataset"] == "all"]
    assert [line["n_units"] for line in pooled] == ["2"]
    assert "all data sets: too few to tell" in parse(report.html.read_text()).find("section", id="glance")[0].text


def test_a_split_without_a_baseline_does_not_take_the_sentence_over_data_sets_away() -> None:
    runs = [run("a", classes(0.7, i), dataset=f"d{i}") for i in range(3)]
    runs += [run("pca", classes(0.5, 50 + i), "baseline", dataset=f"d{i}") for i in range(3)]
    alone = run("a", classes(0.7, 1), dataset="d0", split="leave-batch-out:x", setting="lora", head="mlp")
    ((_, family, _),) = overall(judged([*runs, alone]))
    assert next(iter(family.pairs.values())).n_units == 3


ODD = {
    "one model": [run("a", classes(0.7, 1))],
    "one model, many seeds": [run("a", classes(0.7, s), seed=s) for s in range(3)],
    "one seed without units": [
        record(m, track=t, metrics=[row("macro_f1", 0.5, head="knn")])
        for m, t in (("a", "scratch"), ("pca", "baseline"))
    ],
    "only baselines": [run("pca", classes(0.7, 1), "baseline"), run("hvg", classes(0.6, 1), "baseline")],
    "no baseline": [run("a", classes(0.7, 1)), run("b", classes(0.6, 1))],
    "failed": [record("a", track="scratch", status="failed", error="no"), run("pca", classes(0.5, 1), "baseline")],
    "all failed": [record(m, track="scratch", status="failed", error="no") for m in ("a", "b")],
    "NaN": [run("a", [None] * 12), run("b", [None] * 12), run("pca", classes(0.5, 1), "baseline")],
    "all NaN": [run("a", [float("nan")] * 12), run("pca", [None] * 12, "baseline")],
    "ties": [
        run(m, [0.5] * 12, t, seed=s)
        for s in (0, 1)
        for m, t in (("a", "scratch"), ("b", "scratch"), ("pca", "baseline"))
    ],
    "no common seed": [run("a", classes(0.7, 1), seed=0), run("pca", classes(0.5, 1), "baseline", seed=1)],
    "smoke": [run("a", classes(0.9, 1), flags=["smoke"]), run("pca", classes(0.5, 2), "baseline")],
    "one class": [run("a", [0.5]), run("pca", [0.6], "baseline")],
    "evil": [run(EVIL, classes(0.7, 1), label=EVIL), run("pca", classes(0.5, 2), "baseline")],
}
SAYS = {
    "one model": "No baseline to beat",
    "one seed without units": "Too few to tell",
    "only baselines": "No model to judge",
    "no baseline": "no baseline has this number",
    "failed": "No model to judge",
    "NaN": "No model to judge",
    "ties": "No difference can be told",
    "no common seed": "Nothing can be said",
    "smoke": "No model to judge",
    "one class": "too few to rank",
}


@pytest.mark.parametrize("case", ODD)
def test_odd_boards_render_and_say_what_they_cannot_say(case: str, tmp_path: Path) -> None:
    report = written(ODD[case], tmp_path)
    page = report.html.read_text()
    assert SAYS.get(case, "") in parse(page).text
    assert EVIL not in page
    for line in table(report.csv):
        assert line["beats_best_baseline"] in ("", "false") or case == "evil"
        assert "nan" not in line.values()


def test_ties_everywhere_are_ties(tmp_path: Path) -> None:
    report = written(ODD["ties"], tmp_path)
    assert set(truths(report, "tied_with_best", "beats_best_baseline").values()) == {("true", "false"), ("true", "")}


def test_a_board_below_its_floor_recommends_nothing() -> None:
    runs = [run("pca", classes(0.2, 1), "baseline"), run("hvg", classes(0.21, 2), "baseline")]
    floor = run("random", classes(0.5, 3), "control", flags=["floor"])
    advice = recommendation(judged([*runs, floor])[0])
    assert advice.choices == [] and "no row is above the floor, random" in advice.why


def test_rows_dropped_for_the_floor_are_counted(tmp_path: Path) -> None:
    wide = np.array([0.05, 0.95] * 6)
    runs = [run("good", classes(0.7, 1), "baseline"), run("guess", wide - 0.1, "baseline")]
    runs.append(run("random", classes(0.5, 3), "control", flags=["floor"]))
    assert recommendation(judged(runs)[0]).below == 1
    page = " ".join(parse(written(runs, tmp_path).html.read_text()).find("div", class_="advice")[0].text.split())
    assert "no other row above the floor, random, is as good" in page and "1 row not above the floor" in page
