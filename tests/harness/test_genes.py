"""Gene tables: which ids a data set has, by form, by column, by organism."""

import numpy as np
import pandas as pd
import pytest

from harness.errors import InputError
from harness.genes import (
    GeneTable,
    date_mangled,
    looks_ensembl,
    match_exact,
    organism_of,
    refuse_other_species,
    strip_version,
)

SYMBOLS = ["TP53", "CD3D", "ACTB"]
ENSEMBL = ["ENSG00000141510", "ENSG00000167286", "ENSG00000075624"]


def frame(index, **columns):
    return pd.DataFrame(columns, index=index)


def test_symbols_in_the_index_and_versioned_ensembl_ids_in_a_column():
    table = GeneTable.from_var(frame(SYMBOLS, gene_ids=[f"{e}.{i}" for i, e in enumerate(ENSEMBL)]))
    assert table.symbols.tolist() == SYMBOLS
    assert table.ensembl.tolist() == ENSEMBL


def test_ensembl_ids_in_the_index_and_symbols_in_a_column():
    table = GeneTable.from_var(frame([f"{e}.7" for e in ENSEMBL], feature_name=SYMBOLS))
    assert table.names.tolist() == [f"{e}.7" for e in ENSEMBL]
    assert (table.symbols.tolist(), table.ensembl.tolist()) == (SYMBOLS, ENSEMBL)


@pytest.mark.parametrize("dtype", ["object", "category", "string", pd.StringDtype(na_value=np.nan)], ids=str)
def test_a_named_column_of_any_text_dtype_wins(dtype):
    var = frame(["a", "b", "c"], gene_name=["x", "y", "z"], mine=pd.array(SYMBOLS, dtype="object"))
    var["mine"] = var["mine"].astype(dtype)
    table = GeneTable.from_var(var, "mine")
    assert (table.names.tolist(), table.symbols.tolist()) == (["a", "b", "c"], SYMBOLS)
    assert not table.ensembl.any()


@pytest.mark.parametrize("dtype", ["category", "string", pd.StringDtype(na_value=np.nan)], ids=str)
def test_missing_ids_are_empty(dtype):
    var = frame(SYMBOLS, ensembl_id=pd.Series([ENSEMBL[0], None, ENSEMBL[2]], index=SYMBOLS).astype(dtype))
    assert GeneTable.from_var(var).ensembl.tolist() == [ENSEMBL[0], "", ENSEMBL[2]]


def test_an_unknown_column_is_refused_with_the_columns_there_are():
    with pytest.raises(InputError, match=r"dataset.gene_ids=symbl: .*gene_name, score"):
        GeneTable.from_var(frame(SYMBOLS, gene_name=SYMBOLS, score=[1, 2, 3]), "symbl")


def test_a_column_name_that_stands_twice_is_refused():
    var = pd.DataFrame([SYMBOLS, SYMBOLS]).T
    var.columns = ["ids", "ids"]
    with pytest.raises(InputError, match="one var column"):
        GeneTable.from_var(var, "ids")


def test_index_alone_is_taken_when_asked():
    table = GeneTable.from_var(frame(SYMBOLS, ensembl_id=ENSEMBL), "index")
    assert table.symbols.tolist() == SYMBOLS
    assert not table.ensembl.any()


def test_row_numbers_are_no_gene_names():
    table = GeneTable.from_var(frame(["0", "1", "2"], gene_symbol=SYMBOLS, gene_ids=ENSEMBL))
    assert (table.symbols.tolist(), table.ensembl.tolist()) == (SYMBOLS, ENSEMBL)


def test_a_gene_id_column_of_another_kind_is_not_taken_for_ensembl():
    assert not GeneTable.from_var(frame(SYMBOLS, gene_id=["7157", "915", "60"])).ensembl.any()


def test_genes_without_a_symbol_keep_their_ensembl_id():
    table = GeneTable.from_names([*SYMBOLS, "ENSG00000228794.9", "AC012345.1"])
    assert table.ensembl.tolist() == ["", "", "", "ENSG00000228794", ""]
    assert table.symbols.tolist()[4] == "AC012345.1"


def test_duplicated_ids_are_legal_and_counted():
    table = GeneTable.from_var(frame(["a", "b", "c"], gene_name=["TP53", "TP53", "CD3D"]), "gene_name")
    assert table.n_duplicates == 1
    assert match_exact(table, {"TP53": 4}).ids.tolist() == [4, 4, -1]
    assert GeneTable.from_names(["ENSG00000141510.1", "ENSG00000141510.2"]).n_duplicates == 1


def test_par_genes_and_versions():
    assert looks_ensembl(["ENSG00000182378.14_PAR_Y", "ENSMUSG00000059552"])
    assert not looks_ensembl(["", "TP53"])
    assert strip_version("ENSG00000182378.14_PAR_Y") == "ENSG00000182378"


@pytest.mark.parametrize(
    "name",
    ["1-Mar", "Mar-01", "2-Sep", "SEPT2", "DEC1", "MARCH1", "2001-03-01", "9/1/2003", "2.31E+13", "Sep-2002"],
)
def test_dates_are_recognised(name):
    assert date_mangled(["TP53", name]) == [name]


def test_ordinary_symbols_are_no_dates():
    assert date_mangled(["TP53", "MARCHF1", "SEPTIN2", "DECR1", "MARCKS", "NOVA1", "C1orf112", "H2-Ab1", "HLA-A"]) == []


HUMAN = ["CD3D", "ACTB", "C1orf112", "MT-CO1", "HLA-DRA", "KRT18", "RPL13A", "CXorf38"]
MOUSE = ["Cd3d", "Actb", "Gm10358", "mt-Nd1", "H2-Ab1", "Krt18", "Rpl13a", "1700001C02Rik"]


@pytest.mark.parametrize(
    ("names", "organism"),
    [
        (HUMAN, "human"),
        (MOUSE, "mouse"),
        (ENSEMBL, "human"),
        (["ENSMUSG00000059552.14", "ENSMUSG00000032094"], "mouse"),
        (["ENSCAFG00000019372"], "another species"),
        ([f"Gene{i}" for i in range(50)], "unknown"),
        ([f"gene_{i}" for i in range(50)], "unknown"),
        ([name.lower() for name in HUMAN], "unknown"),
    ],
)
def test_organism(names, organism):
    assert organism_of(GeneTable.from_names(names)).name == organism


def test_the_ids_a_model_reads_say_which_organism_it_is():
    table = GeneTable(np.array(MOUSE), np.array(MOUSE), np.array(["", *ENSEMBL, "", "", "", ""]))
    assert organism_of(table).name == "human"
    assert organism_of(table, "symbol").name == "mouse"
    refuse_other_species("geneformer", ("human",), table, gene_ids="ensembl")
    with pytest.raises(InputError, match="mouse"):
        refuse_other_species("scgpt", ("human",), table, gene_ids="symbol")
    refuse_other_species("pca", ("human",), table, gene_ids="any")


def test_another_species_is_refused_with_the_evidence_unless_the_model_has_it():
    mouse = GeneTable.from_names(MOUSE)
    with pytest.raises(InputError, match=r"cells.h5ad holds genes of mouse .*Cd3d.*scgpt covers human"):
        refuse_other_species("scgpt", ("human",), mouse, "cells.h5ad")
    refuse_other_species("uce", ("human", "mouse"), mouse)
    refuse_other_species("scgpt", ("human",), GeneTable.from_names(["x", "y"]))
