"""A large page is packed, and nothing is lost by it."""

import base64
import gzip
import re

import pytest

from reports import packing
from tests.reports.conftest import make_board
from tests.reports.fake_store import full_store
from tests.reports.test_browser import browser, pytestmark  # noqa: F401  (the fixture, and the mark of its tests)


def unpacked(page):
    part = re.compile(r'<script type="application/gzip" data-packed>(.*?)</script><noscript>.*?</noscript>\n')
    return part.sub(lambda found: gzip.decompress(base64.b64decode(found[1])).decode(), page)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "LARGE", 0)
        return make_board(full_store(tmp_path_factory.mktemp("packed") / "results"))


def test_a_small_page_is_left_as_it_is(board, packed):
    assert "data-packed" not in board.page.replace("script[data-packed]", "") and "put-away" not in board.page
    made = re.compile(r"Page made [^.]*|\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert made.sub("", unpacked(packed.page)) == made.sub("", board.page)
    assert len(packed.page) < 0.7 * len(board.page)


def test_a_packed_page_opens_as_any_other(browser, packed):  # noqa: F811
    page = browser.new_context(offline=True).new_page()
    troubles = []
    page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(packed.report.html.as_uri())
    page.wait_for_selector("body[data-unpacked]")
    assert page.locator("script[data-packed]").count() == 0
    assert page.locator("table.numbers tbody tr").count() > 50
    assert page.locator("details.more svg").count() > 0
    page.locator("#runs th button").first.click()  # and its tables sort
    assert page.locator("#runs th[aria-sort]").count() == 1
    page.locator("#runs button.open").first.click()
    assert page.locator("#runs tr.detail:not([hidden])").count() == 1
    assert troubles == []
