"""Which obs columns may play which role: by their names, and by what they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Role -> names its column goes by (letters and digits alone, lower case), the surest first.
NAMES: dict[str, tuple[str, ...]] = {
    "cell_type": (
        "celltype",
        "celltypes",
        "celltypename",
        "authorcelltype",
        "cellontologyclass",
        "annotation",
        "cellannotation",
        "finalannotation",
        "celltypeannotation",
        "freeannotation",
        "celltypeoriginal",
        "celltypemajorlineage",
        "predictedcelltype",
        "strlabels",
        "bulklabels",
        "celllabel",
        "labels",
        "label",
        "assignedcluster",
        "majorcluster",
        "celltypel2",
        "celltypel1",
        "cellline",
    ),
    "batch": (
        "batch",
        "batchid",
        "tech",
        "technology",
        "platform",
        "protocol",
        "chemistry",
        "assay",
        "study",
        "dataset",
        "sampleid",
        "sample",
        "samplename",
        "library",
        "libraryid",
        "lane",
        "gemgroup",
        "plate",
        "run",
        "replicate",
        "origident",
        "channel",
    ),
    "donor": (
        "donor",
        "donorid",
        "patient",
        "patientid",
        "individual",
        "individualid",
        "subject",
        "subjectid",
        "ind",
        "donorname",
    ),
    "condition": (
        "condition",
        "perturbation",
        "perturbationname",
        "targetgene",
        "genetarget",
        "target",
        "guideidentity",
        "gearscondition",
        "treatment",
        "drug",
        "productname",
        "compound",
        "stim",
        "stimulation",
        "label",
    ),
    "split": ("split", "traintest", "trainortest"),
    "cell_ontology": ("celltypeontologytermid", "cellontologyid", "cellontologytermid", "cellontology", "clid"),
}
_CONTROL = re.compile(
    r"(ctrl|control|ctl|dmso(_.*)?|vehicle|mock|unperturbed|untreated|unstimulated|non[-_ ]?targeting(.*)?|nt|negctrl.*"
    r"|neg[-_ ]?control|safe[-_ ]?targeting|wt|wild[-_ ]?type|none|pbs|ntc)",
    re.IGNORECASE,
)
#: A role's column has at most this many values, and each value so many cells on average.
MOST_VALUES, CELLS_EACH = 5000, 2


@dataclass(frozen=True)
class Candidate:
    """A column that may play a role.

    Parameters
    ----------
    values, missing
        Different values, and cells without one.
    examples
        The most frequent values with their number of cells.
    control
        The value that looks like controls; None where none does, or the role has none.
    """

    column: str
    values: int
    missing: int
    examples: tuple[tuple[str, int], ...]
    control: str | None = None


def suggest(obs: Any) -> dict[str, list[Candidate]]:
    """Role -> candidates, the likeliest first; a role without any is left out."""
    plain = {column: re.sub(r"[^a-z0-9]", "", str(column).lower()) for column in obs.columns}
    found: dict[str, list[Candidate]] = {}
    for role, names in NAMES.items():
        candidates = []
        for rank, name in enumerate(names):
            for column, spelled in plain.items():
                if spelled == name and (candidate := _candidate(obs, column, role)):
                    candidates.append((role == "condition" and candidate.control is None, rank, candidate))
        if candidates:
            found[role] = [candidate for *_, candidate in sorted(candidates, key=lambda c: c[:2])]
    return _settled(found)


def _settled(found: dict[str, list[Candidate]]) -> dict[str, list[Candidate]]:
    """A column of the name `label` is of cell types, or of conditions where it holds controls; never both."""
    conditions = found.get("condition", [])
    shared = {c.column for c in conditions} & {c.column for c in found.get("cell_type", [])}
    for column in shared:
        has_control = any(c.column == column and c.control for c in conditions)
        loser = "cell_type" if has_control else "condition"
        found[loser] = [c for c in found[loser] if c.column != column]
    return {role: candidates for role, candidates in found.items() if candidates}


def _candidate(obs: Any, column: str, role: str) -> Candidate | None:
    values = obs[column]
    if getattr(values, "ndim", 1) != 1 or values.dtype.kind == "f":
        return None
    counted = values.astype(str)[values.notna()].value_counts()
    counted = counted[counted > 0]
    if not 2 <= len(counted) <= min(MOST_VALUES, max(2, len(obs) // CELLS_EACH)):
        return None
    examples = tuple((str(name), int(n)) for name, n in counted.head(5).items())
    controls = [str(name) for name in counted.index if _CONTROL.fullmatch(str(name))] if role == "condition" else []
    return Candidate(
        str(column), len(counted), int(np.asarray(values.isna()).sum()), examples, controls[0] if controls else None
    )
