"""Reverse perturbation: which genes were perturbed, given the cells? Candidates are ranked by their predicted profiles.

CellFM paper, "Reverse perturbation prediction in silico", after Cui et al. 2024 (scGPT): 20 genes span a space of 210
singles and pairs, of which a part was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.errors import InputError
from harness.metrics import HIT_RANKS, row
from harness.registry import register_task
from harness.results import MetricRow
from harness.task import Split, TaskResult
from tasks.perturbation.conditions import Condition, name_of
from tasks.perturbation.heads import HEADS, NO_HEAD
from tasks.perturbation.on_perturbations import OnPerturbations, PerturbationSplit, cells_of
from tasks.perturbation.ranking import Ranking, rank_candidates, relevant
from tasks.perturbation.splits import ConditionSplit

if TYPE_CHECKING:
    import pandas as pd

    from harness.data import CellData
    from harness.subject import Subject
    from tasks.perturbation.prepare import Prepared

#: Shares of the measured conditions that train and validate (33 and 3 of 47 in the paper); the others are tested.
TRAIN_SHARE, VAL_SHARE = 0.70, 0.07
#: Candidates listed per query in the artifact.
LISTED = 10
#: Under this many queries a hit rate moves in steps that no single split can resolve.
FEW_QUERIES = 30


@register_task("reverse_perturbation")
class ReversePerturbation(OnPerturbations):
    """Hit rates of the true perturbation among the nearest candidates, over several splits.

    A run has one training seed and all `split_seeds`, so that the two are told apart: its number is the mean over the
    splits, and seeds of the grid are seeds of training. Rates with the suffix `_masked` compare profiles without the
    genes of the space themselves, whose own expression can give the answer away (scGPT issue 87).

    Parameters
    ----------
    genes
        Genes of the space; None: those that hold the most measured conditions, chosen one by one.
    n_genes
        How many, where none are named.
    split_seeds
        A split into training, validation and test conditions for each.
    """

    name = "reverse_perturbation"
    title = "Reverse perturbation"
    headline = tuple((f"hit_at_{k}", head) for k in (1, 5, 10) for head in (*HEADS, NO_HEAD))
    controls: ClassVar = {"floor": ("no_change", "random_embedding")}

    def __init__(
        self,
        heads: Sequence[str] = ("linear",),
        genes: Sequence[str] | None = None,
        n_genes: int = 20,
        split_seeds: Sequence[int] = (0, 1, 2, 3, 4),
        embedding: str = "static",
        reference: str | None = None,
        reference_cells: int = 300,
        go: str | None = None,
        separator: str | None = None,
        min_cells: int = 10,
        cells_per_condition: int | None = None,
        n_top_genes: int | None = 5000,
        gears: Mapping[str, Any] | None = None,
        native: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            heads=heads,
            embedding=embedding,
            reference=reference,
            reference_cells=reference_cells,
            go=go,
            separator=separator,
            min_cells=min_cells,
            cells_per_condition=cells_per_condition,
            n_top_genes=n_top_genes,
            gears=gears,
            native=native,
            genes=None if genes is None else sorted(map(str, genes)),
            n_genes=n_genes,
            split_seeds=sorted(set(map(int, split_seeds))),
        )
        if not self.config["split_seeds"]:
            raise InputError("task.split_seeds is empty: at least one split is needed")

    def space(self, prepared: Prepared) -> tuple[list[str], list[Condition]]:
        """The genes of the space and its measured conditions.

        Raises
        ------
        InputError
            Fewer than four measured conditions, or no pair among them.
        """
        conditions = prepared.cells.conditions[1:]
        genes = self.config["genes"] or _densest(conditions, self.config["n_genes"])
        inside = [condition for condition in conditions if set(condition) <= set(genes)]
        if len(inside) < 4 or not any(len(condition) == 2 for condition in inside):
            raise InputError(
                f"{len(inside)} measured conditions lie in the space of {len(genes)} genes, "
                f"{sum(len(c) == 2 for c in inside)} of them pairs: at least four, with a pair, are needed"
            )
        return list(genes), inside

    def split(self, data: CellData, seed: int) -> PerturbationSplit:
        """A fold per split seed; conditions outside the space train in all of them."""
        prepared = self.prepared(data)
        _, inside = self.space(prepared)
        others = [c for c in prepared.cells.conditions[1:] if c not in set(inside)]
        folds = []
        for split_seed in self.config["split_seeds"]:
            order = [inside[i] for i in np.random.default_rng(split_seed).permutation(len(inside))]
            n_train, n_val = round(TRAIN_SHARE * len(order)), max(1, round(VAL_SHARE * len(order)))
            train, val, test = order[:n_train], order[n_train : n_train + n_val], order[n_train + n_val :]
            chosen = ConditionSplit((*train, *others), tuple(val), tuple(test))
            folds.append(cells_of(prepared, chosen, f"split {split_seed}"))
        every = np.unique(np.concatenate([fold.test for fold in folds]))
        return PerturbationSplit("seen-combinations", every, every, prepared.excluded, tuple(folds))

    def run(self, subject: Subject, data: CellData, split: Split, seed: int) -> TaskResult:
        """Predict every candidate, and rank them for each test condition."""
        prepared, result = self.prepared(data), TaskResult()
        genes, inside = self.space(prepared)
        candidates = [(gene,) for gene in sorted(genes)]
        candidates += [tuple(sorted(pair)) for pair in itertools.combinations(sorted(genes), 2)]
        folds = [part.conditions for part in split.each() if isinstance(part, PerturbationSplit) and part.conditions]
        problems = [
            self.problem(prepared, ConditionSplit(f.train, f.val, tuple(candidates)), seed, subject.progress)
            for f in folds
        ]
        predicted = self.predictions(subject, data, prepared, problems, result)
        others = ~np.isin(prepared.cells.genes, genes)
        hits: list[tuple[str, str, Condition, dict[str, float]]] = []
        listed: list[dict[str, Any]] = []
        for head, profiles in predicted.items():
            for part, fold, guess in zip(split.each(), folds, profiles, strict=True):
                queries = np.stack([prepared.cells.mean(condition) for condition in fold.test])
                truth = np.array([candidates.index(condition) for condition in fold.test])
                guess = np.where(np.isnan(guess), np.inf, guess) if np.isnan(guess).any() else guess
                full = rank_candidates(queries, guess, truth)
                masked = rank_candidates(queries, guess, truth, others)
                for i, condition in enumerate(fold.test):
                    hits.append((head, part.name, condition, _rates(full, masked, fold.test, candidates, i)))
                listed += _listed(head, part.name, full, fold.test, candidates)
        result.metrics = _rows(hits)
        result.tables["reverse_ranking"] = _table(listed)
        n = len(folds[0].test)
        result.notes |= {
            **prepared.notes,
            "genes of the space": ", ".join(sorted(genes)),
            "candidates": len(candidates),
            "measured conditions": f"{len(inside)}, {n} of them tested in each of {len(folds)} splits",
            "chance of a hit at 10": round(min(1.0, 10 / len(candidates)), 4),
        }
        if n < FEW_QUERIES:
            result.notes["resolution"] = (
                f"with {n} test conditions a hit rate of one split moves in steps of {1 / n:.3f}: only what holds over "
                "splits and seeds says anything"
            )
        return result

    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics given."""
        return tuple(_names())


def _names() -> list[str]:
    return [f"{name.format(k)}" for k in HIT_RANKS for name in ("hit_at_{}", "relevant_at_{}", "hit_at_{}_masked")]


def _densest(conditions: Sequence[Condition], n: int) -> list[str]:
    """Genes, added one by one, each the one that brings the most measured conditions inside; ties by name."""
    genes = sorted({gene for condition in conditions for gene in condition})
    degree = {gene: sum(gene in c and len(c) == 2 for c in conditions) for gene in genes}
    chosen: list[str] = []
    while len(chosen) < min(n, len(genes)):
        inside = set(chosen)

        def gain(gene: str, inside: set[str] = inside) -> tuple[int, int]:
            return sum(gene in c and set(c) <= inside | {gene} for c in conditions), degree[gene]

        chosen.append(
            max((gene for gene in genes if gene not in inside), key=lambda gene: (*gain(gene), -genes.index(gene)))
        )
    return sorted(chosen)


def _rates(
    full: Ranking, masked: Ranking, queries: Sequence[Condition], candidates: Sequence[Condition], i: int
) -> dict[str, float]:
    found: dict[str, float] = {}
    for k in HIT_RANKS:
        found[f"hit_at_{k}"] = float(full.hits(k)[i])
        found[f"relevant_at_{k}"] = float(relevant(full, queries, candidates, k)[i])
        found[f"hit_at_{k}_masked"] = float(masked.hits(k)[i])
    return found


def _rows(hits: Sequence[tuple[str, str, Condition, dict[str, float]]]) -> list[MetricRow]:
    """Per condition its mean over the splits that test it, and the mean of these: conditions are the units."""
    rows = []
    for head in dict.fromkeys(head for head, *_ in hits):
        for name in _names():
            by_condition: dict[str, list[float]] = {}
            for own, _, condition, found in hits:
                if own == head:
                    by_condition.setdefault(name_of(condition), []).append(found[name])
            means = {condition: float(np.mean(values)) for condition, values in by_condition.items()}
            rows.append(row(name, float(np.mean(list(means.values()))), head=head, n=len(means)))
            rows += [
                row(name, value, head=head, scope="per-perturbation", key=condition, n=len(by_condition[condition]))
                for condition, value in means.items()
            ]
    return rows


def _listed(
    head: str, fold: str, ranking: Ranking, queries: Sequence[Condition], candidates: Sequence[Condition]
) -> list[dict[str, Any]]:
    return [
        {
            "condition": name_of(query),
            "head": head,
            "fold": fold,
            "place": place + 1,
            "label": name_of(candidates[at]),
            "shared": len(set(query) & set(candidates[at])),
            "rank": float(ranking.rank[i]),
        }
        for i, query in enumerate(queries)
        for place, at in enumerate(ranking.order[i][:LISTED].tolist())
    ]


def _table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(lines)
