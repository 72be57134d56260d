"""Rows whose model had read the labels, and vectors that were made elsewhere: shown, marked, the former not ranked."""

from __future__ import annotations

from pathlib import Path

from harness.metrics import row
from harness.results import MetricRow, ResultStore
from reports.board import write_report
from reports.cards import UNKNOWN, exposure, terms
from reports.collect import sections
from reports.compare import judge
from reports.ranking import rank
from reports.verdicts import recommendation, verdicts
from tests.reports.fake_store import record
from tests.reports.page import parse
from tests.reports.test_ranking import lines


def classes(mean: float) -> list[MetricRow]:
    """Macro F1 and its twelve classes, which all have a value of their own."""
    values = [mean + 0.002 * (i - 5.5) for i in range(12)]
    each = [row("f1", value, head="knn", scope="per-class", key=f"type {i}") for i, value in enumerate(values)]
    return [row("macro_f1", sum(values) / 12, head="knn"), *each]


def runs():
    made = {"track": "published", "flags": ["precomputed"]}
    exposed = {"track": "published", "flags": ["label-exposure", "precomputed"]}
    return [
        record("precomputed", variant="text", label="text", metrics=classes(0.95), **exposed),
        record("precomputed", variant="vectors", label="vectors", metrics=classes(0.8), **made),
        record("scgpt", label="scgpt", track="published", metrics=classes(0.7)),
        record("pca", label="pca", metrics=classes(0.6)),
    ]


def test_it_has_no_rank_and_stands_behind_those_that_have(tmp_path: Path) -> None:
    found = {line["variant"] or line["model"]: line for line in lines(runs(), tmp_path)}
    assert {name: line["rank"] for name, line in found.items()} == {
        "text": "",
        "vectors": "1",
        "scgpt": "2",
        "pca": "3",
    }
    assert float(found["text"]["mean"]) > 0.94 and found["text"]["beats_best_baseline"] == ""
    page = parse((tmp_path / "leaderboard.html").read_text())
    table = page.find("table", data_board="published")[0].find("tbody")[0]
    assert [tr.find("td")[0].text.strip() for tr in table.find("tr")] == ["1", "2", "3", "–"]
    last, first = table.find("tr")[-1].text, table.find("tr")[0].text
    assert "labels seen in pretraining, not ranked" in last and "vectors made elsewhere" in last
    assert "vectors made elsewhere" in first and "not ranked" not in first


def test_no_sentence_is_made_of_it(tmp_path: Path) -> None:
    (section,) = sections(runs())
    ranked = rank(section)
    judge(ranked)
    said = " ".join(verdict.said for verdict in verdicts(ranked))
    assert "vectors (vectors made elsewhere, 0.800)" in said and "text" not in said
    chosen = recommendation(ranked)
    assert chosen is not None and [choice.name for choice in chosen.choices] == ["vectors"]


def test_elsewhere_the_same_model_is_ranked_and_the_overview_says_where_not(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    for each in runs():
        store.put(each)
    for model, flags in (("precomputed", ["precomputed"]), ("scgpt", [])):
        name = "text" if flags else model
        more = {"variant": "text"} if flags else {}
        metrics = [row("avg_bio", 0.5)]
        put = record(model, label=name, task="integration", track="published", flags=flags, metrics=metrics, **more)
        store.put(put)
    report = write_report(store.directory, tmp_path / "board.html")
    glance = parse(report.html.read_text()).find("table", class_="glance")[0]
    (text,) = [tr for tr in glance.find("tr") if "text" in tr.find("th")[0].text]
    cells = [td.text for td in text.find("td")]
    assert "labels seen" in cells[0] and "labels seen" not in cells[1]


def test_what_is_not_known_of_vectors_is_said() -> None:
    (section,) = sections(runs())
    entry = next(entry for entry in section.entries if entry.label == "vectors")
    assert exposure(entry).status == UNKNOWN
    assert terms(entry).licence == "not known here" and terms(entry).use == "commercial use unknown"
