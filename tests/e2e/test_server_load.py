"""Many clients at once, and a disk that is full."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
from sqlalchemy import event

from local_backend.app import create_app
from local_backend.in_process import Settings
from tests.contract.conftest import examples, wait
from tests.contract.places import address_of, behind_http, server

CLIENTS = 50
LIMIT_BYTES = 3_000_000


@pytest.mark.slow
def test_fifty_clients_at_once_lose_nothing(tmp_path: Path):
    """Each creates a file and a job; no request fails, every file and job is there, and every job ends."""
    with server(tmp_path) as url:

        def work(number: int) -> tuple[str, str]:
            with behind_http(url) as client:
                file = client.files.create(file=(f"{number}.jsonl", examples(10, offset=number)), purpose="fine-tune")
                job = client.fine_tuning.jobs.create(
                    model="smollm2-135m",
                    training_file=file.id,
                    metadata={"number": str(number)},
                    hyperparameters={"n_epochs": 1, "batch_size": 16},
                )
                assert client.fine_tuning.jobs.retrieve(job.id).training_file == file.id
                assert client.files.content(file.id).read() == examples(10, offset=number)
                return file.id, job.id

        with ThreadPoolExecutor(CLIENTS) as pool:
            made = list(pool.map(work, range(CLIENTS)))
        with behind_http(url) as client:
            assert {file for file, _ in made} <= {file.id for file in client.files.list()}
            listed = {job.id: job for job in client.fine_tuning.jobs.list(limit=7)}
            assert set(listed) == {job for _, job in made}
            for number, (_, job_id) in enumerate(made):
                assert listed[job_id].metadata == {"number": str(number)}
                assert wait(client, job_id).status == "succeeded"


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path):
    """The system lets no file of the server grow beyond three megabytes."""
    command = [sys.executable, "-m", "local_backend", "serve", "--port", "0", "--engine", "simulated"]
    process = subprocess.Popen(
        [*command, "--home", str(tmp_path), "--cache", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES)),  # noqa: PLW1509
    )
    try:
        with behind_http(address_of(process)) as client:
            with pytest.raises(openai.InternalServerError, match="no space left") as caught:
                client.files.create(file=("big.jsonl", examples(60_000)), purpose="fine-tune")
            assert (caught.value.status_code, caught.value.code) == (507, "insufficient_storage")
            assert caught.value.response.headers["x-should-retry"] == "false"
            assert list(client.files.list()) == []
            assert client.files.create(file=("small.jsonl", examples(10)), purpose="fine-tune").status == "processed"
        assert list((tmp_path / "server" / "incoming").iterdir()) == []
        assert len(list((tmp_path / "server" / "files").iterdir())) == 1
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_full_database_is_told(tmp_path: Path):
    """SQLite itself says that it is full."""
    app = create_app(Settings(home=tmp_path, cache=tmp_path, engine="simulated", runner="thread"))
    engine = app.state.backend.store.engine
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    transport = httpx2.ASGITransport(app=app)
    try:
        answer = send(transport, "POST", "/v1/uploads", {**UPLOAD, "filename": "x" * 100_000})
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "insufficient_storage")
        assert send(transport, "GET", "/v1/files").status_code == 200
    finally:
        app.state.backend.close()


UPLOAD = {"bytes": 1, "filename": "x", "mime_type": "text/plain", "purpose": "user_data"}


def send(transport: httpx2.ASGITransport, method: str, path: str, body: object = None) -> httpx2.Response:
    import asyncio

    async def once() -> httpx2.Response:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, json=body)

    return asyncio.run(once())


def test_a_server_killed_in_the_middle_of_an_upload_keeps_nothing_of_it(tmp_path: Path):
    """kill -9 while bytes arrive: no half file is listed, no content lies in the store, and the next upload works."""
    command = [sys.executable, "-m", "local_backend", "serve", "--port", "0", "--engine", "simulated"]
    command += ["--home", str(tmp_path), "--cache", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url = address_of(process)
    incoming = tmp_path / "server" / "incoming"

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + examples(5000)
        while not any(path.stat().st_size for path in incoming.iterdir()):
            yield examples(1000)
        process.kill()
        while process.poll() is None:
            yield examples(1000)

    with pytest.raises(httpx2.TransportError):
        httpx2.post(f"{url}/files", content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    process.communicate(timeout=30)
    assert list((tmp_path / "server" / "files").iterdir()) == []
    with server(tmp_path) as again, behind_http(again) as client:
        assert list(client.files.list()) == []
        assert client.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune").status == "processed"


def test_what_nobody_foresaw_is_still_an_answer(tmp_path: Path):
    """A content that has vanished from the disk gives a 500 in OpenAI's shape, and no traceback to the client."""
    with server(tmp_path) as url, behind_http(url) as client:
        file = client.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
        for path in (tmp_path / "server" / "jobs", tmp_path / "server" / "incoming"):
            path.rmdir()
        with pytest.raises(openai.InternalServerError) as caught:
            client.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
        assert set(caught.value.body) == {"message", "type", "param", "code"}
        assert str(tmp_path) not in str(caught.value.body)
        assert client.files.retrieve(file.id).id == file.id
