"""Every metric name, once: version, direction, range. A number without its version is not comparable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from harness.errors import InputError, InternalError
from harness.results import MetricRow, Scope


@dataclass(frozen=True)
class MetricCard:
    """What a metric is.

    Parameters
    ----------
    package
        Package that computes it; its version is then part of the metric's version.
    low, high
        Range; None means unbounded.
    """

    name: str
    title: str
    higher_is_better: bool = True
    low: float | None = 0.0
    high: float | None = 1.0
    revision: str = "1"
    package: str | None = None

    @property
    def version(self) -> str:
        """`1`, or `1+scib-metrics-0.5.10` where a package computes it."""
        return self.revision if self.package is None else f"{self.revision}+{self.package}-{_installed(self.package)}"


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _sk(name: str, title: str) -> MetricCard:
    return MetricCard(name, title)


def _scib(name: str, title: str, low: float = 0.0, revision: str = "1") -> MetricCard:
    return MetricCard(name, title, low=low, revision=revision, package="scib-metrics")


#: Places that a reverse search is asked for.
HIT_RANKS = (1, 3, 5, 10)

#: Scores of predicted classes and functions of genes; also by folds that keep gene families together.
GENE_SCORES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_micro": "AUPRC (all functions)",
    "macro_auprc": "Macro AUPRC",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "fmax": "Fmax",
    "fmax_published": "Fmax (as published)",
}

CARDS = {
    card.name: card
    for card in (
        _sk("accuracy", "Accuracy"),
        _sk("macro_f1", "Macro F1"),
        _sk("f1", "F1"),
        _sk("macro_auprc", "Macro AUPRC"),
        _sk("auroc", "AUROC"),
        _sk("auprc", "AUPRC"),
        _sk("class_accuracy", "Accuracy of a class"),
        _sk("accuracy_assigned", "Accuracy (assigned cells)"),
        _sk("assigned_share", "Assigned cells"),
        _sk("rejection_auroc", "Rejection AUROC"),
        _sk("focus_accuracy", "Accuracy (types in focus)"),
        _sk("focus_macro_f1", "Macro F1 (types in focus)"),
        MetricCard("error_rate", "Error rate", higher_is_better=False),
        MetricCard("lcad", "LCAD of mistakes", higher_is_better=False, high=None),
        MetricCard("lcad_all_cells", "LCAD of all cells", higher_is_better=False, high=None),
        MetricCard("lcad_published", "LCAD (as published)", higher_is_better=False, high=None),
        MetricCard("onto_rwr", "scGraph-OntoRWR", low=-1.0),
        MetricCard("onto_rwr_published", "scGraph-OntoRWR (as published)", low=-1.0),
        MetricCard("rogi", "ROGI", higher_is_better=False),
        MetricCard("rogi_xd", "ROGI-XD", higher_is_better=False),
        MetricCard("rogi_published", "ROGI (as published)", higher_is_better=False),
        MetricCard("pearson_delta", "Pearson Δ", low=-1.0),
        MetricCard("pearson_delta_de20", "Pearson Δ (top 20 DE)", low=-1.0),
        MetricCard("pearson_delta_perturbed", "Pearson Δ from the mean perturbation", low=-1.0),
        MetricCard("pearson_delta_perturbed_de20", "Pearson Δ from the mean perturbation (top 20 DE)", low=-1.0),
        MetricCard("pearson_delta_markers", "Pearson Δ (markers)", low=-1.0),
        MetricCard("pearson_means", "Pearson of means (markers)", low=-1.0),
        MetricCard("r2_means", "R² of means (markers)", low=None),
        MetricCard("l2_means", "L2 of means (markers)", higher_is_better=False, high=None),
        MetricCard("l2_means_all", "L2 of means (all genes)", higher_is_better=False, high=None),
        MetricCard("l2_stds", "L2 of deviations (markers)", higher_is_better=False, high=None),
        MetricCard("decoding_l2_means", "L2 of means, decoding alone", higher_is_better=False, high=None),
        MetricCard("decoding_pearson_delta", "Pearson Δ, decoding alone", low=-1.0),
        MetricCard("r2_delta", "R² of Δ", low=None),
        MetricCard("mse", "MSE", higher_is_better=False, high=None),
        MetricCard("mse_de20", "MSE (top 20 DE)", higher_is_better=False, high=None),
        MetricCard("l2_top", "L2 (most expressed genes)", higher_is_better=False, high=None),
        _sk("centroid_accuracy", "Centroid accuracy"),
        _sk("discrimination_cosine", "Perturbation discrimination (cosine)"),
        MetricCard("rank_score", "Rank score", higher_is_better=False),
        _sk("de_overlap", "DE overlap"),
        _sk("de_auprc", "DE AUPRC"),
        MetricCard("e_distance", "E-distance", higher_is_better=False, low=None, high=None),
        MetricCard("mmd", "MMD", higher_is_better=False, high=None),
        MetricCard("prediction_similarity", "Similarity of predictions", higher_is_better=False, low=-1.0),
        _sk("interaction_auprc", "Interaction AUPRC"),
        MetricCard("interaction_pearson", "Pearson of interactions", low=-1.0),
        *(_sk(f"hit_at_{k}", f"Hit rate at {k}") for k in HIT_RANKS),
        *(_sk(f"relevant_at_{k}", f"Relevant hits at {k}") for k in HIT_RANKS),
        *(_sk(f"hit_at_{k}_masked", f"Hit rate at {k} (targets masked)") for k in HIT_RANKS),
        _sk("target_precision", "Targets among the most influenced genes"),
        MetricCard("target_lift", "Targets over genes of like expression", high=None),
        _sk("target_auprc", "AUPRC of targets by influence"),
        _sk("tf_auprc", "TF-target AUPRC"),
        MetricCard("tf_auprc_ratio", "TF-target AUPRC over chance", high=None),
        _sk("tf_average_precision", "Average precision of a TF's targets"),
        _sk("early_precision", "Early precision of TF-target pairs"),
        MetricCard("early_precision_ratio", "Early precision over chance", high=None),
        MetricCard("enriched_sets", "Enriched gene sets", high=None),
        *(
            _sk(name + end, title + said)
            for end, said in (("", ""), ("_family", " (gene families)"))
            for name, title in GENE_SCORES.items()
            if (name + end) not in ("auroc", "auprc", "macro_auprc", "accuracy", "macro_f1")  # they are above
        ),
        MetricCard("attribute_learning_index", "Attribute Learning Index", low=-0.5),
        _scib("nmi_kmeans", "NMI (k-means)"),
        _scib("ari_kmeans", "ARI (k-means)", low=-0.5),
        _sk("nmi_kmeans_starts", "NMI (k-means, best of 10 starts)"),
        MetricCard("ari_kmeans_starts", "ARI (k-means, best of 10 starts)", low=-0.5),
        _scib("nmi_leiden", "NMI (Leiden)"),
        _scib("ari_leiden", "ARI (Leiden)", low=-0.5),
        _scib("silhouette_label", "Silhouette (cell type)"),
        _scib("macro_silhouette_label", "Type silhouette"),
        _scib("silhouette_batch", "Silhouette (batch)"),
        _scib("isolated_labels", "Isolated labels"),
        _scib("bras", "BRAS"),
        _scib("ilisi", "iLISI"),
        _scib("clisi", "cLISI"),
        _scib("kbet", "kBET"),
        _scib("graph_connectivity", "Graph connectivity"),
        _scib("pcr_comparison", "PCR comparison"),
        _scib("avg_bio", "AvgBio", revision="2"),  # 2: of k-means, the best of ten starts
        _scib("avg_batch", "AvgBatch"),
        _scib("overall", "Overall (0.6 bio + 0.4 batch)", revision="2"),
    )
}


def register_metric(card: MetricCard) -> MetricCard:
    """Make a metric known that a task of your own brings; said beside the task, once, when it is imported.

    Raises
    ------
    InputError
        Another card has that name, or it is no lower-case identifier.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", card.name):
        raise InputError(f"metric {card.name!r}: a name of lower-case letters, digits and _ is expected")
    taken = CARDS.setdefault(card.name, card)
    if taken != card:
        raise InputError(f"metric {card.name!r} is taken ({taken.title!r}): give {card.title!r} a name of its own")
    return card


def card(name: str) -> MetricCard:
    """The card of a metric; InternalError for a name that is in no card."""
    try:
        return CARDS[name]
    except KeyError:
        raise InternalError(f"metric {name} has no card: register one (harness.register_metric)") from None


def row(
    name: str,
    value: float | None,
    *,
    head: str = "none",
    scope: Scope = "overall",
    key: str = "",
    n: int | None = None,
) -> MetricRow:
    """A metric row with version and direction from its card; an undefined value (NaN) is stored as null."""
    about = card(name)
    number = None if value is None or value != value else float(value)
    return MetricRow(
        name=name,
        version=about.version,
        head=head,
        value=number,
        higher_is_better=about.higher_is_better,
        scope=scope,
        key=key,
        n=n,
    )
