"""FINDINGS.md: every number in it is one of the tables beside it, and it says which way a difference goes."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from reports.board import write_report
from reports.findings import plain
from reports.verdicts import signed
from reports.wording import UNRELEASED, score
from tests.conftest import ROOT
from tests.reports.fake_store import full_store
from tests.reports.test_verdicts import classes, record, rows, run

#: A number that is no part of a name (F1, pbmc_3tech, CD14+).
NUMBER = re.compile(r"(?<![\w.,/–-])[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?(?![\w/]|\.\d)")
DIFFERENCE = re.compile(r"([+−]?[\d.,]+(?:e[−-]\d+)?) (\[−?[\d.,e−-]+, −?[\d.,e−-]+\])")


def tables(directory):
    return {name: list(csv.DictReader((directory / name).open())) for name in ("leaderboard.csv", "verdicts.csv")}


def number(text):
    return float(text) if text else None


def strangers(words, found):
    """The numbers of a text that no table has; names, and what an interval covers, stand in the tables as they are."""
    words = re.sub(r"\\(.)", r"\1", re.sub(r"`[^`]*`", "", words)).replace("95 %", "")
    names = {
        line[key] for line in found["verdicts.csv"] for key in ("covers", "dataset", "split", "model_a", "model_b")
    }
    names |= {line[key] for line in found["leaderboard.csv"] for key in ("dataset", "split", "model")}
    for name in sorted(names - {""}, key=len, reverse=True):
        words = words.replace(name.partition("; ")[0], "")
    keys = ("mean", "ci_low", "ci_high", "n_units", "n_seeds", "difference")
    known = {number(line[key]) for lines in found.values() for line in lines for key in keys if line.get(key)}
    printed = {score(abs(value)) for value in known} | {f"{value:.0f}" for value in known if value == int(value)}
    return [each for each in NUMBER.findall(words) if each.lstrip("−-") not in printed]


def intervals(words):
    """Differences with their intervals, as they are printed in tables of differences."""
    part = [line for line in words.splitlines() if line.startswith("| ") or "ifference " in line]
    return [f"{value} {interval}" for line in part for value, interval in DIFFERENCE.findall(line)]


def said(line, sign):
    value, low, high = (number(line[key]) for key in ("difference", "ci_low", "ci_high"))
    if value is None or low is None:
        return ""
    low, high = sorted((sign * low, sign * high))
    return f"{signed(sign * value)} [{score(low)}, {score(high)}]"


def check(directory):
    words, found = (directory / "FINDINGS.md").read_text(), tables(directory)
    assert strangers(words, found) == []
    of_verdicts = {said(line, sign) for line in found["verdicts.csv"] for sign in (1, -1)}
    printed = intervals(words)
    assert printed and set(printed) <= of_verdicts, set(printed) - of_verdicts
    return words


def written(records_or_store, directory: Path):
    from harness.results import ResultStore

    store = records_or_store
    if isinstance(store, list):
        store = ResultStore(directory / "results")
        for each in records_or_store:
            store.put(each)
    write_report(store.directory, directory / "leaderboard.html", findings=directory / "FINDINGS.md")
    return check(directory)


def test_every_number_is_in_the_tables(tmp_path):
    words = written(full_store(tmp_path / "results"), tmp_path)
    assert "**" + UNRELEASED[0].upper() + UNRELEASED[1:] in words
    assert "<script>" not in words and r"\<script\>" not in words.split("## In short")[0]
    assert "| pbmc68k" in words and "What pretraining is worth" in words


def test_the_check_finds_a_number_that_is_in_no_table(tmp_path):
    words = written(full_store(tmp_path / "results"), tmp_path)
    found = tables(tmp_path)
    assert strangers(words + "\nIt scores 0.98765, F1 of CD14+ cells.", found) == ["0.98765"]


@pytest.mark.parametrize(
    ("network", "outcome"),
    [(0.9, "The model beats the baselines"), (0.4, "The baseline is better")],
)
def test_who_is_better_is_said(tmp_path, network, outcome):
    runs = [run("net", classes(network, s), seed=s) for s in range(3)]
    runs += [run("pca", classes(0.65, 20 + s), "baseline", seed=s) for s in range(3)]
    words = written(runs, tmp_path)
    short = words.split("## In short")[1].split("## Cell-type")[0]
    assert f"- **{outcome}**:" in short and "net (scratch) against pca" in short
    others = [line for line in short.splitlines() if line.endswith("nowhere.")]
    assert len(others) == 3
    assert f"| {outcome} |" in words


def test_too_few_and_ties_stand_under_what_cannot_be_decided(tmp_path):
    few = [
        record(m, track=t, metrics=rows([v, v + 0.1])) for m, t, v in (("n", "scratch", 0.9), ("p", "baseline", 0.2))
    ]
    words = written(few, tmp_path)
    assert "- **Too few to tell" in words
    assert "too few to tell anything" in words.split("cannot decide")[1]


def test_a_network_that_is_not_above_the_floor_is_named(tmp_path):
    runs = [run("net", classes(0.2, 1)), run("pca", classes(0.7, 2), "baseline")]
    runs += [run("permuted", classes(0.4, 3), "control", flags=["floor"])]
    runs += [run("perfect", np.ones(12), "control", flags=["ceiling"])]
    words = written(runs, tmp_path)
    assert "**Not above the floor: net.**" in words and "ceiling perfect 1.000" in words


def test_names_are_no_markup():
    assert plain("a|b *c* _d_ e_f <g> [h](i)\nj") == r"a\|b \*c\* \_d\_ e_f \<g\> [h]\(i) j"


def test_the_findings_of_the_showcase_are_in_its_tables():
    check(ROOT / "reports" / "showcase")


def test_baselines_without_a_network_are_compared(tmp_path):
    runs = [run(m, classes(v, k), "baseline", label=m) for k, (m, v) in enumerate((("pca", 0.7), ("hvg", 0.5)))]
    words = written([*runs, run("svm", classes(0.6, 7), "baseline")], tmp_path)
    assert "No pretrained network was run beside a baseline." in words and "nowhere" not in words
    assert "Among baselines alone" in words and "pca 0.7" in words and "then svm 0." in words


def test_a_head_stands_beside_its_control(tmp_path):
    runs = []
    for k, (model, track) in enumerate((("net", "scratch"), ("pca", "baseline"))):
        metrics = [*rows(classes(0.8, k), "logreg"), *rows(classes(0.3, 9 + k), "logreg_shuffled")]
        runs.append(record(model, track=track, metrics=metrics))
    words = written(runs, tmp_path)
    assert re.search(r"net, .*: 0\.8\d\d \[.*\]; vectors shuffled among the genes: 0\.\d\d\d \[", words)
