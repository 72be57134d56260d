"""Genetic interactions: where two perturbations together do not do what each does alone, and whether that is predicted.

By pair, the scores of GEARS (Roohani et al. 2024, after Norman et al. 2019). By gene, the difference to the sum of the
single effects (Ahlmann-Eltze et al. 2025), observed and predicted. Two references cost nothing: no change, which calls
every single effect an interaction against it, and the sum itself, which calls none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.profiles import rows_pearson

#: Of the Theil-Sen fit, as cell-gears 0.1.2 sets it.
THEIL_SEN = {"fit_intercept": False, "max_subpopulation": 100_000, "max_iter": 1000, "random_state": 1000}
#: False discovery rate of what counts as an observed interaction.
FDR = 0.05
#: Kinds of a gene's response to a pair, see `kinds`.
KINDS = ("additive", "synergy", "suppression", "opposite", "neomorphism")
ADDITIVE, SYNERGY, SUPPRESSION, OPPOSITE, NEOMORPHISM = range(5)
#: Decimals to which sizes of interactions are compared: what rounding leaves of a sum is no order.
DECIMALS = 6


@dataclass(frozen=True)
class PairScores:
    """GEARS' scores of a pair: change of the pair ≈ c1 · first + c2 · second.

    Parameters
    ----------
    c1, c2
        Coefficients of the Theil-Sen fit without intercept. Its spatial median is found to a tolerance of 1e-3: numbers
        of inputs that differ in the eighth digit differ in the fourth.
    mag
        sqrt(c1² + c2²): high for synergy, low for suppression.
    dcor, dcor_singles, dcor_first, dcor_second
        Distance correlation of both singles with the pair, of the singles, of each with the pair.
    corr_fit
        Pearson correlation of the fit with the pair; low for neomorphism.
    dominance
        |log10(c1 / c2)|; high for epistasis. NaN where the coefficients differ in sign.
    eq_contr
        The lower of `dcor_first` and `dcor_second` over the higher; low where one gene makes the pair's change.
    """

    c1: float
    c2: float
    mag: float
    dcor: float
    dcor_singles: float
    dcor_first: float
    dcor_second: float
    corr_fit: float
    dominance: float
    eq_contr: float


def pair_scores(first: np.ndarray, second: np.ndarray, pair: np.ndarray) -> PairScores:
    """GEARS' interaction scores.

    Parameters
    ----------
    first, second, pair
        Changes from control of the two singles and of the pair, (g,). GEARS reads a list of genes of high mean only.
    """
    from sklearn.linear_model import TheilSenRegressor

    singles = np.stack([first, second], axis=1)
    fit = TheilSenRegressor(**THEIL_SEN).fit(singles, pair)
    c1, c2 = (float(c) for c in fit.coef_)
    alone = distance_correlation(first, pair), distance_correlation(second, pair)
    return PairScores(
        c1=c1,
        c2=c2,
        mag=float(np.hypot(c1, c2)),
        dcor=distance_correlation(singles, pair),
        dcor_singles=distance_correlation(first, second),
        dcor_first=alone[0],
        dcor_second=alone[1],
        corr_fit=float(rows_pearson(fit.predict(singles), pair)),
        dominance=float(abs(np.log10(c1 / c2))) if c1 * c2 > 0 else float("nan"),
        eq_contr=min(alone) / max(alone) if max(alone) > 0 else float("nan"),
    )


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Distance correlation (Székely et al. 2007), float64; NaN where either is constant.

    Parameters
    ----------
    x, y
        The same n points, (n,) or (n, d). Memory is n × n.
    """
    from scipy.spatial.distance import cdist

    def centred(points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, np.float64).reshape(len(points), -1)
        d = cdist(points, points)
        return d - d.mean(axis=0) - d.mean(axis=1)[:, None] + d.mean()

    a, b = centred(x), centred(y)
    spread = np.sqrt(np.mean(a * a) * np.mean(b * b))
    return float(np.sqrt(max(np.mean(a * b), 0) / spread)) if spread > 0 else float("nan")


def difference_to_additive(first: np.ndarray, second: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """What the pair changes beyond the sum of the singles; changes from control, any shape."""
    return pair - (first + second)


def interaction_threshold(differences: np.ndarray, fdr: float = FDR) -> float:
    """Least size of an observed difference that counts as an interaction; infinity where none does.

    The null is a normal distribution around 0 as wide as the median size of the differences says, since most genes do
    not interact. The threshold is the lowest at which no more than `fdr` of the differences beyond it are expected from
    the null (Benjamini & Hochberg). Ahlmann-Eltze et al. fit the null with the R package locfdr, so that theirs differ.

    Parameters
    ----------
    differences
        `difference_to_additive` of the observed changes, all pairs and genes. Exact zeros are genes that are silent
        everywhere, and say nothing of the null.
    """
    from scipy.stats import false_discovery_control, norm

    size = np.abs(np.asarray(differences, np.float64)).ravel()
    size = size[size > 0]
    if not len(size):
        return float("inf")
    width = np.median(size) / norm.ppf(0.75)
    called = false_discovery_control(2 * norm.sf(size / width)) <= fdr
    return float(size[called].min()) if called.any() else float("inf")


def discovery_curve(predicted: np.ndarray, interacts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interactions called by the size of the predicted difference to the sum, from the largest on.

    Parameters
    ----------
    predicted
        Predicted difference to the sum of the observed singles, (k,): pairs × genes, flat. Of the sum itself it is 0,
        of no change it is minus the sum.
    interacts
        Bool (k,): where the observed difference is an interaction.

    Returns
    -------
    false_discovery_proportion, true_positive_rate
        One point for each distinct size, float arrays. A gene that does not interact is a false discovery; in the curve
        of Ahlmann-Eltze et al. only one that interacts the other way is.
    """
    size = np.round(np.abs(np.asarray(predicted, np.float64)), DECIMALS)
    order = np.argsort(-size, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(size[order])), len(order) - 1)
    found = np.cumsum(np.asarray(interacts)[order])[ends]
    total = int(np.sum(interacts))
    return 1 - found / (ends + 1), found / total if total else np.full(len(ends), np.nan)


def interaction_auprc(predicted: np.ndarray, interacts: np.ndarray) -> float:
    """Area under `discovery_curve` as average precision; all equal gives the share of interactions, none gives NaN."""
    proportion, rate = discovery_curve(predicted, interacts)
    return float(np.sum(np.diff(rate, prepend=0) * (1 - proportion)))


def interaction_pearson(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Pearson correlation of predicted and observed differences to the sum, by pair, (n,); NaN for the sum itself."""
    return rows_pearson(predicted, observed)


def kinds(first: np.ndarray, second: np.ndarray, pair: np.ndarray, threshold: float) -> np.ndarray:
    """Kind of each gene's response to a pair, index into `KINDS`, same shape.

    `additive`
        The difference to the sum is below the threshold.
    `neomorphism`
        Neither single changes the gene by the threshold, the pair does more than their sum.
    `opposite`
        The pair changes it the other way than the sum.
    `synergy`, `suppression`
        Further than the sum, and less far.

    Gene by gene after Ahlmann-Eltze et al. (synergistic, buffering, opposite), with Norman et al.'s neomorphism.

    Parameters
    ----------
    first, second, pair
        Changes from control; of a prediction, `pair` is the predicted and the singles are the observed ones.
    """
    total = first + second
    gap = np.abs(pair - total)
    silent = np.maximum(np.abs(first), np.abs(second)) < threshold
    kind = np.where(np.abs(pair) > np.abs(total), SYNERGY, SUPPRESSION)
    kind = np.where(pair * total < 0, OPPOSITE, kind)
    kind = np.where(silent, NEOMORPHISM, kind)
    return np.where(gap < threshold, ADDITIVE, kind)


def kind_confusion(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Genes by observed (rows) and predicted (columns) kind, int (5, 5) in the order of `KINDS`."""
    code = np.asarray(observed).ravel() * len(KINDS) + np.asarray(predicted).ravel()
    return np.bincount(code, minlength=len(KINDS) ** 2).reshape(len(KINDS), len(KINDS))
