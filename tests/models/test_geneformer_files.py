"""Which files of a release are read, that they survive a round trip, and that bad ones are refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import InputError, NotApplicableError
from harness.tokens import TokenBatch
from models.geneformer.adapter import Geneformer
from models.geneformer.dictionaries import GeneDictionaries
from models.geneformer.network import BertConfig, MaskedGeneModel

GOLDEN = Path(__file__).parents[1] / "golden" / "geneformer"
#: Version, vocabulary, width, layers, heads, inner width, context: nothing as in the golden cases.
OTHERS = [("V2", 77, 40, 2, 5, 72, 33), ("V1", 130, 24, 4, 3, 24, 64), ("V2", 50, 16, 1, 1, 20, 12)]


def generated(version="V2", genes=77, width=40, layers=2, heads=5, inner=72, context=33, seed=0, **options):
    """A model of any size, its weights large enough that a misplaced tensor shows."""
    rng = np.random.default_rng(seed)
    ids = [f"ENSG{i:011d}" for i in rng.choice(10**6, genes, replace=False)]
    special = ["<pad>", "<mask>", *(["<cls>", "<eos>"] if version == "V2" else [])]
    tokens = {name: i for i, name in enumerate([*special, *sorted(ids)])}
    medians = np.where(np.arange(len(tokens)) < len(special), 1.0, rng.gamma(2, 3, len(tokens)))
    mapping = {gene: gene for gene in ids}
    config = BertConfig(len(tokens), width, layers, heads, inner, context, initializer_range=0.3)
    network = MaskedGeneModel.empty(config).initialise(seed)
    for name, parameter in network.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return Geneformer(network, GeneDictionaries(tokens, medians, mapping, {}), variant="generated", **options)


def some_cells(model, n=7, seed=1):
    """Counts (n, genes) over the model's genes in shuffled columns, and their names."""
    import scipy.sparse as sp

    rng = np.random.default_rng(seed)
    names = rng.permutation(model.token_names[model.token_names != ""])
    counts = rng.poisson(rng.gamma(0.3, 4, (n, len(names)))).astype(np.float32)
    return sp.csr_matrix(counts), names.tolist()


@torch.inference_mode()
def vectors(model):
    batch = model.tokenize(*some_cells(model))
    output = model.forward(batch)
    return batch, output.cell.numpy(), output.tokens.numpy()


@pytest.fixture
def release(tmp_path) -> Path:
    """A generated release: two pretrained models, a fine-tuned one, and the dictionaries."""
    root = tmp_path / "release"
    model = generated()
    for name in ("A-V2", "B-V2", "fine_tuned/A-V2_CellClassifier"):
        model.save(root / name)
        shutil.rmtree(root / name / "geneformer")
    model.dictionaries.save(root / "geneformer")
    folder = root / "fine_tuned" / "A-V2_CellClassifier"
    state = {k: v for k, v in load_file(folder / "model.safetensors").items() if k.startswith("bert.")}
    extra = {"bert.pooler.dense.weight": torch.ones(40, 40), "classifier.weight": torch.ones(3, 40)}
    save_file({**state, **extra}, folder / "model.safetensors")
    edit(folder / "config.json", architectures=["BertForSequenceClassification"])
    return root


@pytest.fixture
def saved(tmp_path) -> Path:
    """One generated model, saved."""
    generated().save(tmp_path / "saved")
    return tmp_path / "saved"


def edit(config: Path, **changes):
    content = {**json.loads(config.read_text()), **changes}
    config.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def edit_state(folder: Path, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def edit_tokens(folder: Path, change):
    path = folder / "geneformer" / "token_dictionary.pkl"
    tokens = pickle.loads(path.read_bytes())
    change(tokens)
    path.write_bytes(pickle.dumps(tokens))


# -- round trip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", OTHERS, ids=lambda s: "-".join(map(str, s)))
def test_save_then_load_is_the_identity(sizes, tmp_path):
    model = generated(*sizes)
    model.save(tmp_path)
    loaded = Geneformer.from_checkpoint(tmp_path)
    assert (loaded.version, loaded.readout) == (sizes[0], model.readout)
    assert (loaded.context_length, loaded.embedding_size) == (sizes[6], sizes[2])
    assert loaded.network.config == model.network.config
    assert loaded.token_names.tolist() == model.token_names.tolist()
    np.testing.assert_array_equal(loaded.dictionaries.medians, model.dictionaries.medians)
    for one, other in zip(vectors(model), vectors(loaded), strict=True):
        if isinstance(one, TokenBatch):
            one, other = one.gene_ids, other.gene_ids
        np.testing.assert_array_equal(one, other)
    assert vectors(model)[0].gene_ids.shape[1] <= sizes[6]


@pytest.mark.parametrize("suffix", ["", "_gc30M", "_gc95M", "_gc104M"])
@pytest.mark.parametrize("place", [".", "geneformer", "geneformer/gene_dictionaries_30m", "../geneformer"])
def test_every_generation_of_dictionaries_is_found(suffix, place, saved):
    folder = saved / place
    folder.mkdir(exist_ok=True, parents=True)
    for path in list((saved / "geneformer").glob("*.pkl")):
        path.rename(folder / f"{path.stem}{suffix}.pkl")
    assert len(Geneformer.from_checkpoint(saved).token_names) == 81
    names = {path.name for path in Geneformer.checkpoint_files(saved)}
    tables = ("token_dictionary", "gene_median_dictionary", "ensembl_mapping_dict", "gene_name_id_dict")
    assert names == {"config.json", "model.safetensors", *(f"{table}{suffix}.pkl" for table in tables)}


def test_dictionaries_of_other_vocabularies_are_passed_over(saved):
    """As in the real release, where those of V1 lie below those of V2."""
    generated("V1", genes=30).dictionaries.save(saved / "geneformer" / "gene_dictionaries_30m")
    assert Geneformer.from_checkpoint(saved).version == "V2"


def test_version_is_told_by_the_dictionary_not_by_a_name(tmp_path):
    generated("V1", 60, 16, 2, 2, 16, 20).save(tmp_path / "Geneformer-V2-104M")
    model = Geneformer.from_checkpoint(tmp_path)
    assert (model.version, model.variant, model.readout) == ("V1", "Geneformer-V2-104M", "mean")
    assert Geneformer.from_checkpoint(tmp_path, version="V1").version == "V1"
    with pytest.raises(InputError, match=r"version=V2, but .* is a V1 model"):
        Geneformer.from_checkpoint(tmp_path, version="V2")


def test_v1_without_a_mapping_maps_each_gene_to_itself(tmp_path):
    model = generated("V1")
    model.save(tmp_path)
    (tmp_path / "geneformer" / "ensembl_mapping_dict.pkl").unlink()
    (tmp_path / "geneformer" / "gene_name_id_dict.pkl").unlink()
    loaded = Geneformer.from_checkpoint(tmp_path)
    names = [name for name in model.token_names.tolist() if name]
    assert loaded.match_genes(names).ids.tolist() == [model.dictionaries.tokens[name] for name in names]


def test_links_of_a_hub_cache_are_not_followed(saved, tmp_path):
    """There every file is a link into a folder of blobs, beside which no dictionary lies."""
    blobs = tmp_path / "far" / "away" / "from" / "it" / "all" / "blobs"
    blobs.mkdir(parents=True)
    for path in [p for p in saved.rglob("*") if p.is_file()]:
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    assert Geneformer.from_checkpoint(saved / "model.safetensors").version == "V2"


# -- several models -----------------------------------------------------------------------------------


def test_several_models_need_a_variant(release):
    with pytest.raises(InputError, match=r"A-V2, B-V2, A-V2_CellClassifier \(fine-tuned\)\); say which"):
        Geneformer.from_checkpoint(release)
    assert Geneformer.from_checkpoint(release, variant="B-V2").variant == "B-V2"
    assert Geneformer.from_checkpoint(release / "A-V2").variant == "A-V2"
    assert Geneformer.from_checkpoint(release / "A-V2" / "model.safetensors").variant == "A-V2"
    with pytest.raises(InputError, match=r"variant=C-V2: .* holds no such model; it holds A-V2"):
        Geneformer.from_checkpoint(release, variant="C-V2")


def test_the_only_pretrained_model_is_taken_and_a_classifier_only_if_asked(release):
    shutil.rmtree(release / "B-V2")
    model = Geneformer.from_checkpoint(release)
    assert model.variant == "A-V2"
    tuned = Geneformer.from_checkpoint(release, variant="A-V2_CellClassifier")
    batch, cell, _ = vectors(model)
    np.testing.assert_array_equal(vectors(tuned)[1], cell)
    with pytest.raises(NotApplicableError, match="fine-tuned"):
        tuned.pretraining_loss(batch, torch.Generator())
    tuned.save(release / "again")
    assert Geneformer.from_checkpoint(release / "again").network.cls is None


def test_two_sets_of_dictionaries_that_differ_are_refused(release):
    generated(seed=5).dictionaries.save(release / "gene_dictionaries_30m")
    with pytest.raises(InputError, match="2 sets of gene dictionaries fit the 81 tokens"):
        Geneformer.from_checkpoint(release / "A-V2")
    shutil.rmtree(release / "gene_dictionaries_30m")
    shutil.copytree(release / "geneformer", release / "gene_dictionaries_30m")  # equal ones are one
    Geneformer.from_checkpoint(release / "A-V2")


# -- bad input ----------------------------------------------------------------------------------------


def refused(folder, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        Geneformer.from_checkpoint(folder, **options)
    assert "\t" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_directory(tmp_path):
    refused(tmp_path, "holds no Geneformer model")
    refused(tmp_path / "nothing", "does not exist")
    (tmp_path / "training_args.bin").write_bytes(b"never opened")
    refused(tmp_path / "training_args.bin", "holds no weights")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.999])
def test_a_truncated_download(share, saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(saved, "Is the download complete")
    path.unlink()
    torch.save(load_file_of(whole, saved), saved / "pytorch_model.bin")
    assert Geneformer.from_checkpoint(saved).version == "V2"
    whole = (saved / "pytorch_model.bin").read_bytes()
    (saved / "pytorch_model.bin").write_bytes(whole[: int(len(whole) * share)])
    refused(saved, "pytorch_model.bin")


def load_file_of(content: bytes, folder: Path):
    path = folder / "whole"
    path.write_bytes(content)
    return load_file(path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": 1}, r"16 unexpected: bert.encoder.layer.1.attention"),
        ({"num_hidden_layers": 3}, "16 missing: bert.encoder.layer.2.attention"),
        ({"hidden_size": 45}, "of another shape"),
        ({"intermediate_size": 71}, r"intermediate.dense.weight is \(72, 40\), expected \(71, 40\)"),
        ({"vocab_size": 80}, r"word_embeddings.weight is \(81, 40\), expected \(80, 40\)"),
        ({"max_position_embeddings": 4096}, "position_embeddings.weight"),
        ({"num_attention_heads": 7}, "no multiple of num_attention_heads"),
        ({"num_attention_heads": ...}, "num_attention_heads is None"),
        ({"hidden_size": "40"}, "hidden_size is '40'"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"pad_token_id": 3}, "numbers <pad> 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_config_that_disagrees_with_the_weights(changes, match, saved):
    edit(saved / "config.json", **changes)
    refused(saved, match)


def test_a_config_that_is_missing_or_no_json(saved):
    (saved / "config.json").write_text("{")
    refused(saved, "not readable as JSON")
    (saved / "config.json").unlink()
    refused(saved, "config.json is missing")


def test_weights_in_part(saved):
    key = "bert.encoder.layer.1.attention.output.LayerNorm.bias"
    edit_state(saved, lambda state: state.pop(key))
    refused(saved, f"1 missing: {key}")


def test_a_prediction_head_in_part(saved):
    edit_state(saved, lambda state: state.pop("cls.predictions.transform.dense.weight"))
    refused(saved, "1 missing: cls.predictions.transform.dense.weight")


def test_a_decoder_that_is_not_tied(saved):
    word = load_file(saved / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    edit_state(saved, lambda state: state.update({"cls.predictions.decoder.weight": word.clone()}))
    Geneformer.from_checkpoint(saved)
    edit_state(saved, lambda state: state["cls.predictions.decoder.weight"].add_(1))
    refused(saved, "differs from bert.embeddings.word_embeddings.weight")


def test_no_dictionary_fits(saved):
    edit_tokens(saved, lambda tokens: tokens.update({"ENSG00000999999": 81}))
    refused(saved, r"no gene dictionary for the 81 tokens .*token_dictionary.pkl \(82 tokens\)")


def test_a_token_dictionary_with_duplicate_ids(saved):
    gene = Geneformer.from_checkpoint(saved).token_names[9]
    edit_tokens(saved, lambda tokens: tokens.update({str(gene): 5}))
    refused(saved, r"token id 5 stands for ENSG\d+ and ENSG\d+")


def test_a_dictionary_that_is_no_token_dictionary(saved):
    edit_tokens(saved, lambda tokens: (tokens.pop("<mask>"), tokens.update(other=1)))
    refused(saved, "has no <mask>")
    edit_tokens(saved, lambda tokens: tokens.update(other=1.5))
    refused(saved, "is no whole number")
    (saved / "geneformer" / "token_dictionary.pkl").write_bytes(pickle.dumps([1, 2]))
    refused(saved, "holds a list; a dictionary is expected")


@pytest.mark.parametrize("median", [0.0, -1.0, float("nan"), "x"])
def test_medians_that_cannot_be(median, saved):
    path = saved / "geneformer" / "gene_median_dictionary.pkl"
    medians = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**medians, next(iter(medians)): median}))
    refused(saved, "positive number|no numbers")
    path.write_bytes(pickle.dumps(dict(list(medians.items())[1:])))
    refused(saved, "has no median for 1 of the 77 genes")
    path.unlink()
    refused(saved, "has no gene_median_dictionary.pkl beside it")


def test_v2_without_a_mapping(saved):
    (saved / "geneformer" / "ensembl_mapping_dict.pkl").unlink()
    refused(saved, "has no ensembl_mapping_dict.pkl")


class Trap:
    """A pickle of this makes a file when it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["token_dictionary", "gene_median_dictionary", "ensembl_mapping_dict"])
def test_a_pickle_that_would_run_code(name, saved, tmp_path):
    trap = tmp_path / "it-ran"
    content = pickle.dumps({"<pad>": 0, "<mask>": Trap(trap)})
    (saved / "geneformer" / f"{name}.pkl").write_bytes(content)
    refused(saved, f"{name}.pkl is refused: it names posix.mkdir")
    assert not trap.exists()
    pickle.loads(content)  # the trap is one
    assert trap.exists()


def test_weights_that_would_run_code(saved, tmp_path):
    trap = tmp_path / "it-ran"
    (saved / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Trap(trap)}, saved / "pytorch_model.bin")
    refused(saved, "nothing in it was run")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"readout": "cls"}, "readout=cls: Geneformer V1 has mean, its cells carry no <cls> token"),
        ({"emb_layer": 3}, "emb_layer=3: expected -1 .* or 0"),
    ],
)
def test_options_that_cannot_be(options, match):
    refused(GOLDEN / "v1" / "checkpoint", match, **options)


# -- what is published --------------------------------------------------------------------------------


def published():
    from omegaconf import OmegaConf

    path = Path(__file__).parents[2] / "conf" / "model" / "geneformer.yaml"
    return OmegaConf.to_container(OmegaConf.load(path))["variants"]


@pytest.mark.parametrize("name", published())
def test_the_published_sizes_explain_the_published_bytes(name):
    """Four bytes a number, and a header; V1 stores the positions too, and `.bin` pickles a little more."""
    variant = published()[name]
    special = {"V1": 2, "V2": 4}[variant["series"]]
    sizes = (variant[key] for key in ("width", "layers", "heads", "ffn", "context"))
    with torch.device("meta"):
        network = MaskedGeneModel(BertConfig(variant["genes"] + special, *sizes))
    expected = 4 * sum(parameter.numel() for parameter in network.parameters())
    for file in variant["weights"].values():
        assert 0 < file["bytes"] - expected < 150_000
    for file in [*variant["weights"].values(), *variant["tables"].values()]:
        assert len(file["sha256"]) == 16
        assert int(file["sha256"], 16)
