"""`ftclient train` after it was killed while the host was starting the job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.serving import HOSTED_MODEL, run_program, simulated_server
from tests.faults.launching import examples
from tests.faults.proxy import Exchange, Fault, FaultProxy

CREATE = ("POST", "/v1/fine_tuning/jobs")
FT = (sys.executable, "-m", "ftclient", "--backend", "openai")
TRAIN = ("train", "data.jsonl", "--model", HOSTED_MODEL, "--detach", "--yes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url.removesuffix("/v1")


def killed_while_it_starts_a_job(proxy: FaultProxy, folder: Path, environment: dict[str, str], fault: Fault) -> None:
    """Run `train` and kill it once its request has come."""
    asked = threading.Event()

    def choose(exchange: Exchange) -> Fault:
        if (exchange.method, exchange.path) != CREATE:
            return Fault()
        asked.set()
        return fault

    proxy.choose = choose
    command = subprocess.Popen([*FT, *TRAIN], cwd=folder, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    assert asked.wait(60)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    proxy.choose = lambda _: Fault()


def test_the_command_typed_again_takes_up_the_job_and_one_with_a_run_id_starts_another(
    server: str, tmp_path: Path
) -> None:
    examples().write(tmp_path / "data.jsonl")
    with FaultProxy(server) as proxy:
        environment = {
            "FTCLIENT_HOME": str(tmp_path / "home"),
            "OPENAI_BASE_URL": f"{proxy.url}/v1",
            "OPENAI_API_KEY": "sk-test",
        }

        def run(*arguments: str) -> str:
            options = {key: value for key, value in environment.items() if key != "FTCLIENT_HOME"}
            return run_program(*FT, *arguments, home=tmp_path / "home", cwd=tmp_path, **options).strip()

        def jobs() -> list[str]:
            return [job["id"] for job in json.loads(run("jobs", "--json"))]

        killed_while_it_starts_a_job(proxy, tmp_path, environment, Fault(delay_s=0.5, drop_after=True))
        job = run(*TRAIN)
        assert jobs() == [job]
        named = run(*TRAIN, "--run-id", "another")
        assert set(jobs()) == {job, named}
        assert run(*TRAIN, "--run-id", "another") == named


def test_a_run_id_without_a_name_starts_no_job(server: str, tmp_path: Path) -> None:
    """As in a script whose variable is empty."""
    examples().write(tmp_path / "data.jsonl")
    home = tmp_path / "home"
    with FaultProxy(server) as proxy:
        environment = {"OPENAI_BASE_URL": f"{proxy.url}/v1", "OPENAI_API_KEY": "sk-test"}
        run_program(*FT, *TRAIN, "--run-id", "", home=home, cwd=tmp_path, expect=2, **environment)
        run_program(*FT, "jobs", "--forget", "", home=home, expect=2, **environment)
        assert sum((exchange.method, exchange.path) == CREATE for exchange, _ in proxy.seen) == 0


def test_a_launch_that_may_still_be_answered_is_listed_as_on_its_way_and_not_given_up(
    server: str, tmp_path: Path
) -> None:
    examples().write(tmp_path / "data.jsonl")
    home = tmp_path / "home"
    with FaultProxy(server) as proxy:
        environment = {"OPENAI_BASE_URL": f"{proxy.url}/v1", "OPENAI_API_KEY": "sk-test"}
        stop = Fault(delay_s=0.5, drop_before=True)
        killed_while_it_starts_a_job(proxy, tmp_path, {**environment, "FTCLIENT_HOME": str(home)}, stop)
        rows = json.loads(run_program(*FT, "jobs", "--lost", "--json", home=home, **environment))
        assert [row["state"] for row in rows] == ["intended"]
        run_id = rows[0]["run_id"]
        assert run_program(*FT, "jobs", "--lost", home=home, **environment).split() == [run_id, "on", "its", "way"]
        run_program(*FT, "jobs", "--forget", run_id, home=home, expect=2, **environment)
        run_program(*FT, *TRAIN, home=home, cwd=tmp_path, expect=3, **environment)
        assert sum((exchange.method, exchange.path) == CREATE for exchange, _ in proxy.seen) == 1
