"""What genes are called: in tasks that know them by symbol, and in notes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.genes import GeneTable

#: Names listed in a note before it says "and N more".
LISTED = 6


def gene_names(genes: GeneTable) -> np.ndarray:
    """Symbols, or the names of those that have none, Unicode (n,)."""
    return np.where(genes.symbols != "", genes.symbols, genes.names)


def some(names: Iterable[str]) -> str:
    """`A, B, C and 4 more`."""
    listed = list(names)
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more
