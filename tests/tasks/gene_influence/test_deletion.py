"""Influence by deletion and by attention, against one cell at a time."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from harness.data import CellData
from harness.errors import InputError, NotApplicableError
from harness.genes import GeneTable
from harness.tokens import CellOutput
from models.cellfm.attention import gene_attention
from models.geneformer.adapter import Geneformer
from models.scgpt.adapter import ScGPT
from models.uce.adapter import UCE
from tasks.gene_influence.attention import attention_influence
from tasks.gene_influence.deletion import deletion_influence, without
from tests.conftest import ROOT
from tests.golden.cellfm.case import cells as cellfm_cells
from tests.golden.cellfm.case import load

GOLDEN = ROOT / "tests" / "golden"
#: UCE draws genes with replacement, so that they repeat in a cell.
MODELS = {"geneformer": (Geneformer, "geneformer/v2", {}), "uce": (UCE, "uce", {"sample_size": 32})}


def cells(n=12, genes=40, names=None):
    counts = sp.random(n, genes, 0.4, "csr", np.float32, np.random.default_rng(0))
    counts.data[:] = np.ceil(counts.data * 9)
    data = anndata.AnnData(counts)
    data.var_names = [f"G{i}" for i in range(genes)] if names is None else names
    return CellData(data)


def expressing(data, column):
    return data.subset(np.flatnonzero(data.counts()[:, column].toarray()[:, 0] > 0)[:5])


@pytest.fixture(scope="module", params=["scgpt", *MODELS])
def case(request):
    """A model, cells that express a gene, and the gene's column."""
    if request.param == "scgpt":
        data = cells()
        return ScGPT.from_scratch(data.genes), expressing(data, 5), 5
    cls, folder, options = MODELS[request.param]
    data = CellData(anndata.read_h5ad(GOLDEN / folder / "cells.h5ad"))
    model = cls.from_checkpoint(GOLDEN / folder / "checkpoint", **options)
    match = model.match_genes(data.genes)
    # The most often expressed gene that the model knows, alone with its token.
    alone = [c for c in match.columns.tolist() if (match.ids == match.ids[c]).sum() == 1]
    column = alone[int(data.counts()[:, alone].getnnz(axis=0).argmax())]
    return model, expressing(data, column), column


def cell_by_cell(model, data, column):
    """Column -> mean of 1 - cosine over cells, from token batches of one cell."""
    match, found = model.match_genes(data.genes), {}
    for i in range(data.n_obs):
        vectors = []
        for counts in (data.counts([i]), without(data.counts([i]), np.array([column]))):
            batch = model.tokenize(counts, match, seed=3)
            tokens = model.forward(batch).tokens.detach().double().numpy()[0] if batch.mask.any() else []
            ids = np.asarray(batch.gene_ids)[0]
            vectors.append({t: tokens[ids == t].mean(axis=0) for t in set(ids[np.asarray(batch.mask)[0]].tolist())})
        for token in vectors[0].keys() & vectors[1].keys() & set(match.ids.tolist()):
            a, b = vectors[0][token], vectors[1][token]
            found.setdefault(token, []).append(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return {token: (np.mean(values), len(values)) for token, values in found.items() if token >= 0}


def test_is_the_plain_loop_over_cells(case):
    model, data, column = case
    influence, times = deletion_influence(model, data, np.array([column]), seed=3)
    expected, ids = cell_by_cell(model, data, column), model.match_genes(data.genes).ids
    known = np.flatnonzero(times)
    assert np.isnan(influence[column]) and len(known) > 5 and {int(ids[c]) for c in known} == set(expected)
    assert_allclose(influence[known], [expected[int(ids[c])][0] for c in known], atol=2e-6)
    assert times[known].tolist() == [expected[int(ids[c])][1] for c in known]
    assert np.nanmax(influence) > 1e-5 and np.isnan(influence[times == 0]).all()


def test_parts_change_nothing_and_are_small(case, monkeypatch):
    model, data, column = case
    whole, times = deletion_influence(model, data, np.array([column]))
    sizes, plain = [], model.embed_tokens
    monkeypatch.setattr(model, "embed_tokens", lambda cells, **rest: sizes.append(cells.n_obs) or plain(cells, **rest))
    parts, same = deletion_influence(model, data, np.array([column]), values=1)
    assert_allclose(parts, whole, atol=2e-6)
    assert same.tolist() == times.tolist() and sizes == [1] * 2 * data.n_obs


def test_names_that_repeat_are_other_genes():
    """Two genes of one symbol and two ids are two tokens."""
    ids = [f"ENSG{i:011d}" for i in range(40)]
    table = GeneTable(np.array(ids), np.full(40, ""), np.array(ids))
    same = GeneTable(np.array(["A", "A", *ids[2:]]), table.symbols, table.ensembl)
    model = Geneformer.from_scratch(table)
    data = expressing(cells(names=ids), 5)
    one, other = (
        deletion_influence(model, CellData(data.adata, genes=genes), np.array([5])) for genes in (table, same)
    )
    assert_allclose(one[0], other[0], atol=0) and one[1][:2].all()


def test_cells_of_nothing_else_and_models_without_tokens(monkeypatch):
    data = cells(4)
    model = ScGPT.from_scratch(data.genes)
    lone = sp.csr_matrix((4, 40), dtype=np.float32).tolil()
    lone[:, 5] = 3
    alone = CellData(anndata.AnnData(lone.tocsr()), genes=data.genes)
    influence, times = deletion_influence(model, alone, np.array([5]))
    assert np.isnan(influence).all() and not times.any()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda batch: CellOutput(forward(batch).cell))
    with pytest.raises(NotApplicableError, match="no token level"):
        deletion_influence(model, data, np.array([5]))
    with pytest.raises(NotApplicableError, match="gives no attention scores"):
        attention_influence(model, data, np.array([5]))


def test_attention_is_the_column_of_all_scores():
    """What each gene reads of one, of CellFM, in one cell after the other."""
    model, data = load("base").model, CellData(cellfm_cells()[:10])
    match = model.match_genes(data.genes)
    column = match.columns[int(data.counts()[:, match.columns].getnnz(axis=0).argmax())]
    gene, seen = str(model.token_names[match.ids[column]]), {}
    for i in range(data.n_obs):
        batch = model.tokenize(data.counts([i]), match)
        if not batch.mask.any():
            continue
        scores, own = model.attention(batch, share=True), gene_attention(model, batch, gene)[0]
        names = scores.genes[0].tolist()
        if gene not in names:
            assert np.isnan(own).all()
            continue
        shares = scores.gene_to_gene[0, :, :, names.index(gene)].mean(axis=0)
        assert_allclose(own, shares, atol=1e-6)
        for name, share in zip(names, shares.tolist(), strict=True):
            seen.setdefault(name, []).append(share)
    # Also of cells that do not have the gene: they say nothing.
    influence, times = attention_influence(model, data, np.array([column]))
    called = model.token_names[match.ids[match.columns]].tolist()
    for place, name in zip(match.columns.tolist(), called, strict=True):
        assert times[place] == len(seen.get(name, []))
        assert influence[place] == pytest.approx(np.mean(seen[name]), abs=1e-6) if name in seen else True
    assert times.sum() == sum(map(len, seen.values())) and np.isnan(influence[times == 0]).all()
    with pytest.raises(InputError, match="vocabulary"):
        model.attention_by_type(data, ["x"] * data.n_obs, read="nothing")
