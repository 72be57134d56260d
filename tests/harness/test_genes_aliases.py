"""Alias and previous symbols: what one approved symbol claims is resolved, the rest is reported."""

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.gene_aliases import AliasTable
from harness.genes import GeneTable

HGNC = Path(__file__).parents[3] / "shared/data/labels/hgnc_complete_2021.tsv.gz"

#: approved, aliases, previous, Ensembl id, status
ROWS = [
    ("SEPTIN2", ["DIFF6"], ["SEPT2"], "ENSG00000168385", "Approved"),
    ("RACK1", ["H12.3"], ["GNB2L1"], "ENSG00000204628", "Approved"),
    ("CD3D", [], [], "ENSG00000167286", "Approved"),
    ("ALPHA1", ["ASP", "OLDA"], ["OLDB"], "ENSG00000000001", "Approved"),
    ("BETA1", ["ASP", "TP53"], [], "ENSG00000000002", "Approved"),
    ("TP53", ["p53"], [], "ENSG00000141510", "Approved"),
    ("C1orf112", ["FLIP"], [], "ENSG00000000460", "Approved"),
    ("TWIN1", [], [], "ENSG00000000009", "Approved"),
    ("TWIN2", [], [], "ENSG00000000009", "Approved"),
    ("GONE1~withdrawn", ["GONEALIAS"], [], "", "Symbol Withdrawn"),
]


def complete_set(path):
    lines = ["hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\tensembl_gene_id"]
    for i, (symbol, alias, previous, ensembl, status) in enumerate(ROWS):
        quoted = '"' + "|".join(alias) + '"' if len(alias) > 1 else "".join(alias)
        lines.append(f"HGNC:{i}\t{symbol}\t{status}\t{quoted}\t{'|'.join(previous)}\t{ensembl}")
    path.write_text("\n".join(lines) + "\n")


def custom_download(path):
    lines = ["HGNC ID\tApproved symbol\tStatus\tPrevious symbols\tAlias symbols\tEnsembl gene ID"]
    for i, (symbol, alias, previous, ensembl, status) in enumerate(ROWS):
        lines.append(f"HGNC:{i}\t{symbol}\t{status}\t{', '.join(previous)}\t{', '.join(alias)}\t{ensembl}")
    with gzip.open(path, "wt") as stream:
        stream.write("\n".join(lines) + "\n")


def pairs(path):
    lines = ["symbol_or_alias\tapproved_symbol"]
    for symbol, alias, previous, _, status in ROWS:
        if status == "Approved":
            lines += [f"{name}\t{symbol}" for name in [symbol, *alias, *previous]]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def table(tmp_path):
    complete_set(tmp_path / "hgnc.tsv")
    return AliasTable.read(tmp_path / "hgnc.tsv")


def resolve(table, *names, **options):
    return table.resolve(GeneTable.from_names(names), **options)


@pytest.mark.parametrize(("write", "name"), [(complete_set, "a.tsv"), (custom_download, "a.txt.gz"), (pairs, "a.tsv")])
def test_the_three_layouts_read_alike(tmp_path, write, name):
    write(tmp_path / name)
    table = AliasTable.read(tmp_path / name)
    genes, _ = resolve(table, "SEPT2", "GNB2L1", "OLDA", "OLDB", "ASP", "GONEALIAS")
    assert genes.symbols.tolist() == ["SEPTIN2", "RACK1", "ALPHA1", "ALPHA1", "ASP", "GONEALIAS"]


def test_aliases_are_replaced_and_ensembl_ids_filled(table):
    genes, report = resolve(table, "SEPT2", "CD3D", "XYZ1")
    assert genes.names.tolist() == ["SEPT2", "CD3D", "XYZ1"]
    assert genes.symbols.tolist() == ["SEPTIN2", "CD3D", "XYZ1"]
    assert genes.ensembl.tolist() == ["ENSG00000168385", "ENSG00000167286", ""]
    assert report.renamed == (("SEPT2", "SEPTIN2"),)
    assert report.unknown == ("XYZ1",)
    assert (report.filled_symbols, report.filled_ensembl) == (0, 2)


def test_symbols_are_filled_from_ensembl_ids(table):
    genes, report = resolve(table, "ENSG00000204628.11", "ENSG00000167286", "ENSG00000000009", "ENSG00000999999")
    assert genes.symbols.tolist() == ["RACK1", "CD3D", "", ""]  # an id of two symbols is not guessed
    assert report.filled_symbols == 2


def test_an_alias_of_two_symbols_is_reported_not_guessed(table):
    genes, report = resolve(table, "ASP")
    assert (genes.symbols.tolist(), genes.ensembl.tolist()) == (["ASP"], [""])
    assert report.ambiguous == (("ASP", ("ALPHA1", "BETA1")),)


def test_an_ensembl_id_decides_between_the_candidates(table):
    names = GeneTable.from_names(["ASP"])
    genes, report = table.resolve(GeneTable(names.names, names.symbols, names.ensembl.astype("<U15")))
    assert report.ambiguous
    import numpy as np

    genes, report = table.resolve(GeneTable(names.names, names.symbols, np.array(["ENSG00000000002"])))
    assert genes.symbols.tolist() == ["BETA1"]
    assert not report.ambiguous


def test_an_approved_symbol_that_is_also_an_alias_stays_and_is_reported(table):
    genes, report = resolve(table, "TP53")
    assert genes.symbols.tolist() == ["TP53"]
    assert genes.ensembl.tolist() == ["ENSG00000141510"]
    assert report.contested == (("TP53", ("BETA1",)),)


def test_an_alias_beside_its_approved_symbol_is_left(table):
    genes, report = resolve(table, "GNB2L1", "RACK1")
    assert genes.symbols.tolist() == ["GNB2L1", "RACK1"]
    assert genes.ensembl.tolist() == ["", "ENSG00000204628"]
    assert report.duplicate == (("GNB2L1", "RACK1"),)


def test_two_aliases_of_one_absent_gene_are_both_renamed_and_reported(table):
    genes, report = resolve(table, "OLDA", "OLDB")
    assert genes.symbols.tolist() == ["ALPHA1", "ALPHA1"]
    assert report.merged == (("ALPHA1", ("OLDA", "OLDB")),)


def test_odd_case_is_resolved_when_unique_and_only_when_wanted(table):
    genes, report = resolve(table, "cd3d", "C1ORF112", "sept2", "asp")
    assert genes.symbols.tolist() == ["CD3D", "C1orf112", "SEPTIN2", "asp"]
    assert dict(report.odd_case) == {"cd3d": "CD3D", "C1ORF112": "C1orf112", "sept2": "SEPTIN2"}
    assert report.ambiguous == (("asp", ("ALPHA1", "BETA1")),)
    genes, report = resolve(table, "cd3d", fold_case=False)
    assert genes.symbols.tolist() == ["cd3d"]
    assert report.odd_case == (("cd3d", "CD3D"),)


def test_mouse_symbols_are_not_made_human_by_upper_case(table):
    genes, report = resolve(table, "Cd3d", "Actb", "Krt18", "Tp53", "Rack1", "Lyz2")
    assert genes.symbols.tolist() == ["Cd3d", "Actb", "Krt18", "Tp53", "Rack1", "Lyz2"]
    assert ("Cd3d", "CD3D") in report.odd_case


def test_dates_are_reported_not_guessed(table):
    genes, report = resolve(table, "1-Mar", "Mar-01", "DEC1", "SEPT2")
    assert genes.symbols.tolist() == ["1-Mar", "Mar-01", "DEC1", "SEPTIN2"]  # SEPT2 is in the table, once
    assert report.date_mangled == ("1-Mar", "Mar-01", "DEC1")
    assert report.unknown == ()


def test_the_report_is_one_line(table):
    _, report = resolve(table, "SEPT2", "ASP", "1-Mar", "cd3d", "TP53", "GNB2L1", "RACK1", *(f"X{i}" for i in range(9)))
    line = report.describe()
    assert "\n" not in line
    assert "\t" not in line
    for words in ("SEPT2 → SEPTIN2", "ASP → ALPHA1 or BETA1", "1-Mar", "cd3d → CD3D", "9 not in the table"):
        assert words in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"a,b,c\n1,2,3\n", "has the columns a,b,c"),
        (b"", "has the columns none"),
        (b"\xff\xfe\x00\x81", "cannot be read"),
    ],
)
def test_a_file_that_is_no_hgnc_table_is_refused(tmp_path, content, words):
    path = tmp_path / "table.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        AliasTable.read(path)


def test_a_truncated_gzip_is_refused(tmp_path):
    custom_download(tmp_path / "a.tsv.gz")
    whole = (tmp_path / "a.tsv.gz").read_bytes()
    (tmp_path / "a.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        AliasTable.read(tmp_path / "a.tsv.gz")


@pytest.mark.skipif(not HGNC.is_file(), reason=f"no {HGNC}: the genome-wide table is not part of the product")
def test_every_unambiguous_alias_of_the_genome_is_resolved_and_no_other():
    claims, approved = defaultdict(set), set()
    with gzip.open(HGNC, "rt", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            approved.add(row["symbol"])
            for name in f"{row['alias_symbol']}|{row['prev_symbol']}".split("|"):
                claims[name].add(row["symbol"])
    del claims[""]
    clear = [name for name in claims if name not in approved and len(claims[name]) == 1]
    open_ = [name for name in claims if name not in approved and len(claims[name]) > 1]
    assert len(clear) > 50_000
    assert len(open_) > 1_000
    genes, report = AliasTable.read(HGNC).resolve(GeneTable.from_names(clear + open_))
    assert genes.symbols.tolist() == [next(iter(claims[name])) for name in clear] + open_
    assert {name for name, _ in report.ambiguous} == set(open_)
    genes, report = AliasTable.read(HGNC).resolve(GeneTable.from_names(sorted(approved)))
    assert genes.symbols.tolist() == sorted(approved)
    assert {name for name, _ in report.contested} == {a for a in approved if claims.get(a, set()) - {a}}
