"""The cells that gene vectors are read off, where they are not those of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.data import CellData

_LAST: dict[tuple[str, str, str, int], CellData] = {}


def open_reference(reference: str | None, cells: int) -> CellData | None:
    """At most `cells` of the cells of a registered data set or a file, always the same; None where none is named.

    Raises
    ------
    InputError
        There is no such data set or file.
    """
    if reference is None:
        return None
    from harness.config import compose_group, options
    from harness.runner import open_data
    from harness.subsample import subsample

    known = str(reference) in options("dataset")
    node = compose_group("dataset", str(reference) if known else "file")
    data = open_data(node if known else {**node, "path": str(reference)})
    key = (data.content_hash, data.labels_hash(), data.name, cells)
    if key not in _LAST:  # a grid asks for the same cells in every run
        _LAST.clear()
        _LAST[key] = subsample(data, cells)
    return _LAST[key]
