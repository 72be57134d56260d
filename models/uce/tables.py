"""The gene tables of the release on disk: find them, read them, write them."""

from __future__ import annotations

import pickle
from numbers import Integral
from pathlib import Path
from typing import Any

from harness.checkpoints import find_upwards, read_torch
from harness.errors import InputError
from harness.safe_pickle import load_plain_pickle
from models.uce.genome import GeneTables, Places, distinct_symbols

CHROMOSOMES, OFFSETS, TOKENS = "species_chrom.csv", "species_offsets.pkl", "all_tokens.torch"
PROTEINS, NEW_SPECIES = "protein_embeddings", "new_species_protein_embeddings.csv"
#: Species of the release -> first part of the name of its protein embeddings.
SPECIES = {
    "human": "Homo_sapiens.GRCh38",
    "mouse": "Mus_musculus.GRCm39",
    "frog": "Xenopus_tropicalis.Xenopus_tropicalis_v9.1",
    "zebrafish": "Danio_rerio.GRCz11",
    "mouse_lemur": "Microcebus_murinus.Mmur_3.0",
    "pig": "Sus_scrofa.Sscrofa11.1",
    "macaca_fascicularis": "Macaca_fascicularis.Macaca_fascicularis_6.0",
    "macaca_mulatta": "Macaca_mulatta.Mmul_10",
}
SUFFIX = ".gene_symbol_to_embedding_ESM2.pt"
COLUMNS = ("gene_symbol", "chromosome", "start", "species")


def _look(start: Path, name: str) -> Path | None:
    return find_upwards(start, name) or find_upwards(start, Path("model_files") / name)


def find(start: Path, name: str) -> Path:
    """A table beside `start`, in a folder model_files/, or further up.

    Raises
    ------
    InputError
        It is nowhere.
    """
    found = _look(start, name)
    if found is None:
        raise InputError(
            f"{name} not found beside {start} or above it; a UCE release has {CHROMOSOMES}, {OFFSETS}, {TOKENS} and "
            f"the folder {PROTEINS}/ beside its weights (Figshare article 24320806)"
        )
    return found


def read_places(path: Path) -> Places:
    """Read `species_chrom.csv`; a row without a start gives a chromosome its code, but no gene a place.

    Raises
    ------
    InputError
        Not a table, a column is missing, or a start is no number.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype={name: str for name in COLUMNS if name != "start"})
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}); is the download complete?") from None
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent or not pd.api.types.is_numeric_dtype(frame.get("start")):
        raise InputError(
            f"{path} has the columns {', '.join(map(str, frame.columns))}; expected {', '.join(COLUMNS)}, and "
            "start to be a number"
        )
    frame = frame.dropna(subset=["chromosome", "species"])
    unplaced = frame["gene_symbol"].isna() | frame["start"].isna()
    symbols = frame["gene_symbol"].mask(unplaced, "").to_numpy(object)
    starts = frame["start"].fillna(0).astype("int64").to_numpy()
    return Places(symbols, frame["chromosome"].to_numpy(object), starts, frame["species"].to_numpy(object))


def read_offsets(path: Path) -> dict[str, int]:
    """First row of each species in the token table.

    Raises
    ------
    InputError
        Not a plain dictionary of whole numbers.
    """
    table = load_plain_pickle(path)
    if not isinstance(table, dict) or not all(
        isinstance(name, str) and isinstance(row, Integral) for name, row in table.items()
    ):
        raise InputError(f"{path} holds no dictionary of species and their first rows in {TOKENS}")
    return {name: int(row) for name, row in table.items()}


def files(start: Path) -> list[Path]:
    """All tables beside `start`, those of every species.

    Raises
    ------
    InputError
        One is missing.
    """
    found = [find(start, name) for name in (CHROMOSOMES, OFFSETS, TOKENS)]
    return [*found, *sorted(find(start, PROTEINS).glob(f"*{SUFFIX}")), *new_species(start).values()]


def new_species(start: Path) -> dict[str, Path]:
    """Protein embeddings of the user's own species, by `new_species_protein_embeddings.csv`.

    The authors read its paths from the working directory; here they are beside the table, or above.
    """
    import pandas as pd

    listed = _look(start, NEW_SPECIES)
    if listed is None:
        return {}
    try:
        frame = pd.read_csv(listed, dtype=str)[["species", "path"]].dropna()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{listed} cannot be read as a table of species and path ({error})") from None
    return {name: find_upwards(listed, path) or listed.parent / path for name, path in frame.itertuples(index=False)}


def protein_file(start: Path, species: str) -> Path:
    """The protein embeddings of a species, released or the user's own.

    Raises
    ------
    InputError
        There is none.
    """
    name = SPECIES.get(species)
    found = _look(start, f"{PROTEINS}/{name}{SUFFIX}") if name else None
    own = new_species(start)
    if found is not None:
        return found
    if species in own:
        return own[species]
    there = _look(start, PROTEINS)
    given = [s for s, stem in SPECIES.items() if there and (there / f"{stem}{SUFFIX}").is_file()] + list(own)
    raise InputError(
        f"model.species={species}: {f'{PROTEINS}/{name}{SUFFIX}' if name else 'its protein embedding table'} not found "
        f"beside {start} or above it; tables are there for {', '.join(given) or 'no species'} (a species of your own "
        f"stands in {NEW_SPECIES})"
    )


def read_proteins(path: Path) -> dict[str, Any]:
    """Symbol -> ESM2 embedding of its protein, a float32 tensor, in the order of the file.

    Raises
    ------
    InputError
        Damaged, or not such a dictionary.
    """
    table = read_torch(path)
    vectors = list(table.values()) if isinstance(table, dict) else []
    if not vectors or not all(
        isinstance(name, str) and getattr(vector, "shape", None) == vectors[0].shape and vector.ndim == 1
        for name, vector in table.items()
    ):
        raise InputError(f"{path} holds no dictionary of gene symbols and vectors of one length")
    return table


def read_tables(start: Path, species: str, places: Places, rows: int) -> GeneTables:
    """The tables of a species beside `start`.

    Parameters
    ----------
    places
        `species_chrom.csv`.
    rows
        Rows of the token table.

    Raises
    ------
    InputError
        A table is missing, damaged, or not of the same release.
    """
    proteins = protein_file(start, species)
    path = find(start, OFFSETS)
    offsets = read_offsets(path)
    if species not in offsets:
        raise InputError(f"model.species={species}: {path} knows {', '.join(offsets)}")
    tables = GeneTables(species, distinct_symbols(read_proteins(proteins)), offsets, places, rows)
    tables.check(proteins)
    return tables


def write_tables(directory: Path, tables: GeneTables, vectors: Any) -> None:
    """Write the tables in the layout of the release.

    Parameters
    ----------
    vectors
        The token table, a tensor (rows, token_dim).
    """
    import pandas as pd
    import torch

    frame = pd.DataFrame({name: getattr(tables.places, name) for name in COLUMNS})
    frame.to_csv(directory / CHROMOSOMES, index=False)
    (directory / OFFSETS).write_bytes(pickle.dumps(dict(tables.offsets)))
    torch.save(vectors, directory / TOKENS)
    (directory / PROTEINS).mkdir(exist_ok=True)
    name = SPECIES.get(tables.species)
    path = directory / PROTEINS / f"{name or tables.species}{SUFFIX}"
    own = vectors[tables.first : tables.first + len(tables.symbols)].unbind()
    torch.save({symbol: vector.clone() for symbol, vector in zip(tables.symbols, own, strict=True)}, path)
    if name is None:
        (directory / NEW_SPECIES).write_text(f"species,path\n{tables.species},{path.relative_to(directory)}\n")
