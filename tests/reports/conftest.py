from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from harness.results import ResultStore
from reports.board import Report, write_report
from tests.reports.fake_store import full_store


class Board(NamedTuple):
    store: ResultStore
    report: Report
    page: str


def make_board(store: ResultStore) -> Board:
    report = write_report(store.directory, store.directory.parent / "board" / "leaderboard.html")
    return Board(store, report, report.html.read_text())


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """The board of a full store: odd labels, failures, NaN, a smoke run, a task baseline."""
    return make_board(full_store(tmp_path_factory.mktemp("full") / "results"))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")
