"""What pretraining had seen of the evaluated cells, and licences: columns of the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.metrics import row
from harness.results import RunRecord
from reports.cards import CLEAN, SAME_ATLAS, SEEN, STATUSES, UNKNOWN, compared, exposure, terms
from reports.collect import sections
from tests.reports.fake_store import record
from tests.reports.page import parse
from tests.reports.test_verdicts import written

MAY, JULY = "cellxgene-2023-05", "cellxgene-2024-07"


@pytest.mark.parametrize(
    ("model", "inside", "outside", "status"),
    [
        (None, [MAY], [], UNKNOWN),
        ([], [MAY], [], UNKNOWN),
        ([MAY], [], [], UNKNOWN),
        ([MAY], [MAY], [], SEEN),
        ([MAY, "other"], [MAY], ["other"], SEEN),
        ([MAY], [JULY], [], SAME_ATLAS),
        ([MAY], [JULY], [MAY], SAME_ATLAS),
        ([MAY], ["genecorpus-30m"], [], UNKNOWN),
        ([MAY], ["genecorpus-30m"], [MAY], CLEAN),
        ([MAY, "genecorpus-30m"], [], [MAY], UNKNOWN),
        (["cellxgene-unstated"], [MAY], [], SAME_ATLAS),
        (["cellxgene-unstated"], ["cellxgene-unstated"], [], SAME_ATLAS),
        (["cellxgene-unstated", "unnamed"], [], ["cellxgene-unstated", "unnamed"], UNKNOWN),
        (["unnamed"], ["unnamed"], [], UNKNOWN),
    ],
)
def test_status_of_released_weights(model: list[str], inside: list[str], outside: list[str], status: str) -> None:
    found = compared(model, inside, outside)
    assert found.status == status
    assert found.why


def published(model: str, variant: str, collections: object = None, not_in: object = None, **more: object) -> RunRecord:
    config = {"dataset": {"name": "mine", "collections": collections, "not_in": not_in}}
    about = {"track": "published", "variant": variant, "dataset": "mine", **more}
    return record(
        model,
        label=f"{model} {variant}",
        metrics=[row("macro_f1", 0.5, head="knn")],
        provenance={"config": config},
        **about,
    )


def status(each: RunRecord) -> str:
    (section,) = sections([each])
    return exposure(section.entries[0]).status


def test_the_cards_of_models_are_read() -> None:
    assert status(published("scgpt", "whole-human", [MAY])) == SEEN
    assert status(published("scgpt", "scGPT_human", MAY)) == SEEN  # the folder's name, and a name that is no list
    assert status(published("scgpt", "whole-human", [JULY])) == SAME_ATLAS
    assert status(published("scgpt", "whole-human", None, [MAY])) == CLEAN
    assert status(published("scgpt", "brain", [MAY])) == UNKNOWN
    assert status(published("scgpt", "my own", [MAY])) == UNKNOWN
    assert status(published("cellfm", "cellfm-80m", [MAY])) == UNKNOWN
    assert status(published("geneformer", "gf-6L-30M-i2048", ["genecorpus-30m"])) == SEEN
    assert status(published("uce", "4layer", [MAY], ["unnamed"])) == SAME_ATLAS
    assert status(published("a plugin's", "v1", [MAY])) == UNKNOWN


def test_networks_pretrained_here_are_known_by_their_cells() -> None:
    number = [row("macro_f1", 0.5, head="knn")]
    assert status(record("scgpt", track="scratch", metrics=number)) == CLEAN
    assert status(record("scgpt", track="scratch", metrics=number, flags=["cells-seen"])) == SEEN
    for track in ("untrained", "baseline", "control"):
        assert status(record("scgpt", track=track, metrics=number)) == ""


def test_columns_of_the_board(tmp_path: Path) -> None:
    runs = [
        published("scgpt", "whole-human", [MAY]),
        published("cellfm", "cellfm-80m", [MAY]),
        record("pca", dataset="mine", metrics=[row("macro_f1", 0.4, head="knn")]),
        record("unheard-of", track="published", dataset="mine", status="failed", error="no weights"),
    ]
    page = parse(written(runs, tmp_path).html.read_text())
    rows = page.find("table", data_board="published")[0].find("tbody")[0].find("tr")
    found = {tr.find("b")[0].text: tr for tr in rows}
    assert {name: tr.attributes["data-seen"] for name, tr in found.items()} == {
        "scgpt whole-human": SEEN,
        "cellfm cellfm-80m": UNKNOWN,
        "pca": "",
        "unheard-of": "",
    }
    cards = {name: [td.text for td in tr.find("td", class_="card")] for name, tr in found.items()}
    assert cards["scgpt whole-human"] == ["seen", "none statedcommercial use unknown"]
    assert cards["cellfm cellfm-80m"] == ["unknown", "CC BY-NC-ND 4.0no commercial use"]
    assert cards["pca"] == ["", "MIT"]
    assert cards["unheard-of"] == ["", ""]
    chips = [chip.attributes["data-seen-chip"] for chip in page.find("button", class_="seen")]
    assert chips == [SEEN, UNKNOWN]
    for chip in page.find("button", class_="seen"):
        assert chip.attributes["title"] == STATUSES[chip.attributes["data-seen-chip"]]


def test_no_column_and_no_filter_where_nothing_was_pretrained(tmp_path: Path) -> None:
    page = parse(written([record("pca", metrics=[row("macro_f1", 0.4, head="knn")])], tmp_path).html.read_text())
    assert not page.find("button", class_="seen")
    assert "before" not in page.find("table", data_board="baseline")[0].find("thead")[0].text


def test_terms_are_short_and_whole() -> None:
    (section,) = sections([published("scfoundation", "cell")])
    found = terms(section.entries[0])
    assert found.licence == "scFoundation License"
    assert found.use == "no commercial use"
    assert "non-commercial research only" in found.hint
    (section,) = sections([record("scfoundation", track="scratch", metrics=[row("macro_f1", 0.4, head="knn")])])
    assert (terms(section.entries[0]).licence, terms(section.entries[0]).use) == ("Apache-2.0", "")
