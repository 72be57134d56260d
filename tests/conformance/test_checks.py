"""The conformance checks themselves: a correct model passes all of them, each broken one fails its own."""

from dataclasses import replace

import numpy as np
import pytest

from harness.checks import CHECKS, CheckResult, exit_code, report_lines, run_check, run_checks
from harness.conformance.trial import CheckFailedError, Trial, same
from harness.conformance.weights import _half, _rewrite
from harness.errors import InputError, NotApplicableError
from tests.conformance.broken import CAUGHT_BY
from tests.conformance.toy import Toy


def test_a_correct_model_passes_every_check():
    seen = []
    results = run_checks(Toy, on_result=seen.append)
    assert seen == results
    assert [result.name for result in results] == list(CHECKS)
    assert {result.status for result in results} == {"pass"}, "\n".join(report_lines(results))
    assert exit_code(results) == 0


def test_a_saved_model_passes_with_its_checkpoint(tmp_path):
    Trial(Toy).model.save(tmp_path / "toy")
    results = run_checks(Toy, checkpoint=tmp_path / "toy")
    assert {result.name: result.status for result in results if result.status != "pass"} == {"seeds": "not-applicable"}


@pytest.mark.parametrize("cls", CAUGHT_BY, ids=lambda cls: cls.__name__)
def test_a_broken_model_fails_the_check_meant_to_catch_it(cls):
    results = run_checks(cls, only=[CAUGHT_BY[cls]])
    assert results[0].status == "fail", results
    assert results[0].message
    assert exit_code(results) == 1


@pytest.mark.parametrize("cls", list(CAUGHT_BY)[:5], ids=lambda cls: cls.__name__)
def test_the_worst_wrappers_are_red_in_a_whole_run(cls):
    results = run_checks(cls, only=[name for name in CHECKS if name != "processes"])
    assert CAUGHT_BY[cls] in {result.name for result in results if result.status == "fail"}
    assert exit_code(results) == 1


def test_every_check_has_been_seen_to_fail():
    assert set(CAUGHT_BY.values()) == set(CHECKS)


class KnownToAveragePadding(Toy):
    spec = replace(Toy.spec, expected_failures={"padding": "the official code does"})

    def read_out(self, tokens, mask):
        return tokens.mean(1)


class SaidToAveragePadding(Toy):
    spec = KnownToAveragePadding.spec


def test_a_declared_failure_is_no_failure_until_it_passes():
    known = run_check("padding", Trial(KnownToAveragePadding))
    assert known.status == "expected-failure"
    assert known.message.startswith("the official code does (")
    assert exit_code([known]) == 0
    said = run_check("padding", Trial(SaidToAveragePadding))
    assert said.status == "fail"
    assert "remove it" in said.message


class OnlyFromCheckpoint(Toy):
    @classmethod
    def from_scratch(cls, genes, **options):
        raise NotApplicableError("Toy has no from_scratch")


def test_a_model_that_needs_weights_asks_for_them():
    with pytest.raises(InputError, match=r"model\.checkpoint=DIR"):
        run_checks(OnlyFromCheckpoint)


def test_half_the_records_of_a_mindspore_checkpoint_can_be_taken_out(tmp_path):
    records = [bytes([0x0A, 3]) + b"abc", bytes([0x0A, 0x80, 1]) + b"x" * 128, bytes([0x0A, 0])]
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"".join(records))
    assert _rewrite(path, _half)
    assert path.read_bytes() == records[1]
    for other in (b"", b"no protobuf", records[1][:50]):
        path.write_bytes(other)
        assert not _rewrite(path, _half)


def test_a_failure_names_the_cells_and_the_difference():
    before = np.zeros((3, 2), np.float32)
    after = before.copy()
    after[1, 0] = 0.5
    with pytest.raises(CheckFailedError, match=r"^turned: 1 of 3 rows change \(b\), the most b by 0.5 \(allowed"):
        same(after, before, "abc", "turned")
    after[2] = np.nan
    with pytest.raises(CheckFailedError, match=r"2 of 3 rows change \(b, c\), c to or from NaN"):
        same(after, before, "abc", "turned")


def test_the_report_is_a_table_with_totals():
    lines = report_lines([CheckResult("shape", "pass", "", 0.1), CheckResult("row-order", "fail", "rows moved", 2.0)])
    assert lines == [
        "pass              shape        0.10 s",
        "fail              row-order    2.00 s  rows moved",
        "1 pass, 1 fail",
    ]
