"""Who shares a rank with whom, and leaderboard.csv."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from harness.metrics import row
from harness.results import MetricRow, ResultStore, RunRecord
from reports.board import write_report
from reports.collect import sections
from reports.compare import judge, pretraining
from reports.entries import Column
from reports.ranking import headline, own_column, own_head, rank, task
from tests.reports.conftest import Board
from tests.reports.fake_store import record
from tests.reports.page import parse

COLUMNS = (
    "track,task,dataset,setting,head,readout,split,model,variant,metric,metric_version,mean,ci_low,ci_high,"
    "n_units,n_seeds,rank,tied_with_best,beats_best_baseline"
)


def f1(value: float | None, head: str = "knn") -> list[MetricRow]:
    return [row("macro_f1", value, head=head)]


def lines(records: list[RunRecord], directory: Path) -> list[dict[str, str]]:
    store = ResultStore(directory / "results")
    for each in records:
        store.put(each)
    report = write_report(store.directory, directory / "leaderboard.html")
    return list(csv.DictReader(report.csv.open()))


def places(found: list[dict[str, str]], *columns: str) -> list[tuple[str, ...]]:
    return [tuple(line[column] for column in columns) for line in found]


def test_columns_are_exactly_these(board: Board) -> None:
    assert board.report.csv.name == "leaderboard.csv"
    assert board.report.csv.parent == board.report.html.parent
    assert board.report.csv.read_text().splitlines()[0] == COLUMNS


def test_mean_is_over_the_seeds(tmp_path: Path) -> None:
    runs = [record(seed=seed, metrics=f1(value)) for seed, value in enumerate((0.1, 0.2, 0.6))]
    (line,) = lines(runs, tmp_path)
    assert float(line["mean"]) == pytest.approx(0.3)
    assert (line["n_seeds"], line["rank"], line["track"]) == ("3", "1", "baseline")


def test_baselines_are_ranked_on_every_board_and_tracks_never_share_one(tmp_path: Path) -> None:
    runs = [record("pca", metrics=f1(0.7)), record("hvg", metrics=f1(0.4))]
    for track, value in (("published", 0.9), ("scratch", 0.6), ("untrained", 0.5)):
        runs.append(record("scgpt", track=track, metrics=f1(value)))
    found = lines(runs, tmp_path)
    assert places(found, "track", "model", "rank") == [
        ("published", "scgpt", "1"),
        ("published", "pca", "2"),
        ("published", "hvg", "3"),
        ("scratch", "pca", "1"),
        ("scratch", "scgpt", "2"),
        ("scratch", "hvg", "3"),
        ("untrained", "pca", "1"),
        ("untrained", "scgpt", "2"),
        ("untrained", "hvg", "3"),
    ]


def test_ties_share_a_rank_and_the_next_is_skipped(tmp_path: Path) -> None:
    third = [record("c", seed=seed, metrics=f1(value)) for seed, value in enumerate((0.1, 0.2, 0.6))]
    runs = [record("a", metrics=f1(0.3)), record("b", metrics=f1(0.2)), *third, record("d", metrics=f1(0.9))]
    assert places(lines(runs, tmp_path), "model", "rank") == [("d", "1"), ("a", "2"), ("c", "2"), ("b", "4")]


def test_lower_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    def error(value: float) -> list[MetricRow]:
        return [MetricRow(name="mse", version="1", value=value, higher_is_better=False)]

    runs = [record("a", task="odd", metrics=error(2.5)), record("b", task="odd", metrics=error(0.5))]
    assert places(lines(runs, tmp_path), "model", "rank") == [("b", "1"), ("a", "2")]


def test_versions_of_a_metric_do_not_share_a_rank(tmp_path: Path) -> None:
    old, new = (
        MetricRow(name="macro_f1", version=version, head="knn", value=value, higher_is_better=True)
        for version, value in (("1", 0.9), ("2", 0.1))
    )
    found = lines([record("a", metrics=[old]), record("b", metrics=[new])], tmp_path)
    assert places(found, "model", "metric_version", "rank") == [("a", "1", "1"), ("b", "2", "1")]


def test_undefined_numbers_and_smoke_runs_have_no_rank(tmp_path: Path) -> None:
    runs = [
        record("a", metrics=f1(None)),
        record("b", metrics=f1(math.nan)),
        record("c", metrics=f1(0.2)),
        record("d", metrics=f1(0.9), flags=["smoke"]),
    ]
    found = {line["model"]: line for line in lines(runs, tmp_path)}
    assert {model: line["rank"] for model, line in found.items()} == {"a": "", "b": "", "c": "1", "d": ""}
    assert (found["a"]["mean"], found["a"]["n_seeds"], found["d"]["mean"]) == ("", "0", "0.9")


def test_undefined_seed_is_left_out_of_the_mean(tmp_path: Path) -> None:
    (line,) = lines([record(metrics=f1(0.4)), record(seed=1, metrics=f1(None))], tmp_path)
    assert (line["mean"], line["n_seeds"]) == ("0.4", "1")


def test_units_are_counted(tmp_path: Path) -> None:
    units = [row("macro_f1", 0.1 * i, head="knn", scope="per-class", key=f"k{i}") for i in range(4)]
    (line,) = lines([record(metrics=[*f1(0.15), *units])], tmp_path)
    assert (line["n_units"], line["n_seeds"]) == ("4", "1")


def test_units_whose_mean_is_another_number_are_no_parts_of_it(tmp_path: Path) -> None:
    units = [row("macro_f1", 0.1 * i, head="knn", scope="per-class", key=f"k{i}") for i in range(4)]
    (line,) = lines([record(metrics=[*f1(0.4), *units])], tmp_path)
    assert (line["n_units"], line["ci_low"], line["ci_high"]) == ("1", "", "")


def test_splits_and_contents_of_one_name_are_not_compared(tmp_path: Path) -> None:
    runs = [
        record("a", metrics=f1(0.9), split="stratified-70/30"),
        record("b", metrics=f1(0.1), split="leave-out:donor3"),
        record("c", metrics=f1(0.2), provenance={"dataset_sha256": "f" * 64}),
    ]
    assert [line["rank"] for line in lines(runs, tmp_path)] == ["1", "1", "1"]


def test_newest_run_of_a_seed_counts(tmp_path: Path) -> None:
    old = record(metrics=f1(0.1), provenance={"started_at": "2026-01-01T00:00:00"}, run_id="a" * 16)
    new = record(metrics=f1(0.8), provenance={"started_at": "2026-02-01T00:00:00"}, run_id="0" * 16)
    (line,) = lines([old, new], tmp_path)
    assert (line["mean"], line["n_seeds"]) == ("0.8", "1")
    assert "superseded" in (tmp_path / "leaderboard.html").read_text()


def test_rows_that_would_read_the_same_are_told_apart(tmp_path: Path) -> None:
    runs = [
        record("a", metrics=f1(value), provenance={"precision": precision})
        for precision, value in (("fp32", 0.5), ("bf16", 0.4))
    ]
    assert places(lines(runs, tmp_path), "variant", "mean") == [("a · fp32", "0.5"), ("a · bf16", "0.4")]


def test_failed_seed_stands_beside_its_model(tmp_path: Path) -> None:
    about = {"variant": "tiny", "track": "scratch"}
    runs = [record("scgpt", label="scgpt · scratch · 0.5M params", seed=s, metrics=f1(0.5), **about) for s in (0, 1)]
    blank = {"label": "", "split": "", "provenance": {"dataset_sha256": "", "device": ""}}
    lost = record("scgpt", track="scratch", seed=2, status="failed", error="lost", **blank)
    other = record("scgpt", track="scratch", variant="80m", seed=0, status="failed", error="no", **blank)
    (section,) = sections([*runs, lost, other])
    assert [(len(e.runs), len(e.missing)) for e in section.entries] == [(0, 1), (2, 1)]


def test_headline_without_head_takes_every_head_and_own_heads_are_kept() -> None:
    runs = [
        record("pca", task="odd", metrics=[*f1(0.5, "mlp"), *f1(0.6, "knn"), row("accuracy", 0.9, head="knn")]),
        record("svm", task="odd", metrics=f1(0.7, "svm")),
    ]
    (section,) = sections(runs)
    about = task("odd")
    assert (about.title, about.headline) == ("Odd", ())
    about.headline = (("macro_f1", None),)
    assert [c.head for c in headline(section, about)] == ["knn", "mlp", "svm"]
    about.headline = (("macro_f1", "knn"), ("accuracy", "knn"))
    assert [c.head for c in headline(section, about)] == ["knn", "svm", "knn"]
    assert [own_head(section, entry, "macro_f1") for entry in section.entries] == [None, "svm"]


@pytest.mark.parametrize("heads", [("knn", "mlp"), ("knn",)])
def test_a_predictor_without_head_stands_beside_every_head(heads: tuple[str, ...], tmp_path: Path) -> None:
    """Scores of the vectors themselves, which have no head either, do not hide it."""
    vectors = [row("silhouette_label", 0.5)]
    runs = [
        record("pca", metrics=[*(r for head in heads for r in f1(0.5, head)), *vectors]),
        record("cellfm", track="scratch", metrics=[*(r for head in heads for r in f1(0.4, head)), *vectors]),
        record("svm", metrics=f1(0.7, "none")),
    ]
    (section,) = sections(runs)
    heads_brought = {e.label: own_head(section, e, "macro_f1") for e in section.entries}
    assert heads_brought == {"cellfm": None, "pca": None, "svm": "none"}
    lines(runs, tmp_path)
    page = parse((tmp_path / "leaderboard.html").read_text())
    assert "minus the best baseline, svm (own method, 0.700)" in page.find("p", class_="verdict")[0].text
    heads_of_columns = [" ".join(th.text.split()) for th in page.find("th", class_="metric")]
    assert "Macro F1 ↑own method" in heads_of_columns


def test_classifiers_of_their_own_share_one_column_beside_numbers_of_the_vectors(tmp_path: Path) -> None:
    """`rogi` has no head in any row, and embeddings may report more without one: neither hides a predictor."""
    vectors = [row("rogi", 0.2), row("accuracy", 0.1)]
    heads = ("knn", "mlp")
    runs = [
        record("pca", metrics=[*(r for h in heads for r in (*f1(0.5, h), row("accuracy", 0.5, head=h))), *vectors]),
        record("cellfm", track="scratch", metrics=[*(r for h in heads for r in f1(0.4, h)), *vectors]),
        *(record(m, metrics=[*f1(v, "none"), row("accuracy", v)]) for m, v in (("svm", 0.7), ("lr", 0.6), ("nn", 0.3))),
    ]
    (section,) = sections(runs)
    own = {e.label: own_column(section, e, Column("macro_f1", "mlp", "1")).head for e in section.entries}
    assert own == {"cellfm": "mlp", "lr": "none", "nn": "none", "pca": "mlp", "svm": "none"}
    found = [line for line in lines(runs, tmp_path) if line["metric"] == "macro_f1" and line["head"] == "none"]
    assert places(found, "model", "rank") == [("svm", "1"), ("lr", "2"), ("nn", "5")]  # pca and cellfm between them
    page = parse((tmp_path / "leaderboard.html").read_text())
    titles = [" ".join(th.text.split()) for th in page.find("th", class_="metric")]
    assert titles.count("Macro F1 ↑own method") == 1
    assert not {"Macro F1 ↑", "Accuracy ↑"} & set(titles)
    (ranked,) = map(rank, [section])
    judge(ranked)
    for head in heads:
        members = ranked.boards[0].families[Column("macro_f1", head, "1")].members
        assert sorted(m.entry.label for m in members) == ["cellfm", "lr", "nn", "pca", "svm"]


def test_a_method_of_its_own_is_ranked_beside_the_models(tmp_path: Path) -> None:
    """Under each head they are read by; its own line has the rank under the head the board is ranked by."""
    own = [*f1(0.6, "none"), row("accuracy", 0.2)]
    runs = [
        record("sum", metrics=own),
        record("pca", metrics=[*f1(0.5), *f1(0.7, "mlp"), row("accuracy", 0.3, head="mlp")]),
        record("cellfm", track="scratch", metrics=[*f1(0.7), *f1(0.4, "mlp"), row("accuracy", 0.1, head="mlp")]),
        record("scgpt", track="untrained", metrics=[*f1(0.6), *f1(0.8, "mlp")]),
    ]
    found = lines(runs, tmp_path)
    by_f1 = {tuple(line[c] for c in ("track", "model", "head")): line for line in found if line["metric"] == "macro_f1"}
    ranks = {key: line["rank"] for key, line in by_f1.items()}
    assert ranks == {
        ("scratch", "cellfm", "knn"): "1",
        ("scratch", "sum", "none"): "2",
        ("scratch", "pca", "knn"): "3",
        ("scratch", "pca", "mlp"): "1",
        ("scratch", "cellfm", "mlp"): "3",
        ("untrained", "sum", "none"): "1",
        ("untrained", "scgpt", "knn"): "1",  # the same number, whatever the head
        ("untrained", "pca", "knn"): "3",
        ("untrained", "scgpt", "mlp"): "1",
        ("untrained", "pca", "mlp"): "2",
    }
    scratch = [line for line in found if (line["metric"], line["track"]) == ("accuracy", "scratch")]
    assert {line["model"]: line["rank"] for line in scratch} == {"pca": "1", "sum": "2", "cellfm": "3"}
    page = parse((tmp_path / "leaderboard.html").read_text())
    rows = page.find("table", data_board="scratch")[0].find("tbody")[0].find("tr")
    assert [(tr.find("td")[0].text, tr.find("b")[0].text) for tr in rows] == [
        ("1", "cellfm"),
        ("2", "sum"),
        ("3", "pca"),
    ]
    cells = {c.attributes.get("data-head"): c for c in rows[1].find("td", class_="metric")}
    told = ("data-rank", "data-v")
    assert [cells["mlp"].attributes[name] for name in told] == ["2", "0.6"], "it sorts under a head it has no number by"
    assert cells["mlp"].text.strip() == "0.600*" and "own method: 0.600" in cells["mlp"].attributes["title"]


def test_ranks_are_of_the_rows_that_are_compared() -> None:
    """One number, one competition: whoever has a rank under a column is a member of its family, best first."""
    runs = [
        record("sum", metrics=f1(0.8, "none")),
        record("mean", metrics=f1(None, "none")),
        record("quick", metrics=f1(0.9, "none"), flags=["smoke"]),
        record("pca", metrics=[*f1(0.5), *f1(0.9, "mlp")]),
        record("cellfm", track="scratch", metrics=[*f1(0.7), *f1(0.4, "mlp")]),
        tuned("native", 0.6, label="cellfm"),
    ]
    (ranked,) = map(rank, sections(runs))
    judge(ranked)
    (board,) = ranked.boards
    assert [entry.label for entry in board.entries] == ["sum", "cellfm", "cellfm · lora native", "pca", "mean", "quick"]
    for column, family in board.families.items():
        members = {member.entry: member for member in family.members}
        assert members.keys() == {entry for entry, ranked_by in board.ranks if ranked_by == column}
        for entry, member in members.items():
            assert board.ranks[entry, column] == 1 + sum(m.mean > member.mean for m in members.values())
    first = board.families[ranked.headline[0]]
    best = next(entry for entry in board.entries if entry.label == "sum")
    assert first.best() is not None and first.best().entry is best and first.tied(best)


def tuned(head: str, value: float = 0.5, **more: object) -> RunRecord:
    """A network fine-tuned with a head of its own."""
    settings = {"head": head, "lora_rank": 16, **more.pop("finetune", {})}  # type: ignore[dict-item]
    about = {"track": "scratch", "label": "cellfm · scratch · 1M params", "setting": "lora"}
    return record("cellfm", metrics=f1(value, head), **{**about, **more}, provenance={"config": {"finetune": settings}})


def test_networks_fine_tuned_differently_are_rows_of_their_own() -> None:
    frozen = record("cellfm", track="scratch", label="cellfm · scratch · 1M params", metrics=f1(0.4))
    runs = [frozen, tuned("mlp"), tuned("mlp", seed=1), tuned("native"), tuned("native", setting="full")]
    (section,) = sections(runs)
    plain = "cellfm · scratch · 1M params"
    named = {entry.label: len(entry.runs) for entry in section.entries}
    assert named == {plain: 1, f"{plain} · full native": 1, f"{plain} · lora mlp": 2, f"{plain} · lora native": 1}
    (alone,) = sections([tuned("mlp")])  # of the same name whatever stands beside it
    assert alone.entries[0].label == f"{plain} · lora mlp"


def test_what_else_sets_fine_tuned_rows_apart_is_said() -> None:
    (section,) = sections([tuned("mlp"), tuned("mlp", finetune={"lora_rank": 4, "patience": None})])
    names = sorted(entry.label.partition("lora mlp")[2] for entry in section.entries)
    assert names == [" · lora rank 16", " · lora rank 4"]


def test_rows_nothing_tells_apart_bear_their_run() -> None:
    corpus = {"label": "a", "metrics": f1(0.5), "track": "published"}
    runs = [
        record("a", run_id=f"{digit}" * 16, **corpus, provenance={"checkpoint_sha256": f"{'0' * 20}{digit}"})
        for digit in "12"
    ]
    (section,) = sections(runs)
    assert sorted(entry.label for entry in section.entries) == [f"a · {d * 8}" for d in "12"]


def test_a_failed_head_is_not_put_beside_another(tmp_path: Path) -> None:
    why = "no classifier of its own"
    failed = tuned("native", status="not-applicable", error=why)
    (section,) = sections([tuned("mlp"), failed.model_copy(update={"metrics": []})])
    found = {entry.label.rpartition(" ")[2]: (len(entry.runs), len(entry.missing)) for entry in section.entries}
    assert found == {"mlp": (1, 0), "native": (0, 1)}
    lines([tuned("mlp"), failed.model_copy(update={"metrics": []})], tmp_path)
    page = parse((tmp_path / "leaderboard.html").read_text())
    missed = page.find("table", class_="failed")[0].find("tbody")[0]
    assert "cellfm · lora native" in missed.text
    assert "head native, lora rank 16" in page.find("section", id="runs-section")[0].text


def test_what_pretraining_is_worth_is_asked_of_networks_tuned_alike() -> None:
    runs = [tuned("mlp", 0.6), tuned("mlp", 0.7, finetune={"lora_rank": 4})]
    runs += [
        tuned("mlp", value, finetune={"lora_rank": r}, track="untrained", label="u")
        for r, value in ((4, 0.5), (16, 0.1))
    ]
    (ranked,) = map(rank, sections(runs))
    pairs = pretraining(ranked, Column("macro_f1", "mlp", "1"))
    assert sorted(round(pair.difference.estimate, 3) for pair in pairs) == [0.2, 0.5]


def test_one_number_without_heads_is_nobodys_own() -> None:
    (section,) = sections([record(m, task="integration", metrics=[row("avg_bio", 0.5)]) for m in ("pca", "hvg")])
    assert [own_head(section, entry, "avg_bio") for entry in section.entries] == [None, None]


def test_known_task_brings_its_headline() -> None:
    about = task("annotation")
    assert about.title != "Annotation"
    assert about.headline
