"""The page in a real browser, from disk, with the network off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.screenshot import FLAGS
from tests.reports.conftest import Board, make_board
from tests.reports.fake_store import EVIL, MODELS, full_store

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="no chromium installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, board: Board) -> Iterator[Any]:
    """The page of the full board; the test fails on any console error, page error or request."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    troubles: list[str] = []
    page.on(
        "console",
        lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
    url = board.report.html.as_uri()
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else troubles.append(request.url))
    page.goto(url)
    yield page
    assert troubles == []
    context.close()


def names(page: Any, table: str) -> list[str]:
    return page.eval_on_selector_all(f"{table} tbody th.name b", "nodes => nodes.map(n => n.textContent)")


def column(page: Any, table: str, index: int) -> list[str]:
    code = "(rows, i) => rows.map(r => r.cells[i].querySelector('.v')?.textContent ?? r.cells[i].textContent.trim())"
    return page.eval_on_selector_all(f"{table} tbody tr", code, index)


def test_opens_without_error_and_runs_no_label(opened: Any) -> None:
    assert EVIL in opened.inner_text("body")
    assert opened.title() == "cellfm-bench leaderboard"


def test_every_figure_has_a_size(opened: Any) -> None:
    opened.eval_on_selector_all("details.more", "nodes => nodes.forEach(n => n.open = true)")
    code = "nodes => nodes.map(n => [n.className.baseVal, n.clientWidth, n.clientHeight])"
    sizes = opened.eval_on_selector_all("svg", code)
    shown = [size for size in sizes if size[0] != "sign"]
    assert len(shown) > 30
    tiny = [size for size in shown if size[1] < 100 or size[2] < 60]
    assert tiny == []
    code = "nodes => nodes.every(n => getComputedStyle(n).stroke !== 'none')"
    assert opened.eval_on_selector_all("svg.umap path", code)
    assert opened.eval_on_selector_all("svg.river path", code)


def test_intervals_lie_on_their_bars(opened: Any) -> None:
    code = """nodes => nodes.map(n => {
        const whisker = n.getBoundingClientRect(), bar = n.parentElement.getBoundingClientRect();
        return [whisker.width, whisker.left - bar.left, bar.right - whisker.right];
    })"""
    found = opened.eval_on_selector_all("#s1 table[data-board=scratch] .bar s", code)
    assert len(found) > 20
    assert all(width > 0 and left >= -1 and right >= -1 for width, left, right in found)
    assert opened.locator("#s1 table[data-board=scratch] .tie").count() > 0
    assert opened.locator("#s2 .flag.few").count() > 0
    opened.click("#s1 .advice summary")
    assert opened.locator("#s1 .advice tbody tr:visible").count() > 0


def test_click_sorts_by_number_with_the_missing_last(opened: Any) -> None:
    table = "#s1 table[data-board=scratch]"
    header = opened.locator(f"{table} thead th").nth(3)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    values = column(opened, table, 3)
    assert values[1].endswith("*"), "the SVM, which brings its own head, in its place among the others"
    numbers = [float(v.rstrip("*")) for v in values if v[0].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    assert not any(v[0].isdigit() for v in values[len(numbers) :])
    assert column(opened, table, 0)[:3] == ["–", "1", "2"]  # the smoke run is the highest and has no rank

    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    values = column(opened, table, 3)
    assert [float(v.rstrip("*")) for v in values if v[0].isdigit()] == sorted(numbers)
    assert not values[-1][0].isdigit()
    assert opened.locator(f"{table} th[aria-sort]").count() == 1


def test_sorting_by_keyboard_and_by_name(opened: Any) -> None:
    table = "#s1 table[data-board=untrained]"
    button = opened.locator(f"{table} thead th").nth(1).locator("button")
    button.focus()
    opened.keyboard.press("Enter")
    found = names(opened, table)
    assert found == sorted(found, key=str.lower)


def test_every_visible_table_sorts(opened: Any) -> None:
    opened.eval_on_selector_all("details", "nodes => nodes.forEach(n => n.open = true)")
    for index in range(opened.locator("table.sortable").count()):
        header = opened.locator("table.sortable").nth(index).locator("thead th").nth(1)
        header.locator("button").click()
        assert header.get_attribute("aria-sort") in ("ascending", "descending")


def test_picking_a_head_shows_its_columns_and_ranks_by_it(opened: Any) -> None:
    table = "#s1 table[data-board=scratch]"
    opened.click("#s1 .heads button[data-pick=mlp]")
    assert opened.locator(f"{table} th.metric:visible small").all_inner_texts() == [
        "MLP",
        "own method",
    ]  # and what has its own head
    ranks = [int(r) for r in column(opened, table, 0) if r.isdigit()]
    assert ranks == sorted(ranks)
    assert opened.locator("#s1 .figures figure:visible[data-head=knn]").count() == 0
    assert opened.locator("#s1 details.more figure:visible[data-head=mlp]").count() > 0
    opened.click("#s1 .heads button[data-pick='']")
    assert opened.locator(f"{table} th.metric:visible").count() > 3


def test_filter_by_words_and_by_track(opened: Any) -> None:
    opened.fill("#filter", "cellfm scratch")
    assert opened.locator("#s1 table[data-board=scratch] tbody tr:visible th.name b").all_inner_texts() == ["cellfm"]
    opened.fill("#filter", "")
    opened.click(".chip[data-chip=untrained]")
    assert opened.locator(".board[data-track=untrained]:visible").count() == 0
    assert opened.locator(".panel[data-track=untrained]:visible").count() == 0
    assert opened.locator(".panel[data-track=scratch]:visible").count() > 0


def test_run_opens_with_its_command(opened: Any) -> None:
    button = opened.locator("#runs button.open").first
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    detail = opened.locator("#runs tr.detail:visible")
    assert detail.count() == 1
    assert "cellfm-bench run model=" in detail.inner_text()
    detail.locator("button.copy").click()
    opened.wait_for_function("document.querySelector('#runs tr.detail:not([hidden]) .copy').textContent === 'copied'")


def test_legend_lights_a_cell_type(opened: Any) -> None:
    opened.locator(".atlas .legend button").first.click()
    assert opened.locator(".atlas .dimmed").count() == len(MODELS), "the pictures by batch stay as they are"
    assert opened.locator(".atlas .dimmed[data-by=cell_type] path.lit").count() == len(MODELS)
    opened.locator(".atlas .legend[data-by=batch] button").first.click()
    assert opened.locator(".atlas .dimmed path.lit").count() == 2 * len(MODELS)


@pytest.mark.parametrize("width", [1280, 390])
def test_batches_stand_beside_the_types_of_their_model(browser: Any, board: Board, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(board.report.html.as_uri())
    code = """panels => panels.map(p => [...p.querySelectorAll("svg.umap")].map(s => {
        const box = s.getBoundingClientRect();
        return [box.left, box.right, box.top, box.width];
    }))"""
    pairs = page.eval_on_selector_all(".atlas .panel", code)
    page.close()
    assert len(pairs) == len(MODELS)
    for (_, right, top, wide), (left, _, other_top, other_wide) in pairs:
        assert right < left and top == other_top and abs(wide - other_wide) < 1 and wide > 130


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_does_not_scroll_sideways(browser: Any, board: Board, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.goto(board.report.html.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_small_board(browser: Any, tmp_path: Path) -> None:
    store = full_store(tmp_path / "results", seeds=(0,), models=MODELS[:1])
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(make_board(store).report.html.as_uri())
    assert page.locator("table.ranked").count() == 2
    assert errors == []
    page.close()


def visible(page: Any, selector: str) -> int:
    return page.eval_on_selector_all(selector, "nodes => nodes.filter(n => n.offsetParent !== null).length")


def test_rows_are_filtered_by_what_pretraining_had_seen(opened: Any) -> None:
    rows = "table[data-board=scratch] tbody tr"
    before = visible(opened, rows)
    seen = visible(opened, f"{rows}[data-seen=seen]")
    assert 0 < seen < before
    opened.click(".chip[data-seen-chip=seen]")
    assert visible(opened, rows) == before - seen
    assert visible(opened, f"{rows}[data-seen=seen]") == 0
    opened.click(".chip[data-seen-chip=seen]")
    assert visible(opened, rows) == before


def test_scaled_values_can_be_put_away_and_raw_ones_stay(opened: Any) -> None:
    scaled, raw = visible(opened, ".ranked .scaled"), visible(opened, ".ranked .v")
    assert scaled > 10
    opened.click("#scale")
    assert (visible(opened, ".ranked .scaled"), visible(opened, ".ranked .v")) == (0, raw)
    opened.click("#scale")
    assert visible(opened, ".ranked .scaled") == scaled


def test_floor_and_ceiling_stay_under_the_rows(opened: Any) -> None:
    feet = "table[data-board=scratch] tfoot tr"
    assert visible(opened, feet) == 2
    opened.click("table[data-board=scratch] th.metric:nth-child(4) button")
    opened.fill("#filter", "geneformer")
    assert visible(opened, feet) == 2
    assert opened.eval_on_selector_all(feet, "rows => rows.every(r => r.parentNode.tagName === 'TFOOT')")
    opened.click(".chip[data-chip=control]")
    assert visible(opened, feet) == 0
