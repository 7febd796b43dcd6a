"""The same client in an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

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
