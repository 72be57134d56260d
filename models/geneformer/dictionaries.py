"""Geneformer's gene dictionaries: tokens, medians and id mapping, pickled in the official release."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from harness.errors import InputError
from harness.genes import ENSEMBL, GeneTable
from harness.safe_pickle import load_plain_pickle

PAD, MASK, CLS, EOS = "<pad>", "<mask>", "<cls>", "<eos>"
#: What stands before the generation in the file names.
TOKENS, MEDIANS, MAPPING, SYMBOLS = (
    "token_dictionary",
    "gene_median_dictionary",
    "ensembl_mapping_dict",
    "gene_name_id_dict",
)


@dataclass(eq=False)
class GeneDictionaries:
    """What the tokenizer knows of genes.

    Parameters
    ----------
    tokens
        Gene (Ensembl id) or special token -> token id, ids 0 … n - 1.
    medians
        float64 (n,), by token id: median of the non-zero counts per 10,000 over the pretraining corpus; 1 for
        special tokens.
    mapping
        Any id (Ensembl, deprecated Ensembl, symbol, synonym; upper case) -> a gene of `tokens`.
    symbols
        Symbol -> Ensembl id, the release's own convenience table; may be empty.
    """

    tokens: dict[str, int]
    medians: np.ndarray
    mapping: dict[str, str]
    symbols: dict[str, str]

    def __post_init__(self) -> None:
        self._token_of = {key: self.tokens[gene] for key, gene in self.mapping.items() if gene in self.tokens}
        # A vocabulary of our own may hold symbols; the official ones hold Ensembl ids only.
        self._has_names = any(not ENSEMBL.match(name) for name in self.genes)
        self._maps_symbols = any(not ENSEMBL.match(key) for key in self._token_of)

    @property
    def version(self) -> str:
        """`V2` where cells are framed by `<cls>` and `<eos>`, else `V1`: the release has no other mark."""
        return "V2" if CLS in self.tokens else "V1"

    @property
    def genes(self) -> list[str]:
        """Genes of the vocabulary, special tokens left out."""
        return [name for name in self.tokens if not is_special(name)]

    @property
    def token_names(self) -> np.ndarray:
        """Gene of each token id, unicode (n,), "" for special tokens."""
        names = [""] * len(self.tokens)
        for name in self.genes:
            names[self.tokens[name]] = name
        return np.asarray(names, np.str_)

    def match(self, table: GeneTable) -> np.ndarray:
        """Token id of each column, int64 (n_genes,), -1 where there is none: the official rule.

        The Ensembl id of a column, or its symbol where it has none, is looked up as it stands and in upper case.
        An Ensembl id that the mapping does not know is not tried again by symbol. Beyond the official rule goes
        only what cannot work by it: a symbol meets a mapping without symbols (V1) through the release's symbol
        table, and a vocabulary of our own that holds names is searched by symbol and name as well.
        """
        ids = self._lookup(np.where(table.ensembl != "", table.ensembl, table.symbols))
        if not self._maps_symbols:
            by_symbol = np.asarray([self.symbols.get(name, "") for name in table.symbols.tolist()], np.str_)
            ids = np.where((ids < 0) & (table.ensembl == ""), self._lookup(by_symbol), ids)
        if self._has_names:
            for names in (table.symbols, table.names):
                ids = np.where(ids < 0, self._lookup(names), ids)
        return ids

    def _lookup(self, names: np.ndarray) -> np.ndarray:
        find = self._token_of.get
        found = (find(name, find(name.upper(), -1)) for name in names.tolist())
        return np.fromiter(found, np.int64, len(names))

    @classmethod
    def read(cls, tokens: Path, medians: Path, mapping: Path | None, symbols: Path | None) -> Self:
        """Read and check the pickles; `mapping` and `symbols` are None where the release has none.

        Raises
        ------
        InputError
            A damaged or unsafe pickle, token ids that are not 0 … n - 1 once each, a gene without a median, or
            no mapping for V2 (for V1 it is the identity).
        """
        token_ids = read_tokens(tokens)
        genes = [name for name in token_ids if not is_special(name)]
        if mapping is not None:
            id_map = _strings(mapping)
        elif CLS in token_ids:
            wanted = tokens.name.replace(TOKENS, MAPPING)
            raise InputError(f"{tokens.parent} has no {wanted}, which maps gene ids to the V2 vocabulary")
        else:
            id_map = {name: name for name in genes}
        names = {} if symbols is None else _strings(symbols)
        return cls(token_ids, _medians(medians, token_ids, genes), id_map, names)

    @classmethod
    def of_genes(cls, table: GeneTable, version: str) -> Self:
        """A vocabulary over the genes of a data set, medians 1; its order is that of the ids, not the columns."""
        ids = np.where(table.ensembl != "", table.ensembl, np.where(table.symbols != "", table.symbols, table.names))
        genes = sorted({name for name in ids.tolist() if name and not is_special(name)})
        if not genes:
            raise InputError("a Geneformer vocabulary needs at least one gene; the gene table names none")
        special = [PAD, MASK, CLS, EOS] if version == "V2" else [PAD, MASK]
        tokens = {name: i for i, name in enumerate([*special, *genes])}
        pairs = set(zip(table.symbols.tolist(), ids.tolist(), strict=True))
        shared = Counter(symbol for symbol, _ in pairs)
        # A symbol of two genes says nothing about either.
        unique = {symbol: gene for symbol, gene in sorted(pairs) if symbol and shared[symbol] == 1}
        return cls(tokens, np.ones(len(tokens)), {**unique, **{gene: gene for gene in genes}}, {})

    def save(self, folder: Path) -> None:
        """Write the pickles, under the names without a generation, as plain dictionaries."""
        medians = {name: float(self.medians[self.tokens[name]]) for name in self.genes}
        folder.mkdir(parents=True, exist_ok=True)
        written = {TOKENS: self.tokens, MEDIANS: medians, MAPPING: self.mapping, SYMBOLS: self.symbols}
        for stem, content in written.items():
            with (folder / f"{stem}.pkl").open("wb") as stream:
                pickle.dump(content, stream, protocol=4)


def is_special(name: str) -> bool:
    """Whether a key of the token dictionary is a special token."""
    return name.startswith("<") and name.endswith(">")


def _dictionary(path: Path) -> Mapping[Any, Any]:
    content = load_plain_pickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; a dictionary is expected")
    if not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} has keys that are not text; gene ids are expected")
    return content


def _strings(path: Path) -> dict[str, str]:
    return {str(key): str(value) for key, value in _dictionary(path).items()}


def read_tokens(path: Path) -> dict[str, int]:
    """The token dictionary, checked.

    Raises
    ------
    InputError
        Ids that are not 0 … n - 1 once each, no `<pad>` or `<mask>`, or only one of `<cls>` and `<eos>`.
    """
    content = _dictionary(path)
    for key, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise InputError(f"{path}: token id {value!r} of {key} is no whole number")
    tokens = {str(key): int(value) for key, value in content.items()}
    if sorted(tokens.values()) != list(range(len(tokens))):
        twice = [i for i, n in Counter(tokens.values()).items() if n > 1]
        if twice:
            names = " and ".join(name for name, i in tokens.items() if i == twice[0])
            what = f"token id {twice[0]} stands for {names} ({len(twice)} ids are given more than once)"
        else:
            what = f"ids run from {min(tokens.values())} to {max(tokens.values())} for {len(tokens)} tokens"
        raise InputError(f"{path}: {what}; each of 0 … {len(tokens) - 1} is expected once")
    lacking = _lacking(tokens)
    if lacking:
        raise InputError(f"{path} has no {' or '.join(lacking)}; is it a token dictionary of Geneformer?")
    return tokens


def _lacking(tokens: Iterable[str]) -> list[str]:
    needed = (PAD, MASK, CLS, EOS) if CLS in tokens or EOS in tokens else (PAD, MASK)
    return [name for name in needed if name not in tokens]


def _medians(path: Path, tokens: Mapping[str, int], genes: list[str]) -> np.ndarray:
    content = _dictionary(path)
    lacking = [name for name in genes if name not in content]
    if lacking:
        raise InputError(
            f"{path} has no median for {len(lacking)} of the {len(genes)} genes of the vocabulary "
            f"({', '.join(lacking[:5])}{', …' if len(lacking) > 5 else ''}); it belongs to another model"
        )
    medians = np.ones(len(tokens))
    try:
        medians[[tokens[name] for name in genes]] = [float(content[name]) for name in genes]
    except (TypeError, ValueError):
        raise InputError(f"{path} holds values that are no numbers; medians are expected") from None
    bad = [name for name in genes if not (np.isfinite(medians[tokens[name]]) and medians[tokens[name]] > 0)]
    if bad:
        raise InputError(f"{path}: the median of {bad[0]} is {content[bad[0]]}; a positive number is expected")
    return medians
