"""What the numbers of a matrix are: raw counts, normalised, logged, scaled; with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from harness.counts import canonical, recover_counts
from harness.errors import InputError
from harness.inspection.sample import Sample

Kind = Literal[
    "counts",
    "rounded normalised",
    "estimated counts",
    "normalised",
    "log-normalised",
    "log of counts",
    "scaled",
    "negative",
    "not finite",
    "all zero",
    "empty",
    "unknown",
]
#: Totals that have a name.
SCALES = {1e6: "CPM or TPM", 1e4: "counts per 10,000", 1e5: "counts per 100,000", 1e3: "counts per 1,000"}
#: Values above this are no logarithms of single-cell counts.
LARGEST_LOG = 25.0
#: Sums of cells vary by less than this share where they were made equal.
EQUAL = 0.005


@dataclass(frozen=True)
class Values:
    """A verdict on a matrix.

    Parameters
    ----------
    kind
        What the numbers are.
    evidence
        Why, in words.
    recoverable
        Whether integer counts can be rebuilt from it (`dataset.recover_counts=true`), as far as the sample shows.
    """

    kind: Kind
    evidence: str
    recoverable: bool = False

    @property
    def usable(self) -> bool:
        """Whether a run can read counts from it."""
        return self.kind == "counts" or self.recoverable


def judge(sample: Sample) -> Values:
    """What the values of a sample are."""
    matrix, values = sample.values, sample.values.data
    if 0 in sample.shape:
        return Values("empty", f"{sample.shape[0]} cells and {sample.shape[1]} genes")
    if not len(values):
        return Values("all zero", f"no value but zero in {len(sample.rows)} cells")
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        return Values("not finite", f"{int(bad.sum())} NaN or infinite values, the first at {_where(sample, bad)}")
    if (values < 0).any():
        return _negative(sample)
    if (values == np.rint(values)).all():
        return _whole(matrix)
    return _fractions(matrix)


def _where(sample: Sample, chosen: np.ndarray) -> str:
    position = int(np.flatnonzero(chosen)[0])
    row = int(np.searchsorted(sample.values.indptr, position, side="right")) - 1
    return f"row {int(sample.rows[row])}, column {int(sample.values.indices[position])}"


def _moments(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each gene that varies, zeros included."""
    mean = np.asarray(matrix.mean(axis=0)).ravel()
    square = np.asarray(matrix.multiply(matrix).mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    varies = deviation > 1e-9
    return mean[varies], deviation[varies]


def _negative(sample: Sample) -> Values:
    values = sample.values.data
    mean, deviation = _moments(sample.values)
    share = float((values < 0).mean())
    centred = len(mean) > 0 and float(np.median(np.abs(mean))) < 0.2 and 0.5 < float(np.median(deviation)) < 1.5
    first = f"{100 * share:.0f} % of the values are negative, the first at {_where(sample, values < 0)}"
    if centred:
        cut = " and cut at 10" if values.max() == 10 else ""
        return Values("scaled", f"{first}; genes have mean 0 and deviation {np.median(deviation):.2f}{cut}")
    return Values("negative", f"{first}; the least is {values.min():g}")


def _whole(matrix: sp.csr_matrix) -> Values:
    sums = _sums(matrix)
    expressed = np.diff(matrix.indptr)[np.diff(matrix.indptr) > 0]
    top = f"whole numbers up to {matrix.data.max():,.0f}"
    least = _least(matrix)
    if len(sums) >= 5:
        spread = float(sums.std() / sums.mean())
        made_equal = 0 < sums.var() < 0.5 * expressed.mean()
        no_ones = float((least > 1).mean())
        gaps = _gaps(matrix)
        if made_equal or (no_ones > 0.5 and spread < 0.15) or gaps > 0.3:
            why = [f"{top}, but not as counts are: cells sum to {np.median(sums):,.0f} +- {100 * spread:.1f} %"]
            if no_ones > 0.5:
                why.append(f"{100 * no_ones:.0f} % of the cells hold no 1")
            if gaps > 0.3:
                why.append(f"{100 * gaps:.0f} % of the cells skip small numbers")
            return Values("rounded normalised", "; ".join(why))
        if sums.var() == 0:
            return Values("counts", f"{top}; every cell sums to {sums[0]:,.0f}: sampled down to equal depth?")
        doubt = f"; {100 * no_ones:.0f} % of the cells hold no 1: reads, not molecules?" if no_ones > 0.5 else ""
        if spread < 0.12 and sums.var() > 3 * sums.mean():
            doubt += f"; their sums are unusually alike (+- {100 * spread:.0f} %): normalised and rounded?"
        return Values("counts", f"{top}; cells sum to {sums.min():,.0f} to {sums.max():,.0f}{doubt}")
    binary = "; nothing but 0 and 1" if matrix.data.max() == 1 else ""
    return Values("counts", f"{top}{binary}; {len(sums)} cells are too few to tell normalised ones")


def _gaps(matrix: sp.csr_matrix) -> float:
    """Share of cells in which a small number is rare and the next one is not: counts times a factor, rounded."""
    cell = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    times = np.stack([np.bincount(cell[matrix.data == n], minlength=matrix.shape[0]) for n in range(1, 7)])
    rare = (times[:-1] < 0.1 * times[1:]) & (times[1:] >= 5)
    told = np.asarray((times >= 5).any(axis=0))
    return float(np.asarray(rare.any(axis=0))[told].mean()) if told.any() else 0.0


def _fractions(matrix: sp.csr_matrix) -> Values:
    values = matrix.data
    whole = float((np.abs(values - np.rint(values)) < 1e-3).mean())
    top = f"fractions, up to {values.max():,.4g}"
    if len(_sums(matrix)) >= 3 and (total := _equal(_sums(matrix))):
        return Values("normalised", f"{top}; every cell sums to {_named(total)}")
    if whole == 1:
        return Values("estimated counts", f"{top}, all within 0.001 of a whole number: round them")
    if values.max() <= LARGEST_LOG and (logged := _logged(matrix)):
        return logged
    if whole > 0.8:
        share = 100 * (1 - whole)
        return Values("estimated counts", f"{top}; {share:.0f} % are no whole numbers: estimated or corrected counts")
    _, deviation = _moments(matrix)
    if len(deviation) > 5 and np.quantile(np.abs(deviation - 1), 0.8) < 0.15:
        return Values("scaled", f"{top}; genes have deviation {np.median(deviation):.2f}: scaled without centring")
    if _multiples(matrix, values):
        return Values("normalised", f"{top}; in each cell multiples of its least value: counts times a factor per cell")
    if values.max() <= LARGEST_LOG:
        return Values("log-normalised", f"{top}, as small as logarithms; the sums of cells do not tell by what")
    return Values("unknown", f"{top}; neither sums nor ratios tell what was done")


def _logged(matrix: sp.csr_matrix) -> Values | None:
    top = f"fractions, up to {matrix.data.max():,.4g}"
    for base, name in ((np.e, "log1p"), (2.0, "log2(x + 1)"), (10.0, "log10(x + 1)")):
        if matrix.data.max() * np.log(base) > LARGEST_LOG:
            continue
        linear = np.expm1(matrix.data * np.log(base))
        small = linear[linear < 100]  # above, float32 no longer tells a whole number from its neighbour
        if 2 * len(small) > len(linear) and (np.abs(small - np.rint(small)) < 1e-3 * np.maximum(small, 1)).all():
            recoverable = base == np.e and _recovers(matrix)
            return Values("log of counts", f"{top}; undoing {name} gives whole numbers", recoverable)
        sums = _sums(sp.csr_matrix((linear, matrix.indices, matrix.indptr), matrix.shape))
        if len(sums) >= 3 and (total := _equal(sums)):
            recoverable = base == np.e and _recovers(matrix)
            how = f"; counts can be rebuilt in the {matrix.shape[0]} cells looked at" if recoverable else ""
            return Values(
                "log-normalised", f"{top}; undoing {name} every cell sums to {_named(total)}{how}", recoverable
            )
    if _recovers(matrix):
        return Values(
            "log-normalised",
            f"{top}; undoing log1p, each cell holds multiples of its least value: counts can be rebuilt",
            True,
        )
    return None


def _recovers(matrix: sp.csr_matrix) -> bool:
    # A cell of few values proves nothing; without any fuller one, neither does the file.
    if np.diff(matrix.indptr).max(initial=0) < 5:
        return False
    try:
        recover_counts(canonical(matrix))
    except InputError:
        return False
    return True


def _multiples(matrix: sp.csr_matrix, linear: np.ndarray) -> bool:
    least = np.repeat(_least(matrix), np.diff(matrix.indptr)[np.diff(matrix.indptr) > 0])
    ratio = linear / least
    return bool((np.abs(ratio - np.rint(ratio)) < 0.01 * np.maximum(ratio, 1)).mean() > 0.99 and (ratio > 1.5).any())


def _sums(matrix: sp.csr_matrix) -> np.ndarray:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sums[np.diff(matrix.indptr) > 0]


def _least(matrix: sp.csr_matrix) -> np.ndarray:
    filled = np.diff(matrix.indptr) > 0
    return np.minimum.reduceat(matrix.data, matrix.indptr[:-1][filled]) if filled.any() else matrix.data[:0]


def _equal(sums: np.ndarray) -> float | None:
    """The total all sums share; None where they differ."""
    middle = float(np.median(sums))
    return middle if middle > 0 and float(np.quantile(np.abs(sums / middle - 1), 0.9)) < EQUAL else None


def _named(total: float) -> str:
    named = [name for scale, name in SCALES.items() if abs(total / scale - 1) < EQUAL]
    return f"{total:,.0f} ({named[0]})" if named else f"{total:,.4g}"
