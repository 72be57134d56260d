"""What units share."""

from reports.unit_scores import overlap


def test_folds_of_repeated_draws_share_units_and_others_do_not():
    keys = [("d", "s", f"{draw}.{fold}", seed) for draw in range(1, 3) for fold in range(1, 6) for seed in range(3)]
    assert overlap(keys, "per-resample") == 1 / 4
    assert overlap(keys, "per-class") == 0
