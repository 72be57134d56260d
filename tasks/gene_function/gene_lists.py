"""Lists of genes that a comparison is restricted to, so that every compared model knows each gene."""

from __future__ import annotations

from functools import lru_cache

from harness.errors import InputError
from harness.genes import GeneTable
from harness.places import file_at


@lru_cache(maxsize=16)
def read_gene_list(source: str) -> GeneTable:
    """The genes of a registered data set, of a file with cells (`.h5ad` …), or of a text file with a gene per line.

    Of a table (`.csv`, `.tsv`) the first column is read.

    Raises
    ------
    InputError
        There is no such data set or file, or it holds no gene.
    """
    from harness.config import options

    if str(source) in options("dataset"):
        from harness.loading import load_dataset

        return load_dataset(str(source)).genes
    path = file_at(source, "task.among")
    if path.suffix not in (".txt", ".csv", ".tsv"):
        from harness.loading import load_dataset

        return load_dataset(path).genes
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.replace("\t", ",").split(",")[0].strip() for line in lines]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"task.among={source}: the file holds no gene")
    return GeneTable.from_names(names)
