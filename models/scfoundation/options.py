"""What a user may choose: the read-out, the depth that is asked for, the kind of input, the source of gene vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InputError
from models.scfoundation.tokenizer import Target

READOUTS = ("all", "max")
INPUT_TYPES = ("singlecell", "bulk")
CONTEXTS = ("encoder", "decoder")


@dataclass(frozen=True)
class Options:
    """The options of `conf/model/scfoundation.yaml`, checked.

    Parameters
    ----------
    readout
        `all`: [S, T, largest of the genes, mean of the genes]; `max`: largest of all tokens. None: the official one.
    target
        What depth the model is asked for (the T token of single cells): see `Target.parse`.
    input_type
        `singlecell`, or `bulk` for counts of bulk samples.
    bulk_depth
        Total count that bulk samples are scaled to.
    context
        Where contextual gene vectors come from: `encoder` (expressed genes alone) or `decoder` (all genes).

    Raises
    ------
    InputError
        A value that is none of these.
    """

    readout: str | None = None
    target: str = "t4"
    input_type: str = "singlecell"
    bulk_depth: float | None = None
    context: str = "encoder"

    def __post_init__(self) -> None:
        one_of("readout", self.readout or READOUTS[0], READOUTS)
        one_of("input_type", self.input_type, INPUT_TYPES)
        one_of("context", self.context, CONTEXTS)
        Target.parse(self.target)
        depth = self.bulk_depth
        if depth is not None and (type(depth) not in (int, float) or not 0 < depth < math.inf):
            raise InputError(f"model.bulk_depth={depth}: expected a number of counts above zero")


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """`value`, if it is a known one.

    Raises
    ------
    InputError
        With those there are.
    """
    if value not in known:
        raise InputError(f"model.{option}={value}: scFoundation has {', '.join(known)}")
    return value
