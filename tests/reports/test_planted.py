"""Planted data sets: in a part of their own at the end, and in no sentence or number over data sets."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harness.results import ResultStore
from reports.board import Report, write_report
from reports.cards import planted
from reports.collect import sections
from reports.glance import glance
from reports.ranking import rank
from reports.terminal import print_summary
from reports.verdicts import overall, recommendation, verdicts
from tests.reports.fake_store import umap
from tests.reports.page import parse
from tests.reports.test_verdicts import classes, judged, run

PLANT = {"effect": "batch", "seed": 3, "strength": 1.5, "groups": None}


def pair(dataset: str, **more: object) -> list:
    return [
        run("a", classes(0.8, 1), dataset=dataset, **more),
        run("pca", classes(0.5, 2), "baseline", dataset=dataset, **more),
    ]


def written(records: list, directory: Path) -> Report:
    store = ResultStore(directory / "results")
    for each in records:
        each.artifacts = [store.put_table("umap", umap(0.5, 0, batches=1))]
        store.put(each)
    return write_report(store.directory, directory / "leaderboard.html")


def test_known_from_the_card_and_from_the_record() -> None:
    (card,) = sections(pair("semi_batch"))
    assert planted(card).startswith("Planted in pbmc68k: batch effect on every gene")
    (own,) = sections(pair("mine", provenance={"config": {"dataset": {"name": "mine", "plant": PLANT}}}))
    assert planted(own) == "Planted: batch effect (seed 3, strength 1.5)"
    (both,) = sections(pair("semi_drug", provenance={"config": {"dataset": {"plant": {**PLANT, "effect": "drug"}}}}))
    assert planted(both).endswith("(seed 3, strength 1.5)")
    for name in ("pbmc68k", "unheard of"):
        (plain,) = sections(pair(name, provenance={"config": {"dataset": {"plant": None}}}))
        assert planted(plain) == ""


def test_nothing_is_concluded_from_planted_cells() -> None:
    ranked = judged([*pair("semi_batch"), *pair("d0"), *pair("semi_drug")])
    found = {each.section.dataset: each for each in ranked}
    for name in ("semi_batch", "semi_drug"):
        assert (verdicts(found[name]), recommendation(found[name])) == ([], None)
    assert verdicts(found["d0"])
    assert recommendation(found["d0"]) is not None
    assert overall(ranked) == []  # one data set as nature made it
    assert glance(ranked) is None
    ((_, family, _),) = overall(judged([*pair("semi_batch"), *pair("d0"), *pair("d1")]))
    assert {key[0] for member in family.members for key in member.overall} == {"d0", "d1"}


def test_planted_part_stands_at_the_end_and_says_what_is_planted(tmp_path: Path) -> None:
    report = written([*pair("semi_batch"), *pair("d0"), *pair("z1")], tmp_path)
    page = parse(report.html.read_text())
    titles = [" ".join(h.text.split()) for h in page.find("h2")]
    real = [i for i, title in enumerate(titles) if title.endswith((" d0", " z1"))]
    apart = titles.index("Planted effects semi-synthetic cells")
    assert max(real) < titles.index("Embeddings") < apart < titles.index("Cell-type annotation semi_batch")
    (section,) = [s for s in page.find("section", class_="task") if "semi_batch" in s.find("h2")[0].text]
    assert "Planted in pbmc68k: batch effect" in section.find("p", class_="leak")[0].text
    assert section.find("p", class_="verdict") == []
    assert section.find("div", class_="advice") == []
    assert section.find("table", class_="ranked")
    assert "semi_batch" not in page.find("section", id="glance")[0].text
    tiles = page.find("ul", class_="tiles")[0].find("li")[2].text
    assert "2 data sets" in " ".join(tiles.split()) and "1 with planted effects" in tiles
    rows = list(csv.DictReader(report.csv.with_name("verdicts.csv").open()))
    assert {line["dataset"] for line in rows} == {"d0", "z1", "all"}
    assert [line["dataset"] for line in csv.DictReader(report.csv.open())][-1] == "semi_batch"


def test_terminal_names_what_is_planted_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = written([*pair("semi_batch"), *pair("z1")], tmp_path)
    assert [line["dataset"] for line in report.summary][:: len(report.summary) - 1] == ["z1", "semi_batch (planted)"]
    print_summary(report)
    assert "semi_batch (planted)" in " ".join(capsys.readouterr().out.split())


def test_board_of_nothing_but_planted_cells(tmp_path: Path) -> None:
    report = written(pair("semi_perturbation"), tmp_path)
    page = parse(report.html.read_text())
    assert page.find("section", id="planted")
    assert "0 data sets" in " ".join(page.find("ul", class_="tiles")[0].text.split())
    assert rank(sections(pair("semi_perturbation"))[0]).planted
