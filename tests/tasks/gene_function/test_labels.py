"""Label files, families and the genes that take part: what is read, left out, counted, refused."""

import gzip
from dataclasses import replace

import anndata
import numpy as np
import pytest

from harness.data import CellData
from harness.errors import InputError
from harness.genes import GeneTable
from tasks.gene_function.bundled import CLASSES
from tasks.gene_function.families import families, read_families, stem
from tasks.gene_function.folds import folds
from tasks.gene_function.gene_lists import read_gene_list
from tasks.gene_function.genes import labelled_genes
from tasks.gene_function.labels import GeneLabels, read_labels
from tasks.gene_function.specificity import specificity_labels, tau


def cells(names, silent=()):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, (12, len(names))).astype(np.float32)
    counts[:, [i for i, name in enumerate(names) if name in silent]] = 0
    data = anndata.AnnData(counts)
    data.var_names = names
    data.obs["tissue"] = ["a", "b", "c"] * 4
    return CellData(data, name="made", columns={"cell_type": "tissue"})


def test_a_table_with_repeats_and_contradictions(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffgene,label\r\nA,x\r\nA,x\r\nB,x\r\nB,y\r\nC,y\r\nD,\r\nE,NA\r\n,x\r\n")
    labels = read_labels(path)
    assert labels.genes.tolist() == ["A", "C"] and labels.classes == ("x", "y") and labels.codes.tolist() == [0, 1]
    assert labels.notes == {
        "rows without a gene or a label": 3,
        "genes listed more than once": "A: counted once",
        "genes in several classes": "B: left out",
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("one.csv", "gene,label\nA,x\nB,x\n", "two classes are needed, and all 2 genes are in x"),
        ("torn.csv", "gene,label\nA,x\nA,y\n", "two classes are needed, and every gene is in several"),
        ("semicolon.csv", "gene;label\nA;x\n", "columns are separated by commas in a .csv file"),
        ("longer.csv", "gene,label\nA,x,\n", "rows have more fields than the header"),
        ("zip.csv.gz", "gene,label\nA,x\n", "it cannot be read as a table"),
        ("latin.gmt", b"F\t\t\xe9", "it cannot be read as text"),
        (
            "columns.tsv",
            "id\tclass\nA\tx\n",
            "which column holds the gene? Say task.gene_column=COLUMN; it has id, class",
        ),
        ("label.tsv", "gene\tclass\nA\tx\n", "which column holds the label"),
        ("empty.csv", "", "it cannot be read as a table"),
        ("rows.csv", "gene,label\n", "no row has a gene and a label"),
        ("empty.gmt", "", "holds no gene"),
        ("bad.gmt", "name only\n", "line 1"),
    ],
)
def test_wrong_files(tmp_path, name, text, says):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / name)
    assert says in str(error.value)


def test_gene_sets_and_ids_of_any_kind(tmp_path):
    path = tmp_path / "sets.gmt.gz"
    with gzip.open(path, "wt") as file:
        file.write("F1\t\tA\tENSG00000000001\nF2\t\tA\n")
    labels = read_labels(path)
    assert not labels.exclusive and labels.name == "sets"
    assert labels.member[labels.genes.tolist().index("A")].all()
    data = cells(["A", "B"])
    data.genes = GeneTable(np.array(["A", "B"]), np.array(["A", "B"]), np.array(["", "ENSG00000000001"]))
    asked = labelled_genes(labels, data, least=1, n_functions=1)
    assert asked.labels.classes == ("F1",) and asked.table.names.tolist() == ["A", "B"]


def test_genes_left_out_are_counted_and_named():
    member = np.eye(3, dtype=bool)[[0, 0, 0, 1, 1, 1, 2, 0]]
    names = np.array(["A", "B", "Q", "C", "D", "E", "F", "G"])
    labels = GeneLabels(names, ("x", "y", "z"), member, True, "made")
    among = [GeneTable.from_names(["A", "B", "C", "D", "F"])]
    asked = labelled_genes(labels, cells(list("ABCDEFG"), silent="G"), least=2, n_functions=10, among=among)
    assert asked.table.names.tolist() == ["A", "B", "C", "D"] and asked.labels.classes == ("x", "y")
    assert asked.notes["labelled genes not measured"] == "1 of 8: Q"
    assert asked.notes["labelled genes that no cell expresses"] == "1: G"
    assert asked.notes["genes not in every list of task.among"] == 1
    assert asked.notes["classes with too few genes"] == "z (1): left out, 2 are needed"
    with pytest.raises(InputError, match="two classes with 5 expressed genes are needed"):
        labelled_genes(labels, cells(list("ABCDEFG")), least=5, n_functions=10)
    with pytest.raises(InputError, match=r"none of the 8 genes of made .* is measured"):
        labelled_genes(labels, cells(["U", "V"]), least=2, n_functions=10)


def test_one_gene_under_several_names():
    data = cells(["A", "B", "C"])
    ids = [f"ENSG0000000000{i}" for i in range(1, 4)]
    data.genes = GeneTable(np.array(["A", "B", "C"]), np.array(["A", "B", "C"]), np.array(ids))
    names = np.array(["A", f"{ids[0]}.7", "B", ids[1], "OLD"])
    member = np.eye(2, dtype=bool)[[0, 0, 0, 1, 1]]
    beside = np.array(["", "", "", "", ids[2]])
    labels = GeneLabels(names, ("x", "y"), member, True, "made", ensembl=beside)
    asked = labelled_genes(labels, data, least=1, n_functions=10)
    assert asked.table.names.tolist() == ["A", "C"] and asked.labels.codes.tolist() == [0, 1]
    assert asked.notes["names of a gene that has another"] == 2
    assert asked.notes["genes in several classes under several names"] == "B: left out"
    both = labelled_genes(replace(labels, exclusive=False), data, least=1, n_functions=10)
    assert both.labels.member[1].all(), "functions of both names"


def test_genes_of_a_list_are_known_under_each_kind_of_name():
    data = cells(["A", "B"])
    data.genes = GeneTable(np.array(["A", "B"]), np.array(["A", "B"]), np.array(["ENSG00000000001", "ENSG00000000002"]))
    labels = GeneLabels(np.array(["A", "B"]), ("x", "y"), np.eye(2, dtype=bool), True, "made")
    other = GeneTable(np.array(["A", "B2"]), np.array(["A", "B2"]), data.genes.ensembl)
    with pytest.raises(InputError, match="two classes"):  # models that read symbols lack B
        labelled_genes(labels, data, least=1, n_functions=10, among=[other])
    ids = GeneTable(data.genes.ensembl, np.array(["", ""]), data.genes.ensembl)
    assert len(labelled_genes(labels, data, least=1, n_functions=10, among=[ids]).columns) == 2


def test_bundled_classes_exclude_each_other():
    labels = read_labels("bundled")
    assert set(labels.classes) == set(CLASSES) and not labels.notes
    assert len(labels.genes) == sum(map(len, CLASSES.values()))


def test_stems():
    said = {"KRT18": "KRT", "HOXA11": "HOX", "MT-ND1": "MT", "HLA-DRA": "HLA", "NKX2-5": "NKX", "TP53": "TP"}
    said |= {"MYC": "MYC", "C1ORF43": "C1ORF43", "ZNF10": "ZNF"}
    said |= {"E2F1": "E2F", "ENSG00000141510": "ENSG00000141510"}
    assert {symbol: stem(symbol) for symbol in said} == said
    found = families(["RARA", "RARB", "MYC", "MYCN", "PCNA", "CTCF", "E2F1", "E2F8"])
    assert found[0] == found[1] and found[2] == found[3] and found[6] == found[7] and len(set(found)) == 5


def test_families_from_a_table(tmp_path):
    path = tmp_path / "families.csv"
    path.write_text("gene,family\nMYC,myc\nMYCN,myc\n")
    found = families(["MYC", "MYCN", "KRT1", "KRT2"], read_families(path))
    assert found[0] == found[1] and found[2] == found[3] and found[0] != found[2]
    path.write_text("symbol,family\nMYC,myc\n")
    with pytest.raises(InputError, match="columns gene and family are expected"):
        read_families(path)


def test_no_family_stands_on_both_sides():
    rng = np.random.default_rng(1)
    member = np.eye(2, dtype=bool)[rng.integers(0, 2, 60)]
    labels = GeneLabels(np.arange(60).astype(str), ("x", "y"), member, True, "made")
    own = rng.integers(0, 20, 60)
    made = list(folds(labels, "family", 5, (0, 1), own))
    assert [fold.key for fold in made][:2] == ["1.1", "1.2"] and len(made) == 10
    assert not any(set(own[fold.train]) & set(own[fold.test]) for fold in made)
    assert sorted(np.concatenate([fold.test for fold in made[:5]]).tolist()) == list(range(60))


def test_gene_lists(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("A\nB\n")
    assert read_gene_list(str(path)).names.tolist() == ["A", "B"]
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(InputError, match="holds no gene"):
        read_gene_list(str(empty))
    with pytest.raises(InputError, match="no such file"):
        read_gene_list("neither")


def test_tau():
    found = tau(np.array([[1.0, 1, 1], [3, 0, 0], [2, 1, 0], [0, 0, 0]]))
    assert found[:3].tolist() == [0, 1, 0.75] and np.isnan(found[3])
    labels = specificity_labels(cells(list("ABCD")), "cell_type")
    assert labels.classes == ("broad", "specific") and labels.notes["tissues"] == "3, by dataset.cell_type"
    data = cells(list("AB"))
    data.adata.obs["tissue"] = "a"
    with pytest.raises(InputError, match="three tissues are needed"):
        specificity_labels(data, "cell_type")
