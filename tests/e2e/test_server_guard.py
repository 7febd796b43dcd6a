"""Who may talk to the server, how it starts and ends, and what a home that cannot be used is told."""

from __future__ import annotations

import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from local_backend import in_process
from local_backend.settings import Settings
from local_backend.store import StoreError
from tests.contract.conftest import examples, wait
from tests.contract.places import server

TOKEN = "s3cret-canary-token"  # noqa: S105 - of these tests only


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("open")) as address:
        yield address


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("guarded"), "--token", TOKEN) as address:
        yield address


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:8000", "LOCALHOST"])
def test_local_names_are_answered(url: str, host: str):
    assert httpx2.get(f"{url}/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "[", ""])
def test_other_names_are_not(url: str, host: str):
    """A page that rebinds its own name to 127.0.0.1 sends that name."""
    answer = httpx2.get(f"{url}/models", headers={"host": host})
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9", "file://"])
def test_pages_of_other_origins_are_not_answered(url: str, origin: str):
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = httpx2.request(method, f"{url}/files", headers={"origin": origin})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_servers_own_origin_is_answered(url: str):
    own = url.removesuffix("/v1")
    assert httpx2.get(f"{url}/models", headers={"origin": own}).status_code == 200


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"])
def test_without_the_token_nothing_is_answered(guarded_url: str, header: str | None):
    headers = {"authorization": header} if header else {}
    answer = httpx2.get(f"{guarded_url}/models", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert TOKEN not in answer.text


def test_with_the_token_any_name_is_answered(guarded_url: str):
    headers = {"authorization": f"Bearer {TOKEN}", "host": "gpu-box.lan"}
    assert httpx2.get(f"{guarded_url}/models", headers=headers).status_code == 200
    with openai.OpenAI(base_url=guarded_url, api_key=TOKEN) as client:
        assert list(client.models.list())


def test_there_are_no_pages_for_browsers(url: str):
    root = url.removesuffix("/v1")
    for path in ("/docs", "/redoc", "/openapi.json", "/", "/v1/docs"):
        answer = httpx2.get(root + path)
        assert answer.status_code == 404
        assert "error" in answer.json()


def test_a_body_that_is_no_json_is_refused(url: str):
    for path in ("fine_tuning/jobs", "chat/completions", "uploads"):
        answer = httpx2.post(f"{url}/{path}", content=b"{oops", headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert "JSON" in answer.json()["error"]["message"]


def test_neither_token_nor_training_text_reaches_a_log(tmp_path: Path):
    """A job with a canary in its data and its key; afterwards every log and message is searched."""
    canary = "canary-text-7391"
    data = examples(10) + f'{{"messages": [{{"role": "{canary}", "content": "{canary}"}}]}}\n'.encode()
    with server(tmp_path, "--token", TOKEN) as address, openai.OpenAI(base_url=address, api_key=TOKEN) as client:
        file = client.files.create(file=("a.jsonl", data), purpose="fine-tune")
        job = wait(client, client.fine_tuning.jobs.create(model="smollm2-135m", training_file=file.id).id)
        assert job.status == "failed"
    logs = [path.read_bytes() for path in tmp_path.rglob("*.log*")]
    assert logs
    assert all(canary.encode() not in log and TOKEN.encode() not in log for log in logs)
    assert TOKEN.encode() not in (tmp_path / "server" / "store.db").read_bytes()


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local_backend", "serve", "--engine", "simulated", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_other_machines_are_served_with_a_token_only(tmp_path: Path):
    done = serve("--host", "0.0.0.0", "--home", str(tmp_path))  # noqa: S104 - it is refused
    assert done.returncode == 2
    assert "give a token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("--port", str(port), "--home", str(tmp_path))
    assert done.returncode == 3
    assert done.stderr.strip() == (
        f"Port {port} of 127.0.0.1 cannot be used (Address already in use). Choose another with --port."
    )


def test_a_home_that_cannot_be_used_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    done = serve("--port", "0", "--home", str(tmp_path / "file"))
    assert done.returncode == 3
    assert "Give another one with --home" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("aliases", "words"),
    [
        (["foo=no such"], "--alias foo=no such: The model 'no such' is not known here."),
        (["a=b", "b=no such"], "--alias b=no such: The model 'no such' is not known here."),
        (["a=b", "b=a"], "leads in a circle"),
        (["mine=/some/folder"], "--allow-local-paths"),
    ],
)
def test_an_alias_of_no_model_is_refused_at_start(tmp_path: Path, aliases: list[str], words: str):
    """With the remedy; else the first job that uses it would fail, perhaps days later."""
    done = serve("--port", "0", "--home", str(tmp_path / "home"), *(f"--alias={each}" for each in aliases))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def settings_of(home: Path) -> Settings:
    return Settings(home=home, cache=home, engine="simulated", runner="thread")


def test_a_home_is_for_its_owner_alone(tmp_path: Path):
    with in_process.client(settings_of(tmp_path / "home")) as client:
        client.files.create(file=("a.jsonl", examples(1)), purpose="fine-tune")
    folders = [tmp_path / "home", *(path for path in (tmp_path / "home").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


@pytest.mark.parametrize(("version", "words"), [("99", "newer version"), ("0", "cannot read")])
def test_a_store_of_another_format_is_refused_in_words(tmp_path: Path, version: str, words: str):
    in_process.client(settings_of(tmp_path)).close()
    with sqlite3.connect(tmp_path / "server" / "store.db") as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'format'", (version,))
    database.close()
    with pytest.raises(StoreError, match=words):
        in_process.client(settings_of(tmp_path))


def test_a_file_that_is_no_store_is_refused_in_words(tmp_path: Path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "store.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match="Move it away"):
        in_process.client(settings_of(tmp_path))
