"""The tables that figures of programs are drawn from: enrichment by resolution, programs, a part of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.gene_relationships.directions import Directions
from tasks.gene_relationships.enrichment import Enrichment, KnownSets
from tasks.gene_relationships.programs import SimilarityGraph

if TYPE_CHECKING:
    import pandas as pd

#: What is drawn of the graph: the largest programs, and of each the most central genes.
DRAWN_PROGRAMS, DRAWN_GENES = 6, 25
#: Genes of each drawn program whose similarities are given one by one.
COMPARED_GENES = 4
#: Genes of a program that are named.
NAMED = 10


@dataclass(frozen=True)
class Resolved:
    """The programs of one head at one resolution.

    Parameters
    ----------
    programs
        Places of the genes of each, the most central first.
    tested
        None where there are no gene sets.
    """

    head: str
    resolution: float
    programs: list[np.ndarray]
    tested: Enrichment | None

    @property
    def n_genes(self) -> int:
        """Genes in a program."""
        return sum(map(len, self.programs))


def curve_table(found: list[Resolved]) -> pd.DataFrame:
    """A line per head and resolution: programs, genes in them, gene sets enriched in any (NaN without gene sets)."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "head": each.head,
                "resolution": each.resolution,
                "programs": len(each.programs),
                "genes": each.n_genes,
                "enriched_sets": np.nan if each.tested is None else each.tested.n_enriched,
            }
            for each in found
        ]
    )


def programs_table(found: list[Resolved], names: np.ndarray, sets: KnownSets | None) -> pd.DataFrame:
    """A line per program: its most central genes, and the gene set of the least p, enriched (q < 0.05) or not."""
    import pandas as pd

    lines = []
    for each in found:
        best = None if each.tested is None else each.tested.best()
        for i, program in enumerate(each.programs):
            line = {
                "head": each.head,
                "resolution": each.resolution,
                "program": i,
                "size": len(program),
                "genes": ", ".join(names[program[:NAMED]].tolist()),
                "set": "",
                "overlap": np.nan,
                "q": np.nan,
            }
            if best is not None and best[i] >= 0 and each.tested is not None and sets is not None:
                at = int(best[i])
                line |= {"set": sets.names[at], "overlap": int(each.tested.overlap[i, at]), "q": each.tested.q[i, at]}
            lines.append(line)
    columns = ["head", "resolution", "program", "size", "genes", "set", "overlap", "q"]
    return pd.DataFrame(lines, columns=columns)


def network_tables(graph: SimilarityGraph, each: Resolved, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The most central genes of the largest programs, laid out (Kamada-Kawai), and the edges among them.

    The layout starts from places that are drawn by the seed, so that it is the same every time.
    """
    import pandas as pd

    drawn = [program[:DRAWN_GENES] for program in each.programs[:DRAWN_PROGRAMS]]
    genes = np.concatenate([np.zeros(0, np.int64), *drawn])
    program = np.repeat(np.arange(len(drawn)), [len(part) for part in drawn])
    place = np.full(len(graph.genes), -1)
    place[genes] = np.arange(len(genes))
    edges = graph.edges[(place[graph.edges] >= 0).all(axis=1)]
    at = np.zeros((0, 2))
    if len(genes):
        import igraph

        start = np.random.default_rng([seed, 5]).normal(size=(len(genes), 2))
        drawing = igraph.Graph(len(genes), place[edges].tolist())
        at = np.array(drawing.layout_kamada_kawai(seed=start.tolist()).coords)
    names = graph.genes.names
    nodes = {"head": each.head, "name": names[genes], "x": at[:, 0], "y": at[:, 1], "program": program}
    links = {
        "head": each.head,
        "source": names[edges[:, 0]],
        "target": names[edges[:, 1]],
        "weight": graph.cosine(edges),
    }
    return pd.DataFrame(nodes), pd.DataFrame(links)


def similarity_table(genes: Directions, each: Resolved) -> pd.DataFrame:
    """Cosines among the most central genes of the largest programs: columns head, a, b, program (of a), cosine."""
    import pandas as pd

    shown = [program[:COMPARED_GENES] for program in each.programs[:DRAWN_PROGRAMS]]
    at = np.concatenate([np.zeros(0, np.int64), *shown])
    own = np.repeat(np.arange(len(shown)), [len(part) for part in shown])
    cosine, names = genes.unit[at] @ genes.unit[at].T, genes.names[at]
    n = len(at)
    return pd.DataFrame(
        {
            "head": each.head,
            "a": np.repeat(names, n),
            "b": np.tile(names, n),
            "program": np.repeat(own, n),
            "cosine": cosine.ravel(),
        }
    )
