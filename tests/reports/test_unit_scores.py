"""What units share."""

import pytest

from reports.unit_scores import overlap


def test_folds_of_repeated_draws_share_units():
    assert overlap({f"{draw}.{fold}": 20 for draw in (1, 2) for fold in range(5)}) == pytest.approx(1 / 4)
    uneven = overlap({"1.1": 60, "1.2": 20, "1.3": 20})
    assert uneven == pytest.approx((60 / 40 + 20 / 80 + 20 / 80) / 3), "a large family tests more than it leaves"
    assert overlap({"1.1": None, "1.2": None}) == 1 and overlap({}) == 0
