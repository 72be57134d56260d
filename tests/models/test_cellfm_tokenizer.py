"""CellFM's tokenizer and gene matching: made cells, and what must not matter."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from harness import GeneTable, InputError
from models.cellfm.adapter import CellFM
from models.cellfm.gene_names import approved_names, read_aliases, write_aliases

SYMBOLS = ["ZEB1", "ACTB", "MS4A1", "CD3D", "KRT8", "NOP53", "VSIR", "LYZ", "C1orf12", "GNLY"]


@pytest.fixture
def model():
    return CellFM.from_scratch(GeneTable.from_names(SYMBOLS), size="tiny", max_genes=6)


def csr(rows):
    return sp.csr_matrix(np.asarray(rows, np.float32))


def test_values_order_and_padding(model):
    columns = ["LYZ", "unknown", "CD3D", "ZEB1", "ACTB"]
    counts = csr([[2, 5, 1, 0, 1], [0, 3, 0, 0, 0], [0, 0, 0, 4, 0], [0, 0, 0, 0, 0]])
    before = counts.copy()
    batch = model.tokenize(counts, columns)
    assert batch.gene_ids.dtype == np.int64 and batch.values.dtype == np.float32 and batch.mask.dtype == bool
    assert model.token_names[batch.gene_ids[0]].tolist() == ["ACTB", "CD3D", "LYZ"]
    # Normalised over the vocabulary: the unknown gene's five counts do not enter.
    assert_allclose(batch.values[0], np.log1p(np.array([1, 1, 2]) / 4 * 1e4), rtol=1e-6)
    assert model.token_names[batch.gene_ids[2]].tolist() == ["ZEB1", "", ""]
    assert batch.mask.tolist() == [[True] * 3, [False] * 3, [True, False, False], [False] * 3]
    assert (counts != before).nnz == 0


def test_depth_cap_counts_all_genes_and_rounds_half_to_even(model):
    batch = model.tokenize(csr([[199_993, 1, 3, 2, 1]]), ["unknown", "CD3D", "LYZ", "GNLY", "ACTB"])
    # Halved: 0.5 -> 0, 1.5 -> 2, 1 -> 1, 0.5 -> 0.
    assert model.token_names[batch.gene_ids[0]].tolist() == ["GNLY", "LYZ"]
    assert_allclose(batch.values[0], np.log1p(np.array([1, 2]) / 3 * 1e4), rtol=1e-6)


def test_no_known_gene_at_all(model):
    batch = model.tokenize(csr([[1, 2], [0, 0]]), ["a", "b"])
    assert batch.gene_ids.shape == (2, 0) and not batch.mask.any()


def test_repeated_columns_count_once_the_first(model):
    match = model.match_genes(["CD3D", "ACTB", "CD3D"])
    assert match.ids.tolist() == [4, 2, -1]
    batch = model.tokenize(csr([[1, 1, 9]]), match)
    assert batch.values[0, 0] == batch.values[0, 1]
    merged = type(match)(match.table, np.array([4, 2, 4]))  # a match from elsewhere may repeat a token
    assert_array_equal(model.tokenize(csr([[1, 1, 9]]), merged).values, batch.values)


def test_a_sample_is_its_cells_own(model):
    rng = np.random.default_rng(0)
    counts = csr(rng.poisson(4, (40, len(SYMBOLS))) + 1)
    whole = model.tokenize(counts, SYMBOLS, seed=1)
    assert whole.mask.all() and whole.mask.shape[1] == model.config.max_genes
    ranks = np.argsort(np.argsort(model.token_names))[whole.gene_ids]
    assert (np.diff(ranks, axis=1) > 0).all()
    order = rng.permutation(40)
    shuffled = model.tokenize(counts[order], SYMBOLS, seed=1)
    assert_array_equal(shuffled.gene_ids, whole.gene_ids[order])
    columns = rng.permutation(len(SYMBOLS))
    moved = model.tokenize(csr(counts.toarray()[:, columns]), [SYMBOLS[c] for c in columns], seed=1)
    assert_array_equal(moved.gene_ids, whole.gene_ids)
    assert_array_equal(moved.values, whole.values)
    other = model.tokenize(counts, SYMBOLS, seed=2)
    assert (other.gene_ids != whole.gene_ids).any()
    assert_array_equal(model.tokenize(counts[[7]], SYMBOLS, seed=1).gene_ids[0], whole.gene_ids[7])


def test_the_sample_has_the_official_weights():
    """With room for one gene, a gene's chance is its weight log1p(value) over their sum; for two, as numpy's."""
    one, two = (CellFM.from_scratch(SYMBOLS, max_genes=n) for n in (1, 2))
    counts = csr([[1, 3, 20, 0, 0, 0, 400, 0, 0, 0]])
    present = np.flatnonzero(counts.toarray()[0])
    weights = np.log1p(np.log1p(counts.toarray()[0, present] / 424 * 1e4))
    weights /= weights.sum()
    rng, draws = np.random.default_rng(0), 800
    for model, n in ((one, 1), (two, 2)):
        ids = np.concatenate([model.tokenize(counts, SYMBOLS, seed=s).gene_ids[0] for s in range(draws)])
        ours = np.bincount(ids, minlength=11)[present + 1] / draws
        numpys = np.bincount(
            np.concatenate([rng.choice(4, 4, replace=False, p=weights)[:n] for _ in range(4000)]), minlength=4
        )
        assert_allclose(ours, weights if n == 1 else numpys / 4000, atol=0.07)


def test_forward_of_awkward_rows(model):
    """A row without a token does not crash, and disturbs no other; a lone token works."""
    counts = csr([[1] * 10, [0] * 10, [0, 3] + [0] * 8])
    batch = model.tokenize(counts, SYMBOLS)
    with torch.inference_mode():
        together, alone = model.forward(batch), model.forward(model.tokenize(counts[[2]], SYMBOLS))
    assert torch.isfinite(together.cell).all()
    assert_allclose(together.cell[2], alone.cell[0], atol=1e-5)
    assert (together.tokens[1] == 0).all() and (together.tokens[2, 1:] == 0).all()
    for readout in ("cls", "mean"):
        model.readout = readout
        embedded = model.embed_cells(_adata(counts))
        assert np.isnan(embedded[1]).all() and np.isfinite(embedded[[0, 2]]).all()


def _adata(counts):
    import anndata
    import pandas as pd

    return anndata.AnnData(counts, var=pd.DataFrame(index=SYMBOLS))


TABLE = """HGNC ID\tApproved symbol\tStatus\tPrevious symbols\tAlias symbols
1\tACTB\tApproved\t\tALPHA, BETA
2\tMS4A1\tApproved\tALPHA\tCD20, LYZ
3\tNOP53\tApproved\tGLTSCR2\tBETA
4\tTENT5C\tApproved\tFAM46C\t
5\tOLD\tEntry Withdrawn\tGONE\t
"""


def test_alias_table(tmp_path):
    """A later row wins over an earlier one, Previous over Alias, and an approved name is no alias."""
    path = tmp_path / "updated_hgcn.tsv"
    path.write_text(TABLE)
    aliases = read_aliases(path)
    assert aliases == {
        "ALPHA": "MS4A1",
        "BETA": "NOP53",
        "CD20": "MS4A1",
        "LYZ": "MS4A1",
        "GLTSCR2": "NOP53",
        "FAM46C": "TENT5C",
    }
    write_aliases(path, aliases)
    assert read_aliases(path) == aliases
    (tmp_path / "bad.tsv").write_text("Approved symbol\tStatus\nA\tApproved\n")
    with pytest.raises(InputError, match="no column Alias symbols, Previous symbols"):
        read_aliases(tmp_path / "bad.tsv")


def test_names_after_the_alias_step():
    aliases = {"CD20": "MS4A1", "ALPHA": "MS4A1", "FAM46C": "TENT5C", "BETA": "ACTB", "LYZ": "MS4A1"}
    names = np.asarray(["FAM46C", "CD20", "BETA", "ALPHA", "ACTB", "LYZ", "other"])
    found = approved_names(names, set(SYMBOLS), aliases).tolist()
    # ALPHA comes first in sorted order and takes MS4A1; ACTB is there already; LYZ is in the vocabulary;
    # TENT5C is taken although the vocabulary has no such gene.
    assert found == ["TENT5C", "CD20", "BETA", "MS4A1", "ACTB", "LYZ", "other"]


def test_genes_without_a_symbol_go_by_their_name():
    table = GeneTable.from_names(["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"])
    model = CellFM.from_scratch(table)
    assert model.match_genes(table).ids.tolist() == [1, 2, 3]
    assert model.embed_genes(table).names.tolist() == table.names.tolist()
