"""CellFM's files: MindSpore checkpoints, a second checkpoint of other sizes, what is refused, and from scratch."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_array_equal

from harness import GeneTable, InputError
from models.cellfm import mindspore_checkpoint, release
from models.cellfm.adapter import CellFM
from models.cellfm.config import CellFMConfig
from models.cellfm.gene_names import write_vocabulary
from models.cellfm.torch_network import CellFMNetwork
from tests.golden.cellfm.case import CHECKPOINT, WEIGHTS

# -- the MindSpore format -----------------------------------------------------------------------------


@pytest.mark.parametrize("slice_bytes", [16, 10_000, mindspore_checkpoint.SLICE_BYTES])
def test_written_tensors_are_read_back(tmp_path, slice_bytes):
    rng = np.random.default_rng(0)
    tensors = {
        "a.weight": rng.normal(size=(7, 300)).astype(np.float32),
        "half": rng.normal(size=(3, 1, 2)).astype(np.float16),
        "double": rng.normal(size=5),
        "step": np.int32(38071),
        "long": np.arange(200),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 4), np.float32),
        "turned": rng.normal(size=(4, 6)).astype(np.float32).T,
    }
    path = tmp_path / "x.ckpt"
    mindspore_checkpoint.write(path, tensors, slice_bytes=slice_bytes)
    found = mindspore_checkpoint.read(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert_array_equal(found[name], tensor)
        assert found[name].dtype == np.asarray(tensor).dtype and found[name].shape == np.shape(tensor)
    assert list(mindspore_checkpoint.read(path, lambda name: name == "step")) == ["step"]


@pytest.mark.parametrize("name", WEIGHTS.values())
def test_writes_the_bytes_mindspore_writes(tmp_path, name):
    mindspore_checkpoint.write(tmp_path / "x.ckpt", mindspore_checkpoint.read(CHECKPOINT / name))
    assert (tmp_path / "x.ckpt").read_bytes() == (CHECKPOINT / name).read_bytes()


def test_other_writers(tmp_path):
    """Packed dims, a scalar written as dims [0], bfloat16."""
    path = tmp_path / "x.ckpt"

    def value(name, dims, kind, data):
        d = mindspore_checkpoint._delimited
        return d(1, d(1, name) + d(2, d(1, bytes(dims)) + d(2, kind) + d(3, data)))

    path.write_bytes(
        value(b"scalar", [0], b"Float32", np.float32(2.5).tobytes())
        + value(b"packed", [2, 1], b"Int64", np.arange(2).tobytes())
        + value(b"brain", [2], b"BFloat16", np.array([0x3F80, 0xC0A0], np.uint16).tobytes())
    )
    found = mindspore_checkpoint.read(path)
    assert found["scalar"].shape == () and found["scalar"] == 2.5
    assert found["packed"].tolist() == [[0], [1]]
    assert found["brain"].tolist() == [1.0, -5.0] and found["brain"].dtype == np.float32


def test_damaged_files_are_refused(tmp_path):
    whole = (CHECKPOINT / WEIGHTS["base"]).read_bytes()
    path = tmp_path / "base_weight.ckpt"
    bad = [whole[:n] for n in (0, 1, 5, 40, 1000, len(whole) // 2, len(whole) - 1)]
    bad += [b"\n" * 50, b"PK\x03\x04" + bytes(100), b'{"a": 1}', whole[:20] + b"\xff" * 40 + whole[60:], bytes(64)]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole MindSpore checkpoint") as error:
            mindspore_checkpoint.read(path)
        assert "\n" not in str(error.value) and "\t" not in str(error.value)
    with pytest.raises(InputError, match="does not exist"):
        mindspore_checkpoint.read(tmp_path / "none.ckpt")
    with pytest.raises(TypeError, match="complex"):
        mindspore_checkpoint.write(path, {"z": np.zeros(2, complex)})


# -- a second checkpoint ------------------------------------------------------------------------------

OTHER = CellFMConfig(
    n_genes=37, width=48, layers=3, heads=6, value_bins=20, pad_zero=False, add_zero=True, dropout=0.25, max_genes=9
)
SYMBOLS = np.array([f"GENE{(7 * i) % 37}" for i in range(37)])


def other_model(config=OTHER, symbols=SYMBOLS, **options):
    network = CellFMNetwork.allocate(config)
    generator = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        tensor.normal_(0, 0.3, generator=generator)
    return CellFM(network, symbols, **options)


def made_counts(n_genes, seed=0):
    return sp.csr_matrix(np.random.default_rng(seed).poisson(0.4, (12, n_genes)).astype(np.float32))


def assert_same(found, expected, genes):
    assert found.config == expected.config and found.variant == expected.variant
    assert found.aliases == expected.aliases
    assert_array_equal(found.token_names, expected.token_names)
    for (name, a), (other, b) in zip(
        found.network.state_dict().items(), expected.network.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(a, b), name
    counts = made_counts(len(genes))
    batches = [model.tokenize(counts, genes, seed=3) for model in (found, expected)]
    assert_array_equal(batches[0].gene_ids, batches[1].gene_ids)
    with torch.inference_mode():
        outputs = [model.forward(batch) for model, batch in zip((found, expected), batches, strict=True)]
    assert torch.equal(outputs[0].cell, outputs[1].cell) and torch.equal(outputs[0].tokens, outputs[1].tokens)


@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
@pytest.mark.parametrize(
    "config", [OTHER, replace(OTHER, layers=1, heads=1, pad_zero=True, add_zero=False, n_genes=30)]
)
def test_save_and_load(tmp_path, form, config):
    model = other_model(config, SYMBOLS[: config.n_genes], aliases={"OLD": "GENE3", "ODD": "NEW"}, variant="mine")
    model.save(tmp_path / "a", form=form)
    loaded = CellFM.from_checkpoint(tmp_path / "a")
    assert_same(loaded, model, ["GENE1", "OLD", "GENE5", *SYMBOLS[8:]])
    assert not loaded.network.training and not any(p.requires_grad for p in loaded.network.parameters())
    loaded.save(tmp_path / "b", form=form)
    assert_same(CellFM.from_checkpoint(tmp_path / "b" / f"model.{form}"), model, SYMBOLS.tolist())


@pytest.mark.parametrize("name", WEIGHTS.values())
def test_save_and_load_the_release(tmp_path, name):
    model = CellFM.from_checkpoint(CHECKPOINT / name)
    assert model.aliases
    model.save(tmp_path)
    assert_same(CellFM.from_checkpoint(tmp_path), model, model.symbols[:40].tolist())


def test_a_saved_network_takes_no_table_from_above(tmp_path):
    shutil.copy(CHECKPOINT / "csv" / release.ALIASES, tmp_path)
    other_model().save(tmp_path / "saved")
    assert CellFM.from_checkpoint(tmp_path / "saved").aliases == {}


def published(folder, *, st_tokens, tables, width=64):
    """Weights as published: no config.json, optimiser state among them."""
    config = CellFMConfig(n_genes=20, width=width, layers=2, heads=width // 32)
    state = {name: tensor.numpy() for name, tensor in other_model(config, SYMBOLS[:20]).network.state_dict().items()}
    state |= {"moment1.gene_emb": state["gene_emb"], "global_step": np.int32(3), "scale_sense": np.float32(1)}
    if st_tokens:
        state |= {"ST_emb": np.zeros((1, 2, width), np.float32), "ST_enc.a": np.zeros((1, 1), np.float32)}
    mindspore_checkpoint.write(folder / "weights.ckpt", state)
    (folder / "csv").mkdir(exist_ok=True)
    for table, symbols in tables.items():
        write_vocabulary(folder / "csv" / table, symbols)


@pytest.mark.parametrize("st_tokens", [False, True])
def test_layout_is_recognised_without_config(tmp_path, st_tokens):
    """Both tables fit in length: the layout decides."""
    tables = {"gene_info.csv": SYMBOLS[:20], "expand_gene_info.csv": SYMBOLS[17:]}
    published(tmp_path, st_tokens=st_tokens, tables=tables)
    model = CellFM.from_checkpoint(tmp_path)
    assert_array_equal(model.symbols, SYMBOLS[17:] if st_tokens else SYMBOLS[:20])
    assert model.config.pad_zero is not st_tokens
    assert (model.config.heads, model.config.max_genes) == (2, 2048)
    assert {p.name for p in CellFM.checkpoint_files(tmp_path)} == {"weights.ckpt", *tables}


def test_the_table_that_fits_is_taken(tmp_path):
    published(tmp_path, st_tokens=False, tables={"gene_info.csv": SYMBOLS, "expand_gene_info.csv": SYMBOLS[:20]})
    assert_array_equal(CellFM.from_checkpoint(tmp_path / "weights.ckpt").symbols, SYMBOLS[:20])


def test_options_win(tmp_path):
    published(tmp_path, st_tokens=False, tables={"gene_info.csv": SYMBOLS[:20]})
    model = CellFM.from_checkpoint(tmp_path, heads=8, max_genes=5, dropout=0.0, readout="mean")
    assert (model.config.heads, model.config.max_genes, model.config.dropout) == (8, 5, 0.0)
    assert model.readout == "mean" and model.context_length == 6


def test_tables_above_the_weights(tmp_path):
    published(tmp_path, st_tokens=False, tables={"gene_info.csv": SYMBOLS[:20]})
    (tmp_path / "ckpt" / "deep").mkdir(parents=True)
    (tmp_path / "weights.ckpt").rename(tmp_path / "ckpt" / "deep" / "weights.ckpt")
    assert CellFM.from_checkpoint(tmp_path / "ckpt").variant == "weights"  # one folder down is searched too


# -- what is refused ----------------------------------------------------------------------------------


def refused(match, *args, **options):
    with pytest.raises(InputError, match=match) as error:
        CellFM.from_checkpoint(*args, **options)
    assert "\n" not in str(error.value) and "\t" not in str(error.value)


def test_which_weights(tmp_path):
    refused("holds 2 models: CellFM_80M_weight.ckpt .cellfm-80m., base_weight.ckpt .cellfm-800m.*variant", CHECKPOINT)
    refused("variant=huge is not in .*base_weight", CHECKPOINT, variant="huge")
    refused("variant=80m, but .* is cellfm-800m", CHECKPOINT / WEIGHTS["base"], variant="80m")
    refused("does not exist", CHECKPOINT / "nothing")
    refused("holds no CellFM weights", CHECKPOINT / "csv")
    refused("readout=max", CHECKPOINT, variant="80m", readout="max")
    refused("backend=jax", CHECKPOINT, variant="80m", backend="jax")
    (tmp_path / "model.safetensors").write_bytes(b"\x10")
    refused("not a whole safetensors", tmp_path)
    from safetensors.torch import save_file

    save_file({"bert.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    refused("not a CellFM checkpoint: it has no matrix gene_emb .it holds bert.weight", tmp_path)


@pytest.fixture
def golden_copy(tmp_path):
    for file in CHECKPOINT.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(CHECKPOINT)).parent.mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / file.relative_to(CHECKPOINT))
    return tmp_path


def change(folder, **entry):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for name, value in entry.items():
        content[WEIGHTS["base"]][name] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"enc_dims": 64}, "says enc_dims 64 .* 32"),
        ({"enc_nlayers": 3}, "says enc_nlayers 3 .* 4"),
        ({"n_genes": 500}, "says n_genes 500 .* 519"),
        ({"add_zero": True}, "says add_zero True"),
        ({"enc_num_heads": 5}, "width of 32 cannot be split into 5 heads"),
        ({"nonz_len": 0}, "max_genes 0"),
        ({"vocab": "csv/expand_gene_info.csv"}, "gene_emb .* 520 rows, for 512 to 519 genes, but .* 599 genes"),
        ({"vocab": "csv/other.csv"}, "no gene table csv/other.csv beside"),
        ({"aliases": "hgnc.tsv"}, "alias table hgnc.tsv, which is not there"),
    ],
)
def test_config_that_disagrees(golden_copy, entry, message):
    change(golden_copy, **entry)
    refused(message, golden_copy, variant="800m")


def test_config_without_the_file(golden_copy):
    (golden_copy / WEIGHTS["base"]).rename(golden_copy / "renamed.ckpt")
    refused("does not describe renamed.ckpt .it describes base_weight.ckpt", golden_copy / "renamed.ckpt")
    (golden_copy / "config.json").write_text("[1, 2")
    refused("is not JSON", golden_copy / "renamed.ckpt")
    (golden_copy / "config.json").unlink()
    # Without config.json heads are of the published width, 32: 40 is no multiple.
    refused("width of 40 cannot be split into heads of width 32", golden_copy, variant="80m")


def test_vocabulary_that_does_not_fit(golden_copy):
    table = golden_copy / "csv" / "gene_info.csv"
    lines = table.read_text().splitlines()
    for changed, message in [
        (lines[:-9], "gene_emb of .* but .* has 510 genes"),
        ([*lines[:-1], lines[5]], f"{lines[5]} stands in lines 6 and 520"),
        ([*lines[:7], '""', *lines[8:]], "line 8: no symbol"),
        (["symbol", *lines[1:]], "no column HGNC_gene"),
        (lines[:1], "holds no gene"),
    ]:
        table.write_text("\n".join(changed) + "\n")
        refused(message, golden_copy, variant="800m")
    table.unlink()
    refused("no gene table csv/gene_info.csv", golden_copy, variant="800m")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("encoder.1.attn.q_proj.weight"), "1 missing: encoder.1.attn.q_proj.weight"),
        (lambda s: s.pop("cellwise_dec.map.weight"), "1 missing: cellwise_dec.map.weight"),
        (lambda s: s.update({"encoder.0.attn.lora_q.A.weight": s["cls_token"]}), "1 unexpected: encoder.0.attn.lora_q"),
        (lambda s: s.update({"value_dec.w2.weight": s["gene_emb"]}), "1 of another shape: value_dec.w2.weight"),
        (lambda s: s.update({"gene_emb": s["cls_token"]}), "no matrix gene_emb"),
    ],
)
def test_weights_that_do_not_fit(golden_copy, edit, message):
    path = golden_copy / WEIGHTS["base"]
    state = mindspore_checkpoint.read(path)
    edit(state)
    mindspore_checkpoint.write(path, state)
    refused(message, path)


def test_truncated_weights(golden_copy):
    path = golden_copy / WEIGHTS["m80"]
    path.write_bytes(path.read_bytes()[:-1000])
    refused("not a whole MindSpore checkpoint", golden_copy, variant="80m")


# -- from scratch -------------------------------------------------------------------------------------


def test_from_scratch():
    genes = GeneTable.from_names([*SYMBOLS, SYMBOLS[0]])
    state = torch.get_rng_state()
    model = CellFM.from_scratch(genes, size="tiny", seed=7)
    assert torch.equal(state, torch.get_rng_state())
    again, other = (CellFM.from_scratch(genes, size="tiny", seed=s) for s in (7, 8))
    weights = model.network.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), again.network.state_dict().values(), strict=True))
    assert not torch.equal(weights["gene_emb"], other.network.state_dict()["gene_emb"])
    assert (model.config.width, model.config.layers, model.config.heads, model.config.n_genes) == (64, 2, 2, 37)
    assert model.variant == "tiny" and model.token_names[1:38].tolist() == SYMBOLS.tolist()
    with pytest.raises(InputError, match="size=huge: CellFM comes as tiny, 80m, 800m"):
        CellFM.from_scratch(genes, size="huge")


def test_official_initialisers():
    network = CellFM.from_scratch([f"G{i}" for i in range(900)], seed=0).network
    spread = {name: float(tensor.std()) for name, tensor in network.state_dict().items() if tensor.numel() > 1000}
    xavier = {"gene_emb": 0.5 * (2 / (904 + 64)) ** 0.5}
    for i in range(2):
        for name in ("q", "k", "v", "u", "o"):
            xavier[f"encoder.{i}.attn.{name}_proj.weight"] = (1 if name in "qk" else 16**-0.25) / 8
        for name in ("u", "v", "o"):
            xavier[f"encoder.{i}.ffn.{name}_proj.weight"] = 16**-0.25 / 8
    for name, expected in xavier.items():
        assert spread[name] == pytest.approx(expected, rel=0.05), name
    assert spread["value_enc.value_enc.w3.weight"] == pytest.approx(1 / 16 / 3**0.5, rel=0.05)
    assert (network.gene_emb[0] == 0).all() and (network.zero_emb == 0).all()
    assert (network.value_enc.mask_emb == 0).all() and (network.encoder[1].post_norm2.gamma == 1).all()


def test_published_facts_are_one_architecture():
    """The sizes in conf/model/cellfm.yaml are those `size=` gives."""
    for name, facts in release.published().items():
        config = CellFMConfig.of_size(name.removeprefix("cellfm-"), facts["genes"])
        assert (config.width, config.layers, config.heads) == (facts["width"], facts["layers"], facts["heads"])
        assert config.rows == {"cellfm-800m": 24080, "cellfm-80m": 27856}[name]


def test_lora_targets_are_the_eight_projections():
    network = other_model().network
    linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    found = [name for name in linear if name.endswith(CellFM.lora_targets)]
    assert len(CellFM.lora_targets) == 8 and len(found) == 8 * OTHER.layers
    assert all(name.startswith("encoder.") for name in found)


def test_importing_the_adapter_is_light():
    code = "import models.cellfm.adapter, sys; print([m for m in ('torch', 'scanpy', 'pandas') if m in sys.modules])"
    root = Path(release.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_mindspore_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mindspore", None)
    for make in (
        lambda: CellFM.from_checkpoint(CHECKPOINT, variant="80m", backend="mindspore"),
        lambda: CellFM.from_scratch(GeneTable.from_names(["A", "B"]), backend="mindspore"),
    ):
        with pytest.raises(InputError, match=r"pip install 'cellfm-bench\[mindspore\]'"):
            make()
