"""LCAD: how far, in the ontology, a wrong label is from the right one.

Wu et al., Genome Biology 2025 (scFM-Bench, PMID 41044630). Their code goes from a lowest common ancestor down to the
true type only, so that a descendant of the truth costs nothing, and takes whichever ancestor comes first where a term
has several parents. `lcad` is the sound form of it, `lcad_published` theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.metrics import row

if TYPE_CHECKING:
    from harness.results import MetricRow
    from tasks.ontology.graph import Ontology
    from tasks.ontology.mapping import TermMapping

#: Pairs of terms looked at in one piece.
_BLOCK = 2048


def lca_steps(ontology: Ontology, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps from a lowest common ancestor down to two terms.

    A common ancestor (a term is its own) is lowest if none of its descendants is one. There can be several.

    Parameters
    ----------
    first, second
        Terms (n,).

    Returns
    -------
    between
        Float (n,): fewest edges from one term up to a lowest common ancestor and down to the other; the same both ways.
    down
        Float (n,): fewest edges from a lowest common ancestor down to the first term.

    Both are inf where there is no common ancestor.
    """
    used, code = np.unique(np.concatenate([first, second]), return_inverse=True)
    steps = ontology.steps_up(ontology.rows(used))
    reached = np.flatnonzero(np.isfinite(steps).any(axis=0))
    steps = steps[:, reached]
    parents = ontology.parents[reached][:, reached]
    pairs, where = np.unique(code.reshape(2, -1), axis=1, return_inverse=True)
    between, down = np.full(pairs.shape[1], np.inf), np.full(pairs.shape[1], np.inf)
    for start in range(0, pairs.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        up, other = steps[pairs[0, block]], steps[pairs[1, block]]
        common = np.isfinite(up) & np.isfinite(other)
        # Ancestors of a common ancestor are common too: it is lowest if it is no parent of one.
        lowest = common & ~(common.astype(np.float32) @ parents > 0)
        between[block] = np.where(lowest, up + other, np.inf).min(axis=1)
        down[block] = np.where(lowest, up, np.inf).min(axis=1)
    where = where.ravel()
    return between[where], down[where]


def lcad(ontology: Ontology, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Distance of each prediction, float (n,): edges from the truth to the prediction over a lowest common ancestor.

    0 where they are one term; the least where there are several lowest common ancestors; symmetric in truth and
    prediction; NaN where there is no common ancestor.
    """
    between, _ = lca_steps(ontology, true, predicted)
    return np.where(np.isfinite(between), between, np.nan)


def lcad_published(ontology: Ontology, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Distance of each prediction as published, float (n,): edges from a lowest common ancestor down to the truth.

    With several lowest common ancestors the published value depends on Python's hash seed; this is the least.
    """
    _, down = lca_steps(ontology, true, predicted)
    return np.where(np.isfinite(down), down, np.nan)


def lcad_rows(
    true: np.ndarray, predicted: np.ndarray, mapping: TermMapping, ontology: Ontology, head: str
) -> tuple[list[MetricRow], dict[str, object]]:
    """LCAD of the wrong cells, with the error rate it belongs to.

    A model that makes few but hard errors has a worse LCAD than one that errs often and near: read `lcad` with
    `error_rate`, or `lcad_all_cells`, their product, in which a right cell counts 0. Cells whose true or predicted
    type has no term are left out and counted. A cell left unassigned (a prediction that is no cell type of `mapping`)
    is wrong, but at no distance: `lcad_all_cells` is then undefined, or leaving cells out would be rewarded.

    Parameters
    ----------
    true, predicted
        Labels (n,).
    mapping
        Of all cell types, those only predicted too.

    Returns
    -------
    rows
        `lcad`, `lcad_all_cells`, `error_rate`, `lcad_published`, and `lcad` of each true type that was mistaken; empty
        where no cell can be looked at. `lcad` without any wrong cell is undefined.
    notes
        What was left out.
    """
    truth, guess = mapping.of(true), mapping.of(predicted)
    unassigned = ~np.isin(predicted, [*mapping.terms, *mapping.unmapped])
    known = (truth != "") & ((guess != "") | unassigned)
    notes: dict[str, object] = dict(mapping.notes)
    of = "" if head == "none" else f" ({head})"
    if not (known & ~unassigned).any():
        return [], {**notes, "LCAD": "not applicable: no cell has a true and a predicted type with an ontology term"}
    if not known.all():
        notes[f"cells left out of LCAD{of}"] = int((~known).sum())
    true, truth, guess, unassigned = np.asarray(true)[known], truth[known], guess[known], unassigned[known]
    if unassigned.any():
        notes[f"unassigned cells, wrong but without LCAD{of}"] = int(unassigned.sum())
    wrong = (truth != guess) & ~unassigned
    distance, published = np.zeros(len(truth)), np.zeros(len(truth))
    if wrong.any():
        distance[wrong] = lcad(ontology, truth[wrong], guess[wrong])
        published[wrong] = lcad_published(ontology, truth[wrong], guess[wrong])
    apart = int(np.isnan(distance).sum())
    if apart:
        notes[f"mistakes without a common ancestor{of}"] = apart
    n, n_wrong = len(truth), int(wrong.sum())
    rows = [
        row("lcad", _mean(distance[wrong]), head=head, n=n_wrong),
        row("lcad_all_cells", None if unassigned.any() else _mean(distance), head=head, n=n),
        row("error_rate", (wrong | unassigned).mean(), head=head, n=n),
        row("lcad_published", _mean(published[wrong]), head=head, n=n_wrong),
    ]
    for kind in np.unique(true[wrong]):
        here = wrong & (true == kind)
        rows.append(row("lcad", _mean(distance[here]), head=head, scope="per-class", key=str(kind), n=int(here.sum())))
    return rows, notes


def _mean(values: np.ndarray) -> float | None:
    """Mean of the defined ones; None where there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
