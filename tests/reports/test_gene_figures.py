"""Figures of tasks on genes and of genetic interactions: what is drawn of small tables, and what is left out."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from harness.metrics import row
from harness.results import MetricRow, ResultStore
from reports.artifacts import Tables
from reports.collect import sections
from reports.entries import Column, Entry, Section
from reports.figures.enrichment import enrichment_curves
from reports.figures.figure import Figure
from reports.figures.gene_folds import TITLE, gene_folds
from reports.figures.gene_network import MOST_NODES, gene_networks
from reports.figures.gene_programs import MOST, gene_programs
from reports.figures.gene_similarity import gene_similarities
from reports.figures.genes import gene_closeups, gene_maps
from reports.figures.influence import influences
from reports.figures.interactions import interaction_kinds, interactions_found
from reports.figures.umap import MOST_POINTS, atlases
from reports.ranking import columns
from tests.reports.conftest import make_board
from tests.reports.fake_store import EVIL, record
from tests.reports.page import parse

SVG = "{http://www.w3.org/2000/svg}"
ROWS = (("cellfm", "scratch", "cosine"), ("gene_names", "baseline", "cosine"))


def nodes(figure: Figure, name: str, style: str = "") -> list[ElementTree.Element]:
    found = ElementTree.fromstring(figure.svg).iter(SVG + name)
    return [node for node in found if not style or style in node.get("class", "").split()]


def words(figure: Figure, style: str) -> list[str]:
    """Texts as they are seen, without their hints."""
    found = []
    for node in nodes(figure, "text", style):
        parts = [
            node.text or "",
            *((each.text or "") * (each.tag != SVG + "title") + (each.tail or "") for each in node),
        ]
        found.append("".join(parts).strip())
    return found


def put(store: ResultStore, tables: dict[str, pd.DataFrame], metrics: list[MetricRow] | None = None, **more):
    kept = [store.put_table(kind, table) for kind, table in tables.items()]
    about = {"task": "gene_relationships", "split": "all", "track": "scratch", **more}
    return record(about.pop("model", "cellfm"), metrics=metrics or _measured("cosine"), artifacts=kept, **about)


def _measured(head: str) -> list[MetricRow]:
    return [row("enriched_sets", 4.0, head=head)]


def opened(store: ResultStore, *runs) -> tuple[Section, Tables]:
    (section,) = sections(runs)
    return section, Tables(store)


def rows_of(section: Section) -> list[tuple[Entry, Column]]:
    return [(entry, next(iter(entry.scores))) for entry in section.entries]


# ---- tables as the tasks write them


def curve(head: str = "cosine", scale: float = 1.0, resolutions: tuple[float, ...] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    lines = [(head, r, int(4 * r) + 1, 60, scale * 10 * r) for r in resolutions]
    return pd.DataFrame(lines, columns=["head", "resolution", "programs", "genes", "enriched_sets"])


def network(n: int = 30, head: str = "cosine") -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    names = [EVIL, *(f"GENE{i}" for i in range(1, n))]
    xy = rng.normal(size=(n, 2))
    edges = [(names[i], names[(i + 1) % n]) for i in range(n)] if n > 1 else []
    at = {"head": head, "name": names, "x": xy[:, 0], "y": xy[:, 1], "program": np.arange(n) % 3}
    links = pd.DataFrame(edges, columns=["source", "target"]).assign(head=head, weight=0.5)
    return {"gene_network": pd.DataFrame(at), "gene_edges": links}


def programs(n: int = 4, head: str = "cosine") -> pd.DataFrame:
    lines = [
        (head, r, i, 20 - i, f"{EVIL}, CD3D, CD3E", EVIL if i else "", 5.0 if i else np.nan, 0.001 if i % 2 else np.nan)
        for r in (0.5, 1.0, 2.0)
        for i in range(n)
    ]
    return pd.DataFrame(lines, columns=["head", "resolution", "program", "size", "genes", "set", "overlap", "q"])


def similarity(n: int = 4, head: str = "cosine") -> pd.DataFrame:
    names = [EVIL, *(f"GENE{i}" for i in range(1, n))]
    lines = [(head, a, b, i // 2, 1.0 if a == b else 0.25 - 0.5 * (i != 0)) for i, a in enumerate(names) for b in names]
    return pd.DataFrame(lines, columns=["head", "a", "b", "program", "cosine"])


def influence(n: int = 3) -> pd.DataFrame:
    genes = [EVIL, *(f"TF{i}" for i in range(1, n))]
    found = {"perturbed": genes, "observed": np.arange(n) + 10.0}
    for kind, level in (("random", 4.0), ("matched", 9.0)):
        found |= {f"{kind}_mean": level, f"{kind}_low": level - 2, f"{kind}_high": level + 2}
        found[f"{kind}_p"] = np.linspace(0.9, 0.01, n)
    return pd.DataFrame(found)


def interactions(label: str, points: int = 5) -> dict[str, pd.DataFrame]:
    kinds = ("additive", "synergy", "opposite")
    curves = [(label, 0.4 * i / points, i / points) for i in range(1, points + 1)]
    curves += [("no change", 0.5, 0.5), ("no change", 0.9, 1.0), ("additive", 0.95, 1.0)]
    counts = [(label, a, b, 8 if a == b else 1) for a, b in itertools.product(kinds[:2], kinds)]
    counts += [("additive", a, "additive", 10) for a in kinds]
    return {
        "interaction_curve": pd.DataFrame(
            curves, columns=["label", "false_discovery_proportion", "true_positive_rate"]
        ),
        "interaction_kinds": pd.DataFrame(counts, columns=["label", "true", "predicted", "n"]),
    }


def classes(n: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": [EVIL, *(f"GENE{i}" for i in range(1, n))],
            "x": np.arange(n) * 1.0,
            "y": np.arange(n) ** 2 * 1.0,
            "class": [EVIL, *["1", "long range"] * n][:n],
        }
    )


EVERY = {
    **network(),
    "enrichment_curve": curve(),
    "gene_programs": programs(),
    "gene_similarity": similarity(),
    "influence_draws": influence(),
    **interactions("cosine"),
    "umap": classes(),
}


# ---- all of them


def test_the_page_has_every_figure_and_runs_no_label(store: ResultStore, tmp_path: Path) -> None:
    folds = [row(name, value, head="cosine") for name, value in (("auroc", 0.9), ("auroc_family", 0.7))]
    for model, track, head in ROWS:
        for seed in (0, 1):
            about = {"model": model, "track": track, "seed": seed, "label": f"{model} · {EVIL}"}
            store.put(put(store, EVERY, [*_measured(head), *folds], **about))
    board = make_board(store)
    assert EVIL not in board.page
    page = parse(board.page)
    titles = [caption.text.strip() for caption in page.find("figcaption")]
    for said in (
        "Gene programs: cellfm",
        "Programs and what they are enriched for: cellfm",
        "Influence of perturbed genes: cellfm",
        f"{TITLE}: AUROC · Cosine ↑",
        "Enriched gene sets by resolution · Cosine",
    ):
        assert any(title.startswith(said) for title in titles), said
    assert not page.find("p", class_="problem")


@pytest.mark.parametrize("kind", sorted(EVERY))
def test_a_table_without_a_column_draws_nothing(store: ResultStore, kind: str) -> None:
    needed = {"gene_edges": "source", "umap": "x", "gene_programs": "set", "influence_draws": "matched_low"}
    column = needed.get(kind, EVERY[kind].columns[-1])
    section, tables = opened(store, put(store, {kind: EVERY[kind].drop(columns=column)}))
    rows = rows_of(section)
    assert gene_closeups(rows, tables) == gene_maps(section, section.entries, columns(section), tables) == []
    assert interactions_found(rows, tables) == interaction_kinds(rows, tables) == []
    assert atlases([section], tables) == {}


def test_figures_of_single_rows_are_drawn(store: ResultStore) -> None:
    one = {kind: table.iloc[:1] for kind, table in EVERY.items()}
    section, tables = opened(store, put(store, one))
    rows = rows_of(section)
    figures = [*gene_closeups(rows, tables), *gene_maps(section, section.entries, columns(section), tables)]
    figures += [*interactions_found(rows, tables), *interaction_kinds(rows, tables)]
    assert len(figures) == 7
    for figure in figures:
        ElementTree.fromstring(figure.svg)
        assert "nan" not in figure.svg.lower() and EVIL not in figure.svg


def test_what_is_not_known_is_left_out(store: ResultStore) -> None:
    unknown = {kind: table.copy() for kind, table in EVERY.items()}
    unknown["enrichment_curve"]["enriched_sets"] = np.nan
    unknown["gene_network"]["x"] = np.nan
    unknown["influence_draws"]["observed"] = np.nan
    unknown["interaction_curve"]["true_positive_rate"] = np.nan
    section, tables = opened(store, put(store, unknown))
    rows = rows_of(section)
    assert enrichment_curves(section, section.entries, columns(section), tables) == []
    assert gene_networks(rows, tables) == influences(rows, tables) == interactions_found(rows, tables) == []


# ---- interactions


def test_rows_and_references_share_the_plot_of_interactions(store: ResultStore) -> None:
    runs = [put(store, interactions("cosine"), model=m, track=t, seed=3) for m, t, _ in ROWS]
    section, tables = opened(store, *runs)
    (figure,) = interactions_found(rows_of(section), tables)
    assert words(figure, "name") == [
        "cellfm · scratch · Cosine",
        "gene_names · baseline · Cos…",
        "no change",
        "additive",
    ]
    assert len(nodes(figure, "path", "curve")) == 3 and len(nodes(figure, "circle")) == 1 + 1  # the sum is one point
    assert "Seed 3." in figure.caption


def test_a_reference_is_no_row(store: ResultStore) -> None:
    only = {kind: table[table["label"] != "cosine"] for kind, table in interactions("cosine").items()}
    section, tables = opened(store, put(store, only))
    assert interactions_found(rows_of(section), tables) == interaction_kinds(rows_of(section), tables) == []


def test_kinds_are_in_per_cent_of_what_was_observed(store: ResultStore) -> None:
    section, tables = opened(store, put(store, interactions("cosine")))
    (figure,) = interaction_kinds(rows_of(section), tables)
    assert "observed additive, predicted synergy: 1 of 10" in figure.svg
    assert figure.svg.count(">80<") == 2 and figure.svg.count(">10<") == 4 + 2  # shares, and the two totals
    assert len(nodes(figure, "rect", "none")) == 3, "opposite was never observed"


# ---- folds


def measured(values: dict[tuple[str, str], float | None]) -> list[MetricRow]:
    return [row(name, value, head=head) for (name, head), value in values.items()]


def test_every_pair_of_folds_is_a_figure_the_headline_first() -> None:
    heads = ("logreg", "knn")
    names = ("auroc", "auprc_micro")
    full = {(n + end, h): 0.9 - 0.2 * bool(end) for h in heads for n in names for end in ("", "_family")}
    own = {("auroc", "none"): 0.6, ("auroc_family", "none"): 0.65}
    alone = {**full, ("fmax", "logreg"): 0.5, ("auroc_family", "logreg"): None}
    runs = [
        record("cellfm", label=f"cellfm · {EVIL}", task="gene_function", track="scratch", metrics=measured(full)),
        record("scgpt", task="gene_function", track="scratch", metrics=measured(alone)),
        record("names", task="gene_function", metrics=measured(own)),
    ]
    (section,) = sections(runs)
    first = Column("auprc_micro_family", "logreg", "1")
    figures = gene_folds(section, section.entries, [first])
    assert figures[0].title == f"{TITLE}: AUPRC (all functions) · Logistic ↑"
    assert sorted((f.title.split(": ")[1].split(" ·")[0], f.head) for f in figures) == [
        *(("AUPRC (all functions)", "knn"), ("AUPRC (all functions)", "logreg"), ("AUROC", "knn"), ("AUROC", "logreg"))
    ]
    (auroc,) = (f for f in figures if f.title.startswith(f"{TITLE}: AUROC") and f.head == "logreg")
    assert words(auroc, "value") == ["0.700 (−0.200)", "0.650 (+0.050)"], "a row without both is left out"
    assert len([n for n in nodes(auroc, "circle") if "hollow" in n.get("class", "")]) == 1
    for figure in figures:
        assert EVIL not in figure.svg


def test_no_pair_no_figure() -> None:
    (section,) = sections([record("a", task="gene_function", metrics=measured({("auroc_family", "knn"): 0.5}))])
    assert gene_folds(section, section.entries, columns(section)) == []


# ---- enrichment


def test_a_line_is_the_mean_over_seeds(store: ResultStore) -> None:
    runs = [put(store, {"enrichment_curve": curve(scale=s)}, seed=i) for i, s in enumerate((1.0, 2.0))]
    both = pd.concat([curve(scale=0.1), curve("cosine_shuffled", 0.2)])
    runs.append(put(store, {"enrichment_curve": both}, model="hvg", track="baseline"))
    section, tables = opened(store, *runs)
    figures = enrichment_curves(section, section.entries, columns(section), tables)
    assert [figure.head for figure in figures] == ["cosine", "cosine_shuffled"]
    assert "cellfm · scratch, resolution 2: 30 sets; 9 programs of 60 genes" in figures[0].svg
    assert [len(nodes(figure, "path", "curve")) for figure in figures] == [2, 1]


# ---- networks and programs


def test_nodes_edges_and_names_of_a_network(store: ResultStore) -> None:
    section, tables = opened(store, *(put(store, network(), model=m, track=t) for m, t, _ in ROWS))
    figures = gene_networks(rows_of(section), tables)
    assert sorted(f.title for f in figures) == [
        "Gene programs: cellfm · scratch · Cosine",
        "Gene programs: gene_names · baseline · Cosine",
    ]
    for figure in figures:
        assert len(nodes(figure, "circle", "node")) == 30 + 3  # and the legend
        assert len(nodes(figure, "line", "edge")) == 30
        hidden = int(figure.caption.split(" name")[0].split()[-1]) if "did not fit" in figure.caption else 0
        assert len(words(figure, "gene")) == 30 - hidden and hidden < 5


def test_a_crowd_is_thinned_to_what_can_be_read(store: ResultStore) -> None:
    n = MOST_NODES + 10
    tables_of = network(n)
    tables_of["gene_edges"] = tables_of["gene_edges"].iloc[:-40]  # the last genes have none
    section, tables = opened(store, put(store, tables_of))
    (figure,) = gene_networks(rows_of(section), tables)
    assert len(nodes(figure, "circle", "node")) == MOST_NODES + 3
    assert f"{MOST_NODES} of {n} genes" in figure.caption
    assert f">GENE{n - 1}<" not in figure.svg and f"GENE{n - 1}," not in figure.svg
    places = [(float(t.get("x", 0)), float(t.get("y", 0))) for t in nodes(figure, "text", "gene")]
    assert len(set(places)) == len(places) > MOST_NODES // 3


def test_a_network_without_edges_is_drawn(store: ResultStore) -> None:
    section, tables = opened(store, put(store, {"gene_network": network(2)["gene_network"]}))
    (figure,) = gene_networks(rows_of(section), tables)
    assert len(nodes(figure, "circle", "node")) == 2 + 2 and not nodes(figure, "line", "edge")


def test_programs_are_a_table_of_the_middle_resolution(store: ResultStore) -> None:
    section, tables = opened(store, put(store, {"gene_programs": programs(MOST + 3)}))
    (figure,) = gene_programs(rows_of(section), tables)
    assert "Resolution 1," in figure.caption and f"The {MOST} largest of {MOST + 3} programs" in figure.caption
    assert len(nodes(figure, "line", "rule")) == MOST
    assert words(figure, "value")[:2] == ["1", "20"]
    assert words(figure, "missing")[:3] == ["–", "–", "–"], "no set was tested for it"


# ---- influence


@pytest.mark.parametrize("heads", [None, ("none",), ("cosine", "none"), ("cosine_shuffled", "cosine")])
def test_overlaps_lie_over_what_is_drawn_by_chance(store: ResultStore, heads: tuple[str, ...] | None) -> None:
    table = influence() if heads is None else pd.concat([influence().assign(head=head) for head in heads])
    section, tables = opened(store, put(store, {"influence_draws": table}))
    (figure,) = influences(rows_of(section), tables)
    assert len(nodes(figure, "line", "rule")) == 3, "one lane per gene, under one head"
    assert len(nodes(figure, "line", "range")) == 2 * 3 + 2  # and the legend
    assert len(nodes(figure, "circle")) == 3 + 1
    assert words(figure, "name")[3] == "TF2", "the least p first"
    assert "random genes 2.000 to 6.000" in figure.svg


def test_draws_that_could_not_be_made_have_no_bar(store: ResultStore) -> None:
    table = influence().assign(matched_low=np.nan, matched_p=np.nan, matched_mean=np.nan)
    section, tables = opened(store, put(store, {"influence_draws": table}))
    (figure,) = influences(rows_of(section), tables)
    assert len(nodes(figure, "line", "range")) == 3 + 2


# ---- UMAPs of genes


def test_genes_are_an_atlas_of_their_own_beside_the_cells(store: ResultStore) -> None:
    cells = pd.DataFrame({"name": ["c"], "x": [1.0], "y": [1.0], "cell_type": ["T"], "batch": ["b"]})
    runs = [
        put(store, {"umap": classes()}, task="gene_function", split="bundled"),
        record("cellfm", track="scratch", metrics=[row("accuracy", 0.5)], artifacts=[store.put_table("umap", cells)]),
    ]
    found = atlases(sections(runs), Tables(store))
    assert set(found) == {"pbmc68k", "pbmc68k · bundled"}
    atlas = found["pbmc68k · bundled"]
    assert [(each.column, each.title) for each in atlas.colourings] == [("class", "class")]
    assert [(name, n) for _, name, n in atlas.colourings[0].legend] == [("1", 2), (EVIL, 1), ("long range", 1)]
    (panel,) = atlas.panels
    assert "by class" in panel.pictures[0] and EVIL not in panel.pictures[0]
    assert found["pbmc68k"].colourings[0].title == "cell type"


def test_a_sample_is_of_genes(store: ResultStore) -> None:
    section, tables = opened(store, put(store, {"umap": classes(MOST_POINTS + 5)}))
    ((_, atlas),) = atlases([section], tables).items()
    assert atlas.panels[0].note == f"{MOST_POINTS:,} of {MOST_POINTS + 5:,} genes drawn"


def test_similarities_stand_in_a_map_of_genes(store: ResultStore) -> None:
    section, tables = opened(store, put(store, {"gene_similarity": similarity(40)}))
    (figure,) = gene_similarities(rows_of(section), tables)
    assert len(words(figure, "head")) == 24, "no more genes than fit the page"
    assert words(figure, "name")[0].startswith("1 ")
    assert any("GENE1, GENE1: 1.000" in (node.text or "") for node in nodes(figure, "title"))
