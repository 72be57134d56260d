"""UCE's draws, its objective, and what must not matter to a cell."""

from itertools import pairwise
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from harness.genes import GeneTable
from harness.tokens import TokenBatch
from models.uce import objective
from models.uce.adapter import UCE
from models.uce.genome import Genome
from models.uce.tokenizer import Pool, tokenize
from tests.models.test_uce_release import other_model, some_cells

GOLDEN = Path(__file__).parents[1] / "golden" / "uce"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
#: 4 special tokens, 30 genes on 6 chromosomes, then the chromosomes.
N_GENES, N_CHROMOSOMES, FIRST = 30, 6, 4
OFFSET = FIRST + N_GENES


def made_genome(seed=0):
    rng = np.random.default_rng(seed)
    chromosome = np.zeros(OFFSET + N_CHROMOSOMES, np.int64)
    chromosome[FIRST:OFFSET] = OFFSET + rng.permutation(np.arange(N_GENES) % N_CHROMOSOMES)
    rank = np.full(len(chromosome), -1)
    genes = np.arange(FIRST, OFFSET)
    rank[genes[np.lexsort((rng.permutation(N_GENES), chromosome[genes]))]] = np.arange(N_GENES)
    return Genome(np.full(len(rank), ""), chromosome, rank)


def sample(counts, genome=None, size=20, max_length=99, seed=0, ids=None):
    ids = np.arange(FIRST, OFFSET) if ids is None else ids
    genome = genome or made_genome()
    return tokenize(
        sp.csr_matrix(counts, dtype=np.float32), ids, genome, sample_size=size, max_length=max_length, seed=seed
    )


def made_counts(n=40, seed=3):
    rng = np.random.default_rng(seed)
    return rng.geometric(0.3, (n, N_GENES)) * (rng.random((n, N_GENES)) < rng.uniform(0.1, 1, (n, 1)))


def uniform_enough(observed, expected):
    """Pearson's chi-square of counts lies within five standard deviations of its mean."""
    observed, expected = np.asarray(observed, float), np.broadcast_to(expected, np.shape(observed))
    statistic, freedom = ((observed - expected) ** 2 / expected).sum(), observed.size - 1
    return abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


# -- sentences ------------------------------------------------------------------------------------------------


def test_sentences_are_well_formed():
    genome, counts = made_genome(), made_counts()
    batch = sample(counts, genome)
    assert batch.gene_ids.dtype == np.int64
    assert batch.values is None
    for row, (ids, length) in enumerate(zip(batch.gene_ids, batch.lengths(), strict=True)):
        tokens = ids[:length].tolist()
        assert tokens[0] == 3
        assert not ids[length:].any()
        genes, place, seen = 0, 1, []
        while place < length:
            chromosome = tokens[place]
            assert chromosome >= OFFSET
            seen.append(chromosome)
            end = tokens.index(2, place)
            inside = np.array(tokens[place + 1 : end])
            assert len(inside)
            assert (genome.chromosome[inside] == chromosome).all()
            assert (np.diff(genome.rank[inside]) >= 0).all()
            assert counts[row, inside - FIRST].all()
            genes, place = genes + len(inside), end + 1
        assert genes == 20
        assert len(set(seen)) == len(seen)
        assert length == 1 + 20 + 2 * len(seen)


def test_draws_follow_the_weights():
    counts = np.zeros((1, N_GENES))
    counts[0, ::2] = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 10_000]
    size = 200_000
    drawn = np.bincount(sample(counts, size=size, max_length=10**6).gene_ids[0], minlength=OFFSET)[FIRST:OFFSET]
    weights = np.log1p(counts[0])
    assert drawn.sum() == size
    assert not drawn[weights == 0].any()
    assert uniform_enough(drawn[::2], (weights / weights.sum() * size)[::2])


def test_cells_and_seeds_draw_independently():
    counts = np.ones((3000, N_GENES))
    counts[:, 0] = 1 + np.arange(3000)  # no two cells are equal
    counts[:, 1] = 1
    for seed in (0, 1):
        batch = sample(counts, size=1, seed=seed)
        genes = np.bincount(batch.gene_ids[:, 2], minlength=OFFSET)[FIRST + 1 : OFFSET]
        assert uniform_enough(genes, genes.mean())
    one = np.repeat(counts[:1], 1, axis=0)
    seeds = np.concatenate([sample(one, size=1, seed=seed).gene_ids[0, 2:3] for seed in range(600)])
    genes = np.bincount(seeds, minlength=OFFSET)[FIRST:OFFSET]
    assert uniform_enough(genes, genes.mean())


def test_chromosomes_are_shuffled():
    counts = np.full((3000, N_GENES), 5)
    counts[:, 0] += np.arange(3000)
    batch = sample(counts, size=60)
    assert (batch.lengths() == 1 + 60 + 2 * N_CHROMOSOMES).mean() > 0.99
    is_chromosome = batch.gene_ids >= OFFSET
    orders = [ids[found] - OFFSET for ids, found in zip(batch.gene_ids, is_chromosome, strict=True)]
    orders = np.array([order for order in orders if len(order) == N_CHROMOSOMES])
    for place in range(N_CHROMOSOMES):
        seen = np.bincount(orders[:, place], minlength=N_CHROMOSOMES)
        assert uniform_enough(seen, seen.mean())
    following = np.bincount(orders[:, 0] * N_CHROMOSOMES + orders[:, 1], minlength=36).reshape(6, 6)
    pairs = following[~np.eye(6, dtype=bool)]
    assert uniform_enough(pairs, pairs.mean())


def test_a_cells_sentence_is_its_own():
    counts = made_counts()
    counts[5] = 0
    counts[9] = counts[8]
    whole = sample(counts)
    np.testing.assert_array_equal(whole.gene_ids[8], whole.gene_ids[9])
    assert not whole.mask[5].any()
    for row in (0, 5, 8, 39):
        alone = sample(counts[[row]])
        length = whole.lengths()[row]
        np.testing.assert_array_equal(alone.gene_ids[0, :length], whole.gene_ids[row, :length])
        assert alone.lengths()[0] == length
        for name, asked in alone.extra.items():
            np.testing.assert_array_equal(asked[0], whole.extra[name][row])
    columns = np.random.default_rng(0).permutation(N_GENES)
    shuffled = sample(counts[:, columns], ids=np.arange(FIRST, OFFSET)[columns])
    np.testing.assert_array_equal(shuffled.gene_ids, whole.gene_ids)
    more = sample(np.hstack([counts, counts]), ids=np.concatenate([np.arange(FIRST, OFFSET), np.full(N_GENES, -1)]))
    np.testing.assert_array_equal(more.gene_ids, whole.gene_ids)
    assert sample(np.zeros((3, N_GENES))).lengths().tolist() == [0, 0, 0]


def test_two_columns_of_one_gene_both_weigh():
    """As for the authors, who draw from both: log1p(a) + log1p(b)."""
    counts = np.zeros((1, N_GENES))
    counts[0, [0, 1, 2]] = [9, 9, 4]
    ids = np.arange(FIRST, OFFSET)
    ids[1] = FIRST
    pool = Pool.of(sp.csr_matrix(counts, dtype=np.float32), ids, made_genome())
    weight = dict(zip(pool.genes[pool.weights.indices].tolist(), (pool.weights.data / 2**28).tolist(), strict=True))
    assert weight == pytest.approx({FIRST: 2 * np.log(10), FIRST + 2: np.log(5)})


def test_a_sentence_is_cut_at_the_longest():
    counts = made_counts()
    whole, cut = sample(counts), sample(counts, max_length=25)
    assert cut.gene_ids.shape[1] == 25
    np.testing.assert_array_equal(cut.gene_ids, whole.gene_ids[:, :25])
    np.testing.assert_array_equal(cut.lengths(), np.minimum(whole.lengths(), 25))


# -- what must not matter -------------------------------------------------------------------------------------


def test_a_cell_is_embedded_alone():
    model, cells = other_model(readout="mean"), some_cells()
    whole = model.embed_cells(cells)
    alone = np.concatenate([model.embed_cells(cells[i : i + 1].copy()) for i in range(1, 12)])
    np.testing.assert_allclose(alone, whole[1:], **CLOSE)
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_allclose(model.embed_cells(cells[order].copy()), whole[order], **CLOSE)
    assert not np.allclose(model.embed_cells(cells, seed=1)[1:], whole[1:], **CLOSE)


@pytest.mark.parametrize("readout", UCE.spec.readouts)
def test_padding_is_not_seen(readout):
    model, cells = other_model(readout=readout), some_cells()
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12))
    junk = np.random.default_rng(0).integers(0, 60, (11, 5))
    padded = TokenBatch(
        np.concatenate([np.where(batch.mask, batch.gene_ids, 17), junk], axis=1),
        None,
        np.concatenate([batch.mask, np.zeros((11, 5), bool)], axis=1),
    )
    with torch.inference_mode():
        a, b = model.forward(batch), model.forward(padded)
    np.testing.assert_allclose(a.cell, b.cell, **CLOSE)
    np.testing.assert_allclose(a.tokens, b.tokens[:, : batch.mask.shape[1]], **CLOSE)
    assert not b.tokens[~torch.as_tensor(padded.mask)].any()


def test_rows_without_a_token_are_nan_and_harm_nobody():
    model, cells = other_model(), some_cells()
    batch = model.tokenize(cells.X, cells.var_names.tolist())
    output = model.forward(batch)
    assert output.cell[0].isnan().all()
    assert output.cell[1:].isfinite().all()
    assert output.tokens.isfinite().all()
    assert torch.isfinite(model.pretraining_loss(batch, torch.Generator().manual_seed(0)).total)


def test_bfloat16():
    model, cells = other_model(), some_cells()
    full = model.embed_cells(cells)[1:]
    half = model.to("cpu", "bf16").embed_cells(cells)[1:]
    assert (full * half).sum(axis=1).min() > 0.99


# -- the objective --------------------------------------------------------------------------------------------


def test_questions_are_balanced_and_true():
    counts = made_counts(n=400)
    counts[0], counts[1] = 0, 1
    counts[2], counts[2, 7] = 0, 3
    counts[3, 1:], counts[3, 0] = 2, 0
    ids = np.arange(FIRST, OFFSET)
    ids[-4:] = [-1, -1, FIRST, FIRST + 1]  # two columns are not read, two repeat a gene
    measured = np.zeros((400, N_GENES - 4), bool)
    np.logical_or.at(measured, (slice(None), ids[ids >= 0] - FIRST), counts[:, ids >= 0] > 0)
    extra = sample(counts, ids=ids).extra
    for name, wanted in (("expressed", measured), ("unexpressed", ~measured)):
        asked = extra[name]
        assert asked.shape == (400, 64)
        some = wanted.any(axis=1) & measured.any(axis=1)
        assert not asked[~some].any()
        rows, columns = np.nonzero(asked)
        assert wanted[rows, asked[rows, columns] - FIRST].all()
        # A gene of the right kind is asked about as often as any other.
        expected = (wanted[some] / wanted[some].sum(axis=1, keepdims=True)).sum(axis=0) * 64
        assert uniform_enough(np.bincount(asked[some].ravel() - FIRST, minlength=N_GENES - 4), expected)


def test_a_fifth_of_the_genes_is_hidden():
    batch = sample(made_counts(n=300), size=40).tensors()
    generator = torch.Generator().manual_seed(0)
    ids, mask = objective.hide(batch, OFFSET, generator)
    before = after = 0
    for row in range(300):
        old, new = batch.gene_ids[row][batch.mask[row]].tolist(), ids[row][mask[row]].tolist()
        assert not ids[row][~mask[row]].any()
        assert mask[row, : len(new)].all()
        kept = {token for token in new if FIRST <= token < OFFSET}
        genes = {token for token in old if FIRST <= token < OFFSET}
        before, after = before + len(genes), after + len(kept)
        # What is left is the old sentence without the hidden genes and without the chromosomes they leave empty.
        left = [token for token in old if token not in genes - kept]
        empty = [place for place, pair in enumerate(pairwise(left)) if pair[0] >= OFFSET and pair[1] == 2]
        assert [token for place, token in enumerate(left) if place not in empty and place - 1 not in empty] == new
    assert 1 - after / before == pytest.approx(objective.HIDDEN, abs=0.02)
    again, _ = objective.hide(batch, OFFSET, torch.Generator().manual_seed(0))
    assert torch.equal(ids, again)


def test_pretraining_loss_reaches_every_parameter_and_can_be_learned():
    names = [f"C{i}orf{i}" for i in range(57)]
    model = UCE.from_scratch(GeneTable.from_names(names), sample_size=40)
    kinds = np.random.default_rng(0).random((2, 57)) < 0.5
    counts = np.random.default_rng(1).poisson(3, (48, 57)) * kinds[np.arange(48) % 2]
    batch = model.tokenize(sp.csr_matrix(counts, dtype=np.float32), names)
    parameters = list(model.network.requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for step in range(40):
        loss = model.pretraining_loss(batch, torch.Generator().manual_seed(step))
        assert loss.counts["expression"] == 48 * 128
        optimizer.zero_grad()
        loss.total.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in parameters)
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_gradients_reach_the_network_through_forward():
    model, cells = other_model(), some_cells()
    model.network.requires_grad_(True)
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12))
    model.forward(batch).cell[:, 0].sum().backward()
    for name, parameter in model.network.named_parameters():
        if not name.startswith(("binary_decoder.", "gene_embedding_layer.")):
            assert parameter.grad is not None, name
    modules = dict(model.network.named_modules())
    for target in model.lora_targets:
        assert sum(name.endswith(target) and isinstance(m, torch.nn.Linear) for name, m in modules.items()) == 3


# -- as a user runs it ----------------------------------------------------------------------------------------


def test_embed_command(bench, tmp_path):
    start = ["embed", "model=uce", f"model.checkpoint={GOLDEN / 'checkpoint'}", "model.sample_size=30"]
    path = tmp_path / "cells.h5ad"
    anndata.read_h5ad(GOLDEN / "cells.h5ad")[:6].copy().write_h5ad(path)
    out = tmp_path / "x.npz"
    for level, size in (("cell", 6), ("gene", 760), ("token", None)):
        code, _, err = bench(*start, f"dataset.path={path}", f"out={out}", f"level={level}")
        assert code == 0, err
        with np.load(out, allow_pickle=False) as found:
            assert found["embeddings"].shape == (size or len(found["genes"]), 60)
            assert np.isfinite(found["embeddings"]).all()
        out.unlink()
    mouse = anndata.AnnData(
        np.ones((2, 6), np.float32), var=pd.DataFrame(index=["Cd3d", "Ptprc", "Actb", "Gapdh", "Il7r", "Lyz2"])
    )
    mouse.write_h5ad(tmp_path / "mouse.h5ad")
    code, _, err = bench(*start, f"dataset.path={tmp_path / 'mouse.h5ad'}", f"out={out}")
    assert code == 2
    assert "genes of mouse" in err
    assert not out.exists()
