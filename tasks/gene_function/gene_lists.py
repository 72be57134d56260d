"""Lists of genes that a comparison is restricted to, so that every compared model knows each gene."""

from __future__ import annotations

import gzip
from functools import lru_cache

from harness.errors import InputError
from harness.genes import GeneTable
from harness.places import file_at

#: Ends of the names of files with a gene per line; all others hold cells.
TEXT = (".txt", ".csv", ".tsv", ".txt.gz", ".csv.gz", ".tsv.gz")


def read_gene_list(source: str) -> GeneTable:
    """The genes of a registered data set, of a file with cells (`.h5ad` …), or of a text file with a gene per line.

    Of a table (`.csv`, `.tsv`) the first column is read.

    Raises
    ------
    InputError
        There is no such data set or file, or it holds no gene.
    """
    from harness.config import compose_group, options
    from harness.loading import path_of

    known = str(source) in options("dataset")
    path = path_of(compose_group("dataset", str(source))) if known else file_at(source, "task.among")
    return _read(str(source) if known else str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read(source: str, changed: int) -> GeneTable:
    """The genes of a data set or a file, read once for all runs of a grid."""
    if not source.endswith(TEXT):
        from harness.loading import load_dataset

        return load_dataset(source).genes
    opener = gzip.open if source.endswith(".gz") else open
    try:
        with opener(source, "rt", encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"task.among={source}: it cannot be read as text ({error})") from None
    names = [line.replace("\t", ",").split(",")[0].strip().strip('"') for line in lines]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"task.among={source}: the file holds no gene")
    return GeneTable.from_names(names)
