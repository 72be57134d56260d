"""scGPT's files: other sizes than the golden case, what must be refused, what must not matter."""

import json
import pickle
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from harness.errors import InputError
from harness.genes import GeneTable
from harness.tokens import TokenBatch
from models.scgpt.adapter import DEFAULT_ARGS, ScGPT
from models.scgpt.network import Network, Sizes

GOLDEN = Path(__file__).parents[1] / "golden" / "scgpt" / "checkpoint"
N_GENES = 57


def other_model(seed=0, **options):
    """Sizes, vocabulary, order of ids, pad token and pad value all unlike the golden case."""
    rng = np.random.default_rng(seed)
    tokens = np.array([*(f"GENE{i}" for i in range(N_GENES)), "<cls>", "[pad]", "<eoc>"])[rng.permutation(N_GENES + 3)]
    args = DEFAULT_ARGS | {
        "embsize": 40,
        "nheads": 5,
        "d_hid": 72,
        "nlayers": 4,
        "dropout": 0.1,
        "pad_token": "[pad]",
        "pad_value": -3,
    }
    torch.manual_seed(seed)
    network = Network(Sizes(len(tokens), 40, 5, 72, 4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return ScGPT(network, tokens, args, **options)


def some_cells(seed=1, n=12, n_genes=N_GENES):
    rng = np.random.default_rng(seed)
    dense = rng.geometric(0.4, (n, n_genes)) * (rng.random((n, n_genes)) < rng.uniform(0.2, 1, (n, 1)))
    dense[0] = 0
    dense[1] = 0
    dense[1, 5] = 3
    dense[2] = 1
    cells = anndata.AnnData(sp.csr_matrix(dense.astype(np.float32)))
    cells.var_names = [f"GENE{i}" for i in range(n_genes)]
    return cells


@pytest.fixture
def release(tmp_path):
    """A copy of the golden release, to be spoilt."""
    folder = tmp_path / "release"
    folder.mkdir()
    for path in GOLDEN.iterdir():
        shutil.copyfile(path, folder / path.name)
    return folder


def edit(path, **changes):
    table = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(table))


def refused(folder, *words, **options):
    with pytest.raises(InputError) as caught:
        ScGPT.from_checkpoint(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


# -- other sizes ----------------------------------------------------------------------------------------------


def test_second_checkpoint_saves_and_loads_as_itself(tmp_path):
    first = other_model(max_length=30)
    first.save(tmp_path / "one")
    second = ScGPT.from_checkpoint(tmp_path / "one", max_length=30)
    second.save(tmp_path / "two")
    assert (second.embedding_size, second.context_length, second.variant) == (40, 30, "one")
    assert second.network.sizes == Sizes(N_GENES + 3, 40, 5, 72, 4, dropout=0.1)
    np.testing.assert_array_equal(first.token_names, second.token_names)
    assert second.special == first.special
    assert second.special.pad_value == -3
    cells = some_cells()
    for readout in ScGPT.spec.readouts:
        first.readout = second.readout = readout
        a, b = first.embed_cells(cells), second.embed_cells(cells)
        np.testing.assert_array_equal(a, b)
        assert np.isnan(a[0]).all()
        assert np.isfinite(a[1:]).all()
    np.testing.assert_array_equal(first.gene_table()[1], second.gene_table()[1])
    for name in ("args.json", "vocab.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_our_network_is_pytorchs_encoder_for_other_sizes():
    """Independent of the golden case: torch.nn's own post-norm encoder over the same weights."""
    model = other_model(readout="cls-raw")
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(40, 5, 72, batch_first=True), 4, enable_nested_tensor=False
    ).eval()
    state = model.network.transformer_encoder.state_dict()
    theirs.load_state_dict({key.replace("Wqkv.", "in_proj_"): value for key, value in state.items()})
    batch = model.tokenize(some_cells().X, some_cells().var_names.tolist()).take(np.arange(1, 12)).tensors()
    with torch.inference_mode():
        x = model.network.encoder(batch.gene_ids) + model.network.value_encoder(batch.values)
        expected = theirs(x, src_key_padding_mask=~batch.mask)
        output = model.forward(batch)
    np.testing.assert_allclose(output.tokens[batch.mask], expected[batch.mask], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(output.cell, expected[:, 0], atol=1e-5, rtol=1e-4)


def test_file_and_folder_and_suffixes(release):
    state = torch.load(release / "best_model.pt", weights_only=True)
    whole = ScGPT.from_checkpoint(release)
    (release / "step").mkdir()
    torch.save(state, release / "step" / "epoch3.ckpt")
    from safetensors.torch import save_file

    save_file(state, release / "model.safetensors")
    for path in (release / "best_model.pt", release / "step" / "epoch3.ckpt", release / "model.safetensors"):
        model = ScGPT.from_checkpoint(path)
        assert all((a == b).all() for a, b in zip(model.network.parameters(), whole.network.parameters(), strict=True))
        assert [file.name for file in ScGPT.checkpoint_files(path)] == [path.name, "args.json", "vocab.json"]
    assert whole.load_report.full
    assert whole.variant == "release"


def test_several_models_in_one_folder(release, tmp_path):
    shutil.copytree(release, tmp_path / "brain")
    refused(tmp_path, "brain", "release", "model.variant=")
    refused(tmp_path, "brain, release", variant="lung")
    assert ScGPT.from_checkpoint(tmp_path, variant="brain").variant == "brain"
    assert ScGPT.from_checkpoint(release, variant="whole-human").variant == "whole-human"


# -- refused --------------------------------------------------------------------------------------------------


def test_wrong_places(tmp_path, release):
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "best_model.pt", "args.json", "vocab.json")
    refused(release / "vocab.json", "no weights file")
    (release / "vocab.json").unlink()
    refused(release, "vocab.json not found")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("size", [0, 100, 300_000])
def test_truncated_weights(release, size):
    weights = release / "best_model.pt"
    weights.write_bytes(weights.read_bytes()[:size])
    refused(release, "best_model.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickle_that_runs_code(release, tmp_path):
    class Run:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"encoder.embedding.weight": Run()}, release / "best_model.pt")
    refused(release, "refused")
    (release / "best_model.pt").write_bytes(pickle.dumps(Run()))
    refused(release, "best_model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("key", "said", "found"), [("nlayers", 12, 3), ("d_hid", 512, 96), ("embsize", 512, 64), ("nlayers", 2, 3)]
)
def test_args_that_disagree_with_the_weights(release, key, said, found):
    edit(release / "args.json", **{key: said})
    refused(release, f"args.json says {key} {said}", f"best_model.pt has {found}")


@pytest.mark.parametrize(
    "change",
    [{"nheads": 5}, {"nheads": 0}, {"nlayers": "3"}, {"embsize": None}, {"dropout": "x"}, {"mask_ratio": ["a"]}],
)
def test_impossible_args(release, change):
    edit(release / "args.json", **change)
    refused(release, "args.json", *change)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"a": 1', "\xff"])
@pytest.mark.parametrize("name", ["args.json", "vocab.json"])
def test_tables_that_are_not_json(release, name, text):
    (release / name).write_bytes(text.encode("latin-1"))
    refused(release, name)


def test_vocabularies(release):
    path = release / "vocab.json"
    good = json.loads(path.read_text())
    first, second = sorted(good, key=good.get)[:2]

    def put(table):
        path.write_text(json.dumps(table))

    put(good | {first: 1})
    refused(release, "share the id 1", repr(second))
    put(good | {first: 5000})
    refused(release, "5000", "whole numbers 0 to 902")
    put(good | {first: "0"})
    refused(release, "'0'")
    put({token: number for token, number in good.items() if token != "<eoc>"})
    refused(release, "<eoc>")
    put({token: number for token, number in good.items() if token != first})
    refused(release, "902")
    put(good | {"MORE": 903})
    refused(release, "vocab.json says number of tokens 904", "best_model.pt has 903")


def test_partial_weights(release):
    report = "does not fit the network"
    whole = torch.load(release / "best_model.pt", weights_only=True)
    for gone in ("transformer_encoder.layers.1.norm2.bias", "encoder.embedding.weight", "decoder.fc.4.bias"):
        torch.save({key: value for key, value in whole.items() if key != gone}, release / "best_model.pt")
        refused(release, report, f"1 missing: {gone}")
    torch.save(whole | {"dsbn.bns.0.running_mean": torch.zeros(64)}, release / "best_model.pt")
    refused(release, report, "1 unexpected: dsbn.bns.0.running_mean")
    torch.save(whole | {"decoder.fc.0.weight": torch.zeros(64, 128)}, release / "best_model.pt")
    refused(release, report, "decoder.fc.0.weight is (64, 128), expected (64, 64)")
    torch.save({}, release / "best_model.pt")
    refused(release, report, "0 tensors match")
    torch.save({"model": whole}, release / "best_model.pt")
    refused(release, "bare state dict")
    torch.save(whole | {"decoder.fc.4.bias": torch.tensor([float("nan")])}, release / "best_model.pt")
    refused(release, "NaN", "decoder.fc.4.bias")
    old = "transformer_encoder.layers.0.self_attn.in_proj_bias"
    torch.save(whole | {old: torch.zeros(192)}, release / "best_model.pt")
    refused(release, "two ways")


def test_options():
    refused(GOLDEN, "model.readout=mean", "cls, cls-raw", readout="mean")
    refused(GOLDEN, "model.max_length=1", max_length=1)
    with pytest.raises(InputError, match=r"model\.size=huge: scGPT has tiny, whole-human"):
        ScGPT.from_scratch(GeneTable.from_names(["A"]), size="huge")
    with pytest.raises(InputError, match="gene symbols"):
        ScGPT.from_scratch(GeneTable.from_names(["ENSG00000000003", "ENSG00000000005"]))
    with pytest.raises(InputError, match=r"TokenBatch\.values"):
        other_model().forward(TokenBatch(np.zeros((1, 2), np.int64)))


# -- what must not matter -------------------------------------------------------------------------------------


def test_a_cell_is_embedded_alone():
    model, cells = other_model(readout="avg-pool", max_length=25), some_cells()
    whole = model.embed_cells(cells)
    alone = np.concatenate([model.embed_cells(cells[i : i + 1].copy()) for i in range(1, 12)])
    np.testing.assert_allclose(alone, whole[1:], atol=1e-5, rtol=1e-4)
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_allclose(model.embed_cells(cells[order].copy()), whole[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("readout", ScGPT.spec.readouts)
def test_padding_is_not_seen(readout):
    model, cells = other_model(readout=readout), some_cells()
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12))
    junk = np.random.default_rng(0).integers(0, N_GENES, (11, 9))
    padded = TokenBatch(
        np.concatenate([np.where(batch.mask, batch.gene_ids, 7), junk], axis=1),
        np.concatenate([np.where(batch.mask, batch.values, 40), np.full((11, 9), 17, np.float32)], axis=1),
        np.concatenate([batch.mask, np.zeros((11, 9), bool)], axis=1),
    )
    with torch.inference_mode():
        a, b = model.forward(batch), model.forward(padded)
    np.testing.assert_allclose(a.cell, b.cell, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(a.tokens, b.tokens[:, : batch.mask.shape[1]], atol=1e-5, rtol=1e-4)
    assert not b.tokens[~torch.as_tensor(padded.mask)].any()


def test_values_are_cut_at_512():
    model = other_model()
    ids, values = np.array([[4, 5, 6]] * 3), np.array([[-3, 7, v] for v in (511, 512, 5000)], np.float32)
    low, cut, high = model.forward(TokenBatch(ids, values)).cell
    assert torch.equal(cut, high)
    assert not torch.equal(low, cut)


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


# -- fresh networks -------------------------------------------------------------------------------------------


def test_from_scratch_depends_on_the_seed_alone(tmp_path):
    genes = GeneTable.from_names([f"GENE{i}" for i in range(N_GENES)])
    state = torch.get_rng_state()
    first = ScGPT.from_scratch(genes, seed=4)
    ScGPT.from_checkpoint(GOLDEN)
    assert (torch.get_rng_state() == state).all()
    torch.rand(3)
    again, other = ScGPT.from_scratch(genes, seed=4), ScGPT.from_scratch(genes, seed=5)
    cells = some_cells()
    np.testing.assert_array_equal(first.embed_cells(cells), again.embed_cells(cells))
    assert not np.allclose(first.embed_cells(cells)[1:], other.embed_cells(cells)[1:])
    assert first.network.sizes == Sizes(N_GENES + 3, 64, 4, 64, 2)
    assert first.token_names.tolist()[-3:] == ["", "", ""]
    assert not first.network.training
    assert not any(parameter.requires_grad for parameter in first.network.parameters())
    first.save(tmp_path)
    loaded = ScGPT.from_checkpoint(tmp_path)
    np.testing.assert_array_equal(first.embed_cells(cells), loaded.embed_cells(cells))


def test_pretraining_loss_reaches_every_parameter_and_can_be_learned():
    genes = GeneTable.from_names([f"GENE{i}" for i in range(N_GENES)])
    model, cells = ScGPT.from_scratch(genes), some_cells(n=24)
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 24))
    parameters = list(model.network.requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for step in range(40):
        loss = model.pretraining_loss(batch, torch.Generator().manual_seed(step))
        assert set(loss.counts) == {"gep", "gepc", "generative"}
        optimizer.zero_grad()
        loss.total.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in parameters)
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_pretraining_terms_count_the_generated_genes():
    """So that micro-batches add up; padding adds nothing."""
    model, cells = other_model(), some_cells()
    model.args["mask_ratio"] = 0.5
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12))
    with torch.inference_mode():
        loss = model.pretraining_loss(batch, torch.Generator().manual_seed(0))
    n_genes = batch.mask.sum(axis=1) - 1
    assert all(int(count) == int((n_genes // 2).sum()) for count in loss.counts.values())


def test_gradients_reach_the_network_through_forward():
    model, cells = other_model(), some_cells()
    model.network.requires_grad_(True)
    batch = model.tokenize(cells.X, cells.var_names.tolist()).take(np.arange(1, 12))
    model.forward(batch).cell[:, 0].sum().backward()
    for name, parameter in model.network.named_parameters():
        if not name.startswith(("decoder.", "mvc_decoder.", "flag_encoder.")):
            assert parameter.grad is not None, name
    modules = dict(model.network.named_modules())
    for target in model.lora_targets:
        assert sum(name.endswith(target) and isinstance(m, torch.nn.Linear) for name, m in modules.items()) == 4
