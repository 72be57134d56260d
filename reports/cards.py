"""What the cards of a model and of a data set say of a row: whether its cells were seen before, and its licence."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from reports.entries import Entry, Section
from reports.wording import BASELINE, CONTROL

log = logging.getLogger(__name__)

#: What pretraining had seen of the evaluated cells, the worst first.
SEEN, SAME_ATLAS, UNKNOWN, CLEAN = "seen", "same atlas", "unknown", "clean"
STATUSES = {
    SEEN: "The evaluated cells were among those it was pretrained on.",
    SAME_ATLAS: "Pretrained on an earlier or later state of the collection that the evaluated cells are in.",
    UNKNOWN: "The cards of the model and of the data set do not say. Public weights may well have seen public cells.",
    CLEAN: "None of the evaluated cells is in what it was pretrained on: by the hash of each cell where it was "
    "pretrained here, by its card and the data set's where released.",
}
#: The state of a collection, at the end of its name.
_STATE = re.compile(r"-(\d{4}(-\d{2}){0,2}|unstated)$")
#: Names that say too little to be the same thing on two cards.
_VAGUE = ("unnamed", "-unstated")


@dataclass(frozen=True)
class Exposure:
    """Of `STATUSES`, or nothing where nothing was pretrained; and why."""

    status: str
    why: str


@dataclass(frozen=True)
class Terms:
    """A licence in a few words, whether it allows commercial use (nothing: it is not said), and the whole of it."""

    licence: str
    use: str
    hint: str


def exposure(entry: Entry) -> Exposure:
    """What was seen of the cells of this row's data set before.

    Pretrained here: by the hashes of the cells, which the engine compares. Released weights: by the collections that
    the card of the model lists (`collections` of its variant in conf/model/) and those its card says the data set is
    in (`collections`) or was searched for in vain (`not_in`). What a card does not list is unknown, never clean.
    """
    if "cells-seen" in entry.flags:
        return Exposure(SEEN, "some of these cells were in the corpus, by their hashes")
    if entry.track in (BASELINE, CONTROL, "untrained") or not entry.runs:
        return Exposure("", "nothing was pretrained")
    if entry.track == "scratch":
        name = (entry.about.provenance.corpus or {}).get("name") or "its corpus"
        return Exposure(CLEAN, f"no cell of this data set is in {name}, by the hashes of the cells")
    facts = _data_card(entry)
    return compared(_collections(entry.about.model, entry.about.variant), facts["collections"], facts["not_in"])


def compared(model: list[str] | None, inside: list[str], outside: list[str]) -> Exposure:
    """The status of released weights.

    Parameters
    ----------
    model
        Collections they were pretrained on; None if their card lists none. `unnamed` stands for those it does not name.
    inside, outside
        Collections the data set is known to be in, and not to be in.
    """
    if not model:
        return Exposure(UNKNOWN, "the model's card lists no collections")
    both = sorted(name for name in set(model) & set(inside) if not name.endswith(_VAGUE))
    if both:
        return Exposure(SEEN, f"both are of {', '.join(both)}")
    atlas = sorted(({_atlas(name) for name in model} & {_atlas(name) for name in inside}) - {"unnamed"})
    if atlas:
        return Exposure(SAME_ATLAS, f"both are of {', '.join(atlas)}, in another state or one that is not said")
    rest = sorted(name for name in model if name not in outside or name.endswith(_VAGUE))
    if rest:
        return Exposure(
            UNKNOWN, f"pretrained on {', '.join(model)}; the data set's card says nothing of {', '.join(rest)}"
        )
    return Exposure(CLEAN, f"the data set is in none of {', '.join(model)}, by its card")


def _atlas(collection: str) -> str:
    """`cellxgene-2023-05` -> `cellxgene`."""
    return _STATE.sub("", collection)


def _collections(model: str, variant: str) -> list[str] | None:
    """Collections of a variant; a variant the card does not know has them only if all variants have the same."""
    variants = _variants(model)
    for name, facts in variants.items():
        if variant and variant.lower() in {called.lower() for called in _names(model, name, facts)}:
            return facts.get("collections")
    lists = {tuple(facts.get("collections") or ()) for facts in variants.values()}
    return list(lists.pop()) if len(lists) == 1 else None


def _names(model: str, name: str, facts: dict[str, Any]) -> set[str]:
    weights = facts.get("weights") or ""
    files = [weights] if isinstance(weights, str) else []
    also = [str(each) for each in facts.get("also") or ()]
    return {name, name.removeprefix(f"{model}-"), *also, *files, *(file.rpartition(".")[0] for file in files)} - {""}


@lru_cache
def _variants(model: str) -> dict[str, Any]:
    from harness.config import compose_group

    try:
        return {key: value or {} for key, value in (compose_group("model", model).get("variants") or {}).items()}
    except Exception as error:  # a model of a plugin has no card here, and the records are still good
        log.debug("no card of model %s here: %s", model, error)
        return {}


def _data_card(entry: Entry) -> dict[str, list[str]]:
    """`collections` and `not_in` of the data set: of its record, else of its card here."""
    from harness.config import compose_group, options

    said = dict(entry.about.provenance.config.get("dataset") or {})
    name = entry.about.dataset
    card = compose_group("dataset", name) if name in options("dataset") else {}
    found = {key: said.get(key) or card.get(key) or [] for key in ("collections", "not_in")}
    return {key: [value] if isinstance(value, str) else list(value) for key, value in found.items()}


def planted(section: Section) -> str:
    """What was planted in the cells of a data set, in words; nothing for cells as nature made them.

    Known from its card (`kind: semi-synthetic`), or from the `plant` of its records, which a user's own file may have.
    """
    facts = _dataset_facts(section.dataset)
    about = facts.get("planted") or {} if facts.get("kind") == "semi-synthetic" else {}
    records = [*section.runs, *section.missing]
    settings = [plant for r in records if (plant := (r.provenance.config.get("dataset") or {}).get("plant"))]
    if not settings and facts.get("kind") != "semi-synthetic":
        return ""
    said = dict(settings[0]) if settings else {}
    what = about.get("what") or f"{said.get('effect', 'an unnamed')} effect"
    where = f" in {about['of']}" if about.get("of") else ""
    how = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None and name != "effect")
    return f"Planted{where}: {what}" + (f" ({how})" if how else "")


@lru_cache
def _dataset_facts(name: str) -> dict[str, Any]:
    from harness.cards import dataset_cards

    try:
        card = dataset_cards().get(name)
        return dict(card.facts) if card else {}
    except Exception as error:  # a broken card elsewhere, and the records are still good
        log.debug("no cards of data sets here: %s", error)
        return {}


def terms(entry: Entry) -> Terms:
    """The licence of the weights where released ones were run, else of the authors' code."""
    spec = _spec(entry.about.model)
    if spec is None:
        return Terms("", "", "not known here")
    if entry.track != "published":
        code = spec.code_licence or "none stated"
        return Terms(_short(code), "", f"code: {code}; no released weights are used")
    whole = spec.weights_licence or "none stated"
    use = {True: "commercial use", False: "no commercial use", None: "commercial use unknown"}[spec.commercial_use]
    return Terms(_short(whole), use, f"weights: {whole}; code: {spec.code_licence or 'none stated'}; {use}")


def _short(licence: str) -> str:
    return re.split(r"[(:;]", licence)[0].strip()


@lru_cache
def _spec(model: str) -> Any:
    from harness.registry import MODELS

    try:
        return MODELS.get(model).spec
    except Exception as error:  # a plugin may fail in any way, and the records are still good
        log.debug("model %s is not known here: %s", model, error)
        return None
