"""Jobs outlive what created them: scripts that end, servers and runners that are killed, machines that forget them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_backend import in_process, runner, start
from local_backend.runner import holder, is_running
from local_backend.settings import Settings
from local_backend.store import Store
from local_backend.store.work import Work
from tests.contract.conftest import examples, wait
from tests.contract.places import ALIASES, address_of, behind_http

STEPS = 40
SLOW = {"local": {"simulate": {"speed": "timed", "seconds_per_step": 0.05}}}


def settings_of(home: Path) -> Settings:
    """A backend whose jobs run in a process of their own."""
    return Settings(home=home, cache=home / "cache", engine="simulated", aliases=ALIASES)


def create(client, *, seed: int = 11, **options):
    """A job of 40 steps that takes two seconds."""
    file = client.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
    numbers = {"n_epochs": 4, "batch_size": 1}
    return client.fine_tuning.jobs.create(
        model="smollm2-135m",
        training_file=file.id,
        seed=seed,
        hyperparameters=numbers,
        **{"extra_body": SLOW, **options},
    )


def steps_of(client, job_id: str) -> list[tuple[int, float]]:
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return [(event.data["step"], event.data["train_loss"]) for event in events if event.type == "metrics"][::-1]


def wait_for_step(client, job_id: str, step: int) -> None:
    deadline = time.monotonic() + 60
    while len(steps_of(client, job_id)) < step:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[int, float]]:
    """Steps and losses of a job that nobody disturbs."""
    settings = Settings(home=tmp_path / "calm", cache=tmp_path, engine="simulated", runner="thread")
    with in_process.client(settings) as client:
        job = wait(client, create(client, extra_body={}).id)
        return steps_of(client, job.id)


def test_a_job_goes_on_after_its_script_has_ended(tmp_path: Path):
    """A script that creates a job and exits at once; another process sees the job end."""
    script = (
        "import sys; from pathlib import Path\n"
        "from local_backend import in_process\n"
        "from tests.e2e.test_server_kill import create, settings_of\n"
        "with in_process.client(settings_of(Path(sys.argv[1]))) as client:\n"
        "    print(create(client, extra_body={}).id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    with in_process.client(settings_of(tmp_path)) as client:
        assert wait(client, done.stdout.strip()).status == "succeeded"


def test_killed_runners_cost_no_step_and_change_no_loss(tmp_path: Path, undisturbed):
    """kill -9 of the runner, three times in mid-training; whoever opens the home next lets the job go on."""
    settings = settings_of(tmp_path / "home")
    with in_process.client(settings) as client:
        job_id = create(client).id
    for step in (3, 12, 25):
        with in_process.client(settings) as client:
            wait_for_step(client, job_id, step)
            os.kill(holder(settings), signal.SIGKILL)
    with in_process.client(settings) as client:
        job = wait(client, job_id)
        assert job.status == "succeeded", job.error
        assert steps_of(client, job_id) == undisturbed
        told = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
        assert told.count("Fine-tuning job started") == 1
        assert [found.step_number for found in client.fine_tuning.jobs.checkpoints.list(job_id)] == [40, 30, 20]


def test_jobs_do_not_need_the_server(tmp_path: Path, undisturbed):
    """kill -9 of the server: the job goes on meanwhile, and the next server shows it whole."""
    settings = settings_of(tmp_path / "home")
    with serve(settings) as (url, process), behind_http(url) as client:
        job_id = create(client).id
        wait_for_step(client, job_id, 2)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    with serve(settings) as (url, process), behind_http(url) as client:
        assert wait(client, job_id).status == "succeeded"
        assert steps_of(client, job_id) == undisturbed
        assert farewell(process) == "Stopped. No job is unfinished."


def test_the_server_says_which_jobs_go_on(tmp_path: Path):
    settings = settings_of(tmp_path)
    with serve(settings) as (url, process), behind_http(url) as client:
        job_id = create(client).id
        wait_for_step(client, job_id, 1)
        assert farewell(process) == f"Stopped. These jobs go on without the server: {job_id}"
    with in_process.client(settings) as client:
        assert wait(client, job_id).status == "succeeded"


def test_two_openers_start_one_runner_and_the_jobs_run_in_order(tmp_path: Path):
    settings = settings_of(tmp_path)
    with in_process.client(settings) as one, in_process.client(settings) as two:
        jobs = [create(client, extra_body={}).id for client in (one, two, one, two)]
        ended = [wait(one, job_id) for job_id in jobs]
        assert {job.status for job in ended} == {"succeeded"}
        finished = [job.finished_at for job in ended]
        assert finished == sorted(finished)


@pytest.mark.slow
def test_no_job_is_stranded_by_a_runner_that_is_about_to_go(tmp_path: Path):
    """Jobs that arrive at the moments around the runner's end are all run."""
    settings = settings_of(tmp_path)
    with in_process.client(settings) as client:
        for delay_s in (0.0, runner.IDLE_S - 0.05, runner.IDLE_S + 0.05):
            time.sleep(delay_s)
            job_id = create(client, extra_body={}).id
            assert wait(client, job_id, within_s=30).status == "succeeded"


@pytest.mark.slow
def test_a_runner_that_was_stopped_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process that holds the lock without a sign of life is killed by the next one that needs it."""
    monkeypatch.setattr(start, "STALE_S", 4.0)
    settings = settings_of(tmp_path)
    with in_process.client(settings) as client:
        job_id = create(client).id
        wait_for_step(client, job_id, 2)
        os.kill(holder(settings), signal.SIGSTOP)
    time.sleep(4.5)
    assert is_running(settings)
    with in_process.client(settings) as client:
        assert wait(client, job_id, within_s=60).status == "succeeded"


def test_a_job_that_kills_its_process_again_and_again_is_given_up(tmp_path: Path):
    """Runners that take a job up and die before its next step are counted; the last one says what to do."""
    settings = Settings(home=tmp_path, cache=tmp_path, engine="simulated", runner="thread")
    with in_process.client(settings) as client:
        job_id = create(client, extra_body={"local": {"simulate": {"hang_at_step": 2}}}).id
        wait_for_step(client, job_id, 1)
    store = Store(settings.server_dir)
    for attempt in range(runner.MAX_ATTEMPTS):
        work = Work(store, owner=f"dies-{attempt}")
        work.take_over()
        assert work.claim() is not None
    store.close()
    with in_process.client(settings) as client:
        job = wait(client, job_id)
        assert (job.status, job.error.code) == ("failed", "server_error")
        assert "died 5 times in a row after step 1" in job.error.message
        assert "smaller batch_size" in job.error.message


class serve:  # noqa: N801 - used like a function
    """A server process on a home; killed at the end unless it has ended."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, "-m", "local_backend", "serve", "--port", "0", "--engine", "simulated"]
        command += ["--home", str(settings.home), "--cache", str(settings.cache)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> tuple[str, subprocess.Popen[str]]:
        return address_of(self.process), self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)
        self.process.stderr.close()


def farewell(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C; return the last line that the server says."""
    process.send_signal(signal.SIGINT)
    last = process.stderr.read().splitlines()[-1]
    assert process.wait(timeout=30) == 0
    return last


def test_a_runner_whose_home_is_deleted_ends(tmp_path: Path):
    """Somebody clears up: a training that nobody can see any more would go on for hours."""
    settings = settings_of(tmp_path / "home")
    with in_process.client(settings) as client:
        job = create(client, extra_body={"local": {"simulate": {"speed": "step"}}})
        wait(client, job.id, until=("running",))
        pid = holder(settings)
        assert pid
    shutil.rmtree(settings.home)
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_whose_home_is_deleted_says_so_once(tmp_path: Path):
    """It looks after its runner every two seconds; a traceback each time would fill the terminal."""
    with serve(settings_of(tmp_path / "home")) as (url, process), behind_http(url) as client:
        wait_for_step(client, create(client).id, 1)
        shutil.rmtree(tmp_path / "home")
        time.sleep(3 * start._BOOT_S)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert said.count("home is gone") == 1
    assert "Traceback" not in said


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
