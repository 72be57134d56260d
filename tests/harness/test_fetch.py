"""Downloads: whole and verified, or not there at all."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest

import harness.download
from harness.addresses import Address, resolve
from harness.cards import Card, RemoteFile
from harness.checksums import BOOK
from harness.errors import InputError
from harness.fetch import fetch, is_here
from tests.conftest import ROOT, make_cells
from tests.harness.misbehaving_server import Server

RNG = np.random.default_rng(0)
WEIGHTS = RNG.bytes(1_000_000)
SHA = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(harness.download, "PAUSE", 0.01)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    started = Server({"weights.ckpt": WEIGHTS})
    yield started
    started.close()


def card(*files, **about):
    about = {"licence": "MIT", "terms": None, "facts": {}, **about}
    return Card(kind="model", name="m-small", owner="m", folder="m", files=tuple(files), **about)


def weights(server, *hows, checksum=SHA, **about):
    sources = tuple(f"{server.url}/{how}/weights.ckpt" for how in hows)
    return RemoteFile(file="weights.ckpt", sources=sources, checksum=checksum, **about)


def bring(tmp_path, *files, **about):
    fetch(card(*files, **about), tmp_path / "m", say=lambda _: None, progress=False)
    return tmp_path / "m"


def nothing_left(tmp_path):
    return not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("how", ["plain", "redirect", "drop", "busy", "norange", "slow"])
@pytest.mark.parametrize("checksum", [SHA, SHA[:23], None])
def test_what_comes_in_the_end_is_the_file(server, tmp_path, how, checksum):
    folder = bring(tmp_path, weights(server, how, checksum=checksum))
    assert (folder / "weights.ckpt").read_bytes() == WEIGHTS
    assert sorted(p.name for p in folder.iterdir()) == [BOOK, "weights.ckpt"]
    entry = json.loads((folder / BOOK).read_text())["weights.ckpt"]
    assert entry["sha256"] == SHA.removeprefix("sha256:") and entry["bytes"] == len(WEIGHTS)
    assert entry["trust"] == ("checksum as the card states" if checksum else "trusted on first use")


def test_dropped_connections_are_continued_not_repeated(server, tmp_path):
    bring(tmp_path, weights(server, "drop"))
    starts = [int(asked[6:-1]) for _, asked in server.requests if asked]
    assert len(starts) >= 3 and starts == sorted(starts) and starts[0] >= 200_000


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("html", "a web page instead of the file (Sorry, too many requests)"),
        ("disguised", "a web page instead of the file"),
        ("browser", "wants a browser"),
        ("empty", "an empty answer"),
        ("pointer", "git-lfs pointer"),
        ("missing", "there is no such file (404)"),
        ("loop", "TooManyRedirects"),
        ("wrong", "its sha256 is"),
    ],
)
@pytest.mark.parametrize("name", ["weights.ckpt", "deeper/weights.ckpt"])
def test_anything_else_is_refused_and_nothing_is_left(server, tmp_path, how, says, name):
    file = RemoteFile(file=name, sources=(f"{server.url}/{how}/weights.ckpt",), checksum=SHA)
    with pytest.raises(InputError) as caught:
        bring(tmp_path, file)
    message = str(caught.value)
    assert says in message
    # The recipe: which address, which file, where to put it.
    assert f"{server.url}/{how}/weights.ckpt" in message and str(tmp_path / "m" / name) in message
    assert nothing_left(tmp_path)


def test_a_truncated_file_is_never_in_place(server, tmp_path):
    with pytest.raises(InputError, match=r"broke|ended"):
        bring(tmp_path, weights(server, "truncate", checksum=None))
    assert not (tmp_path / "m" / "weights.ckpt").exists()


def test_a_cut_file_of_unsaid_length_shows_in_its_own_structure(server, tmp_path):
    make_cells(400).write_h5ad(tmp_path / "x.h5ad")
    server.files["x.h5ad"] = (tmp_path / "x.h5ad").read_bytes()
    packed = io.BytesIO()
    np.savez(packed, a=np.zeros(1000))
    server.files["x.npz"] = packed.getvalue()
    for name in ("x.h5ad", "x.npz"):
        with pytest.raises(InputError, match="cut off"):
            bring(tmp_path, RemoteFile(file=name, sources=(f"{server.url}/unsized/{name}",)))
        assert not (tmp_path / "m").exists()


def test_mirrors_in_order(server, tmp_path):
    bring(tmp_path, weights(server, "missing", "html", "wrong", "drop"))
    assert [path.split("/")[1] for path, _ in server.requests][:4] == ["missing", "html", "wrong", "drop"]


def test_an_error_page_of_a_mirror_does_not_cost_what_is_here(server, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / ".weights.ckpt.part").write_bytes(WEIGHTS[:700_000])
    bring(tmp_path, weights(server, "disguised", "plain"))
    assert server.requests[-1] == ("/plain/weights.ckpt", "bytes=700000-")


def test_a_new_version_on_the_server_is_not_mixed_with_the_old(server, tmp_path):
    file = weights(server, "plain", checksum=None)
    part = tmp_path / "m" / ".weights.ckpt.part"
    part.parent.mkdir()
    part.write_bytes(b"o" * 500_000)
    harness.download.memo_of(part).write_text(json.dumps({"version": '"old"', "bytes": len(WEIGHTS)}))
    assert (bring(tmp_path, file) / "weights.ckpt").read_bytes() == WEIGHTS


def test_a_stale_beginning_is_noticed_by_the_checksum_and_taken_anew(server, tmp_path):
    part = tmp_path / "m" / ".weights.ckpt.part"
    part.parent.mkdir()
    part.write_bytes(b"o" * 500_000)
    assert (bring(tmp_path, weights(server, "plain")) / "weights.ckpt").read_bytes() == WEIGHTS


def test_all_of_it_was_here_before_the_kill(server, tmp_path):
    part = tmp_path / "m" / ".weights.ckpt.part"
    part.parent.mkdir()
    part.write_bytes(WEIGHTS)
    assert (bring(tmp_path, weights(server, "plain")) / "weights.ckpt").read_bytes() == WEIGHTS
    assert len(server.requests) == 1


def test_killed_in_the_middle_and_resumed(server, tmp_path):
    file = weights(server, "slow", checksum=None)
    program = (
        "from harness.cards import Card, RemoteFile\nfrom harness.fetch import fetch\nfrom pathlib import Path\n"
        f"file = RemoteFile.model_validate_json({file.model_dump_json()!r})\n"
        "fetch(Card('model', 'm', 'm', 'm', (file,), 'MIT', None, {}), "
        f"Path({str(tmp_path / 'm')!r}), progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL)
    part = tmp_path / "m" / ".weights.ckpt.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 200_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "m" / "weights.ckpt").exists()
    kept = part.stat().st_size
    bring(tmp_path, file)
    assert (tmp_path / "m" / "weights.ckpt").read_bytes() == WEIGHTS
    assert server.requests[-1][1] == f"bytes={kept}-"
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [BOOK, "weights.ckpt"]


def test_trust_on_first_use_holds_afterwards(server, tmp_path):
    file = weights(server, "plain", checksum=None)
    folder = bring(tmp_path, file)
    (folder / "weights.ckpt").unlink()
    server.files["weights.ckpt"] = WEIGHTS[::-1]
    with pytest.raises(InputError, match=f"{BOOK} remembers"):
        bring(tmp_path, file)
    assert not (folder / "weights.ckpt").exists()


def test_a_file_that_has_changed_in_place_is_named(server, tmp_path):
    folder = bring(tmp_path, weights(server, "plain", checksum=None))
    (folder / "weights.ckpt").write_bytes(b"x" + WEIGHTS[1:])
    with pytest.raises(InputError, match="is there but is not the expected file"):
        bring(tmp_path, weights(server, "plain", checksum=None))


def test_a_file_put_there_by_hand_is_verified_and_no_network_is_asked(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.ckpt").write_bytes(WEIGHTS)
    file = RemoteFile(file="weights.ckpt", by_hand="ask the authors", checksum=SHA)
    folder = bring(tmp_path, file)
    assert json.loads((folder / BOOK).read_text())["weights.ckpt"]["source"] == "found in place"
    assert is_here(card(file), folder)


def test_a_file_only_a_person_can_get_has_its_recipe(tmp_path):
    file = RemoteFile(file="models.ckpt", by_hand="open https://example.org/page and press Download")
    with pytest.raises(InputError, match=r"open https://example.org/page and press Download") as caught:
        bring(tmp_path, file)
    assert str(tmp_path / "m" / "models.ckpt") in str(caught.value) and nothing_left(tmp_path)


def test_no_network_is_a_recipe(tmp_path, monkeypatch):
    file = RemoteFile(file="w.ckpt", sources=("http://nowhere.invalid/w.ckpt",))
    with pytest.raises(InputError, match=r"By hand, on any machine: download http://nowhere.invalid/w.ckpt"):
        bring(tmp_path, file)
    assert nothing_left(tmp_path)


def test_wrong_size_is_refused_before_it_is_carried(server, tmp_path):
    with pytest.raises(InputError, match="1,000,000 bytes, 5 are expected"):
        bring(tmp_path, weights(server, "plain", checksum=None, bytes=5))
    assert nothing_left(tmp_path)


def test_terms_must_be_accepted(server, tmp_path):
    file = weights(server, "plain")
    with pytest.raises(InputError, match=r"no commercial use.*fetch model m-small --accept-licence"):
        bring(tmp_path, file, terms="no commercial use.")
    assert nothing_left(tmp_path) and not server.requests
    fetch(card(file, terms="no commercial use."), tmp_path / "m", accept_licence=True, say=lambda _: None)
    assert is_here(card(file), tmp_path / "m")


def test_a_disk_that_is_too_small(server, tmp_path):
    with pytest.raises(InputError, match="GB free"):
        bring(tmp_path, weights(server, "plain", bytes=10**18))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives(server, tmp_path, kind):
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("inner/a.txt", "a")
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            entry = tarfile.TarInfo("inner/a.txt")
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"a"))
    server.files[f"x.{kind}"] = packed.getvalue()
    file = RemoteFile(file=f"x.{kind}", sources=(f"{server.url}/plain/x.{kind}",), unpack=True, gives=("inner/a.txt",))
    folder = bring(tmp_path, file)
    assert (folder / "inner" / "a.txt").read_text() == "a" and not (folder / f"x.{kind}").exists()
    asked = len(server.requests)
    bring(tmp_path, file)
    assert len(server.requests) == asked
    lacking = file.model_copy(update={"gives": ("inner/b.txt",)})
    with pytest.raises(InputError, match=r"lacks inner/b.txt; it holds inner"):
        bring(tmp_path, lacking)


def test_an_archive_that_reaches_outside_is_refused(server, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../../evil.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"a"))
    server.files["x.tar.gz"] = packed.getvalue()
    with pytest.raises(InputError, match="cannot be unpacked"):
        bring(
            tmp_path,
            RemoteFile(file="x.tar.gz", sources=(f"{server.url}/plain/x.tar.gz",), unpack=True, gives=("a",)),
        )
    assert not list(tmp_path.rglob("evil.txt")) and not (tmp_path.parent / "evil.txt").exists()


def test_a_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(InputError, match="404"):  # the server, as a proxy, is asked for the whole address
        bring(tmp_path, RemoteFile(file="w.ckpt", sources=("http://weights.example/w.ckpt",)))
    assert server.requests[0][0] == "http://weights.example/w.ckpt"


def test_the_hub_says_size_and_checksum(server, tmp_path, monkeypatch):
    """huggingface_hub resolves; a mirror of the hub is asked where HF_ENDPOINT says so."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", server.url)

    def serve(handler, head=False):
        server.requests.append((handler.path, handler.headers.get("Range")))
        headers = {"X-Repo-Commit": "c" * 40, "ETag": f'"{SHA[7:]}"', "X-Linked-Size": str(len(WEIGHTS))}
        Server.answer(handler, 200, WEIGHTS, headers)

    server.serve = serve
    [address] = resolve("hf:owner/repo@main/dir/weights.ckpt")
    assert address.url == f"{server.url}/owner/repo/resolve/main/dir/weights.ckpt"
    assert (address.bytes, address.checksum) == (len(WEIGHTS), SHA)
    folder = bring(tmp_path, RemoteFile(file="w.ckpt", sources=("hf:owner/repo/dir/weights.ckpt",)))
    assert json.loads((folder / BOOK).read_text())["w.ckpt"]["trust"] == "checksum as the repository states"


def test_a_doi_is_resolved_by_pooch(monkeypatch):
    pooch = pytest.importorskip("pooch.downloaders")

    class Archive:
        def download_url(self, name):
            return f"https://archive.example/{name}"

        def populate_registry(self, book):
            book.registry["x.h5ad"] = "md5:" + "0" * 32

    asked = []
    monkeypatch.setattr(pooch, "doi_to_repository", lambda doi, **_: asked.append(doi) or Archive())
    assert resolve("doi:10.5281/zenodo.1/x.h5ad") == [
        Address("https://archive.example/x.h5ad", checksum="md5:" + "0" * 32)
    ]
    assert asked == ["10.5281/zenodo.1"]


def test_unknown_kinds_of_sources():
    with pytest.raises(InputError, match="begins with one of"):
        resolve("ftp://x/y")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model", "celfm"], "did you mean cellfm"),
        (["dataset", "nothing_like_it"], "there is no card"),
        (["weights", "cellfm"], "invalid choice"),
        (["model"], "expected: fetch model|dataset NAME"),
    ],
)
def test_mistakes_on_the_command_line(bench, arguments, says):
    code, _, err = bench("fetch", *arguments)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1


def test_the_command_without_network_is_one_line(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(harness.download, "TRIES", 1)
    monkeypatch.setenv("CELLFM_BENCH_CHECKPOINTS", str(tmp_path / "ROOT"))
    code, out, err = bench("fetch", "model", "cellfm-80m")
    assert code == 2 and "--accept-licence" in err and "CC BY-NC-ND" in out + err
    assert not (tmp_path / "ROOT").exists()


def test_fetched_weights_are_found_by_a_run(bench, tmp_path, monkeypatch, server):
    """From the server to an embedding: fetch places a release where checkpoints= looks."""
    release = ROOT / "tests" / "golden" / "scgpt" / "checkpoint"
    server.files.update({path.name: path.read_bytes() for path in release.iterdir()})
    files = tuple(
        RemoteFile(file=f"whole-human/{name}", sources=(f"{server.url}/drop/{name}",)) for name in server.files
    )[1:]
    whole = Card("model", "whole-human", "scgpt", "scgpt", files, "MIT", None, {"default": True})
    monkeypatch.setattr("harness.cards.model_cards", lambda: {"scgpt": {"whole-human": whole}})
    monkeypatch.setenv("CELLFM_BENCH_CHECKPOINTS", str(tmp_path / "ROOT"))
    code, out, _ = bench("fetch", "model", "scgpt")
    assert code == 0 and "run it: cellfm-bench run model=scgpt" in out
    cells = ROOT / "tests" / "golden" / "scgpt" / "cells.h5ad"
    for _ in range(2):  # fetching again changes nothing, and asks for nothing
        code, _, err = bench(
            *("embed", "model=scgpt", f"dataset.path={cells}", f"out={tmp_path / 'out.npz'}"), f"cache={tmp_path}/cache"
        )
        assert code == 0, err
        asked = len(server.requests)
        assert bench("fetch", "model", "scgpt")[0] == 0 and len(server.requests) == asked
