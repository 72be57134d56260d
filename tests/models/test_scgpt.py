"""scGPT against the numbers of the authors' code (tests/golden/scgpt)."""

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch

from harness.data import CellData
from harness.errors import NotApplicableError
from harness.tokens import TokenBatch
from models.scgpt import pretraining
from models.scgpt.adapter import ScGPT
from models.scgpt.tokenizer import assemble, bin_values, sampled_places

GOLDEN = Path(__file__).parents[1] / "golden" / "scgpt"
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
# A sum of 64 products of size 9: ours and the official one are both 1.3e-5 from float64.
CLOSE_MVC = {"atol": 3e-5, "rtol": 1e-4}
LAYOUTS = ("released", "inproj", "wrapped", "module")


@pytest.fixture(scope="module")
def expected():
    with np.load(GOLDEN / "expected.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def cells():
    return anndata.read_h5ad(GOLDEN / "cells.h5ad")


@pytest.fixture(scope="module")
def released():
    return ScGPT.from_checkpoint(GOLDEN / "checkpoint")


@pytest.fixture(scope="module", params=LAYOUTS)
def model(request, tmp_path_factory):
    """The golden weights under the key names of each layout in the wild."""
    if request.param == "released":
        return ScGPT.from_checkpoint(GOLDEN / "checkpoint")
    weights = torch.load(GOLDEN / "checkpoint" / "best_model.pt", weights_only=True)
    if request.param == "module":
        state = {f"module.{key}": value for key, value in weights.items()}
    else:
        shapes = json.loads((GOLDEN / "layouts.json").read_text())[request.param]
        rename = {"in_proj_weight": "Wqkv.weight", "in_proj_bias": "Wqkv.bias", "_impl.": ""}
        state = {}
        for key, shape in shapes.items():
            source = key
            for new, old in rename.items():
                source = source.replace(new, old)
            state[key] = weights[source] if source in weights else torch.zeros(shape)
            assert list(state[key].shape) == shape
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(state, folder / "best_model.pt")
    for table in ("args.json", "vocab.json"):
        (folder / table).write_bytes((GOLDEN / "checkpoint" / table).read_bytes())
    return ScGPT.from_checkpoint(folder)


def forward(model, expected, tag, readout="cls"):
    model.readout = readout
    with torch.inference_mode():
        return model.forward(TokenBatch(*(expected[f"{tag}_{part}"] for part in ("gene", "expr", "mask"))))


def test_cell_level(model, expected):
    check_cell_level(model, expected, "emb")


def test_cell_level_at_the_official_length(released, expected):
    check_cell_level(released, expected, "full")


def check_cell_level(model, expected, tag):
    for readout, array in {"cls": "cell_emb", "cls-raw": "cls_raw", "w-pool": "w_pool"}.items():
        np.testing.assert_allclose(forward(model, expected, tag, readout).cell, expected[f"{tag}_{array}"], **CLOSE)


@pytest.mark.parametrize("tag", ["emb", "full"])
def test_official_mean_counts_padding_and_ours_does_not(released, expected, tag):
    output = forward(released, expected, tag, "avg-pool")
    official = output.tokens.sum(dim=1) / torch.as_tensor(expected[f"{tag}_width"])[:, None]
    np.testing.assert_allclose(official, expected[f"{tag}_avg_pool"], **CLOSE)
    n_real = expected[f"{tag}_mask"].sum(axis=1)
    np.testing.assert_allclose(output.cell, output.tokens.sum(dim=1) / torch.as_tensor(n_real)[:, None], **CLOSE)
    full = n_real == expected[f"{tag}_width"]
    assert full.any()
    np.testing.assert_allclose(output.cell[full], expected[f"{tag}_avg_pool"][full], **CLOSE)


def test_token_level(model, expected):
    tokens = forward(model, expected, "emb").tokens.numpy()
    np.testing.assert_allclose(tokens, expected["emb_ctx"], **CLOSE)
    assert not tokens[~expected["emb_mask"]].any()


@pytest.mark.parametrize("tag", ["emb", "full"])
def test_decoders(released, expected, tag):
    model = released
    tokens = forward(model, expected, tag).tokens
    ids, mask = torch.as_tensor(expected[f"{tag}_gene"], dtype=torch.int64), expected[f"{tag}_mask"]
    with torch.inference_mode():
        of_tokens = model.network.decoder(tokens).numpy()
        of_cell = model.network.mvc_decoder(tokens[:, 0], model.network.encoder(ids)).numpy()
    np.testing.assert_allclose(of_tokens[mask], expected[f"{tag}_mlm"][mask], **CLOSE)
    np.testing.assert_allclose(of_cell[mask], expected[f"{tag}_mvc"][mask], **CLOSE_MVC)


def test_gene_level(model, expected):
    names, matrix = model.gene_table()
    vocabulary = json.loads((GOLDEN / "checkpoint" / "vocab.json").read_text())
    assert names == [name for name in sorted(vocabulary, key=vocabulary.get) if not name.startswith("<")]
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, expected["static_gene_emb"][[vocabulary[name] for name in names]], **CLOSE)
    genes = model.embed_genes([names[5], "not-a-gene", names[3]])
    assert genes.names.tolist() == [names[5], names[3]]
    assert genes.missing.tolist() == ["not-a-gene"]
    np.testing.assert_array_equal(genes.matrix, matrix[[5, 3]])


@pytest.mark.parametrize(("tag", "max_length"), [("emb", 128), ("full", 1200)])
def test_recorded_draws_give_the_recorded_tokens(released, cells, expected, tag, max_length):
    match = released.match_genes(cells.var_names.tolist())
    np.testing.assert_array_equal(match.ids[match.columns], expected["gene_ids_kept"])
    counts = cells.X.tocsr()[:, match.columns]
    counts.sort_indices()
    indptr, lengths = counts.indptr, np.diff(counts.indptr)
    draws = expected["emb_rand"][np.arange(636) < lengths[:, None]]
    assert np.isfinite(draws).all()
    keys = np.zeros(counts.nnz)
    for cell, permutation in zip(expected["emb_perm_cell"], expected["emb_perm"], strict=True):
        n = lengths[cell]
        keys[indptr[cell] + permutation[:n]] = np.arange(n) / n
    batch = assemble(
        expected["gene_ids_kept"][counts.indices],
        bin_values(counts.data, indptr, draws),
        sampled_places(indptr, keys, max_length - 1),
        indptr,
        released.special,
        max_length,
    )
    np.testing.assert_array_equal(batch.gene_ids, expected[f"{tag}_gene"])
    np.testing.assert_array_equal(batch.values, expected[f"{tag}_expr"])
    np.testing.assert_array_equal(batch.mask, expected[f"{tag}_mask"])


def test_our_draws_leave_the_rest_as_recorded(released, cells, expected):
    """Genes, order and padding with our own draws; bins within the tied edges of each value, and free in them."""
    counts = CellData(cells).counts()
    batch = released.tokenize(counts, cells.var_names.tolist())
    np.testing.assert_array_equal(batch.gene_ids, expected["full_gene"])
    np.testing.assert_array_equal(batch.mask, expected["full_mask"])
    known = counts[:, released.match_genes(cells.var_names.tolist()).columns]
    first, last = (bin_values(known.data, known.indptr, np.full(known.nnz, u)) for u in (1 - 2**-53, 0.0))
    genes = batch.mask.copy()
    genes[:, 0] = False
    for values in (batch.values[genes], expected["full_expr"][genes]):
        assert ((first <= values) & (values <= last)).all()
    assert 0.05 < (first == last).mean() < 0.95
    assert (batch.values[genes] != expected["full_expr"][genes]).any()


def test_official_cells_with_our_own_draws_lie_next_to_the_official_ones(released, cells, expected):
    released.readout = "cls"
    ours = released.embed_cells(cells)
    assert ours.shape == (32, 64)
    assert (ours * expected["full_cell_emb"]).sum(axis=1).min() > 0.995
    np.testing.assert_array_equal(ours[10], ours[11])  # identical cells; the official ones differ


def division_of(expected):
    pad = 900
    sides = [expected[f"pre_{side}_{part}"] for side in ("pcpt", "gen") for part in ("gene", "expr")]
    ids, values, generated, targets = (torch.as_tensor(array) for array in sides)
    ids, generated = ids.long(), generated.long()
    return pretraining.Division(ids, values, ids != pad, generated, targets, generated != pad)


def test_recorded_division_gives_the_recorded_predictions_and_losses(model, expected):
    if model.network.flag_encoder is None:
        with pytest.raises(NotApplicableError, match="flag_encoder"):
            model.pretraining_loss(TokenBatch(*(expected[f"emb_{p}"] for p in ("gene", "expr", "mask"))), None)
        return
    division, network = division_of(expected), model.network
    with torch.inference_mode():
        predictions = pretraining.predict(network, division)
        sums = pretraining.squared_errors(predictions, division)
        seen, _ = network.generate(
            division.perceived_ids, division.perceived_values, division.perceived_mask, division.generated_ids
        )
        perceived = network.decoder(seen)
        from_cell = network.mvc_decoder(seen[:, 0], network.encoder(division.perceived_ids))
    width = division.perceived_ids.shape[1]
    for ours, theirs, mask, tolerance in (
        (predictions.gep, expected["pre_gen_preds"], division.generated_mask, CLOSE),
        (predictions.gepc, expected["pre_mvc"][:, width:], division.generated_mask, CLOSE_MVC),
        (predictions.generative, expected["pre_gen_preds2"], division.generated_mask, CLOSE),
        (perceived, expected["pre_pcpt_preds"], division.perceived_mask, CLOSE),
        (from_cell, expected["pre_mvc"][:, :width], division.perceived_mask, CLOSE_MVC),
    ):
        np.testing.assert_allclose(ours[mask], theirs[mask.numpy()], **tolerance)
    assert set(sums) == set(pretraining.TERMS)
    losses = {name: float(total / division.generated_mask.sum()) for name, total in sums.items()}
    recorded = {"gep": "gep", "gepc": "gepc", "generative": "gen"}
    for name, theirs in recorded.items():
        np.testing.assert_allclose(losses[name], expected[f"pre_loss_{theirs}"], **CLOSE)
    np.testing.assert_allclose(sum(losses.values()), expected["pre_loss_total"], **CLOSE)


def test_our_division_is_of_the_recorded_kind(released, cells, expected):
    """Same number of generated and perceived genes per cell; together they are the cell, each gene once."""
    rows = expected["pre_cells"]
    batch = TokenBatch(*(expected[f"emb_{part}"][rows] for part in ("gene", "expr", "mask"))).tensors()
    ratio = float(expected["pre_ratio"])
    ours = pretraining.divide(batch, released.special, [ratio], torch.Generator().manual_seed(3))
    theirs = division_of(expected)
    np.testing.assert_array_equal(ours.generated_mask.sum(1), theirs.generated_mask.sum(1))
    np.testing.assert_array_equal(ours.perceived_mask.sum(1), theirs.perceived_mask.sum(1))
    assert ours.generated_ids.shape == (6, 95)
    assert ours.perceived_ids.shape == (6, 33)
    assert (ours.perceived_ids[:, 0] == released.special.cls).all()
    for row in range(len(rows)):
        whole = {*zip(batch.gene_ids[row].tolist(), batch.values[row].tolist(), strict=True)} - {(900, -2.0)}
        parts = [
            *zip(ours.perceived_ids[row].tolist(), ours.perceived_values[row].tolist(), strict=True),
            *zip(ours.generated_ids[row].tolist(), ours.generated_values[row].tolist(), strict=True),
        ]
        parts = [pair for pair in parts if pair != (900, -2.0)]
        assert len(parts) == len(whole)
        assert set(parts) == whole
    again = pretraining.divide(batch, released.special, [ratio], torch.Generator().manual_seed(3))
    assert all((a == b).all() for a, b in zip(vars(ours).values(), vars(again).values(), strict=True))
