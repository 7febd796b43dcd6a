"""The same client in an event loop."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import openai
import pytest

from ftclient import AsyncClient, AsyncJob, Client, Dataset, JobNotFoundError, LocalOptions, Simulate, Supervised
from ftclient.jobs.job import Job
from tests.e2e.serving import simulated_server


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"{n} plus 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]}
        for n in range(12)
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(params=["in process", "over HTTP"])
async def client(request, tmp_path: Path, server: str):
    if request.param == "in process":
        made = AsyncClient.local(home=tmp_path, engine="simulated", runner="thread")
    else:
        made = AsyncClient.at(server, home=tmp_path)
    async with made:
        yield made


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_surface_is_that_of_the_synchronous_client() -> None:
    assert public(Client) - public(AsyncClient) == {"named"}
    assert public(Job) - public(AsyncJob) == {"polls"}
    assert inspect.signature(AsyncClient.plan).parameters.keys() == inspect.signature(Client.plan).parameters.keys()


async def test_the_main_job_end_to_end(client: AsyncClient, data: Dataset) -> None:
    plan = await client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=2))
    job = await client.train(plan, max_cost_usd=0)
    heard = []
    result = await job.wait(timeout_s=60, on_event=lambda event: heard.append(event.id))
    assert heard == [event.id async for event in job.events()]
    assert await job.status() == "succeeded"
    assert [each.id for each in await client.jobs(limit=1)] == [job.id]
    whole = await client.chat(result.model, "3 plus 1?", temperature=0)
    pieces = [piece async for piece in client.chat_stream(result.model, "3 plus 1?", temperature=0)]
    assert "".join(pieces) == whole
    assert len(pieces) > 1
    assert (await (await client.job(job.id)).watch()).status == "succeeded"


async def test_several_jobs_are_waited_for_at_once(client: AsyncClient, data: Dataset) -> None:
    plans = [await client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=n)) for n in (1, 2, 3)]
    jobs = await asyncio.gather(*(client.train(plan) for plan in plans))
    results = await asyncio.gather(*(job.wait(timeout_s=60) for job in jobs))
    assert len({result.model for result in results}) == 3


async def test_a_wait_that_is_cancelled_ends_its_thread_and_the_job_goes_on(client: AsyncClient, data: Dataset) -> None:
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.3))
    plan = await client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=5, batch_size=1), local=local)
    job = await client.train(plan)
    calls = threading.Event()
    for call in (job.wait(on_event=lambda _: calls.set()), job.watch()):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, timeout=0.6)
    calls.clear()
    await asyncio.sleep(1.5)
    assert not calls.is_set()
    assert await job.status() in ("validating_files", "queued", "running")
    await job.cancel()


async def test_errors_are_the_same(client: AsyncClient) -> None:
    with pytest.raises(JobNotFoundError):
        await client.job("ftjob-nonesuch")


class Gateway(BaseHTTPRequestHandler):
    """Answers chats of who comes with the right token, header and query; of others none."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        has_all = (
            self.headers.get("authorization") == f"Bearer {TOKEN}",
            self.headers.get("x-gateway") == "open",
            "team=a" in self.path,
        )
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunk["choices"] = [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]
        body = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode() if all(has_all) else b"{}"
        self.send_response(200 if all(has_all) else 401)
        self.send_header("content-type", "text/event-stream" if all(has_all) else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def gateway():
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


SAME = {"default_headers": {"x-gateway": "open"}, "default_query": {"team": "a"}}
TOKEN = "tok-123456789"  # noqa: S105 - a test's own


def own_clients(url: str):
    """Official clients of users, each with the token, the header and the query by ways of its own."""
    http = httpx2.Client(headers={"x-gateway": "open"}, params={"team": "a"})
    at = {"azure_endpoint": url, "api_version": "1"}
    yield "plain", openai.OpenAI(base_url=url, api_key=TOKEN, **SAME)
    yield "key by function", openai.OpenAI(base_url=url, api_key=lambda: TOKEN, **SAME)
    yield "own HTTP", openai.OpenAI(base_url=url, api_key=TOKEN, http_client=http)
    yield "Entra token", openai.AzureOpenAI(**at, azure_ad_token=TOKEN, **SAME)
    yield "Entra token by function", openai.AzureOpenAI(**at, azure_ad_token_provider=lambda: TOKEN, **SAME)


@pytest.mark.parametrize("number", range(5))
async def test_a_stream_goes_the_ways_of_the_client_that_was_brought(gateway: str, tmp_path: Path, number: int) -> None:
    name, official = list(own_clients(gateway))[number]
    with Client(official, home=tmp_path) as client:
        assert list(client.chat_stream("m", "Hello?")) == ["hi"], name
        brought = AsyncClient(official, home=tmp_path)
        assert [piece async for piece in brought.chat_stream("m", "Hello?")] == ["hi"], name
        if brought._streaming:
            await brought._streaming.close()
