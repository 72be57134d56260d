"""Reading an ontology and the terms of cell types, from good files and bad ones."""

import gzip

import numpy as np
import pytest

from harness.errors import InputError
from tasks.ontology import Ontology, column_table, map_labels, read_mapping, read_ontology

OBO = """format-version: 1.2

[Term]
id: CL:1
name: root

[Term]
id: CL:2
name: leaf
alt_id: CL:20
is_a: CL:1 {is_inferred="true"} ! root

[Term]
id: CL:3
name: obsolete thing
is_obsolete: true
replaced_by: CL:2

[Term]
id: CL:4
name: obsolete, gone
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""


def test_obo_and_tables(tmp_path):
    (tmp_path / "a.obo").write_text(OBO)
    (tmp_path / "b.obo.gz").write_bytes(gzip.compress(OBO.encode()))
    for name in ("a.obo", "b.obo.gz"):
        found = read_ontology(tmp_path / name)
        assert found.terms.tolist() == ["CL:1", "CL:2"] and found.edges.tolist() == [[1, 0]]
        assert found.names["CL:2"] == "leaf"
        assert [found.current(i) for i in ("CL:20", "CL:3", "CL:4", "CL:9")] == ["CL:2", "CL:2", None, None]
    (tmp_path / "c.tsv").write_text("parent\tchild\tname\nCL:1\tCL:2\tleaf\n\n")
    (tmp_path / "cl.new.tsv").write_text("CL:2\tCL:1\n")
    for name in ("c.tsv", "cl.new.tsv"):
        assert read_ontology(tmp_path / name).edges.tolist() == [[1, 0]]
    mapping = map_labels(["a", "b", "c", "CL:2", ""], found, {"a": "CL:3", "b": "CL:4"})
    assert mapping.terms == {"a": "CL:2", "CL:2": "CL:2"}
    assert mapping.unmapped == {"b": "CL:4 is obsolete", "c": "no id given"}
    assert mapping.of(np.array(["a", "b", "never seen"])).tolist() == ["CL:2", "", ""]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.tsv", "a\tb\nb\tc\nc\ta\nd\ta\n", "cycle: a, b, c"),
        ("a.tsv", "a\ta\n", "is_a itself"),
        ("a.tsv", "a b\n", "two tab-separated columns"),
        ("a.tsv", "", "two tab-separated columns"),
        ("a.obo", "nothing here\n", r"no \[Term\]"),
        ("a.obo", "[Term]\nname: x\n", "without an id"),
        ("a.owl", "<rdf/>", r"\.obo or \.tsv"),
        ("a.obo.gz", "\x1f", r"no \[Term\]"),
    ],
)
def test_what_is_no_ontology_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_ontology(tmp_path / name)


def test_files_that_are_not_there_or_damaged(tmp_path):
    for read in (read_ontology, read_mapping):
        with pytest.raises(InputError, match=r"no .* at"):
            read(tmp_path / "nowhere.tsv")
        (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"a\tb\n" * 1000)[:-12])
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / "cut.tsv.gz")
    with pytest.raises(InputError, match="no terms"):
        Ontology([])


def test_mapping_tables(tmp_path):
    path = tmp_path / "map.tsv"
    path.write_text("dataset\tcell_type\tcl_id\none\tB\tCL:1\ntwo\tB\tCL:2\ntwo\tT\t\n")
    assert read_mapping(path, "one") == {"B": "CL:1"} and read_mapping(path, "two") == {"B": "CL:2"}
    with pytest.raises(InputError, match="B is CL:1 and CL:2"):
        read_mapping(path, "three")
    path.write_text("label,term\nB, CL:1\n")
    assert read_mapping(path) == {"B": "CL:1"}
    path.write_text("cell_type\tcl_id\n")
    with pytest.raises(InputError, match="no row"):
        read_mapping(path)
    path.write_text("cell\tid\nB\tCL:1\n")
    with pytest.raises(InputError, match="expected cell_type and cl_id"):
        read_mapping(path)
    assert column_table(np.array(["B", "B", "T"]), np.array(["CL:1", "CL:1", ""])) == {"B": "CL:1"}
    with pytest.raises(InputError, match="one identifier is expected"):
        column_table(np.array(["B", "B"]), np.array(["CL:1", "CL:2"]))
