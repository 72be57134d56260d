"""The best model and the best baseline looked at closely: rivers, and scores of each class with their intervals."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from harness.metrics import row
from harness.results import ResultStore, RunRecord
from reports.artifacts import Tables
from reports.by_fold import fold_intervals
from reports.collect import sections
from reports.entries import Column
from reports.figures.best import best_rows
from reports.figures.river import MOST_TYPES, river, spread_labels
from reports.figures.umap import atlases, type_colours
from reports.figures.units import MOST_UNITS, unit_dots
from reports.html import render
from reports.statistics import jackknife
from tests.reports.fake_store import EVIL, record, umap
from tests.reports.test_verdicts import classes, judged, rows, run

KNN = Column("macro_f1", "knn", "1")
SVG = "{http://www.w3.org/2000/svg}"


def annotated(
    store: ResultStore,
    true: list[str],
    called: list[str],
    folds: list[str] | None = None,
    head: str = "knn",
    model: str = "cellfm",
    **more: object,
) -> RunRecord:
    """A run as the annotation task stores it."""
    types, sizes = np.unique(true, return_counts=True)
    each = f1_score(true, called, labels=types, average=None, zero_division=0.0)
    metrics = [row("macro_f1", float(each.mean()), head=head)]
    for name, value, n in zip(types, each, sizes, strict=True):
        metrics.append(row("f1", value, head=head, scope="per-class", key=str(name), n=int(n)))
    table = pd.DataFrame({"true": true, "head": head, "predicted": called, "fold": folds or ""})
    counts = table.groupby(["head", "true", "predicted"]).size().reset_index(name="n")
    artifacts = [store.put_table("predictions", table), store.put_table("confusion", counts)]
    return record(model, metrics=metrics, artifacts=artifacts, **{"track": "scratch", **more})


def cells(n_types: int, n: int = 400, seed: int = 0, right: float = 0.8) -> tuple[list[str], list[str], list[str]]:
    """True types (each of which occurs), called ones, folds."""
    rng = np.random.default_rng(seed)
    names = np.array([f"type {i:02}" for i in range(n_types)])
    true = np.concatenate([names, rng.choice(names, n, p=0.9 ** np.arange(n_types) / sum(0.9 ** np.arange(n_types)))])
    called = np.where(rng.random(len(true)) < right, true, rng.choice(names, len(true)))
    return list(true), list(called), list(rng.choice(["a", "b", "c", "d"], len(true)))


def drawn(store: ResultStore, run: RunRecord, colours: dict[str, int] | None = None, head: str = "knn"):
    (section,) = sections([run])
    (figure,) = river(section.entries[0], KNN._replace(head=head), Tables(store), colours or {})
    return figure, ElementTree.fromstring(figure.svg)


def bars(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return list(tree.iter(f"{SVG}rect"))


def test_river_is_as_wide_as_the_cells_it_carries(store: ResultStore) -> None:
    true, called = ["a"] * 6 + ["b"] * 3 + ["c"], ["a"] * 4 + ["b"] * 5 + ["unassigned"]
    figure, tree = drawn(store, annotated(store, true, called))
    widths = {p.find(f"{SVG}title").text: float(p.get("stroke-width")) for p in tree.iter(f"{SVG}path")}
    unit = widths["4 of 6 a called a (67 %)"] / 4
    assert {hint: round(width / unit) for hint, width in widths.items()} == {
        "4 of 6 a called a (67 %)": 4,
        "2 of 6 a called b (33 %)": 2,
        "3 of 3 b called b (100 %)": 3,
        "1 of 1 c called unassigned (100 %)": 1,
    }
    wrong = [p.find(f"{SVG}title").text for p in tree.iter(f"{SVG}path") if "wrong" in p.get("class")]
    assert wrong == ["2 of 6 a called b (33 %)", "1 of 1 c called unassigned (100 %)"]
    for x in {bar.get("x") for bar in bars(tree)}:  # either side carries every cell
        heights = [float(bar.get("height")) for bar in bars(tree) if bar.get("x") == x]
        assert sum(heights) == pytest.approx(10 * unit, abs=0.3)
    assert "Heights are test cells." in figure.caption


def test_river_of_seeds_is_their_mean(store: ResultStore) -> None:
    runs = [annotated(store, ["a", "b", "b"], called, seed=s) for s, called in enumerate((list("aba"), list("abb")))]
    (section,) = sections(runs)
    (figure,) = river(section.entries[0], KNN, Tables(store), {})
    assert "the mean of 2 seeds" in figure.caption
    assert "b: 2 cells" in figure.svg
    assert "a: 1 cell<" in str(figure.svg)
    assert "&lt;1 of 2 b called a (25 %)" in str(figure.svg)


def test_colours_are_those_of_the_umaps(store: ResultStore) -> None:
    artifact = store.put_table("umap", umap(0.5, 0, sizes=(5, 9), batches=1))
    about = annotated(store, ["Dendritic", "CD8+ Cytotoxic T", "new"], ["new", "CD8+ Cytotoxic T", "unassigned"])
    about.artifacts.append(artifact)
    colours = type_colours(atlases(sections([about]), Tables(store))["pbmc68k"])
    assert colours == {"CD8+ Cytotoxic T": 0, "Dendritic": 1}
    _, tree = drawn(store, about, colours)
    found = {}
    for label in tree.iter(f"{SVG}text"):
        name = label.find(f"{SVG}title").text.partition(":")[0]
        y, left = float(label.get("y")) - 4, label.get("text-anchor") == "end"
        side = [bar for bar in bars(tree) if (float(bar.get("x")) < 300) == left]
        nearest = min(side, key=lambda bar: abs(float(bar.get("y")) + float(bar.get("height")) / 2 - y))
        found[name] = nearest.get("class")
    assert found == {"CD8+ Cytotoxic T": "c0", "Dendritic": "c1", "new": "c2", "unassigned": None}


@pytest.mark.parametrize(("n_types", "folded"), [(MOST_TYPES, 0), (MOST_TYPES + 1, 0), (MOST_TYPES + 7, 7)])
def test_many_types_are_folded_and_said_so(n_types: int, folded: int, store: ResultStore) -> None:
    true, called, _ = cells(n_types)
    figure, tree = drawn(store, annotated(store, [*true, "type 00"], [*called, "other types"]))
    left = [bar for bar in bars(tree) if float(bar.get("x")) < 300]
    assert len(left) == (MOST_TYPES + 1 if folded else n_types)
    assert (f"The {folded + 1} smallest types are one." in figure.caption) == bool(folded)
    heights = sorted(float(t.get("y")) for t in tree.iter(f"{SVG}text") if t.get("text-anchor") == "end")
    assert min(np.diff(heights)) > 12  # no name lies on another
    assert heights[-1] < float(tree.get("height"))


def test_what_many_cells_are_called_is_not_folded(store: ResultStore) -> None:
    true, called, _ = cells(MOST_TYPES + 5)
    rejected = [c if i % 4 else "unassigned" for i, c in enumerate(called)]
    _, tree = drawn(store, annotated(store, true, rejected))
    assert any("unassigned:" in t.text for t in tree.iter(f"{SVG}title"))


def test_labels_stay_apart_in_order_and_inside() -> None:
    assert spread_labels([10.0, 11.0, 90.0], 14, 5, 100) == [10.0, 24.0, 90.0]
    assert spread_labels([97.0, 98.0, 99.0], 14, 5, 100) == [72.0, 86.0, 100.0]
    assert spread_labels([], 14, 5, 100) == []
    wanted = sorted(np.random.default_rng(0).uniform(0, 300, 20))
    assert min(np.diff(spread_labels(wanted, 14, 5, 300))) >= 14 - 1e-9


def test_names_are_text(store: ResultStore) -> None:
    about = annotated(store, [EVIL, EVIL, "a&b"], [EVIL, "a&b", "a&b"], label=EVIL)
    figure, tree = drawn(store, about)
    assert EVIL not in figure.svg
    assert any(EVIL in (title.text or "") for title in tree.iter(f"{SVG}title"))
    (section,) = sections([about])
    (units,) = unit_dots(section, [(section.entries[0], KNN)], [KNN], Tables(store))
    assert EVIL not in units.svg
    ElementTree.fromstring(units.svg)


def test_rows_without_predictions_have_no_river(store: ResultStore) -> None:
    (section,) = sections([record(metrics=rows(classes(0.5, 1)))])
    assert river(section.entries[0], KNN, Tables(store), {}) == []
    (figure,) = unit_dots(section, [(section.entries[0], KNN)], [KNN], Tables(store))
    assert "interval" not in figure.caption


def test_best_model_and_best_baseline_each_by_its_own_column() -> None:
    several = [*rows(classes(0.7, 1)), *rows(classes(0.9, 5), "mlp")]
    runs = [record("a", track="scratch", metrics=several), record("pca", metrics=several)]
    runs += [run("svm", classes(0.8, 3), "baseline", "none"), run("quick", classes(0.9, 3), flags=["smoke"])]
    runs += [run("random", classes(0.99, 3), "control", flags=["floor"])]
    (ranked,) = judged(runs)
    assert [(e.label, c.head) for e, c in best_rows(ranked)] == [("svm", "none"), ("a", "knn")]
    (failed,) = judged([record("a", track="scratch", status="failed", error="no")])
    assert best_rows(failed) == []


def test_folds_are_left_out_one_by_one(store: ResultStore) -> None:
    true, called, folds = cells(3)
    (section,) = sections([annotated(store, true, called, folds)])
    (entry,) = section.entries
    means = {key: mean for key, (mean, _) in entry.units("f1", "knn", "per-class").items()}
    found = fold_intervals(entry, "knn", means, Tables(store))
    table = pd.DataFrame({"true": true, "called": called, "fold": folds})
    for name in ("type 00", "type 02"):
        parts = [table[table["fold"] != fold] for fold in "abcd"]
        left_out = [f1_score(p["true"] == name, p["called"] == name) for p in parts]
        expected = jackknife(means[name], np.array(left_out))
        assert (found[name].low, found[name].high) == pytest.approx((expected.low, expected.high))
    assert fold_intervals(entry, "knn", {"type 00": means["type 00"] + 0.01}, Tables(store)) == {}  # another number


def test_folds_without_a_class_do_not_count(store: ResultStore) -> None:
    true, called = ["a", "a", "b", "b", "b", "a"], ["a", "b", "b", "b", "b", "a"]
    (section,) = sections([annotated(store, true, called, ["x", "x", "x", "x", "y", "z"])])
    means = {key: mean for key, (mean, _) in section.entries[0].units("f1", "knn", "per-class").items()}
    found = fold_intervals(section.entries[0], "knn", means, Tables(store))
    assert {key: each.n_blocks for key, each in found.items()} == {"a": 2, "b": 2}
    (alone,) = sections([annotated(store, true, called, ["x"] * 6)])
    assert fold_intervals(alone.entries[0], "knn", means, Tables(store)) == {}
    lost = annotated(store, true, called, ["x"] * 5 + ["y"], seed=1)
    lost.artifacts = []
    (partly,) = sections([annotated(store, true, called, ["x"] * 5 + ["y"]), lost])
    assert fold_intervals(partly.entries[0], "knn", means, Tables(store)) == {}


def test_classes_by_size_with_their_intervals(store: ResultStore) -> None:
    runs = [annotated(store, *cells(4, seed=s)[:2], seed=s) for s in range(3)]
    runs += [annotated(store, *cells(4, seed=s, right=0.5)[:2], seed=s, model="svm", track="baseline", head="none")
             for s in range(3)]  # fmt: skip
    (ranked,) = judged(runs)
    (figure,) = unit_dots(ranked.section, best_rows(ranked), [KNN], Tables(store))
    assert "95 % intervals by Student's t over 3 seeds." in figure.caption
    tree = ElementTree.fromstring(figure.svg)
    whiskers = [node for node in tree.iter() if "whisker" in node.get("class", "")]
    assert len(whiskers) == 8
    for whisker in whiskers:  # F1 is at most 1
        assert 196 - 1 <= float(whisker.get("x1")) <= float(whisker.get("x2")) <= 506 + 1
    sizes = [int(n) for n in re.findall(r"type \d\d \((\d+)\)", figure.svg)]
    assert len(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)


def test_with_folds_the_folds_are_what_is_varied(store: ResultStore) -> None:
    (ranked,) = judged([annotated(store, *cells(3))])
    (figure,) = unit_dots(ranked.section, best_rows(ranked), [KNN], Tables(store))
    assert "leaving one of 4 folds out" in figure.caption


def test_many_classes_are_cut_and_parts_of_another_headline_are_taken(store: ResultStore) -> None:
    units = [row("silhouette_label", 0.5, scope="per-class", key=f"t{i}", n=i + 1) for i in range(MOST_UNITS + 5)]
    metrics = [row("avg_bio", 0.4), row("macro_silhouette_label", 0.5), *units]
    (section,) = sections([record("pca", task="integration", metrics=metrics)])
    headline = [Column("avg_bio", "none", "1"), Column("macro_silhouette_label", "none", "1")]
    pairs = [(section.entries[0], headline[0])]
    (figure,) = unit_dots(section, pairs, headline, Tables(store))
    assert f"The {MOST_UNITS} largest of {MOST_UNITS + 5} are shown." in figure.caption
    assert unit_dots(section, pairs, headline[:1], Tables(store)) == []
    assert unit_dots(section, [], headline, Tables(store)) == []


def test_predictions_are_not_kept_in_memory(store: ResultStore) -> None:
    runs = [annotated(store, *cells(3, seed=s), seed=s) for s in range(2)]
    tables = Tables(store)
    assert "True to called" in render(judged(runs), runs, tables, published=False)
    kept = [table for table in tables._read.values() if table is not None]
    assert kept and all("fold" not in table for table in kept)


def test_predictions_that_are_gone_are_named_once(store: ResultStore, tmp_path: Path) -> None:
    about = annotated(store, *cells(3))
    (store.directory / about.artifacts[0].path).unlink()
    tables = Tables(store)
    render(judged([about]), [about], tables, published=False)
    assert len(tables.problems) == 1
